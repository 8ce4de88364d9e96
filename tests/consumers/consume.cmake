# SPDX-License-Identifier: MIT
cmake_minimum_required(VERSION 3.21)
# Configures, builds and runs the consumer project CONSUMER in the folder WORK, against the tree HEED or, for find_package, what
# HEED_BUILD installs. EIGEN3_DIR: where Eigen3Config.cmake lies; EIGEN: Eigen's include folder.

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

set(source ${CMAKE_CURRENT_LIST_DIR}/${CONSUMER})
file(REMOVE_RECURSE ${WORK})
file(MAKE_DIRECTORY ${WORK})

if(CONSUMER STREQUAL "plain_include")
  run(${COMPILER} -std=c++20 -O2 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror
      -I ${HEED}/include -isystem ${EIGEN} ${source}/main.cpp -o ${WORK}/program)
  run(${WORK}/program)
  return()
endif()

set(where -D HEED_SOURCE=${HEED})
if(CONSUMER STREQUAL "find_package")
  run(${CMAKE_COMMAND} --install ${HEED_BUILD} --prefix ${WORK}/prefix)
  set(where -D CMAKE_PREFIX_PATH=${WORK}/prefix)
endif()
if(EIGEN3_DIR)
  list(APPEND where -D Eigen3_DIR=${EIGEN3_DIR})
else()
  list(APPEND where -D HEED_IF_MISSING=fetch -D FETCHCONTENT_SOURCE_DIR_EIGEN3=${EIGEN})
endif()
run(${CMAKE_COMMAND} -S ${source} -B ${WORK}/build -G ${GENERATOR} -D CMAKE_CXX_COMPILER=${COMPILER} -D CMAKE_BUILD_TYPE=Release
    ${where})
run(${CMAKE_COMMAND} --build ${WORK}/build --config Release)
find_program(program program PATHS ${WORK}/build ${WORK}/build/Release NO_DEFAULT_PATH REQUIRED)
run(${program})
