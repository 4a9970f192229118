# cmake --install: the programs (ember_program adds itself), the static libraries, the headers under include/ember, and
# the package that find_package(ember) reads; then ember::model is the library to link.
include(CMakePackageConfigHelpers)

set(rooms runtime kernels data model train)
set(package_dir lib/cmake/ember)

target_compile_features(ember_runtime INTERFACE cxx_std_20)
foreach(room ${rooms})
  install(TARGETS ember_${room} EXPORT emberTargets ARCHIVE DESTINATION lib)
  file(GLOB headers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${room}/*.h)
  install(FILES ${headers} DESTINATION include/ember/${room})
endforeach()
if(EMBER_WITH_CUDA)
  install(TARGETS ember_cuda EXPORT emberTargets ARCHIVE DESTINATION lib LIBRARY DESTINATION lib)
endif()
install(EXPORT emberTargets NAMESPACE ember:: DESTINATION ${package_dir})

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/emberConfig.cmake.in ${CMAKE_BINARY_DIR}/emberConfig.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/emberConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/emberConfig.cmake ${CMAKE_BINARY_DIR}/emberConfigVersion.cmake
  ${CMAKE_CURRENT_LIST_DIR}/dependencies.cmake DESTINATION ${package_dir})
