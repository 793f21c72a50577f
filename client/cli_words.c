/* cli_words.c -- splits a line into words as sh does, and writes a word so that sh reads it back.
 *
 * One pass over the line writes the words one after the other into `storage`, each ended by NUL; that is
 * never longer than the line itself.   Start at cli_words_split().
 */
#include "cli_words.h"

#include <stdlib.h>
#include <string.h>

/* Where the splitter is: `in` walks the line, `out` the storage. */
struct splitter {
    const char *in;
    char *out;
    struct cli_words *words;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Copies up to the closing quote; `in` is behind it afterwards, or at the end of the line. */
static void copy_quoted(struct splitter *at, char quote)
{
    at->in++;
    while (*at->in != '\0' && *at->in != quote) {
        if (quote == '"' && *at->in == '\\' && at->in[1] != '\0' && strchr("\"\\$`", at->in[1]) != NULL) {
            at->in++;
        }
        *at->out++ = *at->in++;
    }
    if (*at->in == quote) {
        at->in++;
    } else {
        at->words->is_open = true;
        at->words->quote = quote;
    }
}

/* Copies one word; `in` is at a blank or at the end afterwards. */
static void copy_word(struct splitter *at)
{
    while (*at->in != '\0' && !is_blank(*at->in)) {
        if (*at->in == '\'' || *at->in == '"') {
            copy_quoted(at, *at->in);
        } else if (*at->in == '\\') {
            at->in++;
            if (*at->in == '\0') {
                at->words->is_open = true;
            } else {
                *at->out++ = *at->in++;
            }
        } else {
            *at->out++ = *at->in++;
        }
    }
    *at->out++ = '\0';
}

bool cli_words_split(struct cli_words *words, const char *line)
{
    size_t len = strlen(line);
    *words = (struct cli_words){0};
    words->storage = malloc(len + 2);
    words->word = calloc(len / 2 + 2, sizeof *words->word);
    words->at = calloc(len / 2 + 2, sizeof *words->at);
    if (words->storage == NULL || words->word == NULL || words->at == NULL) {
        cli_words_fini(words);
        return false;
    }
    struct splitter at = {line, words->storage, words};
    for (;;) {
        while (is_blank(*at.in)) {
            at.in++;
        }
        if (*at.in == '\0' || *at.in == '#') {
            return true;
        }
        words->at[words->count] = (size_t)(at.in - line);
        words->word[words->count++] = at.out;
        copy_word(&at);
    }
}

void cli_words_fini(struct cli_words *words)
{
    free(words->storage);
    free(words->word);
    free(words->at);
    *words = (struct cli_words){0};
}

char *cli_words_quote(const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.,:/=+@%";
    if (*word != '\0' && word[strspn(word, plain)] == '\0') {
        return strdup(word);
    }
    /* Each ' becomes '\'' , four bytes. */
    char *quoted = malloc(strlen(word) * 4 + 3);
    if (quoted == NULL) {
        return NULL;
    }
    char *out = quoted;
    *out++ = '\'';
    for (; *word != '\0'; word++) {
        if (*word == '\'') {
            memcpy(out, "'\\''", 4);
            out += 4;
        } else {
            *out++ = *word;
        }
    }
    *out++ = '\'';
    *out = '\0';
    return quoted;
}
