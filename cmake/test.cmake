# SPDX-License-Identifier: MIT
cmake_minimum_required(VERSION 3.21)
# cmake -P cmake/test.cmake
# Builds and runs all tests.

include(${CMAKE_CURRENT_LIST_DIR}/Steps.cmake)

set(build ${HEED_ROOT}/build/test)
heed_configure(${build} -D HEED_BUILD_TESTS=ON -D HEED_TEST_SETS=0 -D HEED_BUILD_BENCHMARKS=OFF -D HEED_BUILD_EXAMPLES=OFF)
heed_build(${build})
get_filename_component(bin ${CMAKE_COMMAND} DIRECTORY)
heed_step("Running the tests" HINT "Run one alone with: ctest --test-dir ${build} --output-on-failure -R <its name>"
          COMMAND ${bin}/ctest --test-dir ${build} --output-on-failure --parallel ${HEED_CORES})
