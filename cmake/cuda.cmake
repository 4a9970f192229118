# CUDA: the toolkit for the backend, or its headers alone for the emulator (tests/simt).
set(EMBER_CUDA "AUTO" CACHE STRING "Build the CUDA backend: AUTO (where nvcc is found), ON or OFF")
set_property(CACHE EMBER_CUDA PROPERTY STRINGS AUTO ON OFF)

find_package(CUDAToolkit 12.2 QUIET)
if(CUDAToolkit_FOUND)
  set(EMBER_CUDA_INCLUDE ${CUDAToolkit_INCLUDE_DIRS})
else()
  find_path(EMBER_CUDA_INCLUDE cuda_runtime.h PATHS /usr/local/cuda/include)
endif()
