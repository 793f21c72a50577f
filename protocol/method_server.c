/* method_server.c -- server.shutdown, ping, rpc.discover: the daemon itself. */
#include "method_handlers.h"
#include "rpc_internal.h"

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
