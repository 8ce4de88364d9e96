# SPDX-License-Identifier: MIT
cmake_minimum_required(VERSION 3.21)
# cmake -D COMPILER=... -D SOURCE=... -D FLAGS=... -D INCLUDE=... -P compile_fail.cmake
# Passes when SOURCE does not compile with FLAGS and the compiler's output matches the regex in its first line, `// expect: regex`.

file(STRINGS ${SOURCE} first_line LIMIT_COUNT 1)
if(NOT first_line MATCHES "^// expect: (.+)$")
  message(FATAL_ERROR "The first line of ${SOURCE} must be `// expect: regex`.")
endif()
set(expected "${CMAKE_MATCH_1}")

list(TRANSFORM INCLUDE PREPEND "-I")
separate_arguments(FLAGS)
execute_process(COMMAND ${COMPILER} -std=c++20 -fsyntax-only -DHEED_NO_OPTIMIZATION_WARNING ${FLAGS} ${INCLUDE} ${SOURCE}
                RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(result EQUAL 0)
  message(FATAL_ERROR "${SOURCE} compiles, and must not.")
elseif(NOT output MATCHES "${expected}")
  message(FATAL_ERROR "${SOURCE} does not compile, but nothing in the output matches `${expected}`:\n${output}")
endif()
