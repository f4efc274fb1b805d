# mnd_module(NAME SOURCES ... [USES module ...] [LINKS target ...])
#
# One static library per module of src/. What a module uses is PRIVATE, so that it sees only the
# outside packages that it names itself: a cblas.h, mpi.h or hdf5.h included elsewhere does not
# compile.
function(mnd_module name)
  cmake_parse_arguments(ARG "" "" "SOURCES;USES;LINKS" ${ARGN})
  add_library(mnd_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(mnd_${name} PRIVATE mnd_flags ${ARG_LINKS})
  foreach(module ${ARG_USES})
    target_link_libraries(mnd_${name} PRIVATE mnd_${module})
  endforeach()
  set_target_properties(mnd_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
endfunction()
