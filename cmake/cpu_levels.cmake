# EMBER_MARCH: which instructions the CPU kernels may use. "dispatch" compiles them once for each level of x86-64 that
# matters, and the program takes the best that its processor has (kernels/make_cpu_kernels.cpp); anything else is the
# value of -march for the only copy, empty the compiler's default. Dispatch needs GNU ld and objcopy; sanitizers are
# made to find defects of the source, for which one copy will do.
if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  message(FATAL_ERROR "CMAKE_SYSTEM_PROCESSOR is ${CMAKE_SYSTEM_PROCESSOR}: the CPU kernels are for x86_64 alone")
endif()
find_program(EMBER_GNU_LD ld.bfd)  # CMake's own choice beside clang is LLVM's
find_program(EMBER_GNU_OBJCOPY objcopy)
set(EMBER_MARCH_DEFAULT native)
if(EMBER_GNU_LD AND EMBER_GNU_OBJCOPY AND NOT EMBER_SANITIZE)
  set(EMBER_MARCH_DEFAULT dispatch)
endif()
set(EMBER_MARCH ${EMBER_MARCH_DEFAULT} CACHE STRING
  "Instructions of the CPU kernels: dispatch (chosen at run time) or a value of -march")

# What is compiled once, beside the CPU kernels or like them, to run on this machine; and the one copy of the kernels
# whose parts tests may call by name: of the levels the least, AVX2 with FMA.
set(EMBER_HERE_FLAGS)
if(EMBER_MARCH STREQUAL "dispatch")
  set(EMBER_HERE_FLAGS -march=native)
  set(EMBER_VISIBLE_FLAGS -march=x86-64-v3)
else()
  if(EMBER_MARCH)
    set(EMBER_HERE_FLAGS -march=${EMBER_MARCH})
  endif()
  set(EMBER_VISIBLE_FLAGS ${EMBER_HERE_FLAGS})
endif()

# errno and floating-point traps are never read, and both keep loops from being vectorised. GCC 14, and
# older ones where -march names a Zen, takes the fma out of loops with a single sum: a row would have other bits alone
# than among others, and with one compiler than with another.
set(EMBER_CPU_FLAGS $<$<CONFIG:Release>:-O3> -fno-math-errno -fno-trapping-math
  $<$<CXX_COMPILER_ID:GNU>:--param=avoid-fma-max-bits=0>)

# ember_cpu_objects(<target> <factory> <source>...): an object library of those of the CPU kernels' sources, whose factory
# has that name.
function(ember_cpu_objects target factory)
  add_library(${target} OBJECT ${ARGN})
  # One translation unit, since most of the time would go into the same headers; so names must differ between files even
  # in unnamed namespaces.
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0)
  target_include_directories(${target} PRIVATE $<TARGET_PROPERTY:ember_kernels,INCLUDE_DIRECTORIES>)
  target_link_libraries(${target} PRIVATE ember_flags ember::runtime DNNL::dnnl OpenMP::OpenMP_CXX)
  target_compile_options(${target} PRIVATE ${EMBER_CPU_FLAGS})
  target_compile_definitions(${target} PRIVATE EMBER_CPU_FACTORY=${factory})
endfunction()

# ember_cpu_level(<name> <source>... FLAGS <option>...): adds to ember_kernels a copy of the CPU kernels compiled with
# those options, of which nothing can be seen but its factory, make_cpu_kernels_<name>. Were its other symbols visible,
# the linker could take its copy of some inline function for the whole program, which then ran on no lesser processor.
function(ember_cpu_level name)
  cmake_parse_arguments(ARG "" "" "FLAGS" ${ARGN})
  set(copy ember_cpu_${name})
  ember_cpu_objects(${copy} make_cpu_kernels_${name} ${ARG_UNPARSED_ARGUMENTS})
  # Unique symbols, static variables of templates among them, could not be hidden.
  target_compile_options(${copy} PRIVATE ${ARG_FLAGS} $<$<CXX_COMPILER_ID:GNU>:-fno-gnu-unique>)
  set(object ${CMAKE_CURRENT_BINARY_DIR}/cpu_${name}.o)
  add_custom_command(OUTPUT ${object}
    COMMAND ${EMBER_GNU_LD} -r --force-group-allocation -o ${object} $<TARGET_OBJECTS:${copy}>
    COMMAND ${EMBER_GNU_OBJCOPY} --wildcard --keep-global-symbol=*make_cpu_kernels_${name}* ${object}
    DEPENDS ${copy} $<TARGET_OBJECTS:${copy}> COMMAND_EXPAND_LISTS VERBATIM)
  set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  target_sources(ember_kernels PRIVATE ${object})
endfunction()
