# CUDA: the toolkit for the backend (EMBER_CUDA), or its headers alone for the emulator (tests/simt).
set(EMBER_CUDA "AUTO" CACHE STRING "Build the CUDA backend: AUTO (where nvcc is found), ON or OFF")
set_property(CACHE EMBER_CUDA PROPERTY STRINGS AUTO ON OFF)
if(NOT EMBER_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "EMBER_CUDA is '${EMBER_CUDA}'; AUTO, ON or OFF was expected")
endif()
# Most of a program with the backend is its device code; tools/gpu_check.sh --bundle carries many programs.
option(EMBER_CUDA_SHARED "Make the CUDA backend a shared library" OFF)

find_package(CUDAToolkit QUIET)
if(CUDAToolkit_FOUND)
  set(EMBER_CUDA_INCLUDE ${CUDAToolkit_INCLUDE_DIRS})
else()
  find_path(EMBER_CUDA_INCLUDE cuda_runtime.h PATHS /usr/local/cuda/include)
endif()

set(EMBER_WITH_CUDA OFF)
if(NOT EMBER_CUDA STREQUAL "OFF" AND CUDAToolkit_NVCC_EXECUTABLE)
  if(CUDAToolkit_VERSION VERSION_GREATER_EQUAL 12.2)
    set(EMBER_WITH_CUDA ON)
  elseif(EMBER_CUDA STREQUAL "AUTO")
    message(STATUS "CUDA ${CUDAToolkit_VERSION} is older than 12.2: the CUDA backend is not built")
  endif()
endif()
if(EMBER_CUDA STREQUAL "ON" AND NOT EMBER_WITH_CUDA)
  message(FATAL_ERROR "EMBER_CUDA=ON needs nvcc of CUDA 12.2 or later; found: '${CUDAToolkit_NVCC_EXECUTABLE}' "
    "${CUDAToolkit_VERSION}")
endif()

if(EMBER_WITH_CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
  endif()
  # Code for the oldest and the newest, and what any GPU between or after translates for itself. The release preset
  # has code for each.
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 75 90 CACHE STRING "Architectures that the CUDA kernels are compiled for")
  endif()
  if(EMBER_CUDA_SHARED)
    set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)  # one for the library and its programs
  endif()
  enable_language(CUDA)
  # Before 3.25.2 CMake does not know that nvcc has C++20, which it has from 12.0 on.
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()
  # Where nvcc cannot use the C++ compiler but an older one (Debian 13's nvcc), the programs, which the C++ compiler
  # links, must not get the other's libstdc++.
  list(FILTER CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES EXCLUDE REGEX "/gcc/")
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  # Installed programs find the toolkit's libraries, and a shared backend, where those of the build do.
  if(NOT DEFINED CMAKE_INSTALL_RPATH)
    set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON)
    if(EMBER_CUDA_SHARED)
      set(CMAKE_INSTALL_RPATH "$ORIGIN/../lib")
    endif()
  endif()
  message(STATUS "CUDA ${CUDAToolkit_VERSION}, architectures ${CMAKE_CUDA_ARCHITECTURES}")
endif()

# The device code stays uncompressed for tests/tools/device_code_test.py.
set(EMBER_NVCC_FLAGS -lineinfo -no-compress)
set(EMBER_NVCC_HOST_FLAGS -Wall,-Wextra)
if(EMBER_WERROR)
  list(APPEND EMBER_NVCC_FLAGS -Werror=all-warnings -Xptxas=-Werror)
  string(APPEND EMBER_NVCC_HOST_FLAGS ,-Werror)
endif()
# Registers that spill and arrays that land in local memory are warnings on every architecture, with the version of
# ptxas that CI has: each spills elsewhere (12.4 32 bytes of adamw_kernel from sm_80 on, 13.5 4 bytes of a variant), and
# -Werror=all-warnings makes all of ptxas's warnings errors.
if(CUDAToolkit_VERSION MATCHES "^13\\.0\\.")
  list(APPEND EMBER_NVCC_FLAGS -Xptxas=-warn-spills,-warn-lmem-usage)
endif()

# ember_cuda_options(<target>): how .cu files are compiled. (fmt takes nvcc for a compiler without half of C++20's
# constexpr, and that half then does not fit the other.)
function(ember_cuda_options target)
  set(options ${EMBER_NVCC_FLAGS} -DFMT_USE_CONSTEXPR=1 -DFMT_CONSTEVAL= -Xcompiler=${EMBER_NVCC_HOST_FLAGS})
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${options}>")
endfunction()
