# The libraries Ember stands on; shared by the build and by the installed package's configuration.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(ZLIB REQUIRED)
if(NOT EMBER_FUZZ)  # which computes nothing and has no program
  find_package(OpenMP REQUIRED COMPONENTS CXX)
  find_package(dnnl REQUIRED)
  find_package(CLI11 REQUIRED)
endif()

# utf8proc ships no CMake configuration on Ubuntu 22.04.
if(NOT TARGET utf8proc::utf8proc)
  find_path(EMBER_UTF8PROC_INCLUDE utf8proc.h REQUIRED)
  find_library(EMBER_UTF8PROC_LIBRARY utf8proc REQUIRED)
  add_library(utf8proc::utf8proc UNKNOWN IMPORTED)
  set_target_properties(utf8proc::utf8proc PROPERTIES
    IMPORTED_LOCATION "${EMBER_UTF8PROC_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${EMBER_UTF8PROC_INCLUDE}")
endif()

# libzip's CMake configuration on Ubuntu 22.04 names programs that its development package does not bring.
if(NOT TARGET libzip::zip)
  find_path(EMBER_LIBZIP_INCLUDE zip.h REQUIRED)
  find_library(EMBER_LIBZIP_LIBRARY zip REQUIRED)
  add_library(libzip::zip UNKNOWN IMPORTED)
  set_target_properties(libzip::zip PROPERTIES
    IMPORTED_LOCATION "${EMBER_LIBZIP_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${EMBER_LIBZIP_INCLUDE}")
endif()
