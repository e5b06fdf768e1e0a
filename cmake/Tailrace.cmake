# The few functions every folder's CMakeLists.txt uses.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

set(TAILRACE_SANITIZE "" CACHE STRING "value of -fsanitize=, e.g. address,undefined")
option(TAILRACE_FUZZ "build the libFuzzer targets (needs clang)" OFF)
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
endfunction()

# tr_fuzz(NAME SOURCES f.c DEPS module...): a libFuzzer target; corpus in tests/fuzz/corpus/NAME.
function(tr_fuzz name)
    if(NOT TAILRACE_FUZZ)
        return()
    endif()
    cmake_parse_arguments(M "" "" "SOURCES;DEPS" ${ARGN})
    add_executable(${name} ${M_SOURCES})
    target_link_libraries(${name} PRIVATE ${M_DEPS})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
endfunction()

# tr_proto(NAME file.proto...): nanopb sources generated into the build folder, as module NAME.
# Generated headers are included as "proto/file.pb.h".
function(tr_proto name)
    set(out ${CMAKE_BINARY_DIR}/generated/proto)
    file(MAKE_DIRECTORY ${out})
    set(srcs)
    foreach(proto ${ARGN})
        get_filename_component(base ${proto} NAME_WE)
        get_filename_component(dir ${proto} DIRECTORY)
        set(abs ${CMAKE_CURRENT_SOURCE_DIR}/${proto})
        get_filename_component(absdir ${abs} DIRECTORY)
        set(options ${absdir}/${base}.options)
        set(deps ${abs})
        if(EXISTS ${options})
            list(APPEND deps ${options})
        endif()
        add_custom_command(
            OUTPUT ${out}/${base}.pb.c ${out}/${base}.pb.h
            COMMAND nanopb_generator.py -q -I ${absdir} -D ${out} -L "#include \"proto/%s\"" ${base}.proto
            WORKING_DIRECTORY ${absdir}
            DEPENDS ${deps} VERBATIM)
        list(APPEND srcs ${out}/${base}.pb.c)
    endforeach()
    add_library(${name} STATIC ${srcs})
    target_include_directories(${name} PUBLIC ${CMAKE_BINARY_DIR}/generated)
    target_link_libraries(${name} PUBLIC protobuf-nanopb)
    target_compile_definitions(${name} PUBLIC PB_ENABLE_MALLOC PB_FIELD_32BIT)
endfunction()
