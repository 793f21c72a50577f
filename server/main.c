/* main.c -- heapd: reads its configuration and runs, or says what it was asked.
 *
 * Exit codes: 0 clean, 1 failure at run time, 2 bad usage or configuration.
 */
#include "config.h"
#include "server.h"

#include <stdio.h>

int main(int argc, char *argv[])
{
    struct config config;
    struct reason reason;
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
