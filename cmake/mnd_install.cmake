# What `cmake --install` lays down: the program, the library with its headers and its CMake package
# (find_package(mnist_dist) gives mnist_dist::mnist_dist), the documents, the Slurm scripts.

# The modules are private to one another; programs outside link one library.
set(modules base nn dist io train)
add_library(mnd_library)
foreach(module ${modules})
  target_sources(mnd_library PRIVATE $<TARGET_OBJECTS:mnd_${module}>)
endforeach()
set_target_properties(mnd_library PROPERTIES LINKER_LANGUAGE C OUTPUT_NAME mnist_dist
  EXPORT_NAME mnist_dist VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
target_include_directories(mnd_library INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
# Nobody but the linker needs to know of these.
target_link_libraries(mnd_library PRIVATE MPI::MPI_C hdf5::hdf5 ZLIB::ZLIB PNG::PNG JPEG::JPEG
  OpenSSL::Crypto Threads::Threads PkgConfig::OPENBLAS PkgConfig::CJSON PkgConfig::EXIF
  PkgConfig::LIBZIP PkgConfig::LIBLZF m)

include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/mnist_dist)
configure_file(cmake/mnist_dist-config.cmake.in mnist_dist-config.cmake @ONLY)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/mnist_dist-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(TARGETS mnd_library EXPORT mnist_dist DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT mnist_dist NAMESPACE mnist_dist:: FILE mnist_dist-targets.cmake
  DESTINATION ${package_dir})
install(FILES ${PROJECT_BINARY_DIR}/mnist_dist-config.cmake
  ${PROJECT_BINARY_DIR}/mnist_dist-config-version.cmake DESTINATION ${package_dir})
install(DIRECTORY include/mnist_dist DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN *.h)

install(TARGETS mnist_dist RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES README.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs OPTIONAL)
install(DIRECTORY jobs/slurm DESTINATION ${CMAKE_INSTALL_DATADIR}/mnist_dist/jobs OPTIONAL)

# The manual page is what the program says of itself, so the program must run here.
find_program(GZIP gzip)
if(GZIP AND NOT CMAKE_CROSSCOMPILING AND NOT MND_SANITIZE)
  add_custom_command(OUTPUT mnist_dist.1.gz
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/cmake/manpage.sh $<TARGET_FILE:mnist_dist> ${PROJECT_VERSION}
      > mnist_dist.1
    COMMAND ${GZIP} -9nf mnist_dist.1
    DEPENDS mnist_dist cmake/manpage.sh VERBATIM)
  add_custom_target(manpage ALL DEPENDS mnist_dist.1.gz)
  install(FILES ${PROJECT_BINARY_DIR}/mnist_dist.1.gz DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
endif()

# `cpack` in the build folder makes a Debian package.
set(CPACK_PACKAGE_NAME mnist-dist)
set(CPACK_PACKAGE_CONTACT "the mnist_dist authors <mnist-dist@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY ${PROJECT_DESCRIPTION})
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_GENERATOR DEB)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS openmpi-bin)
include(CPack)
