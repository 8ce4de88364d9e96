# SPDX-License-Identifier: MIT
# heed_development: what Heed's own tests, benchmarks and examples are compiled with. Nothing of it reaches users of heed::heed.

add_library(heed_development INTERFACE)
target_link_libraries(heed_development INTERFACE heed::heed)

if(MSVC)
  target_compile_options(heed_development INTERFACE /W4 /bigobj $<$<BOOL:${HEED_WERROR}>:/WX>)
else()
  target_compile_options(heed_development INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow
                                                    $<$<BOOL:${HEED_WERROR}>:-Werror>)
endif()

# Who writes -O0 means it.
string(TOUPPER "${CMAKE_BUILD_TYPE}" heed_build_type)
if("${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${heed_build_type}}" MATCHES "-O0")
  target_compile_definitions(heed_development INTERFACE HEED_NO_OPTIMIZATION_WARNING)
endif()

# Users choose OpenMP by compiling with it, as with Eigen; here it is used where it exists.
find_package(OpenMP QUIET)
if(OpenMP_CXX_FOUND)
  target_link_libraries(heed_development INTERFACE OpenMP::OpenMP_CXX)
endif()
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
target_link_libraries(heed_development INTERFACE Threads::Threads)

if(HEED_SANITIZE)
  # With clang not what AddressSanitizer stops at as well (null pointers, accesses outside of an object), which takes long to
  # compile, and not pointer-overflow: Eigen adds offsets to the null pointers of empty matrices. g++ checks all.
  set(heed_sanitize_flags
      -fsanitize=${HEED_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer
      $<$<CXX_COMPILER_ID:Clang>:-fno-sanitize=null,vptr,object-size,nonnull-attribute,returns-nonnull-attribute,pointer-overflow>)
  target_compile_options(heed_development INTERFACE ${heed_sanitize_flags})
  target_link_options(heed_development INTERFACE ${heed_sanitize_flags})
endif()
