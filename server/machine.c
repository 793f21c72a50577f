/* machine.c -- what the machine, or the control group that the daemon runs in, lets it have.
 *
 * The memory limit of a control group stands in a file of its folder, and any folder above may set a
 * smaller one, so the way is walked upwards:
 *
 *   version 2   /proc/self/cgroup has "0::/a/b"          /sys/fs/cgroup/a/b/memory.max
 *   version 1   /proc/self/cgroup has "4:memory:/a/b"    /sys/fs/cgroup/memory/a/b/memory.limit_in_bytes
 *
 * Within a container the path may name a folder that is not visible; its topmost one still is.
 */
#include "machine.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- memory ---- */

/* The number in a file; UINT64_MAX if there is none ("max", or no such file). */
static uint64_t read_limit(const char *folder, const char *name)
{
    char path[2 * PATH_MAX];
    unsigned long long bytes = 0;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return UINT64_MAX;
    }
    int found = fscanf(file, "%llu", &bytes);
    fclose(file);
    return found == 1 ? bytes : UINT64_MAX;
}

/* The smallest limit of the folder root+path and those above it, root included. */
static uint64_t smallest_limit(const char *root, const char *path, const char *name)
{
    char folder[PATH_MAX];
    size_t root_len = strlen(root);
    uint64_t least = UINT64_MAX;
    snprintf(folder, sizeof folder, "%s%s", root, path);
    for (;;) {
        uint64_t limit = read_limit(folder, name);
        least = limit < least ? limit : least;
        char *slash = strrchr(folder + root_len, '/');
        if (slash == NULL) {
            return least;
        }
        *slash = '\0';
    }
}

/* The limit of a line of /proc/self/cgroup, "NUMBER:CONTROLLERS:PATH\n". */
static uint64_t limit_of_line(char *line)
{
    char *controllers = strchr(line, ':');
    char *path = controllers == NULL ? NULL : strchr(controllers + 1, ':');
    if (path == NULL) {
        return UINT64_MAX;
    }
    *controllers++ = '\0';
    *path++ = '\0';
    path[strcspn(path, "\n")] = '\0';
    if (strcmp(controllers, "memory") == 0) {
        return smallest_limit("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes");
    }
    return *controllers == '\0' ? smallest_limit("/sys/fs/cgroup", path, "memory.max") : UINT64_MAX;
}

static uint64_t control_group_bytes(void)
{
    char line[PATH_MAX];
    uint64_t least = UINT64_MAX;
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        uint64_t limit = limit_of_line(line);
        least = limit < least ? limit : least;
    }
    if (file != NULL) {
        fclose(file);
    }
    return least;
}

uint64_t machine_memory_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    uint64_t physical = pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : UINT64_MAX;
    uint64_t group = control_group_bytes(), bytes = group < physical ? group : physical;
    return bytes == UINT64_MAX ? 0 : bytes;
}

/* ---- processors, files ---- */

unsigned machine_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        return (unsigned)CPU_COUNT(&set);
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}

uint64_t machine_raise_files(uint64_t wanted)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) {
        return 1024;
    }
    rlim_t before = files.rlim_cur, most = files.rlim_max;
    if (wanted != 0 && wanted < most) {
        most = (rlim_t)wanted;
    }
    if (before < most) {
        files.rlim_cur = most;
        if (setrlimit(RLIMIT_NOFILE, &files) != 0) {
            return before;
        }
    }
    return files.rlim_cur;
}
