/* method_handlers.h -- the handlers that method_table.c puts into its rows, by the file that defines them.
 *
 * All are method_handler: they need the GIL where their row says so, write the result, and change nothing
 * when they return false.  Their parameters are in the order of their row.
 */
#ifndef HEAPD_PROTOCOL_METHOD_HANDLERS_H
#define HEAPD_PROTOCOL_METHOD_HANDLERS_H

#include "method.h"

/* method_object.c */
bool method_create(struct call *call);
bool method_create_check(const method_arg *args, struct fault *fault);
bool method_ref(struct call *call);
bool method_unref(struct call *call);
bool method_get(struct call *call);
bool method_type(struct call *call);

/* method_name.c */
bool method_name_bind(struct call *call);
bool method_name_lookup(struct call *call);
bool method_name_unbind(struct call *call);
bool method_name_list(struct call *call);

/* method_list.c */
bool method_list_append(struct call *call);
bool method_list_extend(struct call *call);
bool method_list_insert(struct call *call);
bool method_list_getitem(struct call *call);
bool method_list_setitem(struct call *call);
bool method_list_delitem(struct call *call);
bool method_list_pop(struct call *call);
bool method_list_clear(struct call *call);
bool method_list_len(struct call *call);

/* method_dict.c */
bool method_dict_setitem(struct call *call);
bool method_dict_getitem(struct call *call);
bool method_dict_setdefault(struct call *call);
bool method_dict_delitem(struct call *call);
bool method_dict_pop(struct call *call);
bool method_dict_update(struct call *call);
bool method_dict_contains(struct call *call);
bool method_dict_keys(struct call *call);
bool method_dict_clear(struct call *call);
bool method_dict_len(struct call *call);
bool method_dict_incr(struct call *call);

/* method_set.c */
bool method_set_add(struct call *call);
bool method_set_discard(struct call *call);
bool method_set_contains(struct call *call);
bool method_set_clear(struct call *call);
bool method_set_len(struct call *call);

/* method_attr.c */
bool method_attr_set(struct call *call);
bool method_attr_get(struct call *call);
bool method_attr_del(struct call *call);
bool method_attr_list(struct call *call);

/* method_sys.c */
bool method_sys_getrefcount(struct call *call);
bool method_sys_getsizeof(struct call *call);
bool method_sys_intern(struct call *call);
bool method_sys_getswitchinterval(struct call *call);
bool method_sys_setswitchinterval(struct call *call);

/* method_mallocstats.c */
bool method_sys_debugmallocstats(struct call *call);

/* method_gc.c */
bool method_collect(struct call *call);
bool method_gc_get_count(struct call *call);
bool method_gc_get_threshold(struct call *call);
bool method_gc_set_threshold(struct call *call);
bool method_gc_enable(struct call *call);
bool method_gc_disable(struct call *call);
bool method_gc_isenabled(struct call *call);
bool method_gc_freeze(struct call *call);
bool method_gc_unfreeze(struct call *call);
bool method_gc_get_freeze_count(struct call *call);
bool method_gc_is_tracked(struct call *call);
bool method_gc_get_stats(struct call *call);
bool method_gc_is_finalized(struct call *call);
bool method_gc_set_debug(struct call *call);
extern const char *const METHOD_GC_DEBUG_WORDS[];
bool method_gc_get_debug(struct call *call);
bool method_gc_garbage(struct call *call);

/* method_graph.c */
bool method_gc_get_objects(struct call *call);
bool method_gc_get_referents(struct call *call);
bool method_gc_get_referrers(struct call *call);

/* method_weakref.c */
bool method_weakref_create(struct call *call);
bool method_weakref_get(struct call *call);
bool method_weakref_count(struct call *call);

/* method_finalizer.c */
bool method_finalizer_set(struct call *call);
bool method_finalizer_set_check(const method_arg *args, struct fault *fault);
bool method_finalizer_clear(struct call *call);

/* method_stats.c */
bool method_stats(struct call *call);
extern const char *const METHOD_STATS_SECTIONS[];
/* Whether it is only about the section `server`, which is there before the heap. */
bool method_stats_is_server(const method_arg *args);

/* method_heap.c */
bool method_heap_check(struct call *call);
bool method_heap_types(struct call *call);
bool method_heap_map(struct call *call);

/* method_inspect.c */
bool method_heap_inspect(struct call *call);
bool method_heap_inspect_asks(const method_arg *args);

/* method_question.c */
bool method_heap_why(struct call *call);
bool method_heap_retained(struct call *call);
bool method_heap_dominators(struct call *call);

/* method_mark.c */
bool method_heap_mark(struct call *call);
bool method_heap_mark_check(const method_arg *args, struct fault *fault);
bool method_heap_diff(struct call *call);
bool method_heap_diff_check(const method_arg *args, struct fault *fault);

/* method_export.c */
bool method_heap_export(struct call *call);
/* heap.export into a file that nobody else sees and that comes with the answer; in no table, the first parameter is
 * the format. */
extern const struct method METHOD_EXPORT_TO_READ;
extern const char *const METHOD_EXPORT_FORMATS[];

/* method_session.c */
bool method_session_open(struct call *call);
bool method_session_resume(struct call *call);
bool method_session_close(struct call *call);
bool method_subscribe(struct call *call);
bool method_unsubscribe(struct call *call);
extern const char *const METHOD_EVENT_WORDS[];
bool method_server_clients(struct call *call);
bool method_server_clients_asks(const method_arg *args);
bool method_server_kill(struct call *call);

/* method_server.c */
bool method_server_config(struct call *call);
bool method_server_slowlog(struct call *call);
bool method_server_shutdown(struct call *call);
bool method_auth(struct call *call);
bool method_ping(struct call *call);
bool method_rpc_discover(struct call *call);

#endif
