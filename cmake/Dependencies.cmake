# SPDX-License-Identifier: MIT
# What Heed needs, by package: where to find it, where to fetch it, and what Debian calls it. The only place that says so.

set(HEED_IF_MISSING fail CACHE STRING "What to do about a missing dependency: fail, fetch (from its git repository) or list")
set_property(CACHE HEED_IF_MISSING PROPERTY STRINGS fail fetch list)

set(HEED_Eigen3_TARGET Eigen3::Eigen)
set(HEED_Eigen3_DEBIAN libeigen3-dev)
set(HEED_Eigen3_GIT https://gitlab.com/libeigen/eigen.git 3.4.0)
set(HEED_GTest_TARGET GTest::gtest_main)
set(HEED_GTest_DEBIAN libgtest-dev)
set(HEED_GTest_GIT https://github.com/google/googletest.git v1.14.0)
set(HEED_benchmark_TARGET benchmark::benchmark)
set(HEED_benchmark_DEBIAN libbenchmark-dev)
set(HEED_benchmark_GIT https://github.com/google/benchmark.git v1.8.3)

set(HEED_MISSING "")

# Makes HEED_<package>_TARGET exist, or adds the package to HEED_MISSING when HEED_IF_MISSING is `list`.
macro(heed_dependency package)
  if(NOT TARGET ${HEED_${package}_TARGET})
    # No version here: every versioned form of find_package(Eigen3) rejects some release between 3.4 and 5.
    find_package(${package} CONFIG QUIET)
  endif()
  if(TARGET ${HEED_${package}_TARGET})
    heed_check_version(${package})
  endif()
  if(TARGET ${HEED_${package}_TARGET} AND NOT HEED_${package}_UNFIT)
    if(${package}_VERSION)
      message(STATUS "Found ${package} ${${package}_VERSION}: ${${package}_DIR}")
    endif()
  elseif(HEED_IF_MISSING STREQUAL "list")
    list(APPEND HEED_MISSING ${package})
  elseif(HEED_IF_MISSING STREQUAL "fetch")
    heed_fetch(${package})
  else()
    message(FATAL_ERROR
      "Heed needs ${package} and did not find it. ${HEED_${package}_UNFIT}\n"
      "  On Debian and Ubuntu: apt-get install ${HEED_${package}_DEBIAN}\n"
      "  Anywhere with network access: -D HEED_IF_MISSING=fetch\n"
      "  If it lies somewhere else: -D ${package}_DIR=<folder of ${package}Config.cmake>")
  endif()
endmacro()

# Sets HEED_<package>_UNFIT to the reason when the version that was found will not do.
function(heed_check_version package)
  if(package STREQUAL "Eigen3" AND Eigen3_VERSION)
    if(Eigen3_VERSION VERSION_LESS 3.4 OR Eigen3_VERSION VERSION_GREATER_EQUAL 6)
      set(HEED_Eigen3_UNFIT "It needs 3.4 up to 5.x; ${Eigen3_DIR} has ${Eigen3_VERSION}." PARENT_SCOPE)
    endif()
  endif()
endfunction()

function(heed_fetch package)
  include(FetchContent)
  list(GET HEED_${package}_GIT 0 repository)
  list(GET HEED_${package}_GIT 1 tag)
  message(STATUS "Fetching ${package} ${tag} from ${repository}")
  set(FETCHCONTENT_QUIET OFF)
  set(BUILD_SHARED_LIBS OFF)
  set(INSTALL_GTEST OFF)
  set(BUILD_GMOCK OFF)
  foreach(part TESTING GTEST_TESTS INSTALL WERROR)
    set(BENCHMARK_ENABLE_${part} OFF)
  endforeach()
  set(CMAKE_POLICY_DEFAULT_CMP0077 NEW)  # the options above reach the fetched projects
  if(package STREQUAL "Eigen3")
    # Headers are all that is needed: Eigen's own CMake project would look for Fortran, BLAS, Qt and add thousands of tests.
    FetchContent_Declare(${package} GIT_REPOSITORY ${repository} GIT_TAG ${tag} GIT_SHALLOW ON GIT_PROGRESS ON
                                    SOURCE_SUBDIR no/cmake/project/wanted)
  else()
    FetchContent_Declare(${package} GIT_REPOSITORY ${repository} GIT_TAG ${tag} GIT_SHALLOW ON GIT_PROGRESS ON)
  endif()
  FetchContent_MakeAvailable(${package})
  if(package STREQUAL "Eigen3")
    if(NOT TARGET Eigen3::Eigen)  # it is there when an unfit version was found
      add_library(Eigen3::Eigen INTERFACE IMPORTED GLOBAL)
    endif()
    set_target_properties(Eigen3::Eigen PROPERTIES INTERFACE_INCLUDE_DIRECTORIES ${eigen3_SOURCE_DIR})
  endif()
endfunction()

# One line for each missing package: its name, then Debian's.
function(heed_write_missing_dependencies file)
  set(lines "")
  foreach(package IN LISTS HEED_MISSING)
    string(APPEND lines "${package} ${HEED_${package}_DEBIAN}\n")
  endforeach()
  file(WRITE ${file} "${lines}")
endfunction()
