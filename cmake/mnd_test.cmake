# mnd_unit_test(NAME MODULES module ... [TIMEOUT s] [NO_VALGRIND]): tests/unit/test_NAME.c, a cmocka
#   program. NO_VALGRIND keeps one that is too slow, or asks too much, out of the valgrind preset.
# mnd_mpi_test(NAME NP n ... MODULES module ... [TIMEOUT s]): tests/mpi/test_NAME.c, once for each n.
# mnd_mpi_script(NAME PROGRAM [TIMEOUT s] [ARGS a ...]): tests/mpi/NAME.sh, which starts the test
#   program under conditions of its own. Exit code 77 means skipped.
# mnd_cli_test(NAME [TIMEOUT s] [LONG_TIMEOUT s] [LABELS l ...]): tests/cli/NAME.sh; it gets the
#   binary's path. Those with the label quick also run under the sanitizers and against MPICH.
#   Exit code 77 means skipped, for instance because data/mnist.h5 is not there.
#
# MND_LONG=1 in the environment asks a test for its long form, MND_LONG=ON here grants the time for it:
# LONG_TIMEOUT (an hour). scripts/test.sh --long does both. Sanitizers and valgrind stretch every limit.

option(MND_LONG "Time limits for the long form of the tests" OFF)
option(MND_VALGRIND "Run the unit tests under valgrind" OFF)
set(support ${PROJECT_SOURCE_DIR}/tests/support)

# Open MPI refuses root and more ranks than cores unless told; ranks without a core of their own must
# yield. Other MPI libraries ignore these variables. The sanitizers' settings matter only to builds
# that have them; MPI libraries are not built with frame pointers, hence the slow unwinding. (Not
# detect_stack_use_after_return: gcc 12 then misaligns vectors of 64 bytes on the stack, its bug 110027.)
set(MND_TEST_ENV
  OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
  OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_hwloc_base_binding_policy=none)
set(slowness 1)
if(MND_SANITIZE)
  set(slowness 5)
  list(APPEND MND_TEST_ENV
    ASAN_OPTIONS=fast_unwind_on_malloc=0:strict_string_checks=1
    LSAN_OPTIONS=suppressions=${support}/lsan.supp:print_suppressions=0
    UBSAN_OPTIONS=print_stacktrace=1
    MND_SANITIZE=${MND_SANITIZE})
endif()
set(unit_wrapper)
if(MND_VALGRIND)
  set(slowness 20)
  list(APPEND MND_TEST_ENV MND_VALGRIND=1)
  find_program(VALGRIND valgrind REQUIRED)
  set(unit_wrapper ${VALGRIND} --quiet --error-exitcode=99 --leak-check=full
    --errors-for-leak-kinds=definite --show-leak-kinds=definite --keep-debuginfo=yes
    --suppressions=${support}/valgrind.supp)
endif()

# The time limit of a test, stretched.
function(mnd_limit test seconds long_seconds)
  math(EXPR seconds "${seconds} * ${slowness}")
  if(MND_LONG AND seconds LESS long_seconds)
    set(seconds ${long_seconds})
  endif()
  set_tests_properties(${test} PROPERTIES TIMEOUT ${seconds})
endfunction()

function(mnd_test_program target source)
  add_executable(${target} ${source})
  target_include_directories(${target} PRIVATE ${support})
  target_link_libraries(${target} PRIVATE mnd_flags PkgConfig::CMOCKA m)
  foreach(module ${ARGN})
    target_link_libraries(${target} PRIVATE mnd_${module})
  endforeach()
endfunction()

function(mnd_unit_test name)
  cmake_parse_arguments(ARG "NO_VALGRIND" "TIMEOUT" "MODULES" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  mnd_test_program(test_${name} test_${name}.c ${ARG_MODULES})
  if(MND_VALGRIND AND ARG_NO_VALGRIND)
    return()
  endif()
  add_test(NAME unit.${name} COMMAND ${unit_wrapper} $<TARGET_FILE:test_${name}>)
  set_tests_properties(unit.${name} PROPERTIES LABELS unit ENVIRONMENT "${MND_TEST_ENV}")
  mnd_limit(unit.${name} ${ARG_TIMEOUT} 3600)
endfunction()

function(mnd_mpi_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "NP;MODULES" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 900) # MPICH's ranks spin where there are more of them than cores
  endif()
  mnd_test_program(test_mpi_${name} test_${name}.c ${ARG_MODULES})
  target_link_libraries(test_mpi_${name} PRIVATE MPI::MPI_C)
  foreach(np ${ARG_NP})
    add_test(NAME mpi.${name}.np${np}
      COMMAND ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} ${np} $<TARGET_FILE:test_mpi_${name}>)
    # Ranks beyond the cores disturb one another: one such test at a time.
    set_tests_properties(mpi.${name}.np${np} PROPERTIES LABELS mpi PROCESSORS ${np}
      ENVIRONMENT "${MND_TEST_ENV}")
    mnd_limit(mpi.${name}.np${np} ${ARG_TIMEOUT} 3600)
  endforeach()
endfunction()

function(mnd_mpi_script name program)
  cmake_parse_arguments(ARG "" "TIMEOUT" "ARGS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_test(NAME mpi.${name}
    COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/${name}.sh $<TARGET_FILE:${program}> ${ARG_ARGS})
  set_tests_properties(mpi.${name} PROPERTIES LABELS mpi PROCESSORS 4 SKIP_RETURN_CODE 77
    ENVIRONMENT "${MND_TEST_ENV};MPIEXEC=${MPIEXEC_EXECUTABLE}")
  mnd_limit(mpi.${name} ${ARG_TIMEOUT} 3600)
endfunction()

function(mnd_cli_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT;LONG_TIMEOUT" "LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  if(NOT ARG_LONG_TIMEOUT)
    set(ARG_LONG_TIMEOUT 3600)
  endif()
  add_test(NAME cli.${name}
    COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/${name}.sh $<TARGET_FILE:mnist_dist>
    WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
  set_tests_properties(cli.${name} PROPERTIES LABELS "cli;${ARG_LABELS}" PROCESSORS 2 SKIP_RETURN_CODE 77
    ENVIRONMENT "${MND_TEST_ENV};MPIEXEC=${MPIEXEC_EXECUTABLE};MND_SOURCE_DIR=${PROJECT_SOURCE_DIR}")
  mnd_limit(cli.${name} ${ARG_TIMEOUT} ${ARG_LONG_TIMEOUT})
endfunction()
