/* fuzz_operations.c -- sequences of valid requests of three sessions, while the heap works in slices of one object.
 *
 * Four bytes of an input are a step: the method, the session, and two operands, which choose objects among those the
 * replies have named (dead ones too), names, values, small numbers.  Between two steps the heap works as many slices
 * as the session byte says, so collections and deaths are met in every state.
 */
#include "fuzz_service.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* %o: an object by id or name, %n: a name, %v: a value, %k: a key, %i: a small number, %b: true or false. */
static const char *const STEPS[] = {
    "create\",\"params\":[%v]",
    "create\",\"params\":[%v,%n]",
    "create\",\"params\":[{\"$let\":{\"a\":[{\"$label\":\"b\"},%v],\"b\":{\"k\":{\"$label\":\"a\"}}},\"in\":{\"$label\":\"a\"}}]",
    "ref\",\"params\":[%o]",
    "unref\",\"params\":[%o]",
    "collect\",\"params\":[2]",
    "collect\",\"params\":[%i]",
    "get\",\"params\":{\"object\":%o,\"depth\":-1,\"shared\":\"let\"}",
    "name.bind\",\"params\":[%n,%o]",
    "name.lookup\",\"params\":{\"name\":%n,\"hold\":%b}",
    "name.unbind\",\"params\":[%n]",
    "list.append\",\"params\":[%o,%v]",
    "list.extend\",\"params\":[%o,{\"$ref\":%o}]",
    "list.insert\",\"params\":[%o,%i,%v]",
    "list.getitem\",\"params\":{\"object\":%o,\"index\":%i,\"hold\":%b}",
    "list.setitem\",\"params\":[%o,%i,%v]",
    "list.delitem\",\"params\":[%o,%i]",
    "list.pop\",\"params\":{\"object\":%o,\"index\":%i,\"hold\":%b}",
    "list.clear\",\"params\":[%o]",
    "dict.setitem\",\"params\":[%o,%k,%v]",
    "dict.getitem\",\"params\":{\"object\":%o,\"key\":%k,\"hold\":%b}",
    "dict.setdefault\",\"params\":{\"object\":%o,\"key\":%k,\"value\":%v,\"hold\":%b}",
    "dict.delitem\",\"params\":[%o,%k]",
    "dict.pop\",\"params\":{\"object\":%o,\"key\":%k,\"hold\":%b}",
    "dict.update\",\"params\":[%o,{\"$ref\":%o}]",
    "dict.clear\",\"params\":[%o]",
    "dict.incr\",\"params\":[%o,%k,%i]",
    "set.add\",\"params\":[%o,%v]",
    "set.discard\",\"params\":[%o,%v]",
    "set.clear\",\"params\":[%o]",
    "attr.set\",\"params\":[%o,%n,%v]",
    "attr.get\",\"params\":{\"object\":%o,\"attr\":%n,\"hold\":%b}",
    "attr.del\",\"params\":[%o,%n]",
    "weakref.create\",\"params\":{\"object\":%o,\"notify\":%b}",
    "weakref.get\",\"params\":{\"object\":%o,\"hold\":%b}",
    "finalizer.set\",\"params\":{\"object\":%o,\"token\":\"t\",\"clear\":%b}",
    "finalizer.set\",\"params\":{\"object\":%o,\"resurrect_as\":%n}",
    "finalizer.clear\",\"params\":[%o]",
    "gc.freeze\"",
    "gc.unfreeze\"",
    "gc.set_debug\",\"params\":[[\"saveall\"]]",
    "gc.set_debug\",\"params\":[[]]",
    "gc.garbage\",\"params\":[%b]",
    "gc.set_threshold\",\"params\":[%i,1,1]",
    "gc.get_objects\"",
    "gc.get_referrers\",\"params\":[%o]",
    "heap.why\",\"params\":[%o]",
    "heap.retained\",\"params\":[%o]",
    "heap.dominators\"",
    "heap.mark\",\"params\":[%n]",
    "heap.diff\",\"params\":[%n]",
    "heap.check\"",
    "session.open\",\"params\":[1000]",
    "session.close\"",
    "subscribe\",\"params\":[[\"gc\",\"finalized\",\"weakref\"]]",
    "RECONNECT",
};
enum { STEP_COUNT = sizeof(STEPS) / sizeof(STEPS[0]), IDS = 16 };

static const char *const VALUES[] = {
    "[]", "{}", "[1,2,3]", "{\"k\":[],\"m\":{}}", "{\"$set\":[1,\"a\"]}", "{\"$tuple\":[[],1]}", "\"text of some length\"",
    "1000", "1.5", "{\"$instance\":\"Node\",\"attrs\":{\"a\":[]}}", "{\"$instance\":\"P\"}", "{\"$ref\":%o}",
    "[{\"$ref\":%o},{\"$ref\":%o}]", "{\"$weakref\":%o}", "{\"$frozenset\":[1,{\"$ref\":%o}]}", "null",
    "{\"$dict\":[[{\"$tuple\":[1,2]},{\"$ref\":%o}]]}", "{\"a\":{\"$ref\":%o}}",
};
enum { VALUE_COUNT = sizeof(VALUES) / sizeof(VALUES[0]) };
static const char *const KEYS[] = {"\"k\"", "\"m\"", "1", "true", "1.0", "{\"$ref\":%o}", "null", "{\"$tuple\":[1,2]}"};

struct operands {
    uint8_t bytes[2];
    unsigned used;
    const uint64_t *ids;
};

/* The next operand below `count`; the two bytes are used in turn, each time another part of them. */
static unsigned operand(struct operands *o, unsigned count)
{
    unsigned value = o->bytes[o->used % 2];
    value = (value + o->used / 2 * 7) % count;
    o->used++;
    return value;
}

static void append(char *line, size_t room, const char *template, struct operands *o)
{
    for (; *template != '\0'; template++) {
        size_t len = strlen(line);
        FUZZ_ASSERT(len + 64 < room);
        if (*template != '%') {
            line[len] = *template;
            line[len + 1] = '\0';
            continue;
        }
        unsigned which;
        switch (*++template) {
        case 'o':
            which = operand(o, IDS + 4);
            if (which < IDS) {
                sprintf(line + len, "%llu", (unsigned long long)o->ids[which]);
            } else {
                sprintf(line + len, "\"%c\"", (int)('a' + which - IDS));
            }
            break;
        case 'n':
            sprintf(line + len, "\"%c\"", (int)('a' + operand(o, 4)));
            break;
        case 'v':
            append(line, room, VALUES[operand(o, VALUE_COUNT)], o);
            break;
        case 'k':
            append(line, room, KEYS[operand(o, sizeof(KEYS) / sizeof(KEYS[0]))], o);
            break;
        case 'i':
            sprintf(line + len, "%u", operand(o, 3));
            break;
        default:
            strcpy(line + len, operand(o, 2) == 0 ? "true" : "false");
            break;
        }
    }
}

/* Keeps the id that a reply names. */
static void learn(struct fuzz_service *f, unsigned which, uint64_t *ids, unsigned *next)
{
    const char *said = f->said[which] == NULL ? "" : f->said[which], *found = strstr(said, "\"result\":{\"object\":");
    if (found != NULL) {
        uint64_t id = strtoull(found + strlen("\"result\":{\"object\":"), NULL, 10);
        if (id > 0) {
            ids[(*next)++ % IDS] = id;
        }
    }
}

/* So many slices, or until there is nothing to do. */
static void work(struct fuzz_service *f, unsigned slices)
{
    struct rpc_conn *conn;
    rpc_thread_run(f->thread);
    for (unsigned i = 0; i < slices && rpc_thread_has_work(f->thread); i++) {
        rpc_thread_step(f->thread, 500);
    }
    while ((conn = rpc_thread_next(f->thread)) != NULL) {
        fuzz_hear(f, conn);
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    setenv("HEAPD_STRESS", "slice=1", 1);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_service f;
    uint64_t ids[IDS];
    unsigned next = 0;
    for (unsigned i = 0; i < IDS; i++) {
        ids[i] = 1;
    }
    fuzz_open(&f);
    fuzz_ask(&f, 0, "{\"method\":\"create\",\"params\":{\"value\":{\"$class\":\"Node\"},\"name\":\"Node\"}}");
    fuzz_ask(&f, 0, "{\"method\":\"create\",\"params\":{\"value\":{\"$class\":\"P\",\"slots\":[\"a\",\"b\"]},\"name\":\"P\"}}");
    for (; size >= 4; data += 4, size -= 4) {
        const char *step = STEPS[data[0] % STEP_COUNT];
        unsigned which = data[1] % FUZZ_CONNS;
        if (strcmp(step, "RECONNECT") == 0) {
            fuzz_reconnect(&f, which);
            continue;
        }
        struct operands operands = {.bytes = {data[2], data[3]}, .ids = ids};
        char line[2048] = "{\"id\":1,\"method\":\"";
        append(line, sizeof(line), step, &operands);
        strcat(line, "}\n");
        fuzz_send(&f, which, line, strlen(line), sizeof(line));
        work(&f, data[1] / FUZZ_CONNS);
        learn(&f, which, ids, &next);
        fuzz_check_said(&f);
    }
    fuzz_run(&f);
    FUZZ_ASSERT(rpc_service_check(f.service) == 0);
    fuzz_close(&f);
    return 0;
}
