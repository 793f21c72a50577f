/* question.c -- requests that take the heap long: worker threads deal with them, one at a time.
 *
 *   I/O thread   question_ask()   the request stays at the head of its connection, which runs nothing more
 *   worker       work()           takes the oldest question, lets the handler write the reply into a buffer of
 *                                 the question's own, puts it on the asking thread's `answers` and wakes that
 *   I/O thread   question_take()  rpc.c appends the answer to the connection's replies and goes on with it
 *
 * There are three such workers: one for questions that walk over the heap, and, so that these need not wait for walks,
 * one that builds the large values of requests (building.c), and one that reads large values for answers (reading.c).
 * With its value a request runs like any other.
 *
 * So a question costs other clients no more than the slices of the GIL that its handler takes, and the I/O
 * threads never wait for one.
 *
 * The request lies in its turn, of which the question is a user, so that it outlives its connection.  When
 * that goes, question_forget() cancels: the handler gives up at its next look at call->cancel, and the answer
 * is thrown away.  A thread that was cancelled on is never woken: what its host waits on may be closed by then.
 *
 * Locking: the desk's mutex guards the queue and the threads' answers; nobody waits for the GIL or another lock
 * with it.  A question's other fields are its maker's until it is queued, then the worker's, then its thread's;
 * but `conn` is always its thread's.
 * Start at question_ask() and work().
 */
#include "rpc_internal.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

bool method_asks_always(const method_arg *args)
{
    (void)args;
    return true;
}

/* ---- the worker ---- */

/* Microseconds of a slice of the heap's work: as long as in the I/O threads. */
#define SLICE_US 500u

/* With so many bytes of answers to be taken no large value is read for a thread. */
#define ANSWER_BYTES (1u << 20)

/* Between two looks whether a collection may begin that others hold up: builds, or a walk. */
#define LOOK_NS 500000

/* Begins a full collection and takes the slices until it is over; first those of one that is under way.  false: the
 * answer is not wanted any more.  GIL: not held. */
static bool make_room(struct rpc_service *service, const struct question *question)
{
    struct heap *heap = service->heap;
    struct heap_collection collection;
    bool has_begun = false, is_over = false, has_to_wait = false;
    heap_enter(heap);
    service->build_delays++;
    while (!is_over && !atomic_load_explicit(&question->cancel, memory_order_relaxed)) {
        if (!has_begun) {
            has_begun = heap_collect_begin(&collection, heap, 2, true) != HEAP_BUSY;
        }
        has_to_wait = !has_begun && !heap_is_collecting(heap);
        if (heap_is_collecting(heap)) {
            heap_step(heap, SLICE_US);
            park_after_step(service);
        }
        is_over = has_begun && !heap_is_collecting(heap);
        heap_leave(heap);
        if (has_to_wait) {
            nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
        }
        heap_enter(heap);
    }
    service->build_delays--;
    service->build_turns++;
    heap_leave(heap);
    return is_over;
}

/* Runs the handler; a second time after a full collection when memory was short. */
static void answer(struct rpc_service *service, struct question *question)
{
    const struct request *request = question->request;
    struct call call = {
        .service = service,
        .heap = service->heap,
        .args = request->args,
        .method = request->method,
        .out = &question->out,
        .result_max = service_reply_max(service),
        .is_notification = (request->flags & REQUEST_NOTIFICATION) != 0,
        .role = question->role,
        .cancel = &question->cancel,
        .file = &question->file,
        .fault = &question->fault,
    };
    question->is_answered = reply_attempt(&call, request);
    question->is_moved = call.is_moved;
    if (!question->is_answered && question->fault.error == RPC_MEMORY_ERROR && make_room(service, question)) {
        question->is_answered = reply_attempt(&call, request);
        question->is_moved = call.is_moved;
    }
}

/* Gives the question back to its thread.  The mutex is held. */
static void give_back(struct rpc_service *service, struct question *question)
{
    struct rpc_thread *thread = question->thread;
    thread->answer_bytes += question->out.len;
    question->next = thread->answers;
    thread->answers = question;
    atomic_store_explicit(&thread->has_answers, true, memory_order_release);
    pthread_cond_broadcast(&service->desk.answered);
    if (!atomic_load_explicit(&question->cancel, memory_order_relaxed) && service->host.wake != NULL) {
        service->host.wake(service->host.arg, thread->user);
    }
}

/* What the worker does with a question. */
static void deal_with(struct rpc_service *service, struct question *question)
{
    bool is_cancelled = atomic_load_explicit(&question->cancel, memory_order_relaxed);
    if (question->kind == QUESTION_READS) {
        if (!is_cancelled) {
            answer(service, question);
        }
    } else if (question->kind == QUESTION_WALKS) {
        if (!is_cancelled) {
            pthread_mutex_lock(&service->walk_mutex);
            answer(service, question);
            pthread_mutex_unlock(&service->walk_mutex);
        }
    } else if (!building_owns(question->building) && !is_cancelled) {
        building_run(service, question->building, &question->cancel);
    }
    if (question->building != NULL && building_owns(question->building) &&
        atomic_load_explicit(&question->cancel, memory_order_relaxed)) {
        building_drop(service, question->building);
    }
}

/* The bench's oldest question; NULL: there is none, or its thread has answers enough to take first.  Answers that wait
 * there are counted nowhere else, and many may have asked at once.  The mutex is held. */
static struct question *next_question(const struct question_bench *bench)
{
    struct question *question = bench->first;
    bool must_wait = question != NULL && question->kind == QUESTION_READS && !bench->service->desk.is_ending &&
                     question->thread->answer_bytes >= ANSWER_BYTES &&
                     !atomic_load_explicit(&question->cancel, memory_order_relaxed);
    return must_wait ? NULL : question;
}

static void *work(void *arg)
{
    struct question_bench *bench = arg;
    struct question_desk *desk = &bench->service->desk;
    pthread_mutex_lock(&desk->mutex);
    for (;;) {
        struct question *question;
        while ((question = next_question(bench)) == NULL && !desk->is_ending) {
            pthread_cond_wait(&bench->asked, &desk->mutex);
        }
        if (question == NULL) {
            break;
        }
        bench->first = question->next;
        pthread_mutex_unlock(&desk->mutex);
        deal_with(bench->service, question);
        pthread_mutex_lock(&desk->mutex);
        give_back(bench->service, question);
    }
    pthread_mutex_unlock(&desk->mutex);
    return NULL;
}

/* ---- the desk ---- */

bool question_desk_init(struct rpc_service *service)
{
    struct question_desk *desk = &service->desk;
    if (pthread_mutex_init(&desk->mutex, NULL) != 0) {
        return false;
    }
    /* Conditions without attributes cannot fail here. */
    pthread_cond_init(&desk->answered, NULL);
    for (unsigned i = 0; i < QUESTION_BENCHES; i++) {
        desk->benches[i].service = service;
        pthread_cond_init(&desk->benches[i].asked, NULL);
    }
    return true;
}

void question_desk_fini(struct question_desk *desk)
{
    pthread_mutex_lock(&desk->mutex);
    desk->is_ending = true;
    pthread_mutex_unlock(&desk->mutex);
    for (unsigned i = 0; i < QUESTION_BENCHES; i++) {
        struct question_bench *bench = &desk->benches[i];
        pthread_cond_signal(&bench->asked);
        if (bench->has_worker) {
            pthread_join(bench->worker, NULL);
        }
        pthread_cond_destroy(&bench->asked);
    }
    pthread_cond_destroy(&desk->answered);
    pthread_mutex_destroy(&desk->mutex);
}

/* ---- the asking thread ---- */

/* Puts it behind those that wait; makes the worker when it is the first ever.  false: no thread could be made. */
static bool enqueue(struct rpc_service *service, struct question *question)
{
    struct question_desk *desk = &service->desk;
    struct question_bench *bench = &desk->benches[question->kind];
    pthread_mutex_lock(&desk->mutex);
    if (!bench->has_worker) {
        bench->has_worker = pthread_create(&bench->worker, NULL, work, bench) == 0;
    }
    bool has_worker = bench->has_worker;
    if (has_worker) {
        question->next = NULL;
        *(bench->first == NULL ? &bench->first : &bench->last->next) = question;
        bench->last = question;
        pthread_cond_signal(&bench->asked);
    }
    pthread_mutex_unlock(&desk->mutex);
    return has_worker;
}

/* Steals the building, NULL: there is none. */
static bool ask(struct rpc_conn *conn, enum question_kind kind, struct building *building)
{
    struct rpc_thread *thread = conn->thread;
    struct question *question = calloc(1, sizeof(*question));
    if (question == NULL) {
        free(building);
        return false;
    }
    question->thread = thread;
    question->conn = conn;
    question->file = -1;
    question->request = conn->first;
    question->role = rpc_conn_role(conn);
    question->asked = slowlog_ticks();
    question->kind = kind;
    question->building = building;
    out_init(&question->out, 0);
    if (!enqueue(thread->service, question)) {
        free(building);
        free(question);
        return false;
    }
    conn->question = question;
    question->request->turn->users++;
    thread->questions++;
    return true;
}

bool question_ask(struct rpc_conn *conn)
{
    return ask(conn, QUESTION_WALKS, NULL);
}

bool question_ask_reading(struct rpc_conn *conn)
{
    return ask(conn, QUESTION_READS, NULL);
}

bool question_ask_value(struct rpc_conn *conn, uint64_t session)
{
    struct building *building = building_create(conn->first, session);
    return building != NULL && ask(conn, QUESTION_BUILDS, building);
}

void question_forget(struct rpc_conn *conn)
{
    struct question *question = conn->question;
    if (conn->built != NULL) {
        struct question *built = conn->built;
        conn->built = NULL;
        question_destroy(built);
    }
    if (question == NULL) {
        return;
    }
    struct question_desk *desk = &conn->thread->service->desk;
    pthread_mutex_lock(&desk->mutex);
    atomic_store_explicit(&question->cancel, true, memory_order_relaxed);
    pthread_cond_signal(&desk->benches[QUESTION_READS].asked);
    pthread_mutex_unlock(&desk->mutex);
    question->conn = NULL;
    conn->question = NULL;
}

struct question *question_take(struct rpc_thread *thread)
{
    struct question_desk *desk = &thread->service->desk;
    if (!atomic_load_explicit(&thread->has_answers, memory_order_acquire)) {
        return NULL;
    }
    pthread_mutex_lock(&desk->mutex);
    struct question *question = thread->answers;
    thread->answers = question->next;
    if (thread->answers == NULL) {
        atomic_store_explicit(&thread->has_answers, false, memory_order_relaxed);
    }
    thread->answer_bytes -= question->out.len;
    pthread_cond_signal(&desk->benches[QUESTION_READS].asked);
    pthread_mutex_unlock(&desk->mutex);
    return question;
}

void question_destroy(struct question *question)
{
    if (question->building != NULL && building_owns(question->building)) {
        atomic_store_explicit(&question->cancel, true, memory_order_relaxed);
        question->conn = NULL;
        (void)enqueue(question->thread->service, question); /* there is a worker: it has built the value */
        return;
    }
    free(question->building);
    question->thread->questions--;
    thread_release_turn(question->thread, question->request->turn);
    out_fini(&question->out);
    if (question->file >= 0) {
        close(question->file);
    }
    free(question);
}

void question_wait_for_all(struct rpc_thread *thread)
{
    struct question_desk *desk = &thread->service->desk;
    while (thread->questions > 0) {
        pthread_mutex_lock(&desk->mutex);
        while (thread->answers == NULL) {
            pthread_cond_wait(&desk->answered, &desk->mutex);
        }
        pthread_mutex_unlock(&desk->mutex);
        question_destroy(question_take(thread));
    }
}
