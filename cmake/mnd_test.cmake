# mnd_unit_test(NAME ROOMS room ... [TIMEOUT s]): tests/unit/test_NAME.c, a cmocka program.
# mnd_mpi_test(NAME NP n ... ROOMS room ... [TIMEOUT s]): tests/mpi/test_NAME.c, once for each n.
# mnd_cli_test(NAME [TIMEOUT s] [LABELS l ...]): tests/cli/NAME.sh; it gets the binary's path.

# Open MPI refuses root and more ranks than cores unless told; ranks without a core of their own must
# yield. Other MPI libraries ignore these variables.
set(MND_TEST_ENV
  OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
  OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_hwloc_base_binding_policy=none)

function(mnd_test_program target source)
  add_executable(${target} ${source})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests/support)
  target_link_libraries(${target} PRIVATE mnd_flags PkgConfig::CMOCKA m)
  foreach(room ${ARGN})
    target_link_libraries(${target} PRIVATE mnd_${room})
  endforeach()
endfunction()

function(mnd_unit_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "ROOMS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  mnd_test_program(test_${name} test_${name}.c ${ARG_ROOMS})
  add_test(NAME unit.${name} COMMAND test_${name})
  set_tests_properties(unit.${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS unit
    ENVIRONMENT "${MND_TEST_ENV}")
endfunction()

function(mnd_mpi_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "NP;ROOMS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  mnd_test_program(test_mpi_${name} test_${name}.c ${ARG_ROOMS})
  target_link_libraries(test_mpi_${name} PRIVATE MPI::MPI_C)
  foreach(np ${ARG_NP})
    add_test(NAME mpi.${name}.np${np}
      COMMAND ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} ${np} $<TARGET_FILE:test_mpi_${name}>)
    # Ranks beyond the cores disturb one another: one such test at a time.
    set_tests_properties(mpi.${name}.np${np} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS mpi
      PROCESSORS ${np} ENVIRONMENT "${MND_TEST_ENV}")
  endforeach()
endfunction()

function(mnd_cli_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_test(NAME cli.${name}
    COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/${name}.sh $<TARGET_FILE:mnist_dist>
    WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
  set_tests_properties(cli.${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "cli;${ARG_LABELS}"
    PROCESSORS 2 ENVIRONMENT "${MND_TEST_ENV};MPIEXEC=${MPIEXEC_EXECUTABLE};MND_SOURCE_DIR=${PROJECT_SOURCE_DIR}")
endfunction()
