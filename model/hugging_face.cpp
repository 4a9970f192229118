#include "model/hugging_face.h"
