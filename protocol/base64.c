/* base64.c -- base64, strict. */
#include "base64.h"

#include <stdint.h>
#include <string.h>

static const char alphabet[65] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(char *text, const void *data, size_t n)
{
    const unsigned char *in = data;
    for (; n >= 3; n -= 3, in += 3) {
        uint32_t bits = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];
        *text++ = alphabet[bits >> 18];
        *text++ = alphabet[bits >> 12 & 63];
        *text++ = alphabet[bits >> 6 & 63];
        *text++ = alphabet[bits & 63];
    }
    if (n > 0) {
        uint32_t bits = (uint32_t)in[0] << 16 | (n > 1 ? (uint32_t)in[1] << 8 : 0);
        *text++ = alphabet[bits >> 18];
        *text++ = alphabet[bits >> 12 & 63];
        *text++ = n > 1 ? alphabet[bits >> 6 & 63] : '=';
        *text++ = '=';
    }
}

/* The six bits of a character; 64 or more: it is not in the alphabet. */
static uint32_t bits_of(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return (uint32_t)(c - 'A');
    }
    if (c >= 'a' && c <= 'z') {
        return (uint32_t)(c - 'a') + 26;
    }
    if (c >= '0' && c <= '9') {
        return (uint32_t)(c - '0') + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : 64;
}

bool base64_decode(void *data, size_t *n, const char *text, size_t len)
{
    unsigned char *out = data;
    if (len % 4 != 0) {
        return false;
    }
    size_t padding = 0;
    if (len > 0 && text[len - 1] == '=') {
        padding = text[len - 2] == '=' ? 2 : 1;
    }
    for (size_t i = 0; i < len; i += 4) {
        size_t missing = i + 4 == len ? padding : 0;
        uint32_t third = missing < 2 ? bits_of(text[i + 2]) : 0;
        uint32_t fourth = missing < 1 ? bits_of(text[i + 3]) : 0;
        uint32_t first = bits_of(text[i]), second = bits_of(text[i + 1]);
        uint32_t bits = first << 18 | second << 12 | third << 6 | fourth;
        if ((first | second | third | fourth) > 63 || (bits & ((1u << 8 * missing) - 1)) != 0) {
            return false;
        }
        *out++ = (unsigned char)(bits >> 16);
        if (missing < 2) {
            *out++ = (unsigned char)(bits >> 8);
        }
        if (missing < 1) {
            *out++ = (unsigned char)bits;
        }
    }
    *n = len / 4 * 3 - padding;
    return true;
}
