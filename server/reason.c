/* reason.c -- why something failed, in words for a person. */
#include "reason.h"

#include <stdarg.h>
#include <stdio.h>

bool reason_set(struct reason *reason, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(reason->text, sizeof reason->text, format, args);
    va_end(args);
    return false;
}
