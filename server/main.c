/* main.c -- heapd: reads its configuration and runs, or says what it was asked.
 *
 * Exit codes: 0 clean, 1 failure at run time, 2 bad usage or configuration.
 */
#include "config.h"
#include "server.h"

#include <malloc.h>
#include <stdio.h>

/* Buffers of large lines are mapped, and go back to the kernel when they are freed.  By itself malloc raises this bound
 * to the largest such buffer it has seen, and keeps twice as much of what is free: under a load with lines of 4 MiB the
 * resident memory went up and down by a third.  Where it is set it stays; the CPU time of such lines is the same. */
#define MAPPED_BYTES_MIN (1 << 20)

int main(int argc, char *argv[])
{
    struct config config;
    struct reason reason;
    mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
    mallopt(M_TRIM_THRESHOLD, 2 * MAPPED_BYTES_MIN);
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
