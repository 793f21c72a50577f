/* corpus.c -- runs a fuzz target without libFuzzer: on the files of its corpus, each once.
 *
 *   build/address/tests/fuzz/fuzz_wire FOLDER
 *
 * Linked into the targets wherever libFuzzer is not, so that every test run sees that they build, and that no input
 * that once failed fails again.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In a block of its own size, whose end a sanitizer watches. */
static void run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    long size = -1;
    if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0) {
        perror(path);
        exit(2);
    }
    rewind(file);
    uint8_t *data = malloc((size_t)size + (size == 0));
    if (data == NULL || fread(data, 1, (size_t)size, file) != (size_t)size) {
        fprintf(stderr, "%s: cannot be read\n", path);
        exit(2);
    }
    fclose(file);
    LLVMFuzzerTestOneInput(data, (size_t)size);
    free(data);
}

int main(int argc, char *argv[])
{
    char path[4096];
    unsigned count = 0;
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    if (folder == NULL) {
        fprintf(stderr, "usage: %s FOLDER, which must be there\n", argv[0]);
        return 2;
    }
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
            fprintf(stderr, "%s\n", path); /* the last one is that which failed */
            run_file(path);
            count++;
        }
    }
    closedir(folder);
    fprintf(stderr, "%u inputs\n", count);
    return count > 0 ? 0 : 1;
}
