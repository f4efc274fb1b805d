# mnd_room(NAME SOURCES ... [USES room ...] [LINKS target ...])
#
# One static library a room of src/. What it uses is PRIVATE, so that a room sees only the outside
# packages it names itself: a cblas.h, mpi.h or hdf5.h included elsewhere does not compile.
function(mnd_room name)
  cmake_parse_arguments(ARG "" "" "SOURCES;USES;LINKS" ${ARGN})
  add_library(mnd_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(mnd_${name} PRIVATE mnd_flags ${ARG_LINKS})
  foreach(room ${ARG_USES})
    target_link_libraries(mnd_${name} PRIVATE mnd_${room})
  endforeach()
  set_target_properties(mnd_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
endfunction()
