#include "train/evaluation.h"
