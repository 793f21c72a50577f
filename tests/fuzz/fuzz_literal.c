/* fuzz_literal.c -- any text as the value of a `create`; what `get` answers makes an equal object.
 *
 * A copy made of the answer answers the same, but for what has no order (sets), what names objects outside the text
 * (weakrefs), and ids: classes are written by theirs, so both answers have the same ones.
 */
#include "fuzz_service.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The result of the reply, ends with its line; NULL: an error. */
static char *result_of(const char *reply)
{
    const char *head = "{\"id\":1,\"result\":";
    if (strncmp(reply, head, strlen(head)) != 0) {
        return NULL;
    }
    char *result = strdup(reply + strlen(head));
    FUZZ_ASSERT(result != NULL);
    char *end = strrchr(result, '}');
    FUZZ_ASSERT(end != NULL);
    *end = '\0';
    return result;
}

static char *get(struct fuzz_service *f, const char *name)
{
    return result_of(fuzz_ask(f, 0, "{\"id\":1,\"method\":\"get\",\"params\":{\"object\":\"%s\",\"depth\":-1,"
                                    "\"shared\":\"let\"}}", name));
}

static void copy(struct fuzz_service *f)
{
    char *first = get(f, "a");
    if (first == NULL) {
        return; /* deeper, or larger, than an answer may be */
    }
    const char *made = fuzz_ask(f, 0, "{\"id\":1,\"method\":\"create\",\"params\":{\"value\":%s,\"name\":\"b\"}}", first);
    if (strstr(made, "\"result\"") == NULL) {
        FUZZ_ASSERT(strstr(made, "limit_exceeded") != NULL || strstr(made, "memory_error") != NULL);
        free(first);
        return;
    }
    char *second = get(f, "b");
    FUZZ_ASSERT(second != NULL);
    if (strstr(first, "set\"") == NULL && strstr(first, "$weakref") == NULL) {
        FUZZ_ASSERT(strcmp(first, second) == 0);
    }
    free(first);
    free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (memchr(data, '\n', size) != NULL || memchr(data, '\0', size) != NULL) {
        return 0;
    }
    struct fuzz_service f;
    fuzz_open(&f);
    fuzz_ask(&f, 0, "{\"method\":\"create\",\"params\":{\"value\":{\"$class\":\"Node\"},\"name\":\"Node\"}}");
    fuzz_ask(&f, 0, "{\"method\":\"create\",\"params\":{\"value\":{\"$class\":\"P\",\"slots\":[\"x\",\"y\"]},\"name\":\"P\"}}");
    const char *made = fuzz_ask(&f, 0, "{\"id\":1,\"method\":\"create\",\"params\":{\"name\":\"a\",\"value\":%.*s}}",
                                (int)size, (const char *)data);
    if (strncmp(made, "{\"id\":1,\"result\":{\"object\":", 27) == 0) {
        copy(&f);
    }
    fuzz_close(&f);
    return 0;
}
