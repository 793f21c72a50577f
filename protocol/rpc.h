/* rpc.h -- the public face of protocol/: bytes in, replies out, no socket.
 *
 *   rpc_service   one: the heap, the limits, the counters, the method table
 *   rpc_thread    one an I/O thread: the connections of its loop that have work this turn
 *   rpc_conn      one a connection: session, framing, replies not yet sent
 *
 * A turn of a loop: for each readable connection rpc_conn_buffer(), read(2), rpc_conn_received() (frames
 * lines, parses envelopes; no GIL); then once rpc_thread_run() (takes the GIL once, runs every request in
 * order of arrival, lets it go), then for each connection that rpc_thread_next() names: write out
 * rpc_conn_output() and tell rpc_conn_sent().
 *
 * Threads: a service's functions may be called from any thread; a thread's and its connections' only
 * from the thread that owns them.  Nobody outside protocol/ ever holds the GIL.
 */
#ifndef HEAPD_PROTOCOL_RPC_H
#define HEAPD_PROTOCOL_RPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RPC_PROTOCOL_VERSION 1
#define RPC_VERSION "0.1.0"

/* ---- limits: PROTOCOL section 10 ---- */

/* member, option name, unit, default, largest value (0: any), what it counts (for --help).
 * Unit SIZE takes k, m, g.  A value of 0 means no limit.  Defaults of 0 for max-memory and max-clients
 * are worked out by the server at start. */
#define RPC_LIMIT_MAP(X)                                                                                     \
    X(max_memory, "max-memory", SIZE, 0, 0, "heap bytes (default: 75 % of the memory there is)")             \
    X(max_request, "max-request", SIZE, 67108864, 0, "bytes of a line, or of an HTTP body")                  \
    X(max_depth, "max-depth", NUMBER, 1024, 2000, "nesting of a line")                                       \
    X(max_batch, "max-batch", NUMBER, 10000, 0, "elements of a batch")                                       \
    X(max_holds, "max-holds", NUMBER, 16777216, 0, "holds of a session")                                     \
    X(max_names, "max-names", NUMBER, 16777216, 0, "bound names")                                            \
    X(max_clients, "max-clients", NUMBER, 12000, 0, "connections")                                           \
    X(max_leases, "max-leases", NUMBER, 12000, 0, "leased sessions")                                         \
    X(max_output, "max-output", SIZE, 67108864, 0, "bytes of unread replies of a connection")                \
    X(max_events, "max-events", NUMBER, 10000, 0, "waiting events of a session")                             \
    X(idle_timeout, "idle-timeout", SECONDS, 3600, 0, "seconds of silence of a connection that holds nothing") \
    X(first_byte_timeout, "first-byte-timeout", SECONDS, 300, 0, "seconds from accept to the first byte")

/* Member and name of limits that are as they are, but counted like the others, and what they are. */
#define RPC_FIXED_LIMIT_MAP(X)                                                                               \
    X(http_unread, "http-unread", "60 seconds in which nothing of an answer is read")                         \
    X(http_head, "http-head", "16 KiB and 100 lines of a head")                                               \
    X(http_exports, "http-exports", "4 exports at a time")                                                   \
    X(tls_handshake, "tls-handshake", "10 seconds from accept")

struct rpc_limits {
#define X(member, name, unit, fallback, largest, doc) uint64_t member;
    RPC_LIMIT_MAP(X)
#undef X
};

/* The defaults of the table.  GIL: either. */
void rpc_limits_default(struct rpc_limits *limits);

/* Replies above this wait: the connection is not read from until they have shrunk below it. */
#define RPC_OUTPUT_HIGH_BYTES 1048576u
/* So many times max-output is what all connections together may have unread.  From the half of it on replies above this
 * wait; when all is used up who has as much unread runs nothing, and a reply has this much at the most. */
#define RPC_OUTPUT_ALL 8u
#define RPC_OUTPUT_LOW_BYTES 65536u

/* ---- service ---- */

/* What the server knows and `stats server` shows. */
struct rpc_server_figures {
    uint64_t connections, connections_total;
};

/* An option of the host, for server.config. */
enum rpc_option_kind {
    RPC_OPTION_NUMBER, /* number */
    RPC_OPTION_TEXT,   /* text; NULL: not set */
    RPC_OPTION_ITEM    /* text, one of a list: items of one name follow each other */
};
struct rpc_option {
    const char *name; /* without dashes */
    enum rpc_option_kind kind;
    uint64_t number;
    const char *text; /* good during the call */
};
#define RPC_REASON_BYTES 512

/* What protocol/ asks of its host; called without the GIL, from any I/O thread. */
struct rpc_host {
    void *arg;
    void (*shutdown)(void *arg); /* server.shutdown: begin a clean stop; returns at once */
    void (*figures)(void *arg, struct rpc_server_figures *figures);
    void (*log_error)(void *arg, const char *message); /* a defect of ours, said to the client as internal_error */
    void (*warn)(void *arg, const char *line);         /* somebody tries to get in */
    void (*log)(void *arg, const char *line);          /* what the collector's debug flags say; the GIL is held */
    /* Every option with its value. */
    void (*options)(void *arg, void (*row)(void *row_arg, const struct rpc_option *option), void *row_arg);
    /* Sets options, given as texts, while the daemon runs: all of them, or none and `why` says why.  The GIL is
     * held; *limits are those to use from now on. */
    bool (*set_options)(void *arg, const struct rpc_option *settings, size_t count, struct rpc_limits *limits,
                        char why[RPC_REASON_BYTES]);
    /* rpc_thread_run() has something to do that came from elsewhere: an event, an answer; `user` is the thread's. */
    void (*wake)(void *arg, void *user);
    /* Some thread's rpc_thread_run() is due `ms` milliseconds from now: a lease runs out. */
    void (*run_in)(void *arg, uint64_t ms);
};

struct rpc_service;
struct rpc_thread;
struct rpc_conn;

/* NULL: no memory or address space.  `limits` and `host` are copied. */
struct rpc_service *rpc_service_create(const struct rpc_limits *limits, const struct rpc_host *host);
/* All threads and connections must be gone.  Frees the heap. */
void rpc_service_destroy(struct rpc_service *service);
/* Changes limits while running (those of the heap included); takes the GIL for a moment. */
void rpc_service_set_limits(struct rpc_service *service, const struct rpc_limits *limits);
/* Requests that take so long are noted for server.slowlog; 0: all.  10000 at first. */
void rpc_service_set_slowlog(struct rpc_service *service, uint64_t us);
/* Where heap.export may write files; NULL: nowhere, which is how it begins.  Copied; before threads run.  false: no
 * memory. */
bool rpc_service_set_export_dir(struct rpc_service *service, const char *path);
/* heap_check of the service's heap: the number of problems, said on stderr.  Takes the GIL. */
uint32_t rpc_service_check(struct rpc_service *service);

/* `user` is what host.wake() is told.  NULL: no memory. */
struct rpc_thread *rpc_thread_create(struct rpc_service *service, void *user);
/* After its connections.  Waits until what they have asked the worker is given up. */
void rpc_thread_destroy(struct rpc_thread *thread);

/* ---- access: PROTOCOL section 7 ---- */

/* What a connection may do; each role may do what those before it may.  The method table says which one a method
 * asks for. */
enum rpc_role {
    RPC_ROLE_NONE, /* `auth` and `ping`: no token was shown yet */
    RPC_ROLE_READ,
    RPC_ROLE_WRITE,
    RPC_ROLE_ADMIN
};

#define RPC_AUTH_TOKEN_BYTES_MAX 255u
/* A token that may be shown, and the role that it gives. */
struct rpc_auth_token {
    enum rpc_role role;
    const char *text;
    size_t len; /* 1 to RPC_AUTH_TOKEN_BYTES_MAX */
};

/* These tokens are known from here on, and no others; copied.  Connections whose token is not among them with the same
 * role are closed.  Any thread; takes the GIL for a moment.  false: no memory, and nothing has changed. */
bool rpc_service_set_auth_tokens(struct rpc_service *service, const struct rpc_auth_token *tokens, size_t count);

/* ---- connections ---- */

/* Who is at the other end. */
#define RPC_PEER_BYTES 64
struct rpc_peer {
    const char *transport; /* "unix", "tcp" or "tls"; static */
    const char *name;      /* its address or user, for a person; cut where it is longer than RPC_PEER_BYTES - 1 */
    bool must_authenticate; /* it has RPC_ROLE_NONE before it shows a token; else it has RPC_ROLE_ADMIN */
};

/* `client` is the connection's number, from 1, never reused; `user` comes back from rpc_conn_user().  The next
 * rpc_thread_run(), which is due now, gives it a session.  NULL: no memory. */
struct rpc_conn *rpc_conn_create(struct rpc_thread *thread, uint64_t client, const struct rpc_peer *peer, void *user);
/* Its session ends in the thread's next run, which is due now, unless others are in it or it has a lease.
 * `reason`, static, is told to subscribers.  The pointer is void at once. */
void rpc_conn_destroy(struct rpc_conn *conn, const char *reason);
void *rpc_conn_user(const struct rpc_conn *conn);

/* Where the next bytes go: at least 1 byte of room (a read of `suggested` is handy).  NULL: no memory.
 * Good until the next call for any connection of the thread: read at once. */
char *rpc_conn_buffer(struct rpc_conn *conn, size_t suggested, size_t *room);
/* n bytes are there: frames them and parses whole lines.  Queues the connection for rpc_thread_run(). */
void rpc_conn_received(struct rpc_conn *conn, size_t n);
/* The line that is not finished counts for nothing. */
void rpc_conn_drop_unfinished(struct rpc_conn *conn);
/* The client has closed its side: a last line without newline counts. */
void rpc_conn_received_eof(struct rpc_conn *conn);

/* Runs what was received, all connections in turn, in one GIL hold (given up between requests when
 * somebody waits).  A connection whose replies pass RPC_OUTPUT_HIGH_BYTES rests until the next run.
 * Returns whether requests are left: then flush what rpc_thread_next() names and run again. */
bool rpc_thread_run(struct rpc_thread *thread);
/* Whether the last attempt to take the GIL was in vain, because somebody has it for long, or more answers have come from
 * workers than one run takes: then rpc_thread_run() is due again, after a look at the sockets; what needs no GIL has run. */
bool rpc_thread_is_shut_out(const struct rpc_thread *thread);
/* Whether the heap has work that is done in slices (heap.h), and this thread is to take them: rpc_thread_step() until
 * it is done, with other turns between.  GIL: not held. */
bool rpc_thread_has_work(const struct rpc_thread *thread);
/* Whether a request waits for the room that the work will make, and would fail without: the others must wait. */
bool rpc_thread_must_hurry(const struct rpc_thread *thread);
/* Whether other threads have run requests since this was asked last: they, too, wait for each slice. */
bool rpc_thread_has_company(struct rpc_thread *thread);
/* Its loop ends: another thread goes on with the slices. */
void rpc_thread_leave_work(struct rpc_thread *thread);
/* Whether connections wait for what may be done elsewhere, in other threads' slices or by the worker, which need not
 * wake this one: rpc_thread_run() is due each millisecond or two. */
bool rpc_thread_has_parked(const struct rpc_thread *thread);
/* A slice of about so many microseconds; returns whether there is more.  Requests that waited for it may be ready for
 * rpc_thread_run(), and replies for rpc_thread_next(). */
bool rpc_thread_step(struct rpc_thread *thread, uint32_t budget_us);
/* The next connection with something to do for the server (replies, or one of the states below) since
 * it was named last; NULL: no more. */
struct rpc_conn *rpc_thread_next(struct rpc_thread *thread);

/* The replies that may be sent, in one piece; valid until the next call on this connection.  A batch under way
 * is held back, so that its line is one piece, and so is what is not durable yet, where that is promised. */
const char *rpc_conn_output(struct rpc_conn *conn, size_t *len);
void rpc_conn_sent(struct rpc_conn *conn, size_t n);
/* Above so many unsent bytes the connection is not to be read from: RPC_OUTPUT_HIGH_BYTES, or less in a crowd. */
size_t rpc_service_output_high(const struct rpc_service *service);
/* Bytes of replies that may be sent and are not; events are not counted. */
size_t rpc_conn_unread(const struct rpc_conn *conn);
/* The host has so many bytes of replies that it took and has not sent, in a buffer of `room`: they count as unread, too. */
void rpc_conn_note_taken(struct rpc_conn *conn, size_t bytes, size_t room);
/* Bytes of memory that it has for a line, or message, that is not whole; max-request at the most. */
size_t rpc_conn_unfinished(const struct rpc_conn *conn);
/* End of input seen and everything answered: close when the output is sent. */
bool rpc_conn_is_finished(const struct rpc_conn *conn);
/* Whether replies, or the end of a message that has none, wait until what they tell is durable. */
bool rpc_conn_is_kept_back(struct rpc_conn *conn);
/* Whether requests of it have not run: read no more of it until they have. */
bool rpc_conn_is_waiting(const struct rpc_conn *conn);
/* Whether the next rpc_thread_run() has something to do for it.  Waiting for a question's answer is none. */
bool rpc_conn_wants_run(const struct rpc_conn *conn);
/* Its requests stay out of rpc_thread_run() until it is resumed, because its replies are not read. */
void rpc_conn_rest(struct rpc_conn *conn);
void rpc_conn_resume(struct rpc_conn *conn);
/* Must be closed at once, with the reason for the log: more unread output than max-output, no memory. */
const char *rpc_conn_must_close(const struct rpc_conn *conn);
/* Whether its session holds or subscribes to something, or a request waits: silence is no reason to close it. */
bool rpc_conn_is_kept(const struct rpc_conn *conn);
/* A token comes outside of the method `auth`, as HTTP brings it with each message: before rpc_conn_message_end().
 * NULL: none, the connection has the role that it began with.  true: the role is that of the token.  false: the token is
 * wrong, and counted; the connection has no role, and is held: what it is to be told waits until rpc_conn_is_held() is
 * over, when rpc_thread_next() names it.  A held connection may be closed at any time. */
bool rpc_conn_auth(struct rpc_conn *conn, const char *token, size_t len);
bool rpc_conn_is_held(const struct rpc_conn *conn);
/* Whether it has shown so many wrong tokens that it is to be closed when it has been told so.  A connection of lines
 * sees to that itself. */
bool rpc_conn_has_failed_auth(const struct rpc_conn *conn);
enum rpc_role rpc_conn_role(const struct rpc_conn *conn);
/* In how many milliseconds rpc_thread_run() is due for connections that are held; UINT64_MAX: there are none. */
uint64_t rpc_thread_due_in_ms(const struct rpc_thread *thread);

/* Writes the line for a connection that is turned away (limit_exceeded of max-clients, which is `max` now)
 * into `line`, with newline and NUL. */
#define RPC_DISMISSAL_BYTES 256
void rpc_too_many_clients_line(char line[RPC_DISMISSAL_BYTES], uint64_t max);

/* ---- connections of messages ----
 *
 * HTTP brings one message at a time, each for a session that it names itself, and has its own place for events.  For
 * a connection that takes messages the functions above hold but for the input, and:
 *
 *   rpc_conn_message_add()*  rpc_conn_message_end()  rpc_thread_run()..  until it is not waiting: its output is the reply
 *   rpc_conn_sent()  rpc_conn_message_taken()  and so on
 *
 * It is in a leased session only while a message for it runs, so that the lease runs from the end of that.  A session
 * that a message has leased is the connection's own afterwards, as long as it is there.  Events wait in the session
 * for a connection that hears them. */

/* From here on this connection takes messages.  *begun is what has come of a line, *len bytes; good until the next
 * call. */
void rpc_conn_take_messages(struct rpc_conn *conn, const char **begun, size_t *len);
/* Bytes of a message.  false: no memory. */
bool rpc_conn_message_add(struct rpc_conn *conn, const char *bytes, size_t n);
/* The message is whole.  `session` is the token of the session it is for, of any length; NULL: the connection's own.
 * Queues the connection for rpc_thread_run(). */
void rpc_conn_message_end(struct rpc_conn *conn, const char *session, size_t session_len);
/* Whether the session was unknown: nothing was run, the reply says so. */
bool rpc_conn_message_is_lost(const struct rpc_conn *conn);
/* The word of the last error in the reply; NULL: there is none. */
const char *rpc_conn_message_error(const struct rpc_conn *conn);
/* The reply has been taken.  What then wants a run, rpc_conn_wants_run() tells. */
void rpc_conn_message_taken(struct rpc_conn *conn);

/* The next message subscribes, for as long as the connection is there, which stays in the message's session; when its
 * reply has been taken, with rpc_conn_begin_stream(), events are all that comes.  Each is a line. */
void rpc_conn_want_stream(struct rpc_conn *conn);
void rpc_conn_begin_stream(struct rpc_conn *conn);
/* The `params` of the event in a line of `len` bytes, newline included. */
const char *rpc_event_params(const char *line, size_t len, size_t *params_len);

/* A message that has no text: all of the heap in a format of heap.export, in a file without a name.  When there is no
 * error, rpc_conn_take_file() gives the file, which is the caller's to close; -1: there is none.  false: there is no
 * such format. */
bool rpc_conn_ask_export(struct rpc_conn *conn, const char *format);
int rpc_conn_take_file(struct rpc_conn *conn);

/* An error reply, id null, in a line with newline and NUL; returns its length.  `word` is one of PROTOCOL section 9;
 * limit: the option that was exceeded, or NULL; `max` 0: none. */
#define RPC_ERROR_LINE_BYTES 1024
size_t rpc_error_line(char line[RPC_ERROR_LINE_BYTES], const char *word, const char *message, const char *limit,
                      uint64_t max);

/* Every figure of `stats` in the text format of Prometheus, malloc'ed, *len bytes; NULL: no memory.  Waits for nothing.
 * Any thread. */
char *rpc_service_metrics(struct rpc_service *service, size_t *len);

/* A limit, by its name in one of the two tables, was in somebody's way, for `stats limits`.  Limits that protocol/ keeps
 * itself are counted there.  Any thread. */
void rpc_service_count_limit(struct rpc_service *service, const char *name);
/* Bytes that crossed sockets, for `stats server`; cheap, any thread. */
void rpc_service_count_bytes(struct rpc_service *service, uint64_t in, uint64_t out);

/* ---- what lasts: the service's part of --data-dir ----
 *
 * A journal is files of lines (journal_line.h says what stands in them), which the host reads and writes:
 *
 *     rpc_journal_begin()     before threads run: requests are answered `unavailable` until all is loaded
 *     rpc_journal_load()      each file, oldest first, by one thread; it holds the GIL all the time
 *     rpc_journal_open()      the heap is as it was: sessions without a lease end, a collection runs.  What that did,
 *                             and all that follows, is for a new file
 *     rpc_journal_start()     requests are answered
 *     rpc_journal_take()      what is to be written next; rpc_journal_give_back(); rpc_journal_durable() when it is on disk
 */

/* Called with the GIL held. */
struct rpc_journal_sink {
    void *arg;
    void (*wake)(void *arg); /* there is something to take */
};
/* Replies wait until what they tell is durable, or not.  `heap`: the string of a heap that is loaded; NULL: of a new
 * one.  false: no memory. */
bool rpc_journal_begin(struct rpc_service *service, const struct rpc_journal_sink *sink, bool keeps_back,
                       const char *heap);

/* The first line of a file, read by itself. */
#define RPC_JOURNAL_HEAP_BYTES 33
struct rpc_journal_header {
    char heap[RPC_JOURNAL_HEAP_BYTES];
    uint64_t number;
};
/* false: it is none, or of another version; `why` says so. */
bool rpc_journal_read_header(struct rpc_journal_header *header, const char *bytes, size_t len,
                             char why[RPC_REASON_BYTES]);

enum rpc_load {
    RPC_LOADED,
    RPC_LOAD_TORN,    /* the lines from `good` on were never whole: the host cuts them off */
    RPC_LOAD_DAMAGED, /* there is damage at `good` or soon behind it, of what was whole */
    RPC_LOAD_FAILED   /* `why` */
};
/* One file.  64 bytes behind the last must be readable. */
struct rpc_load_file {
    const char *bytes;
    size_t len;
    uint64_t number;    /* its first line must say so, too */
    bool is_last;       /* of the files: its end may be torn */
    const _Atomic bool *cancel;
    void (*progress)(void *arg, size_t done, uint64_t lines); /* now and then */
    void *arg;
    size_t good;        /* out: bytes that were loaded, or where the damage is */
    uint64_t lines;     /* out: loaded */
    char why[RPC_REASON_BYTES];
};
enum rpc_load rpc_journal_load(struct rpc_service *service, struct rpc_load_file *file);

/* All is loaded; the next lines go to the file of that number.  false: no memory. */
bool rpc_journal_open(struct rpc_service *service, uint64_t number);
/* Requests are answered from now on. */
void rpc_journal_start(struct rpc_service *service);
/* No thread runs requests any more: what is left is handed over, and nothing else will be. */
void rpc_journal_close(struct rpc_service *service);
/* Lines that are to be written, in order, and the LSN behind them: a piece of memory that is given back before the next
 * one is taken, for others may wait for it.  NULL: there are none.  *number: of the file that they are for; a greater one than before begins a file. */
char *rpc_journal_take(struct rpc_service *service, size_t *len, uint64_t *lsn, uint64_t *number);
void rpc_journal_give_back(struct rpc_service *service, char *bytes);
/* Everything up to that LSN is on disk.  Any thread. */
void rpc_journal_durable(struct rpc_service *service, uint64_t lsn);
/* Lines up to that LSN will find a place; requests that change something are refused beyond.  UINT64_MAX: all will. */
void rpc_journal_set_room(struct rpc_service *service, uint64_t lsn);
/* ---- snapshots ----
 *
 * The heap as it is when rpc_snapshot_begin() returns, for a file of its own; what changes after that is for a new journal of
 * the same number, which rpc_journal_take() begins.  Both together are all that is needed: older files are not. */
struct rpc_snapshot;
enum rpc_snapshot_progress { RPC_SNAPSHOT_GOES_ON, RPC_SNAPSHOT_DONE, RPC_SNAPSHOT_FAILED };
/* Waits until the heap is still.  NULL: no memory, *cancel was set, or the service ends; then nothing has begun. */
struct rpc_snapshot *rpc_snapshot_begin(struct rpc_service *service, uint64_t number, const _Atomic bool *cancel);
/* Half a millisecond of it: *bytes, which the caller frees, are what comes next in the file.  FAILED: no memory. */
enum rpc_snapshot_progress rpc_snapshot_step(struct rpc_snapshot *snapshot, char **bytes, size_t *len);
/* In any state.  It has the heap's walk until then. */
void rpc_snapshot_end(struct rpc_snapshot *snapshot);
/* Such a file, first of all.  Result as rpc_journal_load(), never torn. */
enum rpc_load rpc_snapshot_load(struct rpc_service *service, struct rpc_load_file *file);

/* A line, to be written at byte `at` of its file, that says up to which byte that is on disk; returns its length. */
#define RPC_JOURNAL_MARK_BYTES 96
size_t rpc_journal_mark(char line[RPC_JOURNAL_MARK_BYTES], uint64_t offset, uint64_t at);

/* ---- the method table, for tools that print it ---- */

/* The OpenRPC document / the methods section of the wire page, malloc'ed; NULL: no memory. */
char *rpc_discover_text(void);
char *rpc_methods_markdown(void);

#endif
