# SPDX-License-Identifier: MIT
cmake_minimum_required(VERSION 3.21)
# cmake -D COMPILER=... -D HEED=... -D EIGEN=... -D SOURCE=... -P optimization_note.cmake
# A file that includes Heed compiles without optimization, with one note; without a word when the note is switched off or the
# compiler optimizes. SOURCE is written.

file(WRITE ${SOURCE} "#include <heed/config.hpp>\n#include <heed/config.hpp>\n")
foreach(flags -O0 "-O0;-DHEED_NO_OPTIMIZATION_WARNING" -O1)
  execute_process(COMMAND ${COMPILER} -std=c++20 -Wall -Wextra -Wpedantic -Werror -fsyntax-only ${flags} -I ${HEED} -isystem ${EIGEN}
                          ${SOURCE}
                  OUTPUT_VARIABLE output ERROR_VARIABLE output COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n]*: (note|warning): [^\n]*compiled without optimization" notes "${output}")
  list(LENGTH notes count)
  if(flags STREQUAL "-O0")
    if(NOT count EQUAL 1)
      message(FATAL_ERROR "${flags}: ${count} notes instead of one:\n${output}")
    endif()
  elseif(output)
    message(FATAL_ERROR "${flags}: expected no output, found\n${output}")
  endif()
endforeach()
