# SPDX-License-Identifier: MIT
cmake_minimum_required(VERSION 3.21)
# cmake -P cmake/demo.cmake [text-file]
# Builds and runs examples/attend_words on a text, by default the project's README: see there for what it shows.

include(${CMAKE_CURRENT_LIST_DIR}/Steps.cmake)

set(text ${HEED_ROOT}/README.md)
if(HEED_ARGUMENTS)
  list(GET HEED_ARGUMENTS 0 text)
  get_filename_component(text ${text} ABSOLUTE BASE_DIR ${CMAKE_BINARY_DIR})
endif()
if(NOT EXISTS ${text} OR IS_DIRECTORY ${text})
  message(FATAL_ERROR "There is no text file ${text}.\nUsage: cmake -P cmake/demo.cmake [text-file]")
endif()

set(build ${HEED_ROOT}/build/demo)
heed_configure(${build} -D HEED_BUILD_TESTS=OFF -D HEED_BUILD_BENCHMARKS=OFF -D HEED_BUILD_EXAMPLES=ON)
heed_step("Building the demo" HINT "The first error above says why."
          COMMAND ${CMAKE_COMMAND} --build ${build} --parallel ${HEED_CORES} --target attend_words)
heed_step("Running the demo on ${text}" HINT "The last lines above say why."
          COMMAND ${build}/examples/attend_words ${text} ${build}/attention.html)
