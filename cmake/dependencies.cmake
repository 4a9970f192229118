# The libraries Ember stands on; shared by the build, where each is required, and by the installed package's
# configuration, which is not found where one is not.
include(CMakeFindDependencyMacro)

macro(ember_dependency)
  if(CMAKE_FIND_PACKAGE_NAME STREQUAL "ember")
    find_dependency(${ARGN})
  else()
    find_package(${ARGN} REQUIRED)
  endif()
endmacro()

# A library whose own CMake configuration is of no use: ember_plain_dependency(<target> <header> <library>).
macro(ember_plain_dependency target header library)
  if(NOT TARGET ${target})
    string(MAKE_C_IDENTIFIER "EMBER_${target}" ember_found)
    find_path(${ember_found}_INCLUDE ${header})
    find_library(${ember_found}_LIBRARY ${library})
    if(${ember_found}_INCLUDE AND ${ember_found}_LIBRARY)
      add_library(${target} UNKNOWN IMPORTED)
      set_target_properties(${target} PROPERTIES IMPORTED_LOCATION "${${ember_found}_LIBRARY}"
        INTERFACE_INCLUDE_DIRECTORIES "${${ember_found}_INCLUDE}")
    elseif(CMAKE_FIND_PACKAGE_NAME STREQUAL "ember")
      set(ember_FOUND FALSE)
      set(ember_NOT_FOUND_MESSAGE "${library} (${header}) is not here")
    else()
      message(FATAL_ERROR "${library} (${header}) is not here: tools/install_packages.sh installs it")
    endif()
  endif()
endmacro()

ember_dependency(Threads)
ember_dependency(fmt)
ember_dependency(nlohmann_json)
ember_dependency(ZLIB)
if(NOT EMBER_FUZZ)  # which computes nothing and has no program
  ember_dependency(OpenMP COMPONENTS CXX)
  ember_dependency(dnnl)
  ember_dependency(CLI11)
endif()
# On Ubuntu 22.04 utf8proc ships no configuration, and libzip's names programs that its development package lacks.
ember_plain_dependency(utf8proc::utf8proc utf8proc.h utf8proc)
ember_plain_dependency(libzip::zip zip.h zip)
