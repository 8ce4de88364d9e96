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
set(HEED_GTest_OPTION HEED_BUILD_TESTS)
set(HEED_benchmark_TARGET benchmark::benchmark)
set(HEED_benchmark_DEBIAN libbenchmark-dev)
set(HEED_benchmark_GIT https://github.com/google/benchmark.git v1.8.3)
set(HEED_benchmark_OPTION HEED_BUILD_BENCHMARKS)

# Programs that some tests need and that nothing else does: never fetched, and no error when they are missing.
set(HEED_TOOLS gxx_11 gxx_aarch64 qemu_aarch64)
set(HEED_gxx_11_PROGRAM g++-11)
set(HEED_gxx_11_DEBIAN g++-11)
set(HEED_gxx_aarch64_PROGRAM aarch64-linux-gnu-g++)
set(HEED_gxx_aarch64_DEBIAN g++-aarch64-linux-gnu)
set(HEED_qemu_aarch64_PROGRAM qemu-aarch64)
set(HEED_qemu_aarch64_DEBIAN qemu-user)

set(HEED_MISSING "")
set(HEED_MISSING_TOOLS "")

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
    set(without "")
    if(HEED_${package}_OPTION)
      set(without "\n  To do without it: -D ${HEED_${package}_OPTION}=OFF")
    endif()
    message(FATAL_ERROR
      "Heed needs ${package} and did not find it. ${HEED_${package}_UNFIT}\n"
      "  On Debian and Ubuntu: apt-get install ${HEED_${package}_DEBIAN}\n"
      "  Anywhere with network access: -D HEED_IF_MISSING=fetch\n"
      "  If it lies somewhere else: -D ${package}_DIR=<folder of ${package}Config.cmake>${without}")
  endif()
endmacro()

# Sets HEED_<tool> for each of HEED_TOOLS to where its program lies, or adds it to HEED_MISSING_TOOLS and says so.
macro(heed_tools)
  foreach(tool IN LISTS HEED_TOOLS)
    find_program(HEED_${tool} ${HEED_${tool}_PROGRAM})
    mark_as_advanced(HEED_${tool})
    if(NOT HEED_${tool})
      list(APPEND HEED_MISSING_TOOLS ${tool})
      message(STATUS "No ${HEED_${tool}_PROGRAM}: the tests that need it are left out (Debian's package: ${HEED_${tool}_DEBIAN})")
    endif()
  endforeach()
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

# Two files with one line for each missing package or tool: its name, then Debian's.
function(heed_write_missing_dependencies folder)
  foreach(kind dependencies tools)
    set(names ${HEED_MISSING})
    if(kind STREQUAL "tools")
      set(names ${HEED_MISSING_TOOLS})
    endif()
    set(lines "")
    foreach(name IN LISTS names)
      string(APPEND lines "${name} ${HEED_${name}_DEBIAN}\n")
    endforeach()
    file(WRITE ${folder}/missing_${kind}.txt "${lines}")
  endforeach()
endfunction()
