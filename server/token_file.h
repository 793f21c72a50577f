/* token_file.h -- the file of --auth-token-file: a `ROLE TOKEN` a line.
 *
 *   read   3f0c..      ROLE: read, write or admin.  TOKEN: 1 to 255 printable ASCII characters without spaces.
 *   # a comment        Empty lines and comments say nothing.
 *
 * Who can read it has every role in it, so nobody may but its owner, who must be root or the daemon's user, and
 * perhaps a group.
 */
#ifndef HEAPD_SERVER_TOKEN_FILE_H
#define HEAPD_SERVER_TOKEN_FILE_H

#include "../protocol/rpc.h"
#include "reason.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

/* Tokens in one file. */
#define TOKEN_FILE_MAX 4096u

struct token_file {
    char *text;                     /* of the file; NULL: none */
    size_t size;                    /* of its block */
    struct rpc_auth_token *tokens;  /* pointers into the text */
    size_t count;
};

/* Opens a file with a secret in it.  NULL: it cannot be read, others can read or change it, or it belongs neither to
 * that owner nor to root. */
FILE *token_file_open_secret(const char *path, uid_t owner, struct reason *reason);
/* Reads the file; it must have a token at least, and none twice.  Reasons name lines, and never show a token. */
bool token_file_read(struct token_file *file, const char *path, uid_t owner, struct reason *reason);
/* Frees it, and leaves no token in memory. */
void token_file_free(struct token_file *file);

#endif
