#include "tests/unit/proto/wire_test.h"

#include "proto/wire_arena.h"

#include <stdlib.h>

/* Pieces of all sizes keep what is written to them, and are aligned. */
static void test_pieces(void **state)
{
    struct wire_arena *a = wire_arena_new();
    unsigned char *piece[600];

    (void)state;
    for (size_t i = 0; i < LEN(piece); i++) {
        size_t size = i * i % 9000;

        piece[i] = wire_arena_get(a, size);
        assert_non_null(piece[i]);
        assert_int_equal((uintptr_t)piece[i] % (size >= 4096 ? 64 : _Alignof(max_align_t)), 0);
        memset(piece[i], (int)i & 255, size);
    }
    for (size_t i = 0; i < LEN(piece); i++)
        for (size_t k = 0; k < i * i % 9000; k++)
            assert_int_equal(piece[i][k], i & 255);
    wire_arena_free(a);
    wire_arena_free(NULL);
}

static void test_text(void **state)
{
    struct wire_arena *a = wire_arena_new();

    (void)state;
    assert_string_equal(wire_arena_text(a, "shoe and more", 4), "shoe");
    assert_string_equal(wire_arena_text(a, NULL, 0), "");
    wire_arena_free(a);
}

static void test_too_large(void **state)
{
    struct wire_arena *a = wire_arena_new();

    (void)state;
    assert_null(wire_arena_get(a, SIZE_MAX));
    assert_null(wire_arena_get(a, SIZE_MAX - 70));
    assert_null(wire_arena_text(a, "", SIZE_MAX));
    wire_arena_free(a);
}

/* A growing array keeps its items, and new room is clear. */
static void test_room(void **state)
{
    struct wire_arena *a = wire_arena_new();
    int64_t *v = NULL;

    (void)state;
    memset(wire_arena_get(a, 3000), 0xff, 3000); /* what comes next is not clear by accident */
    for (int n = 0; n < 300; n++) {
        v = wire_arena_room(a, v, n, sizeof(*v));
        assert_int_equal(v[n], 0);
        v[n] = n + 1;
    }
    for (int n = 0; n < 300; n++)
        assert_int_equal(v[n], n + 1);
    wire_arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
