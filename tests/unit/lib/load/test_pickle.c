/* Every pickle is written here byte by byte, and read from a block of exactly its size: a read
 * beyond it is seen by the address sanitizer. */
#include "lib/load/pickle.h"

#include "tests/unit/lib/load/files.h"

static const struct pcv_pickle_global globals[] = {
    {"collections", "OrderedDict",
     PCV_PICKLE_MAY_CALL | PCV_PICKLE_MAY_BUILD | PCV_PICKLE_MAY_FILL},
    {"shapes", "square", PCV_PICKLE_MAY_CALL},
    {"shapes", "Side", 0},
};
static const struct pcv_pickle_rules rules = {
    .globals = globals, .count = LEN(globals), .persistent = 1};
static const struct pcv_pickle_rules no_persistent = {.globals = globals, .count = LEN(globals)};

static unsigned char *block; /* what the last opening reads */

static int open_exactly(struct pcv_pickle **p, const void *data, size_t n,
                        const struct pcv_pickle_rules *r, struct pcv_err *e)
{
    free(block);
    block = malloc(n ? n : 1);
    assert_non_null(block);
    if (n)
        memcpy(block, data, n);
    return pcv_pickle_open(p, block, n, r, e);
}

static void refused_by(const struct pcv_pickle_rules *r, const void *data, size_t n, int code,
                       const char *words)
{
    struct pcv_pickle *p = (void *)0x1;
    struct pcv_err e = {0};

    CHECK_FAILS(open_exactly(&p, data, n, r, &e), e, code, "", words);
    assert_ptr_equal(p, (void *)0x1);
}

#define REFUSED(text, code, words) refused_by(&rules, text, sizeof(text) - 1, code, words)

struct opened {
    struct pcv_pickle *p;
    const struct pcv_pickle_value *root;
};

static struct opened opens(const void *data, size_t n)
{
    struct opened o = {0};
    struct pcv_err e = {0};

    CHECK_OK(open_exactly(&o.p, data, n, &rules, &e), e);
    o.root = pcv_pickle_root(o.p);
    return o;
}

#define OPENS(text) opens(text, sizeof(text) - 1)

static void closes(struct opened *o)
{
    pcv_pickle_close(o->p);
}

/* ---- what is read ------------------------------------------------------------------------- */

static void reads_every_kind(void **state)
{
    static const int64_t want[] = {7, 65534, -2, 0, -1, 128, INT64_MIN, 1, 0};
    static const char pickle[] = "\x80\x04\x95\x20\0\0\0\0\0\0\0]("
                                 "K\7M\xfe\xffJ\xfe\xff\xff\xff\x8a\0\x8a\1\xff\x8a\2\x80\0"
                                 "\x8a\x08\0\0\0\0\0\0\0\x80\x88\x89"
                                 "G\xbf\xe8\0\0\0\0\0\0"
                                 "\x8c\3h\xc3\xb6X\2\0\0\0i!"
                                 "N)e.";
    struct opened o = OPENS(pickle);

    (void)state;
    assert_int_equal(o.root->kind, PCV_PICKLE_LIST);
    assert_int_equal(o.root->count, 14);
    for (size_t i = 0; i < LEN(want); i++) {
        assert_int_equal(o.root->items[i]->kind, i < 7 ? PCV_PICKLE_INTEGER : PCV_PICKLE_BOOL);
        assert_true(o.root->items[i]->integer == want[i]);
    }
    assert_int_equal(o.root->items[9]->kind, PCV_PICKLE_FLOAT);
    assert_true(o.root->items[9]->number == -0.75);
    assert_true(pcv_pickle_is(o.root->items[10], "h\xc3\xb6"));
    assert_true(pcv_pickle_is(o.root->items[11], "i!"));
    assert_false(pcv_pickle_is(o.root->items[11], "i"));
    assert_int_equal(o.root->items[12]->kind, PCV_PICKLE_NONE);
    assert_int_equal(o.root->items[13]->kind, PCV_PICKLE_TUPLE);
    assert_int_equal(o.root->items[13]->count, 0);
    closes(&o);
}

static void reads_bytes_of_every_width(void **state)
{
    struct opened o = OPENS("\x80\x05(C\2a\0B\2\0\0\0bc\x8e\1\0\0\0\0\0\0\0d"
                            "\x96\1\0\0\0\0\0\0\0e\x8d\1\0\0\0\0\0\0\0ft.");

    (void)state;
    assert_int_equal(o.root->count, 5);
    assert_int_equal(o.root->items[0]->kind, PCV_PICKLE_BYTES);
    assert_int_equal(o.root->items[0]->size, 2);
    assert_memory_equal(o.root->items[0]->bytes, "a\0", 2);
    assert_memory_equal(o.root->items[1]->bytes, "bc", 2);
    assert_memory_equal(o.root->items[2]->bytes, "d", 1);
    assert_memory_equal(o.root->items[3]->bytes, "e", 1);
    assert_true(pcv_pickle_is(o.root->items[4], "f"));
    closes(&o);
}

static void reads_dictionaries_and_the_memo(void **state)
{
    /* {"a": ("b", "b"), "c": ["a", 5]}, then "c" again as 6 */
    struct opened o = OPENS("\x80\2}q\0(X\1\0\0\0aq\1X\1\0\0\0br\2\0\0\0h\2\x86"
                            "X\1\0\0\0cq\3]j\1\0\0\0aK\5auh\3K\6s.");
    const struct pcv_pickle_value *v;

    (void)state;
    assert_int_equal(o.root->kind, PCV_PICKLE_DICT);
    assert_int_equal(o.root->count, 6);
    v = pcv_pickle_get(o.root, "a");
    assert_int_equal(v->kind, PCV_PICKLE_TUPLE);
    assert_int_equal(v->count, 2);
    assert_ptr_equal(v->items[0], v->items[1]);
    assert_int_equal(pcv_pickle_get(o.root, "c")->integer, 6); /* the last counts, as in Python */
    assert_int_equal(o.root->items[3]->count, 2);
    assert_true(pcv_pickle_is(o.root->items[3]->items[0], "a"));
    assert_null(pcv_pickle_get(o.root, "b"));
    closes(&o);
}

static void numbers_the_memo_as_protocol_4_does(void **state)
{
    struct opened o = OPENS("\x80\4(\x8c\1x\x94\x8c\1y\x94\x8c\1z\x94h\0h\1h\2t.");

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_ptr_equal(o.root->items[i], o.root->items[i + 3]);
    closes(&o);
}

/* A call is a record: of what, with what, and what it would have been given. */
static void records_calls(void **state)
{
    struct opened o = OPENS("\x80\2ccollections\nOrderedDict\n)R(K\1K\2u}(K\3K\4ub.");

    (void)state;
    assert_int_equal(o.root->kind, PCV_PICKLE_CALL);
    assert_int_equal(o.root->global, 0);
    assert_int_equal(o.root->args->count, 0);
    assert_int_equal(o.root->count, 2);
    assert_int_equal(o.root->items[1]->integer, 2);
    assert_int_equal(o.root->state->kind, PCV_PICKLE_DICT);
    closes(&o);
    o = OPENS("\x80\4\x8c\6shapes\x8c\6square\x93K\3\x8c\6shapes\x8c\4Side\x93\x86R.");
    assert_int_equal(o.root->kind, PCV_PICKLE_CALL);
    assert_int_equal(o.root->global, 1);
    assert_int_equal(o.root->args->items[1]->kind, PCV_PICKLE_GLOBAL);
    assert_int_equal(o.root->args->items[1]->global, 2);
    assert_int_equal(o.root->args->items[1]->at, 35);
    closes(&o);
    o = OPENS("\x80\2X\1\0\0\0kQ.");
    assert_int_equal(o.root->kind, PCV_PICKLE_PERSISTENT);
    assert_true(pcv_pickle_is(o.root->args, "k"));
    closes(&o);
}

/* ---- what is refused ------------------------------------------------------------------------ */

static void refuses_globals_by_name(void **state)
{
    (void)state;
    REFUSED("\x80\2cos\nsystem\nX\2\0\0\0id\x85R.", PCV_EUNSUPPORTED,
            "global os.system is not one that is read (byte 2 of the pickle)");
    REFUSED("\x80\2cposix\nsystem\nX\2\0\0\0id\x85R.", PCV_EUNSUPPORTED, "posix.system");
    REFUSED("\x80\4\x8c\x08"
            "builtins\x8c\4eval\x93\x8c\1"
            "1\x85R.",
            PCV_EUNSUPPORTED,
            "global builtins.eval is not one that is read (byte 18 of the pickle)");
    REFUSED("\x80\2cbuiltins\ngetattr\n.", PCV_EUNSUPPORTED, "builtins.getattr");
    REFUSED("\x80\2cshapes\nsquare.__globals__\n.", PCV_EUNSUPPORTED, "square.__globals__");
    REFUSED("\x80\2cshapes.square\n\n.", PCV_EUNSUPPORTED, "shapes.square.");
    REFUSED("\x80\2c\nsquare\n.", PCV_EUNSUPPORTED, ".square");
    REFUSED("\x80\2ca\x1b[31mb\nc\x01\n.", PCV_EUNSUPPORTED, "global a?[31mb.c? is");
    REFUSED("\x80\4N\x8c\1x\x93.", PCV_EFORMAT, "a global's name is None");
    REFUSED("\x80\2cshapes", PCV_EFORMAT, "a name without end");
    REFUSED("\x80\2cshapes\nsquare", PCV_EFORMAT, "a name without end");
}

static void refuses_what_globals_may_not(void **state)
{
    static const char persistent[] = "\x80\2X\1\0\0\0kQ.";

    (void)state;
    REFUSED("\x80\2cshapes\nSide\n)R.", PCV_EUNSUPPORTED, "a call of a global that is no function");
    REFUSED("\x80\2X\1\0\0\0k)R.", PCV_EUNSUPPORTED, "a call of a text");
    REFUSED("\x80\2cshapes\nsquare\nNR.", PCV_EFORMAT, "a call with None");
    REFUSED("\x80\2cshapes\nsquare\n)RNb.", PCV_EUNSUPPORTED, "a state for a call");
    REFUSED("\x80\2}}b.", PCV_EUNSUPPORTED, "a state for a dictionary");
    REFUSED("\x80\2cshapes\nsquare\n)RNNs.", PCV_EFORMAT, "items for a call");
    REFUSED("\x80\2ccollections\nOrderedDict\n)RNbNb.", PCV_EFORMAT, "a second state");
    refused_by(&no_persistent, persistent, sizeof(persistent) - 1, PCV_EUNSUPPORTED,
               "a persistent id");
}

static void refuses_opcodes_by_name(void **state)
{
    static const struct {
        char op;
        const char *name;
    } no[] = {{'i', "INST"},
              {'o', "OBJ"},
              {'\x81', "NEWOBJ"},
              {'\x92', "NEWOBJ_EX"},
              {'\x82', "EXT1"},
              {'\x83', "EXT2"},
              {'\x84', "EXT4"},
              {'P', "PERSID"},
              {'I', "INT"},
              {'L', "LONG"},
              {'\x8b', "LONG4"},
              {'F', "FLOAT"},
              {'S', "STRING"},
              {'T', "BINSTRING"},
              {'U', "SHORT_BINSTRING"},
              {'V', "UNICODE"},
              {'0', "POP"},
              {'1', "POP_MARK"},
              {'2', "DUP"},
              {'d', "DICT"},
              {'l', "LIST"},
              {'g', "GET"},
              {'p', "PUT"},
              {'\x8f', "EMPTY_SET"},
              {'\x90', "ADDITEMS"},
              {'\x91', "FROZENSET"},
              {'\x97', "NEXT_BUFFER"},
              {'\x98', "READONLY_BUFFER"},
              {'\xff', "of no known meaning (0xff)"},
              {0, "(0x00)"}};

    (void)state;
    for (size_t i = 0; i < LEN(no); i++) {
        char pickle[] = "\x80\2NN?NNNN.", words[80];

        pickle[4] = no[i].op;
        snprintf(words, sizeof(words), "opcode %s", no[i].name[0] == '(' ? "" : no[i].name);
        refused_by(&rules, pickle, sizeof(pickle) - 1, PCV_EUNSUPPORTED, words);
        refused_by(&rules, pickle, sizeof(pickle) - 1, PCV_EUNSUPPORTED, "(byte 4 of the pickle)");
    }
}

static void refuses_what_breaks_the_format(void **state)
{
    (void)state;
    REFUSED("", PCV_EFORMAT, "ends without STOP");
    REFUSED("N.", PCV_EFORMAT, "not a pickle of protocol 2 to 5");
    REFUSED("\x80\1N.", PCV_EUNSUPPORTED, "protocol 1;");
    REFUSED("\x80\6N.", PCV_EUNSUPPORTED, "protocol 6;");
    REFUSED("\x80\2.", PCV_EFORMAT, "0 values and 0 marks");
    REFUSED("\x80\2NN.", PCV_EFORMAT, "2 values");
    REFUSED("\x80\2N(.", PCV_EFORMAT, "1 values and 1 marks");
    REFUSED("\x80\2N.N", PCV_EFORMAT, "1 bytes after the pickle's end");
    REFUSED("\x80\4\x95\xff\xff\xff\xff\xff\xff\xff\xffN.", PCV_EFORMAT, "a frame of");
    REFUSED("\x80\2X\2\0\0\0\xc0\x80.", PCV_EFORMAT, "not UTF-8");
    REFUSED("\x80\2X\3\0\0\0\xed\xa0\x80.", PCV_EFORMAT, "not UTF-8");
    REFUSED("\x80\2X\4\0\0\0\xf4\x90\x80\x80.", PCV_EFORMAT, "not UTF-8");
    REFUSED("\x80\2X\1\0\0\0\xe2.", PCV_EFORMAT, "not UTF-8");
    REFUSED("\x80\2B\xff\xff\xff\xff"
            "x.",
            PCV_EFORMAT, "4294967295 bytes, the pickle ends after 2");
    REFUSED("\x80\4\x8e\xff\xff\xff\xff\xff\xff\xff\xffx.", PCV_EFORMAT, "the pickle ends after 2");
    REFUSED("\x80\2h\0.", PCV_EFORMAT, "memo index 0 holds nothing");
    REFUSED("\x80\2Nq\0j\xff\xff\xff\xff.", PCV_EFORMAT, "memo index 4294967295 holds nothing");
    REFUSED("\x80\2}(NNNu.", PCV_EFORMAT, "a key without a value");
    REFUSED("\x80\2]NNs.", PCV_EFORMAT, "items for a list");
    REFUSED("\x80\2}Na.", PCV_EFORMAT, "items for a dictionary");
    REFUSED("\x80\2}(e.", PCV_EFORMAT, "items for a dictionary");
}

/* Nothing is taken from below a mark, nor from an empty stack. */
static void refuses_to_dig_too_deep(void **state)
{
    static const char *const programs[] = {
        "q\1", "\x94", "\x85", "\x86",   "N\x86",   "NN\x87", "t",       "a",    "Na",
        "s",   "NNs",  "u",    "(u",     "(NNu",    "e",      "(e",      "R",    "NR",
        "b",   "Nb",   "Q",    "\x93",   "(q\1",    "N(\x85", "NN(\x86", "](Na", "}(NNs",
        "](",  "N(R",  "NN(b", "}((NNu", "]((\x65", "N(Q",    "NN(\x93"};

    (void)state;
    for (size_t i = 0; i < LEN(programs); i++) {
        struct bytes b = {0};

        PUT(&b, "\x80\4");
        put(&b, programs[i], strlen(programs[i]));
        PUT(&b, ".");
        refused_by(&rules, b.p, b.n, PCV_EFORMAT, "");
        drop(&b);
    }
}

static void refuses_values_that_hold_themselves(void **state)
{
    (void)state;
    REFUSED("\x80\2]q\0h\0a.", PCV_EFORMAT, "a list holds itself");
    REFUSED("\x80\2}q\0Nh\0s.", PCV_EFORMAT, "a dictionary holds itself");
    REFUSED("\x80\2}q\0h\0Ns.", PCV_EFORMAT, "a dictionary holds itself");
    REFUSED("\x80\2]q\0(h\0tq\1a.", PCV_EFORMAT, "holds itself");
    REFUSED("\x80\2ccollections\nOrderedDict\n)Rq\0h\0b.", PCV_EFORMAT, "a call holds itself");
    REFUSED("\x80\2ccollections\nOrderedDict\n)Rq\0Nh\0s.", PCV_EFORMAT, "a call holds itself");
    REFUSED("\x80\2]q\0h\0\x85Qa.", PCV_EFORMAT, "");
}

static void refuses_what_is_too_much(void **state)
{
    struct bytes b = {0};

    (void)state;
    REFUSED("\x80\2\x8a\x09\1\2\3\4\5\6\7\x08\x09.", PCV_ELIMIT, "an integer of 9 bytes");
    REFUSED("\x80\2Nr\xff\xff\xff\xff.", PCV_ELIMIT, "memo index 4294967295");
    REFUSED("\x80\2Nr\0\0\x10\0.", PCV_ELIMIT, "memo index 1048576");
    PUT(&b, "\x80\2");
    for (int i = 0; i <= PCV_PICKLE_MAX_MARKS; i++)
        PUT(&b, "(");
    refused_by(&rules, b.p, b.n, PCV_ELIMIT, "more than 64 marks");
    b.n = 2;
    for (int i = 0; i <= PCV_PICKLE_MAX_STACK; i++)
        PUT(&b, "N");
    refused_by(&rules, b.p, b.n, PCV_ELIMIT, "stack deeper than");
    b.n = 2;
    PUT(&b, "]");
    for (int i = 0; i < PCV_PICKLE_MAX_VALUES; i++)
        PUT(&b, "Na");
    refused_by(&rules, b.p, b.n, PCV_ELIMIT, "more than 1048576 values");
    b.n = 2;
    PUT(&b, "N");
    for (int i = 0; i < PCV_PICKLE_MAX_STEPS; i++)
        PUT(&b, "q\0");
    refused_by(&rules, b.p, b.n, PCV_ELIMIT, "more than 4194304 opcodes");
    b.n = 2;
    PUT(&b, "X");
    put_number(&b, PCV_PICKLE_MAX_TEXT + 1, 4);
    for (int i = 0; i <= PCV_PICKLE_MAX_TEXT; i++)
        PUT(&b, "x");
    PUT(&b, ".");
    refused_by(&rules, b.p, b.n, PCV_ELIMIT, "a text of 65537 bytes");
    drop(&b);
}

/* Tuples in tuples: the root counts as one. */
static void nests_so_deep_and_no_deeper(void **state)
{
    struct bytes b = {0};
    struct opened o;

    (void)state;
    PUT(&b, "\x80\2N");
    for (int i = 0; i < PCV_PICKLE_MAX_DEPTH - 1; i++)
        PUT(&b, "\x85");
    PUT(&b, ".");
    o = opens(b.p, b.n);
    assert_int_equal(o.root->depth, PCV_PICKLE_MAX_DEPTH);
    closes(&o);
    b.n--;
    PUT(&b, "\x85.");
    refused_by(&rules, b.p, b.n, PCV_ELIMIT, "nested deeper than 64");
    drop(&b);
    /* shallow twice over, deep where the second hangs on the first */
    PUT(&b, "\x80\2N");
    for (int i = 0; i < 40; i++)
        PUT(&b, "\x85");
    PUT(&b, "q\0h\0");
    for (int i = 0; i < 40; i++)
        PUT(&b, "\x85");
    PUT(&b, "\x86.");
    refused_by(&rules, b.p, b.n, PCV_ELIMIT, "nested deeper than 64");
    drop(&b);
}

/* Doubled thirty times over, a billion leaves: shared values are looked at once. */
static void looks_at_shared_values_once(void **state)
{
    struct bytes b = {0};
    struct opened o;

    (void)state;
    PUT(&b, "\x80\2Nq\0");
    for (int i = 0; i < 60; i++)
        PUT(&b, "h\0\x86q\0");
    PUT(&b, ".");
    o = opens(b.p, b.n);
    assert_int_equal(o.root->depth, 61);
    closes(&o);
    drop(&b);
}

/* ---- every cut, every change ---------------------------------------------------------------- */

static const char whole[] = "\x80\4\x95\x30\0\0\0\0\0\0\0ccollections\nOrderedDict\n)Rq\0("
                            "X\1\0\0\0aK\1M\2\0J\3\0\0\0\x87\x8c\1"
                            "b\x94G\0\0\0\0\0\0\0\0"
                            "\x8c\6shapes\x8c\6square\x93"
                            "C\2xy\x85R]r\2\0\0\0(\x8a\2\0\1Neu"
                            "}Nh\1sb.";

static void refuses_every_cut(void **state)
{
    struct opened o = OPENS(whole);

    (void)state;
    closes(&o);
    for (size_t n = 0; n < sizeof(whole) - 1; n++)
        refused_by(&rules, whole, n, PCV_EFORMAT, "");
}

static void survives_every_change(void **state)
{
    char changed[sizeof(whole)];

    (void)state;
    for (size_t i = 0; i < sizeof(whole) - 1; i++)
        for (int c = 0; c < 256; c++) {
            struct pcv_pickle *p = NULL;
            struct pcv_err e = {0};
            int r;

            memcpy(changed, whole, sizeof(whole));
            changed[i] = (char)c;
            r = open_exactly(&p, changed, sizeof(changed) - 1, &rules, &e);
            assert_true(r == 0 ? p != NULL : p == NULL && e.code == r && e.msg[0]);
            pcv_pickle_close(p);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_kind),
        cmocka_unit_test(reads_bytes_of_every_width),
        cmocka_unit_test(reads_dictionaries_and_the_memo),
        cmocka_unit_test(numbers_the_memo_as_protocol_4_does),
        cmocka_unit_test(records_calls),
        cmocka_unit_test(refuses_globals_by_name),
        cmocka_unit_test(refuses_what_globals_may_not),
        cmocka_unit_test(refuses_opcodes_by_name),
        cmocka_unit_test(refuses_what_breaks_the_format),
        cmocka_unit_test(refuses_to_dig_too_deep),
        cmocka_unit_test(refuses_values_that_hold_themselves),
        cmocka_unit_test(refuses_what_is_too_much),
        cmocka_unit_test(nests_so_deep_and_no_deeper),
        cmocka_unit_test(looks_at_shared_values_once),
        cmocka_unit_test(refuses_every_cut),
        cmocka_unit_test(survives_every_change),
    };

    const int failed = cmocka_run_group_tests(tests, NULL, NULL);

    free(block);
    return failed;
}
