/* method_table.c -- every method there is: the one table that dispatch, rpc.discover, heapctl's help and the
 * methods section of WIRE.md come from.
 *
 * To add a method: write its handler in the method_*.c of its group, declare it in method_handlers.h, add its
 * row here, or in the method_rows_*.h of its group, and run `make test`, which runs the row's example and
 * compares WIRE.md with the table.
 *
 * Parameters stand in the order in which they may be given by position.  Examples run after the requests of
 * METHOD_EXAMPLE_SETUP.
 */
#include "method_handlers.h"

/* ---- parameters that many rows share ---- */

/* A parameter's name, and the same as the member of an object begins. */
#define NAME(param_name) .name = param_name, .member = "\"" param_name "\":"
#define PARAMS(...)                                                                                            \
    .param_count = sizeof((struct param[]){__VA_ARGS__}) / sizeof(struct param), .params = {__VA_ARGS__}

#define OBJECT(what)                                                                                           \
    {                                                                                                          \
        NAME("object"), .kind = PARAM_TARGET, .doc = what ", by id or bound name."                           \
    }
#define VALUE(what)                                                                                            \
    {                                                                                                          \
        NAME("value"), .kind = PARAM_VALUE, .doc = what                                                      \
    }
#define KEY                                                                                                    \
    {                                                                                                          \
        NAME("key"), .kind = PARAM_KEY, .doc = "The key."                                                    \
    }
#define INDEX(what)                                                                                            \
    {                                                                                                          \
        NAME("index"), .kind = PARAM_INT, .min = INT64_MIN, .max = INT64_MAX, .doc = what                    \
    }
#define STR(str_name, what)                                                                                    \
    {                                                                                                          \
        NAME(str_name), .kind = PARAM_STR, .doc = what                                                       \
    }
#define ATTR STR("attr", "The attribute's name.")
#define HOLD(json_default)                                                                                     \
    {                                                                                                          \
        NAME("hold"), .kind = PARAM_BOOL, .optional = true, .fallback = json_default,                        \
        .doc = "Whether the session takes a hold on the object in the answer."                                 \
    }
#define DEPTH                                                                                                  \
    {                                                                                                          \
        NAME("depth"), .kind = PARAM_INT, .optional = true, .min = -1, .max = INT32_MAX,                     \
        .doc = "When given, the answer also has the object's value as `get` of that depth says it; -1 is all." \
    }
#define LIMIT                                                                                                  \
    {                                                                                                          \
        NAME("limit"), .kind = PARAM_INT, .optional = true, .min = 1, .max = 100000, .fallback = "1000",     \
        .doc = "The most rows in one answer."                                                                  \
    }
#define THRESHOLD(threshold_name, is_optional, what)                                                           \
    {                                                                                                          \
        NAME(threshold_name), .kind = PARAM_INT, .optional = is_optional, .max = INT32_MAX, .doc = what      \
    }

static const char *const SHARED_WORDS[] = {"ref", "let", NULL};

/* ---- results that many rows share ---- */

#define SCHEMA_ID "{\"type\":\"integer\",\"minimum\":1,\"maximum\":9007199254740991}"
#define SCHEMA_COUNT "{\"type\":\"integer\",\"minimum\":0}"
#define SCHEMA_NULL "{\"type\":\"null\"}"
#define SCHEMA_BOOL "{\"type\":\"boolean\"}"
#define SCHEMA_STR "{\"type\":\"string\"}"
/* An object with these required members, to which `freed` may come. */
#define SCHEMA_OBJECT(required, properties)                                                                    \
    "{\"type\":\"object\",\"required\":[" required "],\"properties\":{" properties                             \
    ",\"freed\":{\"type\":\"integer\",\"minimum\":1}}}"
#define SCHEMA_ITEM SCHEMA_OBJECT("\"object\"", "\"object\":" SCHEMA_ID ",\"value\":{}")
#define SCHEMA_REFCOUNT                                                                                        \
    SCHEMA_OBJECT("\"object\",\"refcount\"", "\"object\":" SCHEMA_ID ",\"refcount\":" SCHEMA_COUNT)
#define SCHEMA_NAMED                                                                                           \
    SCHEMA_OBJECT("\"name\",\"object\",\"refcount\"", "\"name\":" SCHEMA_STR ",\"object\":" SCHEMA_ID          \
                                                      ",\"refcount\":" SCHEMA_COUNT ",\"value\":{}")
#define SCHEMA_LEN SCHEMA_OBJECT("\"len\"", "\"len\":" SCHEMA_COUNT)
#define SCHEMA_CONTAINS SCHEMA_OBJECT("\"contains\"", "\"contains\":" SCHEMA_BOOL)
#define SCHEMA_IDS "{\"type\":\"array\",\"items\":" SCHEMA_ID "}"
#define SCHEMA_THREE "{\"type\":\"array\",\"items\":" SCHEMA_COUNT ",\"minItems\":3,\"maxItems\":3}"

const char *const METHOD_EXAMPLE_SETUP[] = {
    "{\"id\":0,\"method\":\"heap.mark\",\"params\":{\"label\":\"start\"}}",
    "{\"id\":1,\"method\":\"create\",\"params\":{\"value\":[1,2,3],\"name\":\"numbers\"}}",
    "{\"id\":2,\"method\":\"create\",\"params\":{\"value\":{\"ann\":30,\"bob\":25},\"name\":\"ages\"}}",
    "{\"id\":3,\"method\":\"create\",\"params\":{\"value\":{\"$set\":[\"red\"]},\"name\":\"colors\"}}",
    "{\"id\":4,\"method\":\"create\",\"params\":{\"value\":{\"$class\":\"Point\"},\"name\":\"Point\"}}",
    "{\"id\":5,\"method\":\"create\",\"params\":{\"value\":{\"$instance\":\"Point\",\"attrs\":{\"x\":1}},"
    "\"name\":\"p\"}}",
    "{\"id\":6,\"method\":\"ref\",\"params\":{\"object\":\"numbers\"}}",
    "{\"id\":7,\"method\":\"create\",\"params\":{\"value\":{\"$weakref\":\"numbers\"},\"name\":\"weak\"}}",
    NULL,
};

const struct method METHODS[] = {
    /* ---- the five operations ---- */
    {.name = "create",
     .group = "The five operations",
     .handler = method_create,
     .check = method_create_check,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(VALUE("What to create."),
            {NAME("name"),
             .kind = PARAM_STR,
             .optional = true,
             .doc = "A name to bind to the new object, of 1 to 1024 bytes."},
            {NAME("hold"),
             .kind = PARAM_BOOL,
             .optional = true,
             .doc = "Whether the session holds the object; true without `name`, else false."}),
     .doc = "Creates an object from a literal; the session holds it, or a name is bound to it, or both.",
     .result_schema =
         SCHEMA_OBJECT("\"object\",\"type\",\"refcount\"",
                       "\"object\":" SCHEMA_ID ",\"type\":" SCHEMA_STR ",\"refcount\":" SCHEMA_COUNT),
     .example_params = "{\"value\":[\"hello\",1000]}",
     .example_result = "{\"object\":17,\"type\":\"list\",\"refcount\":1}"},
    {.name = "ref",
     .group = "The five operations",
     .handler = method_ref,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(OBJECT("The object to hold")),
     .doc = "The session takes one more hold on an object.",
     .result_schema = SCHEMA_REFCOUNT,
     .example_params = "{\"object\":\"ages\"}",
     .example_result = "{\"object\":17,\"refcount\":2}"},
    {.name = "unref",
     .group = "The five operations",
     .handler = method_unref,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(OBJECT("The object to let go")),
     .doc = "The session gives back one hold on an object, which dies if that was its last reference.",
     .result_schema = SCHEMA_REFCOUNT,
     .example_params = "{\"object\":\"numbers\"}",
     .example_result = "{\"object\":17,\"refcount\":1}"},
    {.name = "collect",
     .group = "The five operations",
     .handler = method_collect,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS({NAME("generation"),
             .kind = PARAM_INT,
             .optional = true,
             .max = 2,
             .fallback = "2",
             .doc = "The oldest generation to collect."}),
     .doc = "Collects a generation and the younger ones now, and says what was found.",
     .result_schema =
         "{\"type\":\"object\",\"required\":[\"generation\",\"unreachable\",\"uncollectable\",\"freed\","
         "\"elapsed_us\"],\"properties\":{\"generation\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":2},"
         "\"unreachable\":" SCHEMA_COUNT ",\"uncollectable\":" SCHEMA_COUNT ",\"freed\":" SCHEMA_COUNT
         ",\"elapsed_us\":" SCHEMA_COUNT "}}",
     .example_params = "{}",
     .example_result =
         "{\"generation\":2,\"unreachable\":0,\"uncollectable\":0,\"freed\":0,\"elapsed_us\":12}"},
    {.name = "stats",
     .group = "The five operations",
     .handler = method_stats,
     .role = ROLE_READ,
     PARAMS({NAME("section"),
             .kind = PARAM_ENUM,
             .optional = true,
             .words = METHOD_STATS_SECTIONS,
             .doc = "One section instead of all."}),
     .doc = "Figures of the daemon and the heap; waits for nothing.",
     .result_schema = "{}",
     .example_params = "{\"section\":\"names\"}",
     .example_result = "{\"count\":6}"},

    /* ---- objects ---- */
    {.name = "get",
     .group = "Objects",
     .handler = method_get,
     .needs_gil = true,
     .role = ROLE_READ,
     PARAMS(OBJECT("The object"),
            {NAME("depth"),
             .kind = PARAM_INT,
             .optional = true,
             .min = -1,
             .max = INT32_MAX,
             .fallback = "1",
             .doc = "How many containers are written out below one another; -1 is all."},
            {NAME("shared"),
             .kind = PARAM_ENUM,
             .optional = true,
             .words = SHARED_WORDS,
             .fallback = "\"ref\"",
             .doc = "`let` writes a `$let` that rebuilds sharing and cycles, `ref` writes ids."}),
     .doc = "The value of an object as a literal.",
     .result_schema = "{}",
     .example_params = "{\"object\":\"numbers\"}",
     .example_result = "[1,2,3]"},
    {.name = "type",
     .group = "Objects",
     .handler = method_type,
     .needs_gil = true,
     .role = ROLE_READ,
     PARAMS(OBJECT("The object")),
     .doc = "The name of an object's type; of an instance, its class's name.",
     .result_schema = SCHEMA_STR,
     .example_params = "{\"object\":\"p\"}",
     .example_result = "\"Point\""},

    /* ---- names ---- */
    {.name = "name.bind",
     .group = "Names",
     .handler = method_name_bind,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(STR("name", "The name, of 1 to 1024 bytes."), OBJECT("What it shall mean")),
     .doc = "Binds a name of the global namespace to an object, as an assignment does.",
     .result_schema = SCHEMA_NAMED,
     .example_params = "{\"name\":\"a\",\"object\":\"ages\"}",
     .example_result = "{\"name\":\"a\",\"object\":17,\"refcount\":2}"},
    {.name = "name.lookup",
     .group = "Names",
     .handler = method_name_lookup,
     .needs_gil = true,
     .role = ROLE_READ,
     PARAMS(STR("name", "The name."), HOLD("false"), DEPTH),
     .doc = "The object that a name is bound to.",
     .result_schema = SCHEMA_NAMED,
     .example_params = "{\"name\":\"numbers\",\"depth\":1}",
     .example_result = "{\"name\":\"numbers\",\"object\":17,\"refcount\":2,\"value\":[1,2,3]}"},
    {.name = "name.unbind",
     .group = "Names",
     .handler = method_name_unbind,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(STR("name", "The name.")),
     .doc = "Takes a name away, as Python's `del` does.",
     .result_schema = SCHEMA_NAMED,
     .example_params = "{\"name\":\"colors\"}",
     .example_result = "{\"name\":\"colors\",\"object\":17,\"refcount\":0,\"freed\":2}"},
    {.name = "name.list",
     .group = "Names",
     .handler = method_name_list,
     .needs_gil = true,
     .role = ROLE_READ,
     PARAMS({NAME("prefix"),
             .kind = PARAM_STR,
             .optional = true,
             .fallback = "\"\"",
             .doc = "Only names that begin so."},
            LIMIT,
            {NAME("after"),
             .kind = PARAM_STR,
             .optional = true,
             .doc = "`next` of the answer before, to go on."}),
     .doc = "The bound names, sorted by code point.",
     .result_schema =
         "{\"type\":\"object\",\"required\":[\"names\",\"next\"],\"properties\":{\"names\":{\"type\":"
         "\"array\",\"items\":{\"type\":\"object\",\"required\":[\"name\",\"object\"],\"properties\":"
         "{\"name\":" SCHEMA_STR ",\"object\":" SCHEMA_ID "}}},\"next\":{\"type\":[\"string\",\"null\"]}}}",
     .example_params = "{\"prefix\":\"a\"}",
     .example_result = "{\"names\":[{\"name\":\"ages\",\"object\":17}],\"next\":null}"},

    /* ---- lists ---- */
    {.name = "list.append",
     .group = "Lists",
     .handler = method_list_append,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(OBJECT("A list"), VALUE("The new last item.")),
     .doc = "Appends an item to a list.",
     .result_schema = SCHEMA_NULL,
     .example_params = "{\"object\":\"numbers\",\"value\":4}",
     .example_result = "null"},
    {.name = "list.extend",
     .group = "Lists",
     .handler = method_list_extend,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(OBJECT("A list"), VALUE("A list, tuple, set or frozenset with the new items.")),
     .doc = "Appends all items of another object, or none.",
     .result_schema = SCHEMA_NULL,
     .example_params = "{\"object\":\"numbers\",\"value\":[4,5]}",
     .example_result = "null"},
    {.name = "list.insert",
     .group = "Lists",
     .handler = method_list_insert,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(OBJECT("A list"), INDEX("Before which item, from the end when negative; clamped to the list."),
            VALUE("The new item.")),
     .doc = "Inserts an item into a list.",
     .result_schema = SCHEMA_NULL,
     .example_params = "{\"object\":\"numbers\",\"index\":0,\"value\":0}",
     .example_result = "null"},
    {.name = "list.getitem",
     .group = "Lists",
     .handler = method_list_getitem,
     .needs_gil = true,
     .role = ROLE_READ,
     PARAMS(OBJECT("A list or tuple"), INDEX("Which item, from the end when negative."), HOLD("false"), DEPTH),
     .doc = "An item of a list or tuple.",
     .result_schema = SCHEMA_ITEM,
     .example_params = "{\"object\":\"numbers\",\"index\":-1,\"depth\":0}",
     .example_result = "{\"object\":17,\"value\":3}"},
    {.name = "list.setitem",
     .group = "Lists",
     .handler = method_list_setitem,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(OBJECT("A list"), INDEX("Which item, from the end when negative."), VALUE("What it becomes.")),
     .doc = "Replaces an item of a list.",
     .result_schema = SCHEMA_NULL,
     .example_params = "{\"object\":\"numbers\",\"index\":0,\"value\":10}",
     .example_result = "null"},
    {.name = "list.delitem",
     .group = "Lists",
     .handler = method_list_delitem,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(OBJECT("A list"), INDEX("Which item, from the end when negative.")),
     .doc = "Deletes an item of a list.",
     .result_schema = SCHEMA_NULL,
     .example_params = "{\"object\":\"numbers\",\"index\":0}",
     .example_result = "null"},
    {.name = "list.pop",
     .group = "Lists",
     .handler = method_list_pop,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(OBJECT("A list"),
            {NAME("index"),
             .kind = PARAM_INT,
             .optional = true,
             .min = INT64_MIN,
             .max = INT64_MAX,
             .fallback = "-1",
             .doc = "Which item, from the end when negative."},
            HOLD("true"), DEPTH),
     .doc = "Takes an item out of a list; without a hold it may be dead when the answer comes.",
     .result_schema = SCHEMA_ITEM,
     .example_params = "{\"object\":\"numbers\",\"depth\":0}",
     .example_result = "{\"object\":17,\"value\":3}"},
    {.name = "list.clear",
     .group = "Lists",
     .handler = method_list_clear,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(OBJECT("A list")),
     .doc = "Empties a list.",
     .result_schema = SCHEMA_NULL,
     .example_params = "{\"object\":\"numbers\"}",
     .example_result = "null"},
    {.name = "list.len",
     .group = "Lists",
     .handler = method_list_len,
     .needs_gil = true,
     .role = ROLE_READ,
     PARAMS(OBJECT("A list or tuple")),
     .doc = "How many items a list or tuple has.",
     .result_schema = SCHEMA_LEN,
     .example_params = "{\"object\":\"numbers\"}",
     .example_result = "{\"len\":3}"},

    /* ---- dicts ---- */
    {.name = "dict.setitem",
     .group = "Dicts",
     .handler = method_dict_setitem,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(OBJECT("A dict"), KEY, VALUE("What goes under it.")),
     .doc = "Sets the value of a key.",
     .result_schema = SCHEMA_NULL,
     .example_params = "{\"object\":\"ages\",\"key\":\"eve\",\"value\":41}",
     .example_result = "null"},
    {.name = "dict.getitem",
     .group = "Dicts",
     .handler = method_dict_getitem,
     .needs_gil = true,
     .role = ROLE_READ,
     PARAMS(OBJECT("A dict"), KEY, HOLD("false"), DEPTH),
     .doc = "The value of a key.",
     .result_schema = SCHEMA_ITEM,
     .example_params = "{\"object\":\"ages\",\"key\":\"ann\",\"depth\":0}",
     .example_result = "{\"object\":17,\"value\":30}"},
    {.name = "dict.setdefault",
     .group = "Dicts",
     .handler = method_dict_setdefault,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(OBJECT("A dict"), KEY, VALUE("What goes under it when it is missing."), HOLD("false"), DEPTH),
     .doc = "The value of a key, which is set first when it is missing.",
     .result_schema =
         SCHEMA_OBJECT("\"object\",\"added\"", "\"object\":" SCHEMA_ID ",\"value\":{},\"added\":" SCHEMA_BOOL),
     .example_params = "{\"object\":\"ages\",\"key\":\"eve\",\"value\":41}",
     .example_result = "{\"object\":17,\"added\":true}"},
    {.name = "dict.delitem",
     .group = "Dicts",
     .handler = method_dict_delitem,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(OBJECT("A dict"), KEY),
     .doc = "Deletes a key with its value.",
     .result_schema = SCHEMA_NULL,
     .example_params = "{\"object\":\"ages\",\"key\":\"ann\"}",
     .example_result = "null"},
    {.name = "dict.pop",
     .group = "Dicts",
     .handler = method_dict_pop,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(OBJECT("A dict"), KEY, HOLD("true"), DEPTH),
     .doc = "Takes a key out of a dict and answers its value; without a hold that may be dead when the answer "
            "comes.",
     .result_schema = SCHEMA_ITEM,
     .example_params = "{\"object\":\"ages\",\"key\":\"ann\",\"depth\":0}",
     .example_result = "{\"object\":17,\"value\":30,\"freed\":1}"},
    {.name = "dict.update",
     .group = "Dicts",
     .handler = method_dict_update,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(OBJECT("A dict"), VALUE("A dict with the new entries.")),
     .doc = "Sets all entries of another dict, or none.",
     .result_schema = SCHEMA_NULL,
     .example_params = "{\"object\":\"ages\",\"value\":{\"eve\":41}}",
     .example_result = "null"},
    {.name = "dict.contains",
     .group = "Dicts",
     .handler = method_dict_contains,
     .needs_gil = true,
     .role = ROLE_READ,
     PARAMS(OBJECT("A dict"), KEY),
     .doc = "Whether a dict has a key.",
     .result_schema = SCHEMA_CONTAINS,
     .example_params = "{\"object\":\"ages\",\"key\":\"ann\"}",
     .example_result = "{\"contains\":true}"},
    {.name = "dict.keys",
     .group = "Dicts",
     .handler = method_dict_keys,
     .needs_gil = true,
     .role = ROLE_READ,
     PARAMS(OBJECT("A dict"), LIMIT,
            {NAME("after"),
             .kind = PARAM_INT,
             .optional = true,
             .max = INT64_MAX,
             .doc = "`next` of the answer before, to go on."}),
     .doc = "The keys of a dict in insertion order, each as `get` of depth 0.",
     .result_schema =
         "{\"type\":\"object\",\"required\":[\"keys\",\"next\"],\"properties\":{\"keys\":{\"type\":"
         "\"array\"},\"next\":{\"type\":[\"integer\",\"null\"]}}}",
     .example_params = "{\"object\":\"ages\"}",
     .example_result = "{\"keys\":[\"ann\",\"bob\"],\"next\":null}"},
    {.name = "dict.clear",
     .group = "Dicts",
     .handler = method_dict_clear,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(OBJECT("A dict")),
     .doc = "Empties a dict.",
     .result_schema = SCHEMA_NULL,
     .example_params = "{\"object\":\"ages\"}",
     .example_result = "null"},
    {.name = "dict.len",
     .group = "Dicts",
     .handler = method_dict_len,
     .needs_gil = true,
     .role = ROLE_READ,
     PARAMS(OBJECT("A dict")),
     .doc = "How many entries a dict has.",
     .result_schema = SCHEMA_LEN,
     .example_params = "{\"object\":\"ages\"}",
     .example_result = "{\"len\":2}"},
    {.name = "dict.incr",
     .group = "Dicts",
     .handler = method_dict_incr,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(OBJECT("A dict"), KEY,
            {NAME("by"),
             .kind = PARAM_INT,
             .optional = true,
             .min = INT64_MIN,
             .max = INT64_MAX,
             .fallback = "1",
             .doc = "What to add."}),
     .doc = "Adds to the int under a key in one step, so counters need no lock; a missing key starts at 0.",
     .result_schema = SCHEMA_OBJECT("\"value\"", "\"value\":{\"type\":\"integer\"}"),
     .example_params = "{\"object\":\"ages\",\"key\":\"ann\"}",
     .example_result = "{\"value\":31}"},

    /* ---- sets ---- */
    {.name = "set.add",
     .group = "Sets",
     .handler = method_set_add,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(OBJECT("A set"), VALUE("The member.")),
     .doc = "Adds a member to a set.",
     .result_schema = SCHEMA_OBJECT("\"added\"", "\"added\":" SCHEMA_BOOL),
     .example_params = "{\"object\":\"colors\",\"value\":\"green\"}",
     .example_result = "{\"added\":true}"},
    {.name = "set.discard",
     .group = "Sets",
     .handler = method_set_discard,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(OBJECT("A set"), VALUE("The member.")),
     .doc = "Takes a member out of a set, if it is there.",
     .result_schema = SCHEMA_OBJECT("\"removed\"", "\"removed\":" SCHEMA_BOOL),
     .example_params = "{\"object\":\"colors\",\"value\":\"blue\"}",
     .example_result = "{\"removed\":false}"},
    {.name = "set.contains",
     .group = "Sets",
     .handler = method_set_contains,
     .needs_gil = true,
     .role = ROLE_READ,
     PARAMS(OBJECT("A set or frozenset"), VALUE("The member.")),
     .doc = "Whether a set or frozenset has a member.",
     .result_schema = SCHEMA_CONTAINS,
     .example_params = "{\"object\":\"colors\",\"value\":\"red\"}",
     .example_result = "{\"contains\":true}"},
    {.name = "set.clear",
     .group = "Sets",
     .handler = method_set_clear,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(OBJECT("A set")),
     .doc = "Empties a set.",
     .result_schema = SCHEMA_NULL,
     .example_params = "{\"object\":\"colors\"}",
     .example_result = "null"},
    {.name = "set.len",
     .group = "Sets",
     .handler = method_set_len,
     .needs_gil = true,
     .role = ROLE_READ,
     PARAMS(OBJECT("A set or frozenset")),
     .doc = "How many members a set or frozenset has.",
     .result_schema = SCHEMA_LEN,
     .example_params = "{\"object\":\"colors\"}",
     .example_result = "{\"len\":1}"},

    /* ---- attributes ---- */
    {.name = "attr.set",
     .group = "Attributes",
     .handler = method_attr_set,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(OBJECT("An instance"), ATTR, VALUE("What it becomes.")),
     .doc = "Sets an attribute of an instance.",
     .result_schema = SCHEMA_NULL,
     .example_params = "{\"object\":\"p\",\"attr\":\"y\",\"value\":2}",
     .example_result = "null"},
    {.name = "attr.get",
     .group = "Attributes",
     .handler = method_attr_get,
     .needs_gil = true,
     .role = ROLE_READ,
     PARAMS(OBJECT("An instance"), ATTR, HOLD("false"), DEPTH),
     .doc = "An attribute of an instance.",
     .result_schema = SCHEMA_ITEM,
     .example_params = "{\"object\":\"p\",\"attr\":\"x\",\"depth\":0}",
     .example_result = "{\"object\":17,\"value\":1}"},
    {.name = "attr.del",
     .group = "Attributes",
     .handler = method_attr_del,
     .needs_gil = true,
     .role = ROLE_WRITE,
     PARAMS(OBJECT("An instance"), ATTR),
     .doc = "Deletes an attribute of an instance.",
     .result_schema = SCHEMA_NULL,
     .example_params = "{\"object\":\"p\",\"attr\":\"x\"}",
     .example_result = "null"},
    {.name = "attr.list",
     .group = "Attributes",
     .handler = method_attr_list,
     .needs_gil = true,
     .role = ROLE_READ,
     PARAMS(OBJECT("An instance")),
     .doc = "The attributes that are set, in the order of setting; slots in the class's order.",
     .result_schema = SCHEMA_OBJECT("\"attrs\"", "\"attrs\":{\"type\":\"array\",\"items\":" SCHEMA_STR "}"),
     .example_params = "{\"object\":\"p\"}",
     .example_result = "{\"attrs\":[\"x\"]}"},

    /* ---- memory manager ---- */
#include "method_rows_memory.h"
    /* ---- inspection and administration ---- */
#include "method_rows_heap.h"
#include "method_rows_admin.h"
};

const unsigned METHOD_COUNT = sizeof(METHODS) / sizeof(METHODS[0]);
