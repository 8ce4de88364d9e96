# SPDX-License-Identifier: MIT
cmake_minimum_required(VERSION 3.21)
# cmake -D COMPILER=... -D FLAGS=... -D HEED=... -D EIGEN=... -D PROGRAM=... -D RUN=... -D TWIN=... -P compile_and_run.cmake
# Compiles main.cpp with FLAGS as PROGRAM and runs it, by the emulator RUN if there is one. Unless TWIN is empty, what it computes
# must be equal to the last bit to what the program TWIN computes.

execute_process(COMMAND ${COMPILER} -std=c++20 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -Wno-maybe-uninitialized
                        ${FLAGS} -I ${HEED} -isystem ${EIGEN} ${CMAKE_CURRENT_LIST_DIR}/main.cpp -o ${PROGRAM}
                COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${RUN} ${PROGRAM} OUTPUT_VARIABLE output RESULT_VARIABLE result)
message(STATUS "${output}")
if(NOT result EQUAL 0)
  message(FATAL_ERROR "The program fails (${result}).")
endif()
if(TWIN)
  execute_process(COMMAND ${TWIN} OUTPUT_VARIABLE twin COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCH "hash [0-9a-f]+" hash "${output}")
  string(REGEX MATCH "hash [0-9a-f]+" twin_hash "${twin}")
  if(NOT hash OR NOT hash STREQUAL twin_hash)
    message(FATAL_ERROR "Its results are not those of ${TWIN}: ${hash}, ${twin_hash}.")
  endif()
endif()
