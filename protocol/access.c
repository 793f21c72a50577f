/* access.c -- who may do what: tokens, roles, and what becomes of wrong tokens.
 *
 *   auth        access_holds()     the token is compared; a right one gives the connection its role.  A wrong one is
 *                                  counted, and the connection held: its request stays where it is, nothing runs
 *               access_release()   when the delay is over it is ready again, and method_auth() says what came of it
 *   others      access_allows()    unauthenticated before forbidden before what is wrong with the parameters
 *   new tokens  whoever has shown one that is gone, or gives another role now, is closed
 *
 * A comparison takes the same time whatever the token shown has in common with one that is known: each known token is
 * compared to its end, in a block of the same length, and so is each that comes after a match.
 *
 * Tokens have numbers, which they keep when they are read again unchanged, so that a connection need not remember the
 * token itself to be found when that is withdrawn.
 *
 * Locking: the book's mutex guards the tokens, and is held for a comparison only; within it no other lock is taken.
 * Start at access_holds() and access_allows().
 */
#include "access.h"

#include "method_handlers.h"
#include "rpc_internal.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- tokens ---- */

struct access_token {
    uint64_t number; /* tells it from all others that were ever known */
    enum rpc_role role;
    size_t len;
    unsigned char text[RPC_AUTH_TOKEN_BYTES_MAX + 1]; /* zeros behind it */
};

bool access_book_init(struct access_book *book)
{
    return pthread_mutex_init(&book->mutex, NULL) == 0;
}

/* Tokens are not left in memory that somebody else may get. */
static void discard(struct access_token *tokens, size_t count)
{
    if (tokens != NULL) {
        explicit_bzero(tokens, count * sizeof(*tokens));
        free(tokens);
    }
}

void access_book_fini(struct access_book *book)
{
    discard(book->tokens, book->count);
    pthread_mutex_destroy(&book->mutex);
}

/* Whether two are equal, in a time that does not tell where they differ. */
static bool is_same(const struct access_token *a, const struct access_token *b)
{
    size_t difference = a->len ^ b->len;
    for (size_t i = 0; i < sizeof(a->text); i++) {
        difference |= (size_t)(a->text[i] ^ b->text[i]);
    }
    return difference == 0;
}

static void fill(struct access_token *token, enum rpc_role role, const char *text, size_t len)
{
    memset(token, 0, sizeof(*token));
    token->role = role;
    token->len = len;
    memcpy(token->text, text, len);
}

/* The number of a token, and its role; 0: it is not known. */
static uint64_t look_up(struct access_book *book, const char *text, size_t len, enum rpc_role *role)
{
    struct access_token shown;
    uint64_t number = 0;
    *role = RPC_ROLE_NONE;
    if (len > RPC_AUTH_TOKEN_BYTES_MAX) {
        return 0;
    }
    fill(&shown, RPC_ROLE_NONE, text, len);
    pthread_mutex_lock(&book->mutex);
    for (size_t i = 0; i < book->count; i++) {
        bool is_it = is_same(&book->tokens[i], &shown);
        number = is_it ? book->tokens[i].number : number;
        *role = is_it ? book->tokens[i].role : *role;
    }
    pthread_mutex_unlock(&book->mutex);
    explicit_bzero(&shown, sizeof(shown));
    return number;
}

/* Whether a token of that number is known. */
static bool is_known(struct access_book *book, uint64_t number)
{
    bool found = false;
    pthread_mutex_lock(&book->mutex);
    for (size_t i = 0; i < book->count; i++) {
        found |= book->tokens[i].number == number;
    }
    pthread_mutex_unlock(&book->mutex);
    return found;
}

/* The number of a token that is read again: that which it had, or a new one.  The mutex is held. */
static uint64_t number_of(struct access_book *book, const struct access_token *token)
{
    for (size_t i = 0; i < book->count; i++) {
        if (book->tokens[i].role == token->role && is_same(&book->tokens[i], token)) {
            return book->tokens[i].number;
        }
    }
    return ++book->last_number;
}

/* Closes the connections whose token is not known any more.  GIL: held. */
static void dismiss(struct rpc_service *service)
{
    for (struct rpc_session *session = service->book.first; session != NULL; session = session->next) {
        for (struct rpc_conn *conn = session->conns.first; conn != NULL; conn = conn->joined.next) {
            if (!conn_is(&conn->is_gone) && !access_is_valid(conn)) {
                session_dismiss(conn, "its token is not known any more");
            }
        }
    }
}

bool rpc_service_set_auth_tokens(struct rpc_service *service, const struct rpc_auth_token *tokens, size_t count)
{
    struct access_book *book = &service->access;
    struct access_token *fresh = calloc(count + 1, sizeof(*fresh));
    if (fresh == NULL) {
        return false;
    }
    pthread_mutex_lock(&book->mutex);
    for (size_t i = 0; i < count; i++) {
        fill(&fresh[i], tokens[i].role, tokens[i].text, tokens[i].len);
        fresh[i].number = number_of(book, &fresh[i]);
    }
    discard(book->tokens, book->count);
    book->tokens = fresh;
    book->count = count;
    pthread_mutex_unlock(&book->mutex);
    heap_enter(service->heap);
    dismiss(service);
    heap_leave(service->heap);
    return true;
}

bool access_is_valid(const struct rpc_conn *conn)
{
    uint64_t number = atomic_load_explicit(&conn->access.token, memory_order_relaxed);
    return number == 0 || is_known(&conn->thread->service->access, number);
}

/* ---- roles of connections ---- */

static void set_role(struct rpc_conn *conn, enum rpc_role role, uint64_t token)
{
    struct access_pass *pass = &conn->access;
    atomic_store_explicit(&pass->role, (uint8_t)role, memory_order_relaxed);
    atomic_store_explicit(&pass->token, token, memory_order_relaxed);
    pass->cleared = role >= RPC_ROLE_WRITE ? (uint8_t)role : 0;
}

enum rpc_role rpc_conn_role(const struct rpc_conn *conn)
{
    return (enum rpc_role)atomic_load_explicit(&conn->access.role, memory_order_relaxed);
}

void access_begin(struct rpc_conn *conn, const struct rpc_peer *peer)
{
    conn->access.at_first = peer->must_authenticate ? RPC_ROLE_NONE : RPC_ROLE_ADMIN;
    set_role(conn, (enum rpc_role)conn->access.at_first, 0);
}

/* ---- wrong tokens ---- */

/* Nothing of it runs for a while. */
static void hold(struct rpc_conn *conn)
{
    conn->access.held_until_ms = rpc_now_ms() + ACCESS_DELAY_MS;
    conn_list_remove_ready(conn->thread, conn);
    conn_list_add_held(conn->thread, conn);
}

void access_release(struct rpc_thread *thread)
{
    struct rpc_conn *conn;
    uint64_t now_ms = rpc_now_ms();
    while ((conn = thread->held.first) != NULL && conn->access.held_until_ms <= now_ms) {
        conn_list_remove_held(thread, conn);
        if (conn->first != NULL || conn->wants_settling) {
            conn_list_add_ready(thread, conn);
        }
        conn_list_add_notice(thread, conn);
    }
}

uint64_t rpc_thread_due_in_ms(const struct rpc_thread *thread)
{
    const struct rpc_conn *conn = thread->held.first;
    uint64_t now_ms = rpc_now_ms();
    if (conn == NULL) {
        return UINT64_MAX;
    }
    return conn->access.held_until_ms > now_ms ? conn->access.held_until_ms - now_ms : 0;
}

bool rpc_conn_is_held(const struct rpc_conn *conn)
{
    return conn->held.linked;
}

bool rpc_conn_has_failed_auth(const struct rpc_conn *conn)
{
    return conn->access.failures >= ACCESS_FAILURES_MAX;
}

/* Says in the log that somebody tries tokens. */
static void complain(const struct rpc_conn *conn)
{
    const struct rpc_host *host = &conn->thread->service->host;
    char line[RPC_PEER_BYTES + 128];
    if (host->warn != NULL) {
        snprintf(line, sizeof(line), "client %llu (%s %s) has shown %u wrong tokens, and is closed",
                 (unsigned long long)conn->client, conn->transport, conn->peer, ACCESS_FAILURES_MAX);
        host->warn(host->arg, line);
    }
}

/* Gives the connection the role of the token.  false: it is wrong, and has to wait for the answer. */
static bool show(struct rpc_conn *conn, const char *text, size_t len)
{
    enum rpc_role role;
    bool is_over = rpc_conn_has_failed_auth(conn);
    uint64_t number = is_over ? 0 : look_up(&conn->thread->service->access, text, len, &role);
    if (number != 0) {
        set_role(conn, role, number);
        return true;
    }
    if (!is_over) {
        conn->access.failures++;
        rpc_count(&conn->thread->counters.wrong_tokens);
        hold(conn);
    }
    if (!is_over && rpc_conn_has_failed_auth(conn)) {
        set_role(conn, RPC_ROLE_NONE, 0); /* what is left of a batch */
        complain(conn);
    }
    return false;
}

bool rpc_conn_auth(struct rpc_conn *conn, const char *token, size_t len)
{
    enum rpc_role at_first = (enum rpc_role)conn->access.at_first;
    if (token == NULL) {
        set_role(conn, rpc_conn_has_failed_auth(conn) ? RPC_ROLE_NONE : at_first, 0);
        return true;
    }
    if (show(conn, token, len)) {
        return true;
    }
    set_role(conn, RPC_ROLE_NONE, 0);
    return false;
}

bool access_holds(struct rpc_conn *conn)
{
    const struct request *request = conn->first;
    struct access_pass *pass = &conn->access;
    if (request->needs != ACCESS_NEEDS_TOKEN || pass->is_judged) {
        return false;
    }
    pass->is_judged = true;
    pass->is_wrong = !show(conn, request->args[0].text, request->args[0].len);
    return conn->held.linked;
}

/* The connection is told what it is owed, and closed. */
static void give_up(struct rpc_conn *conn)
{
    atomic_store_explicit(&conn->end_reason, "it has shown too many wrong tokens", memory_order_relaxed);
    atomic_store_explicit(&conn->is_killed, true, memory_order_relaxed);
    conn->ends_itself = true;
}

bool method_auth(struct call *call)
{
    struct rpc_conn *conn = call->conn;
    bool is_wrong = conn->access.is_wrong;
    conn->access.is_judged = conn->access.is_wrong = false;
    if (is_wrong) {
        if (rpc_conn_has_failed_auth(conn)) {
            give_up(conn);
        }
        return fault_set(call->fault, RPC_UNAUTHENTICATED,
                         "the token is not known here; one a line stands, after its role, in the file of "
                         "--auth-token-file");
    }
    out_text(call->out, "{\"role\":\"");
    out_text(call->out, method_role_word((enum method_role)rpc_conn_role(conn)));
    out_text(call->out, "\"}");
    return true;
}

/* ---- what a role may do ---- */

/* Arguments that ask for a change where the row allows to read: none may be true.  What is left out is false. */
static bool reads_only(struct request *request, struct fault *fault)
{
    const struct method *method = request->method;
    for (unsigned i = 0; method != NULL && i < method->param_count; i++) {
        if (!method->params[i].changes) {
            continue;
        }
        if (arg_bool(&request->args[i], false)) {
            fault_set(fault, RPC_FORBIDDEN,
                      "%s: %s is a change, and this connection's role, read, makes none; leave it out",
                      method->name, method->params[i].name);
            return fault_text(fault, "param", method->params[i].name, strlen(method->params[i].name));
        }
        request->args[i] = (method_arg){.kind = JSON_KIND_FALSE, .text = "false", .len = strlen("false")};
    }
    return true;
}

bool access_allows(struct rpc_conn *conn, struct request *request)
{
    struct fault *fault = &conn->thread->fault;
    enum rpc_role role = rpc_conn_role(conn);
    if (request->needs == ACCESS_NEEDS_TOKEN) {
        return true;
    }
    if (role == RPC_ROLE_NONE) {
        return fault_set(fault, RPC_UNAUTHENTICATED,
                         "this connection has shown no token; begin with auth, which takes one of the file of "
                         "--auth-token-file");
    }
    if (request->needs > (unsigned)role) {
        return fault_set(fault, RPC_FORBIDDEN, "this needs the role %s, and the connection's is %s; use another token",
                         method_role_word((enum method_role)request->needs), method_role_word((enum method_role)role));
    }
    return role != RPC_ROLE_READ || reads_only(request, fault);
}
