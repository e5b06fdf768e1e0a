# The few functions every folder's CMakeLists.txt uses.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

set(TAILRACE_SANITIZE "" CACHE STRING "value of -fsanitize=, e.g. address,undefined")
option(TAILRACE_FUZZ "build the libFuzzer targets (needs clang)" OFF)
set(TAILRACE_FUZZ_SECONDS 15 CACHE STRING "how long ctest runs each fuzzer")
option(TAILRACE_COVERAGE "instrument for gcov" OFF)

add_compile_options(-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes
                    -Wpointer-arith -Wvla -Wimplicit-fallthrough -Wno-unused-parameter
                    -Werror=implicit-function-declaration -Werror=incompatible-pointer-types
                    -fno-strict-aliasing -fno-omit-frame-pointer)
add_compile_definitions(_GNU_SOURCE TAILRACE_VERSION="${PROJECT_VERSION}")
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")
set(CMAKE_C_FLAGS_DEBUG "-O1 -g")
if(TAILRACE_SANITIZE)
    add_compile_options(-fsanitize=${TAILRACE_SANITIZE} -fno-sanitize-recover=all)
    add_link_options(-fsanitize=${TAILRACE_SANITIZE})
endif()
if(TAILRACE_FUZZ)
    add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(TAILRACE_COVERAGE)
    add_compile_options(--coverage)
    add_link_options(--coverage)
endif()

# tr_module(NAME SOURCES a.c b.c DEPS other_module PKG libfoo): a static library with one public
# header. Include paths start at the root of the tree: #include "core/base/err.h".
function(tr_module name)
    cmake_parse_arguments(M "" "" "SOURCES;DEPS;PKG;LIBS" ${ARGN})
    add_library(${name} STATIC ${M_SOURCES})
    target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/generated)
    target_link_libraries(${name} PUBLIC ${M_DEPS} ${M_LIBS} Threads::Threads)
    foreach(pkg ${M_PKG})
        pkg_check_modules(PC_${pkg} REQUIRED IMPORTED_TARGET ${pkg})
        target_link_libraries(${name} PUBLIC PkgConfig::PC_${pkg})
    endforeach()
endfunction()

# tr_binary(NAME SOURCES main.c DEPS module...)
function(tr_binary name)
    cmake_parse_arguments(M "" "" "SOURCES;DEPS;LIBS" ${ARGN})
    add_executable(${name} ${M_SOURCES})
    target_link_libraries(${name} PRIVATE ${M_DEPS} ${M_LIBS})
endfunction()

# tr_test(NAME SOURCES t.c DEPS module...): a CUnit program, one ctest case labelled "unit".
# Every test program is linked with tests/unit/harness.c, which provides main().
function(tr_test name)
    cmake_parse_arguments(M "" "TIMEOUT" "SOURCES;DEPS;LIBS" ${ARGN})
    add_executable(${name} ${M_SOURCES})
    target_link_libraries(${name} PRIVATE test_harness ${M_DEPS} ${M_LIBS})
    add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    if(NOT M_TIMEOUT)
        set(M_TIMEOUT 300)
    endif()
    set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT ${M_TIMEOUT})
    add_dependencies(unit_tests ${name})
endfunction()
add_custom_target(unit_tests)

# tr_fuzz(NAME SOURCES f.c DEPS module...): a libFuzzer target; corpus in tests/fuzz/corpus/NAME.
function(tr_fuzz name)
    if(NOT TAILRACE_FUZZ)
        return()
    endif()
    cmake_parse_arguments(M "" "" "SOURCES;DEPS" ${ARGN})
    add_executable(${name} ${M_SOURCES})
    target_link_libraries(${name} PRIVATE ${M_DEPS})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/corpus/${name})
    add_test(NAME ${name} COMMAND ${name} -max_total_time=${TAILRACE_FUZZ_SECONDS} -timeout=20
             -rss_limit_mb=4096 -print_final_stats=1 ${CMAKE_BINARY_DIR}/corpus/${name}
             ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${name})
    set_tests_properties(${name} PROPERTIES LABELS fuzz)
    add_dependencies(fuzzers ${name})
endfunction()
add_custom_target(fuzzers)

# tr_proto(NAME file.proto... [ROOT dir] [OPTIONS dir]): nanopb sources generated into the build
# folder, as module NAME. Paths are relative to ROOT (this folder by default), from which imports
# are resolved too; <path>.options is looked for there and in OPTIONS. Generated headers are
# included as "proto/<path>.pb.h". The serialised FileDescriptorSet, for gRPC reflection, is
# NAME_descriptors in "proto/NAME.desc.h". Debian builds the nanopb library with 16-bit sizes:
# PB_FIELD_32BIT must not be defined.
function(tr_proto name)
    cmake_parse_arguments(P "" "ROOT;OPTIONS" "" ${ARGN})
    if(NOT P_ROOT)
        set(P_ROOT ${CMAKE_CURRENT_SOURCE_DIR})
    endif()
    if(NOT P_OPTIONS)
        set(P_OPTIONS ${P_ROOT})
    endif()
    set(generated ${CMAKE_BINARY_DIR}/generated)
    set(out ${generated}/proto)
    file(MAKE_DIRECTORY ${out})
    set(srcs)
    set(protos)
    foreach(proto ${P_UNPARSED_ARGUMENTS})
        string(REGEX REPLACE "\\.proto$" "" base ${proto})
        set(deps ${P_ROOT}/${proto})
        if(EXISTS ${P_OPTIONS}/${base}.options)
            list(APPEND deps ${P_OPTIONS}/${base}.options)
        endif()
        add_custom_command(
            OUTPUT ${out}/${base}.pb.c ${out}/${base}.pb.h
            COMMAND nanopb_generator.py -q -I ${P_ROOT} -I ${P_OPTIONS} -D ${out}
                    -s fallback_type:FT_POINTER
                    "-scallback_function:\"rpc_pb_bytes\"" "-sinclude:\"ctrl/rpc/pb.h\"" ${proto}
            WORKING_DIRECTORY ${P_ROOT}
            DEPENDS ${deps} VERBATIM)
        list(APPEND srcs ${out}/${base}.pb.c)
        list(APPEND protos ${P_ROOT}/${proto})
    endforeach()
    add_custom_command(
        OUTPUT ${out}/${name}.desc.c ${out}/${name}.desc.h
        COMMAND protoc -I ${P_ROOT} --include_imports --descriptor_set_out=${out}/${name}.desc
                ${P_UNPARSED_ARGUMENTS}
        COMMAND ${CMAKE_COMMAND} -DINPUT=${out}/${name}.desc -DOUTPUT=${out}/${name}.desc
                -DNAME=${name}_descriptors -P ${CMAKE_SOURCE_DIR}/cmake/EmbedFile.cmake
        WORKING_DIRECTORY ${P_ROOT}
        DEPENDS ${protos} ${CMAKE_SOURCE_DIR}/cmake/EmbedFile.cmake VERBATIM)
    add_library(${name} STATIC ${srcs} ${out}/${name}.desc.c)
    # Generated files include each other relative to out, everybody else says "proto/...".
    target_include_directories(${name} PUBLIC ${generated} ${out} ${CMAKE_SOURCE_DIR})
    target_link_libraries(${name} PUBLIC rpc_pb)
endfunction()
