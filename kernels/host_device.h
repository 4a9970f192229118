// For the few functions that every backend shares so that their bits are the same: callable on the host and on a GPU.
#pragma once

#ifdef __CUDACC__
#define EMBER_HOST_DEVICE __host__ __device__
#else
#define EMBER_HOST_DEVICE
#endif
