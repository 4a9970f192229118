#include "data/examples.h"
