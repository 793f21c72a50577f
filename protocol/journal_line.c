/* journal_line.c -- the lines of a journal, written: journal_line.h says what stands in them. */
#include "journal_line.h"

#include "crc32c.h"
#include "rpc_internal.h"

/* ---- the frame of a line ---- */

size_t line_begin(struct out *out)
{
    size_t start = out->len;
    out_bytes(out, "         ", JOURNAL_CRC_BYTES);
    return start;
}

static void write_hex(char *p, uint32_t value)
{
    for (int i = 7; i >= 0; i--, value >>= 4) {
        p[i] = "0123456789abcdef"[value & 15];
    }
}

void line_end(struct out *out, size_t start)
{
    out_char(out, '\n');
    if (!out->failed) {
        char *line = out->data + start;
        write_hex(line, crc32c(line + JOURNAL_CRC_BYTES, out->len - start - JOURNAL_CRC_BYTES - 1));
    }
}

bool line_is_sound(const char *line, size_t len)
{
    char crc[8];
    if (len <= JOURNAL_CRC_BYTES || line[JOURNAL_CRC_BYTES - 1] != ' ') {
        return false;
    }
    write_hex(crc, crc32c(line + JOURNAL_CRC_BYTES, len - JOURNAL_CRC_BYTES));
    return memcmp(crc, line, sizeof(crc)) == 0;
}

/* ---- ids ---- */

void runs_init(struct journal_runs *runs)
{
    runs->count = 0;
    out_init(&runs->text, 0);
}

void runs_fini(struct journal_runs *runs)
{
    out_fini(&runs->text);
}

/* The run under way is over. */
static void end_run(struct journal_runs *runs)
{
    if (runs->count > 0) {
        out_u64(&runs->text, runs->first);
        out_char(&runs->text, ',');
        out_u64(&runs->text, runs->count);
        out_char(&runs->text, ',');
    }
    runs->count = 0;
}

void runs_add(struct journal_runs *runs, uint64_t id)
{
    if (runs->count == 0 || id != runs->first + runs->count) {
        end_run(runs);
        runs->first = id;
    }
    runs->count++;
}

void runs_write(struct out *out, struct journal_runs *runs)
{
    end_run(runs);
    if (runs->text.failed) {
        out->failed = true;
        return;
    }
    out_char(out, '[');
    out_bytes(out, runs->text.data == NULL ? "" : runs->text.data, runs->text.len > 0 ? runs->text.len - 1 : 0);
    out_char(out, ']');
    out_truncate(&runs->text, 0);
}

static void write_ids(struct out *out, const uint64_t *ids, size_t count)
{
    const char *before = ",\"ids\":[";
    for (size_t i = 0, run; i < count; i += run, before = ",") {
        for (run = 1; i + run < count && ids[i + run] == ids[i] + run; run++) {
        }
        out_text(out, before);
        out_u64(out, ids[i]);
        out_char(out, ',');
        out_u64(out, run);
    }
    out_char(out, ']');
}

/* ---- requests ---- */

/* An argument as JSON: as it was written, but for those that were decoded. */
static void write_arg(struct out *out, const struct param *param, const method_arg *arg)
{
    if (!arg_given(arg)) {
        out_text(out, "null");
    } else if (param->kind == PARAM_STR) {
        out_json_string(out, arg->text, arg->len);
    } else {
        out_bytes(out, arg->text, arg->len);
    }
}

void line_write_request(struct out *out, const struct call *call, uint64_t session, const uint64_t *ids, size_t count)
{
    const struct method *method = call->method;
    unsigned given = method->param_count;
    while (given > 0 && !arg_given(&call->args[given - 1])) {
        given--;
    }
    out_text(out, "{\"session\":");
    out_u64(out, session);
    out_text(out, ",\"method\":\"");
    out_text(out, method->name);
    out_text(out, "\",\"params\":[");
    for (unsigned i = 0; i < given; i++) {
        if (i > 0) {
            out_char(out, ',');
        }
        write_arg(out, &method->params[i], &call->args[i]);
    }
    out_char(out, ']');
    if (count > 0) {
        write_ids(out, ids, count);
    }
    out_text(out, call->is_notification ? ",\"notification\":true}" : "}");
}

/* ---- others ---- */

void line_write_lease(struct out *out, const struct rpc_session *session)
{
    out_text(out, "{\"effect\":\"leased\",\"session\":");
    out_u64(out, session->number);
    out_text(out, ",\"lease_ms\":");
    out_u64(out, session->lease_ms);
    out_text(out, ",\"token\":\"");
    out_text(out, session->token_hash);
    out_text(out, "\"}");
}

void line_write_header(struct out *out, struct rpc_service *service, const char *kind, uint64_t number, bool is_restart)
{
    size_t start = line_begin(out);
    out_text(out, "{\"heapd\":\"");
    out_text(out, kind);
    out_text(out, "\",\"version\":");
    out_u64(out, JOURNAL_VERSION);
    out_text(out, ",\"heap\":");
    out_json_string(out, service->heap_token, strlen(service->heap_token));
    out_text(out, ",\"number\":");
    out_u64(out, number);
    out_text(out, ",\"before\":");
    out_u64(out, service->journal.before);
    out_text(out, is_restart ? ",\"restart\":true" : "");
    out_text(out, ",\"generations\":");
    out_u64(out, service->journal.generations_end);
    out_char(out, '}');
    line_end(out, start);
}

/* ---- effects ---- */

const char *line_effect_word(enum heap_effect effect)
{
    static const char *const WORDS[LINE_EFFECTS] = {
        [HEAP_EFFECT_FINALIZED] = "finalized",
        [HEAP_EFFECT_UNAIMED] = "unaimed",
        [HEAP_EFFECT_SWEPT] = "swept",
        [HEAP_EFFECT_KEPT] = "kept",
    };
    return WORDS[effect];
}
