# cmake -DINPUT=file -DOUTPUT=base -DNAME=symbol -P EmbedFile.cmake
# Writes base.c and base.h with the bytes of a file as an array named symbol.
file(READ ${INPUT} hex HEX)
string(LENGTH "${hex}" digits)
math(EXPR len "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "(................................................................................)"
       "\\1\n    " bytes "${bytes}")
file(WRITE ${OUTPUT}.h "/* Generated. */
#pragma once
#include <stddef.h>
#include <stdint.h>
extern const uint8_t ${NAME}[];
extern const size_t ${NAME}_len;
")
file(WRITE ${OUTPUT}.c "/* Generated. */
#include <stddef.h>
#include <stdint.h>
extern const uint8_t ${NAME}[];
extern const size_t ${NAME}_len;
const uint8_t ${NAME}[] = {
    ${bytes}
};
const size_t ${NAME}_len = ${len};
")
