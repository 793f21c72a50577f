/* token_file.c -- the file of --auth-token-file: a `ROLE TOKEN` a line. */
#include "token_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file that is longer is no list of tokens. */
#define FILE_BYTES_MAX (TOKEN_FILE_MAX * 300u)

FILE *token_file_open_secret(const char *path, uid_t owner, struct reason *reason)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe would make us wait for its writer */
    if (fd < 0) {
        reason_set(reason, "cannot read %.200s: %s", path, strerror(errno));
        return NULL;
    }
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        reason_set(reason, "%.200s is no plain file", path);
    } else if (info.st_uid != 0 && info.st_uid != owner) {
        reason_set(reason, "%.200s belongs to user %lu; it must be the daemon's user's (%lu), or root's", path,
                   (unsigned long)info.st_uid, (unsigned long)owner);
    } else if ((info.st_mode & (S_IRWXO | S_IWGRP)) != 0) {
        reason_set(reason, "%.200s has mode %04o, so that others can read or change it (chmod 600 %.200s)", path,
                   (unsigned)info.st_mode & 07777, path);
    } else {
        FILE *file = fdopen(fd, "r");
        if (file != NULL) {
            return file;
        }
        reason_set(reason, "cannot read %.200s: %s", path, strerror(errno));
    }
    close(fd);
    return NULL;
}

/* The role of that name; RPC_ROLE_NONE: there is none. */
static enum rpc_role role_of(const char *word)
{
    return strcmp(word, "read") == 0    ? RPC_ROLE_READ
           : strcmp(word, "write") == 0 ? RPC_ROLE_WRITE
           : strcmp(word, "admin") == 0 ? RPC_ROLE_ADMIN
                                        : RPC_ROLE_NONE;
}

static bool is_printable(const char *text)
{
    while (*text > ' ' && *text < 0x7f) {
        text++;
    }
    return *text == '\0';
}

static bool is_known(const struct token_file *file, const char *token)
{
    for (size_t i = 0; i < file->count; i++) {
        if (strcmp(file->tokens[i].text, token) == 0) {
            return true;
        }
    }
    return false;
}

/* A line, which is cut into its words. */
static bool read_line(struct token_file *file, char *line, const char *path, unsigned number, struct reason *reason)
{
    static const char blanks[] = " \t\r";
    char *rest = NULL, *role = strtok_r(line, blanks, &rest);
    if (role == NULL || *role == '#') {
        return true;
    }
    char *token = strtok_r(NULL, blanks, &rest);
    if (token == NULL || strtok_r(NULL, blanks, &rest) != NULL || role_of(role) == RPC_ROLE_NONE) {
        return reason_set(reason, "%.200s:%u: it must be `ROLE TOKEN`, ROLE one of read, write, admin", path, number);
    }
    size_t len = strlen(token);
    if (len > RPC_AUTH_TOKEN_BYTES_MAX || !is_printable(token)) {
        return reason_set(reason, "%.200s:%u: a token has at most %u characters, all of them printable ASCII", path,
                          number, RPC_AUTH_TOKEN_BYTES_MAX);
    }
    if (is_known(file, token)) {
        return reason_set(reason, "%.200s:%u: the same token stands on a line above", path, number);
    }
    if (file->count == TOKEN_FILE_MAX) {
        return reason_set(reason, "%.200s:%u: more than %u tokens", path, number, TOKEN_FILE_MAX);
    }
    file->tokens[file->count++] = (struct rpc_auth_token){.role = role_of(role), .text = token, .len = len};
    return true;
}

/* All of it, with a NUL. */
static bool read_text(struct token_file *file, FILE *stream, const char *path, struct reason *reason)
{
    struct stat info;
    if (fstat(fileno(stream), &info) != 0 || info.st_size > (off_t)FILE_BYTES_MAX) {
        return reason_set(reason, "%.200s is too large to be a list of tokens", path);
    }
    file->size = (size_t)info.st_size + 1;
    file->text = calloc(1, file->size);
    file->tokens = calloc(TOKEN_FILE_MAX, sizeof *file->tokens);
    if (file->text == NULL || file->tokens == NULL) {
        return reason_set(reason, "no memory to read %.200s", path);
    }
    setvbuf(stream, NULL, _IONBF, 0); /* its buffer would keep the tokens */
    size_t len = fread(file->text, 1, file->size - 1, stream);
    if (ferror(stream)) {
        return reason_set(reason, "cannot read %.200s: %s", path, strerror(errno));
    }
    if (memchr(file->text, '\0', len) != NULL) {
        return reason_set(reason, "%.200s has a NUL in it", path);
    }
    return true;
}

bool token_file_read(struct token_file *file, const char *path, uid_t owner, struct reason *reason)
{
    *file = (struct token_file){.text = NULL};
    FILE *stream = token_file_open_secret(path, owner, reason);
    if (stream == NULL) {
        return false;
    }
    bool ok = read_text(file, stream, path, reason);
    fclose(stream);
    unsigned number = 0;
    for (char *line = file->text, *next; ok && line != NULL; line = next) {
        next = strchr(line, '\n');
        if (next != NULL) {
            *next++ = '\0';
        }
        ok = read_line(file, line, path, ++number, reason);
    }
    if (ok && file->count == 0) {
        ok = reason_set(reason, "%.200s has no token in it, so that nobody could get in", path);
    }
    if (!ok) {
        token_file_free(file);
    }
    return ok;
}

void token_file_free(struct token_file *file)
{
    if (file->text != NULL) {
        explicit_bzero(file->text, file->size);
    }
    free(file->text);
    free(file->tokens);
    *file = (struct token_file){.text = NULL};
}
