/* fuzz_wire.c -- any bytes on a connection: framing, envelopes, parameters, literals, every method.
 *
 * The first byte of an input says in what pieces the others come, so that lines are cut everywhere.
 */
#include "fuzz_service.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    struct fuzz_service f;
    size_t piece = data[0] < 250 ? data[0] % 64 + 1u : 65536;
    fuzz_open(&f);
    fuzz_send(&f, 0, data + 1, size - 1, piece);
    rpc_conn_received_eof(f.conns[0]);
    fuzz_run(&f);
    fuzz_check_said(&f);
    fuzz_reconnect(&f, 0);
    fuzz_close(&f);
    return 0;
}
