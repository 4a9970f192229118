#include "model/weights.h"
