/* heap_recorder.h -- an observer that writes down what the heap tells, one line an event, for the tests of the
 * collector.  Include it after heap_fixture.h.
 *
 *   start G [auto]                        a collection begins
 *   stop G UNREACHABLE FREED              and is over
 *   finalized ID TOKEN yes|no             and whether it lives on
 *   weakref ID of ID to SESSION
 */
#ifndef HEAPD_TESTS_HEAP_RECORDER_H
#define HEAPD_TESTS_HEAP_RECORDER_H

struct recorder {
    char *text; /* what was told; ends in NUL once recorder_told() was asked */
    size_t len;
    FILE *file;
    unsigned finalized, resurrected, weakrefs; /* events of each kind; `resurrected` is a part of `finalized` */
    bool collections;                          /* write down start and stop too */
};

static inline void recorder_event(void *arg, const struct heap_event *event)
{
    struct recorder *recorder = arg;
    switch (event->kind) {
    case HEAP_EVENT_GC_START:
        if (recorder->collections) {
            fprintf(recorder->file, "start %d%s\n", event->collection->generation,
                    event->automatic ? " auto" : "");
        }
        break;
    case HEAP_EVENT_GC_STOP:
        if (recorder->collections) {
            fprintf(recorder->file, "stop %d %u %u\n", event->collection->generation,
                    (unsigned)event->collection->unreachable, (unsigned)event->collection->freed);
        }
        break;
    case HEAP_EVENT_FINALIZED:
        recorder->finalized++;
        recorder->resurrected += event->resurrected;
        fprintf(recorder->file, "finalized %u %.*s %s\n", (unsigned)event->object, (int)event->token_len,
                event->token != NULL ? event->token : "", event->resurrected ? "yes" : "no");
        break;
    case HEAP_EVENT_WEAKREF:
        recorder->weakrefs++;
        fprintf(recorder->file, "weakref %u of %u to %u\n", (unsigned)event->weakref, (unsigned)event->object,
                (unsigned)event->session);
        break;
    }
}

static inline void recorder_log(void *arg, const char *line)
{
    fprintf(((struct recorder *)arg)->file, "%s\n", line);
}

static inline void recorder_start(struct recorder *recorder, struct heap *heap)
{
    *recorder = (struct recorder){0};
    recorder->file = open_memstream(&recorder->text, &recorder->len);
    assert_non_null(recorder->file);
    heap_set_observer(heap, &(struct heap_observer){recorder, recorder_event, recorder_log});
}

/* Everything since the last time this was asked. */
static inline const char *recorder_told(struct recorder *recorder)
{
    fputc('\0', recorder->file);
    fflush(recorder->file);
    rewind(recorder->file);
    return recorder->text;
}

static inline void recorder_stop(struct recorder *recorder, struct heap *heap)
{
    heap_set_observer(heap, &(struct heap_observer){0});
    fclose(recorder->file);
    free(recorder->text);
}

static inline unsigned id_of(struct heap *heap, heap_ref obj)
{
    uint64_t id;
    OK(heap_id(&id, heap, obj));
    return (unsigned)id;
}

#endif
