# SPDX-License-Identifier: MIT
cmake_minimum_required(VERSION 3.21)
# cmake -P cmake/benchmark.cmake [arguments of Google Benchmark, such as --benchmark_filter=prefill]
# Builds and runs the benchmarks, without assertions; the figures also go to build/benchmark/benchmarks.json.

include(${CMAKE_CURRENT_LIST_DIR}/Steps.cmake)

set(build ${HEED_ROOT}/build/benchmark)
heed_configure(${build} -D CMAKE_BUILD_TYPE=Plain "-DCMAKE_CXX_FLAGS_PLAIN=-O2 -DNDEBUG"
               -D HEED_BUILD_TESTS=OFF -D HEED_BUILD_BENCHMARKS=ON -D HEED_BUILD_EXAMPLES=OFF)
heed_build(${build})
heed_step("Running the benchmarks" HINT "The last lines above say why."
          COMMAND ${build}/benchmarks/heed_benchmarks --benchmark_out=${build}/benchmarks.json --benchmark_out_format=json
                  ${HEED_ARGUMENTS})
