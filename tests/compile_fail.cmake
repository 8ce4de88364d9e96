# SPDX-License-Identifier: MIT
cmake_minimum_required(VERSION 3.21)
# cmake -D COMPILER=... -D SOURCE=... -D FLAGS=... -D INCLUDE=... -P compile_fail.cmake
# Passes when SOURCE does not compile with FLAGS and the compiler's output matches every regex of its first lines,
# `// expect: regex`.

file(STRINGS ${SOURCE} lines)
set(expected "")
foreach(line IN LISTS lines)
  if(NOT line MATCHES "^// expect: (.+)$")
    break()
  endif()
  list(APPEND expected "${CMAKE_MATCH_1}")
endforeach()
if(NOT expected)
  message(FATAL_ERROR "The first line of ${SOURCE} must be `// expect: regex`.")
endif()

list(TRANSFORM INCLUDE PREPEND "-I")
separate_arguments(FLAGS)
execute_process(COMMAND ${COMPILER} -std=c++20 -fsyntax-only -DHEED_NO_OPTIMIZATION_WARNING ${FLAGS} ${INCLUDE} ${SOURCE}
                RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(result EQUAL 0)
  message(FATAL_ERROR "${SOURCE} compiles, and must not.")
endif()
foreach(regex IN LISTS expected)
  if(NOT output MATCHES "${regex}")
    message(FATAL_ERROR "${SOURCE} does not compile, but nothing in the output matches `${regex}`:\n${output}")
  endif()
endforeach()
