# SPDX-License-Identifier: MIT
cmake_minimum_required(VERSION 3.21)
# cmake -D NM=... -D PLAIN=object -D NATIVE=object -P names_differ.cmake
# Fails when a function or variable of namespace heed is defined under one name in both objects.

foreach(object PLAIN NATIVE)
  execute_process(COMMAND ${NM} --defined-only ${${object}} OUTPUT_VARIABLE table COMMAND_ERROR_IS_FATAL ANY)
  # Global and weak symbols only; 4heed is how the namespace is spelt in a mangled name.
  string(REGEX MATCHALL "[ \t][A-Zuvw] [^\n]*4heed[^\n]*" ${object}_names "${table}")
  list(LENGTH ${object}_names count)
  message(STATUS "${object}: ${count} names of namespace heed")
  if(count EQUAL 0)
    message(FATAL_ERROR "${${object}} defines nothing of namespace heed: this test would prove nothing.")
  endif()
endforeach()

set(both "")
foreach(name IN LISTS PLAIN_names)
  if(name IN_LIST NATIVE_names)
    string(APPEND both "\n ${name}")
  endif()
endforeach()
if(both)
  message(FATAL_ERROR "Defined under one name with two instruction sets:${both}")
endif()
