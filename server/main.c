/* main.c -- heapd: reads its configuration and runs, or says what it was asked.
 *
 * Exit codes: 0 clean, 1 failure at run time, 2 bad usage or configuration.
 */
#include "config.h"
#include "server.h"

#include <malloc.h>
#include <stdio.h>

/* What malloc maps by itself, and what it keeps of free memory at its end.  Left alone it raises both with the largest
 * buffer of a line that it has seen: under a load with lines of 4 MiB the resident memory went up and down by a third.
 * Lower, buffers of some MiB are mapped anew for each line: page faults were a third of the time of `create` of 1.7 MB. */
#define MAPPED_BYTES_MIN (4 << 20)
#define KEPT_BYTES (8 << 20)

int main(int argc, char *argv[])
{
    struct config config;
    struct reason reason;
    mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
    if (!config_load(&config, argc, argv, &reason)) {
        fprintf(stderr, "heapd: %s\n", reason.text);
        return 2;
    }
    bool is_about_files = config.action == CONFIG_CHECK || config.action == CONFIG_RUN;
    if (is_about_files && !server_check_files(&config, &reason)) {
        fprintf(stderr, "heapd: %s\n", reason.text);
        return 2;
    }
    switch (config.action) {
    case CONFIG_HELP:
        config_write_help(stdout);
        return 0;
    case CONFIG_VERSION:
        puts("heapd " RPC_VERSION);
        return 0;
    case CONFIG_CHECK:
        puts("the configuration is right");
        return 0;
    case CONFIG_RUN:
        break;
    }
    return server_run(&config, argc, argv);
}
