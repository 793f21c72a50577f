/* method_server.c -- session.close, server.shutdown, ping, rpc.discover: the daemon itself. */
#include "method_handlers.h"
#include "rpc_internal.h"

bool method_session_close(struct call *call)
{
    struct heap_session *fresh = heap_session_create(call->heap);
    if (fresh == NULL) {
        return call_fail(call, HEAP_MEMORY);
    }
    uint64_t released = heap_session_destroy(call->heap, call->session);
    call->conn->session = fresh;
    call->session = fresh;
    out_text(call->out, "{\"released\":");
    out_u64(call->out, released);
    return call_result_end(call);
}

bool method_server_shutdown(struct call *call)
{
    const struct rpc_host *host = &call->service->host;
    if (host->shutdown != NULL) {
        host->shutdown(host->arg);
    }
    return call_result_null(call);
}

bool method_ping(struct call *call)
{
    out_text(call->out, "\"pong\"");
    return true;
}

bool method_rpc_discover(struct call *call)
{
    const char *text = rpc_service_discovery(call->service);
    if (text == NULL) {
        return call_fail(call, HEAP_MEMORY);
    }
    out_text(call->out, text);
    return call_output_ok(call);
}
