/* limits.c -- the defaults of everything that is limited, from the one table in rpc.h; what a crowd may have unread. */
#include "rpc_internal.h"

void rpc_limits_default(struct rpc_limits *limits)
{
#define X(member, name, unit, fallback, largest, doc) limits->member = (fallback);
    RPC_LIMIT_MAP(X)
#undef X
}

/* ---- what all connections together have unread ---- */

size_t rpc_service_output_high(const struct rpc_service *service)
{
    return service_is_crowded(service) ? RPC_OUTPUT_LOW_BYTES : RPC_OUTPUT_HIGH_BYTES;
}

uint64_t service_reply_max_of_crowd(const struct rpc_service *service)
{
    uint64_t max = RPC_LIMIT(service, max_output);
    uint64_t unread = atomic_load_explicit(&service->unread, memory_order_relaxed);
    uint64_t left = max * RPC_OUTPUT_ALL > unread ? max * RPC_OUTPUT_ALL - unread : 0;
    if (left >= max) {
        return max;
    }
    return left > RPC_OUTPUT_LOW_BYTES ? left : RPC_OUTPUT_LOW_BYTES;
}
