# SPDX-License-Identifier: MIT
cmake_minimum_required(VERSION 3.21)
# cmake -P benchmarks/compile_time.cmake: what Heed adds to the compilation of a file, in seconds of processor time at -O2.
# Five little files take turns, ROUNDS times each (-D ROUNDS=5); the least time of each counts. COMPILERS may be given.

set(root ${CMAKE_CURRENT_LIST_DIR}/..)
if(NOT DEFINED ROUNDS)
  set(ROUNDS 5)
endif()
if(NOT DEFINED COMPILERS)
  foreach(name g++ clang++)
    find_program(found_${name} ${name})
    if(found_${name})
      list(APPEND COMPILERS ${found_${name}})
    endif()
  endforeach()
endif()
find_path(eigen_include Eigen/Core PATHS /usr/include/eigen3 /usr/local/include/eigen3 HINTS ${EIGEN_DIR})
set(folder ${root}/build/compile_time)
file(MAKE_DIRECTORY ${folder})

set(signature "void attend(Eigen::MatrixXf& y, const Eigen::MatrixXf& q, const Eigen::MatrixXf& k, const Eigen::MatrixXf& v)")
file(WRITE ${folder}/eigen.cpp "#include <Eigen/Core>\n${signature} { y = q; (void)k, (void)v; }\n")
file(WRITE ${folder}/plain.cpp "#include <Eigen/Core>\n#include <cmath>\n${signature} {
  Eigen::MatrixXf p = q * k.transpose() / std::sqrt(float(q.cols()));
  p = (p.colwise() - p.rowwise().maxCoeff().eval()).array().exp().matrix();
  y = p.rowwise().sum().cwiseInverse().asDiagonal() * (p * v);
}\n")
file(WRITE ${folder}/include.cpp "#include <heed/heed.hpp>\n${signature} { y = q; (void)k, (void)v; }\n")
file(WRITE ${folder}/heed.cpp "#include <heed/heed.hpp>\n${signature} { y = heed::attention(q, k, v, heed::causal()); }\n")
file(WRITE ${folder}/backward.cpp "#include <heed/heed.hpp>
void gradients(Eigen::MatrixXf& dq, const Eigen::MatrixXf& dy, const Eigen::MatrixXf& q, const Eigen::MatrixXf& k,
               const Eigen::MatrixXf& v, const Eigen::MatrixXf& y, const heed::Saved<float>& saved) {
  dq = heed::attention_backward(dy, q, k, v, y, saved, heed::causal()).dq;
}\n")

# milliseconds(OUT COMPILER FILE FLAGS...): user and system time of the compiler.
function(milliseconds out compiler file)
  execute_process(
    COMMAND sh -c "\"$0\" \"$@\" && times" ${compiler} -std=c++20 -O2 ${ARGN} -I${root}/include -isystem ${eigen_include} -c ${folder}/${file}.cpp
            -o ${folder}/${file}.o
    OUTPUT_VARIABLE text COMMAND_ERROR_IS_FATAL ANY)
  # The second line is that of the children: 0m1.23s 0m0.04s
  string(REGEX MATCH "\n([0-9]+)m([0-9]+)\\.([0-9][0-9])[0-9]*s ([0-9]+)m([0-9]+)\\.([0-9][0-9])" line "${text}")
  math(EXPR sum "((${CMAKE_MATCH_1} + ${CMAKE_MATCH_4}) * 60 + ${CMAKE_MATCH_2} + ${CMAKE_MATCH_5}) * 1000 + (1${CMAKE_MATCH_3} - 100 + 1${CMAKE_MATCH_6} - 100) * 10")
  set(${out} ${sum} PARENT_SCOPE)
endfunction()

# seconds(OUT MILLISECONDS): 1234 becomes 1.23
function(seconds out value)
  math(EXPR whole "${value} / 1000")
  math(EXPR rest "${value} % 1000 / 10 + 100")
  string(SUBSTRING ${rest} 1 2 rest)
  set(${out} "${whole}.${rest}" PARENT_SCOPE)
endfunction()

foreach(compiler IN LISTS COMPILERS)
  foreach(sets "all instruction sets" "one instruction set")
    set(flags "")
    if(sets STREQUAL "one instruction set")
      set(flags -march=native)
    endif()
    foreach(file eigen plain include heed backward)
      set(least_${file} 1000000000)
    endforeach()
    foreach(round RANGE 1 ${ROUNDS})
      foreach(file eigen plain include heed backward)
        milliseconds(time ${compiler} ${file} ${flags})
        if(time LESS least_${file})
          set(least_${file} ${time})
        endif()
      endforeach()
    endforeach()
    seconds(alone ${least_eigen})
    foreach(pair "include eigen" "heed eigen" "heed plain" "backward eigen")
      separate_arguments(pair)
      list(GET pair 0 a)
      list(GET pair 1 b)
      math(EXPR difference "${least_${a}} - ${least_${b}}")
      seconds(${a}_over_${b} ${difference})
    endforeach()
    message("${compiler}, ${sets}: Eigen alone ${alone} s; the header adds ${include_over_eigen} s, with one call ${heed_over_eigen} s "
            "(${heed_over_plain} s more than plain Eigen attention), with one backward call ${backward_over_eigen} s")
  endforeach()
endforeach()
