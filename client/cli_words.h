/* cli_words.h -- a line of text as the words sh would make of it. */
#ifndef HEAPD_CLIENT_CLI_WORDS_H
#define HEAPD_CLIENT_CLI_WORDS_H

#include <stdbool.h>
#include <stddef.h>

/* The words of one line.  Pointers lie in `storage`; all are freed by cli_words_fini(). */
struct cli_words {
    size_t count;
    char **word; /* word[count] is NULL */
    size_t *at;  /* where in the line each word begins */
    char *storage;
    bool is_open; /* a quote is not closed, or a backslash ends the line; the last word is what there is of it
                   */
    char quote;   /* the quote that is not closed, 0 if none */
};

/* cli_words_split -- blanks separate words; '..' keeps all, ".." keeps all but \" \\ \$ \` ; a backslash
 * outside quotes keeps the next byte; # at the beginning of a word ends the line.  Nothing is expanded.
 * Returns false when memory is short, and then `words` needs no fini. */
bool cli_words_split(struct cli_words *words, const char *line);
void cli_words_fini(struct cli_words *words);

/* cli_words_quote -- `word` as sh would have to read it, new (free()); NULL: no memory. */
char *cli_words_quote(const char *word);

#endif
