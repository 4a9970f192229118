# One static library per folder (ember_<folder>, used as ember::<folder>) and one executable per program. A target sees
# only the folders it links, so an include against the direction of the dependencies does not build.
add_library(ember_flags INTERFACE)
target_compile_options(ember_flags INTERFACE -Wall -Wextra $<$<BOOL:${EMBER_WERROR}>:-Werror>)
if(EMBER_SANITIZE)
  target_compile_options(ember_flags INTERFACE -fsanitize=${EMBER_SANITIZE} -fno-sanitize-recover=all
    -fno-omit-frame-pointer)
  target_link_options(ember_flags INTERFACE -fsanitize=${EMBER_SANITIZE})
endif()

# Most of what a test or a command line is compiled from is GoogleTest's or CLI11's, and UBSan's checks of it take a
# fifth to a third of the time; what it calls is compiled with all of them. To be linked after ember_flags.
add_library(ember_light_checks INTERFACE)
if(EMBER_SANITIZE MATCHES "undefined")
  target_compile_options(ember_light_checks INTERFACE -fno-sanitize=undefined)
endif()

# Compiling is most of what the tests under the sanitizers cost: there, only what computes is optimised.
add_library(ember_computes INTERFACE)
target_compile_options(ember_computes INTERFACE $<$<CONFIG:Debug>:-O1>)

# Command lines and most tests take seconds each to optimise, and are as fast as what they call; of tests that hardly
# compute, ember_checks.
add_library(ember_drives INTERFACE)
target_compile_options(ember_drives INTERFACE $<$<CONFIG:Release>:-O1>)
add_library(ember_checks INTERFACE)
target_compile_options(ember_checks INTERFACE $<$<CONFIG:Release>:-O0>)

# ember_library(<folder> SOURCES ... [LINK ...] [PRIVATE_LINK ...])
# Under sanitizers a folder of ours is one translation unit: much of the time would go into the same headers and
# templates. So names must differ between files even in unnamed namespaces. The other builds compile each file by
# itself.
function(ember_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK;PRIVATE_LINK" ${ARGN})
  add_library(ember_${name} STATIC ${ARG_SOURCES})
  add_library(ember::${name} ALIAS ember_${name})
  set_target_properties(ember_${name} PROPERTIES EXPORT_NAME ${name})
  if(EMBER_SANITIZE)
    set_target_properties(ember_${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0)
    # A source is included there like a header, whose unnamed namespace would be another one in each file.
    target_compile_options(ember_${name} PRIVATE -Wno-subobject-linkage)
  endif()
  # Headers are included as "folder/header.h"; each folder exports only itself, through a link of its own name.
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/include/${name}_room)
  file(CREATE_LINK ${CMAKE_SOURCE_DIR}/${name} ${CMAKE_BINARY_DIR}/include/${name}_room/${name} SYMBOLIC)
  target_include_directories(ember_${name} PUBLIC
    $<BUILD_INTERFACE:${CMAKE_BINARY_DIR}/include/${name}_room> $<INSTALL_INTERFACE:include/ember>)
  target_link_libraries(ember_${name} PUBLIC ${ARG_LINK} PRIVATE $<BUILD_INTERFACE:ember_flags> ${ARG_PRIVATE_LINK})
endfunction()

# ember_program(<name> SOURCES ... LINK ...)
function(ember_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} ember_flags ember_light_checks ember_drives)
  install(TARGETS ${name} RUNTIME DESTINATION bin)
endfunction()
