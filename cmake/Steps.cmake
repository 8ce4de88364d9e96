# SPDX-License-Identifier: MIT
# The steps of demo.cmake, test.cmake and benchmark.cmake: dependencies, configure, build, run. Everything a step prints is shown.

get_filename_component(HEED_ROOT ${CMAKE_CURRENT_LIST_DIR} DIRECTORY)

# HEED_CORES: how many jobs to run at once; CMAKE_BUILD_PARALLEL_LEVEL in the environment overrides it.

if(DEFINED ENV{CMAKE_BUILD_PARALLEL_LEVEL})
  set(HEED_CORES $ENV{CMAKE_BUILD_PARALLEL_LEVEL})
else()
  include(ProcessorCount)
  ProcessorCount(HEED_CORES)
  if(HEED_CORES EQUAL 0)
    set(HEED_CORES 2)
  endif()
endif()

# Arguments after `-P script.cmake`.
set(HEED_ARGUMENTS "")
math(EXPR last "${CMAKE_ARGC} - 1")
foreach(i RANGE ${last})
  if(DEFINED script_seen)
    list(APPEND HEED_ARGUMENTS "${CMAKE_ARGV${i}}")
  elseif("${CMAKE_ARGV${i}}" MATCHES "^-P(.*)$")
    if(CMAKE_MATCH_1)
      set(script_seen ON)
    else()
      set(script_next ON)
    endif()
  elseif(script_next)
    set(script_seen ON)
  endif()
endforeach()

# heed_step(<name> HINT <what to do when it fails> COMMAND <command>...)
function(heed_step name)
  cmake_parse_arguments(PARSE_ARGV 1 step "" "HINT" "COMMAND")
  string(TIMESTAMP begin %s)
  message(STATUS "=== ${name}")
  execute_process(COMMAND ${step_COMMAND} RESULT_VARIABLE result)
  string(TIMESTAMP end %s)
  math(EXPR seconds "${end} - ${begin}")
  if(NOT result EQUAL 0)
    list(JOIN step_COMMAND " " command)
    message(FATAL_ERROR "The step `${name}` failed (${result}). What it ran:\n  ${command}\n${step_HINT}")
  endif()
  message(STATUS "=== ${name}: done in ${seconds} s")
endfunction()

# Configures HEED_ROOT in `build` with the options that follow. Missing dependencies are installed as Debian packages where
# apt-get and the right to use it exist, and otherwise fetched from their repositories. Tools of some tests are installed likewise,
# and otherwise left out.
function(heed_configure build)
  set(command ${CMAKE_COMMAND} -S ${HEED_ROOT} -B ${build} ${ARGN})
  if(NOT EXISTS ${build}/CMakeCache.txt AND NOT DEFINED ENV{CMAKE_GENERATOR} AND NOT CMAKE_HOST_WIN32)
    find_program(ninja ninja)
    if(ninja)
      list(APPEND command -G Ninja)
    else()
      list(APPEND command -G "Unix Makefiles")
    endif()
  endif()
  set(hint "The lines above say what is missing: a C++20 compiler (g++ 11 or clang 14, or newer), make or ninja. \
The environment variable CXX chooses another compiler. If ${build} is from another try, remove it.")

  heed_step("Looking for dependencies" HINT "${hint}" COMMAND ${command} -D HEED_IF_MISSING=list)
  heed_missing(${build}/missing_dependencies.txt missing packages)
  heed_missing(${build}/missing_tools.txt missing_tools tools)
  if(missing OR missing_tools)
    heed_install("${packages}" "${tools}")
    heed_step("Looking for dependencies again" HINT "${hint}" COMMAND ${command} -D HEED_IF_MISSING=list)
    heed_missing(${build}/missing_dependencies.txt missing packages)
  endif()
  if(missing)
    list(JOIN missing ", " missing)
    list(JOIN packages " " packages)
    message(STATUS "Still missing: ${missing}. Fetching the sources instead; this needs git and network access.")
    heed_step("Configuring, with fetched sources"
              HINT "Install the packages yourself (${packages}), or try again with network access."
              COMMAND ${command} -D HEED_IF_MISSING=fetch)
  endif()
endfunction()

# What configuring with HEED_IF_MISSING=list has found missing: names, and Debian's packages.
function(heed_missing file names packages)
  file(STRINGS ${file} lines)
  list(TRANSFORM lines REPLACE "^([^ ]+) ([^ ]+)$" "\\1" OUTPUT_VARIABLE first)
  list(TRANSFORM lines REPLACE "^([^ ]+) ([^ ]+)$" "\\2" OUTPUT_VARIABLE second)
  set(${names} ${first} PARENT_SCOPE)
  set(${packages} ${second} PARENT_SCOPE)
endfunction()

# Installs Debian packages, if this is a system that can. Not being able to is no error: packages are fetched next, tools left out.
function(heed_install packages tools)
  string(REPLACE ";" " " names "${packages};${tools}")
  string(STRIP "${names}" names)
  find_program(apt_get apt-get)
  find_program(sudo sudo)
  if(NOT apt_get)
    message(STATUS "Missing here: ${names} (Debian's names); there is no apt-get to install them with.")
    return()
  endif()
  execute_process(COMMAND id -u OUTPUT_VARIABLE user OUTPUT_STRIP_TRAILING_WHITESPACE)
  set(as_root "")
  if(NOT user STREQUAL "0")
    if(NOT sudo)
      message(STATUS "Missing here: ${names}; installing them takes root or sudo, and neither is at hand.")
      return()
    endif()
    set(as_root ${sudo})
  endif()
  message(STATUS "Missing here: ${names}. Installing Debian's packages with apt-get${as_root}.")
  set(apt ${as_root} ${CMAKE_COMMAND} -E env DEBIAN_FRONTEND=noninteractive ${apt_get})
  heed_try(${apt} update)
  if(packages)
    heed_try(${apt} install --yes --no-install-recommends ${packages})
  endif()
  # One by one: a release of Debian that lacks one of them would refuse the whole command.
  foreach(tool IN LISTS tools)
    heed_try(${apt} install --yes --no-install-recommends ${tool})
  endforeach()
endfunction()

# Runs a command and says so when it fails.
function(heed_try)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    list(JOIN ARGN " " command)
    message(STATUS "${command} failed (${result}).")
  endif()
endfunction()

function(heed_build build)
  heed_step("Building with ${HEED_CORES} jobs"
            HINT "The first error above says why. Out of memory? CMAKE_BUILD_PARALLEL_LEVEL=1 in the environment builds one file at a time."
            COMMAND ${CMAKE_COMMAND} --build ${build} --parallel ${HEED_CORES})
endfunction()
