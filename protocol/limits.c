/* limits.c -- the defaults of everything that is limited, from the one table in rpc.h. */
#include "rpc.h"

void rpc_limits_default(struct rpc_limits *limits)
{
#define X(member, name, unit, fallback, largest, doc) limits->member = (fallback);
    RPC_LIMIT_MAP(X)
#undef X
}
