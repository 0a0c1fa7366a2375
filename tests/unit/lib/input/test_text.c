#include "lib/input/text.h"

#include "lib/model/model.h"
#include "tests/unit/tiny.h"

static struct pcv_err e;
static struct pcv_model *m; /* a masked LM of 20 positions */

static int setup(void **state)
{
    if (tiny_setup(state) < 0)
        return -1;
    return pcv_model_open(&m, tiny_model(&tiny_masked_lm), NULL, &e);
}

static int teardown(void **state)
{
    pcv_model_close(m);
    return tiny_teardown(state);
}

/* The ids and offsets that text becomes, without [CLS] and [SEP]; returns how many. */
static int tokenize(const char *text, size_t len, int64_t *ids, int64_t *offsets)
{
    const size_t n = pcv_text_positions(text, len);
    int64_t *all = malloc(2 * n * sizeof(*all)); /* exactly as long as promised */

    assert_non_null(all);
    pcv_text_tokenize(text, len, all, all + n);
    assert_int_equal(all[0], PCV_TOKEN_CLS);
    assert_int_equal(all[n - 1], PCV_TOKEN_SEP);
    assert_int_equal(all[n], -1);
    assert_int_equal(all[2 * n - 1], -1);
    memcpy(ids, all + 1, (n - 2) * sizeof(*ids));
    memcpy(offsets, all + n + 1, (n - 2) * sizeof(*offsets));
    free(all);
    return (int)n - 2;
}

static void bytes_become_tokens(void **state)
{
    int64_t ids[256], offsets[256];
    char all[256];

    (void)state;
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    assert_int_equal(tokenize(all, 256, ids, offsets), 256);
    for (int i = 0; i < 256; i++) {
        assert_int_equal(ids[i], i + 6);
        assert_int_equal(offsets[i], i);
    }
    assert_int_equal(tokenize("", 0, ids, offsets), 0);
    assert_int_equal(tokenize(NULL, 0, ids, offsets), 0);
    assert_int_equal(tokenize("\xc3\xa9", 2, ids, offsets), 2); /* one character, two bytes */
    assert_int_equal(ids[0], 0xc3 + 6);
    assert_int_equal(ids[1], 0xa9 + 6);
}

static void special_tokens_are_one_position(void **state)
{
    static const char text[] = "a[MASK]b[PAD][BOS][EOS][CLS][SEP]";
    static const int64_t want[] = {'a' + 6, 3, 'b' + 6, 0, 1, 2, 4, 5};
    static const int64_t places[] = {0, 1, 7, 8, 13, 18, 23, 28};
    int64_t ids[64], offsets[64];

    (void)state;
    assert_int_equal(tokenize(text, strlen(text), ids, offsets), LEN(want));
    assert_memory_equal(ids, want, sizeof(want));
    assert_memory_equal(offsets, places, sizeof(places));
}

/* Only the whole word counts, and only as far as the text goes. */
static void almost_special_is_text(void **state)
{
    static const char *const texts[] = {"[mask]", "[MASK", "[MASK [", "[",
                                        "[]",     "[UNK]", "[ MASK]"};
    int64_t ids[64], offsets[64];

    (void)state;
    for (size_t i = 0; i < LEN(texts); i++) {
        const int n = (int)strlen(texts[i]);

        assert_int_equal(tokenize(texts[i], (size_t)n, ids, offsets), n);
        for (int j = 0; j < n; j++)
            assert_int_equal(ids[j], texts[i][j] + 6);
    }
    assert_int_equal(tokenize("[MASK]", 5, ids, offsets), 5); /* the end belongs to somebody else */
    assert_int_equal(tokenize("[[MASK]]", 8, ids, offsets), 3);
    assert_int_equal(ids[1], PCV_TOKEN_MASK);
}

static void tokens_have_texts(void **state)
{
    static const char *const special[] = {"[PAD]", "[BOS]", "[EOS]", "[MASK]", "[CLS]", "[SEP]"};
    char buf[8];

    (void)state;
    for (int i = 0; i < 6; i++) {
        assert_int_equal(pcv_token_text(i, buf), strlen(special[i]));
        assert_string_equal(buf, special[i]);
    }
    for (int b = 0; b < 256; b++) {
        assert_int_equal(pcv_token_text(b + 6, buf), 1);
        assert_int_equal((unsigned char)buf[0], b);
        assert_int_equal(buf[1], '\0');
    }
    assert_int_equal(pcv_token_text(-1, buf), 0);
    assert_string_equal(buf, "");
    assert_int_equal(pcv_token_text(262, buf), 0);
    assert_string_equal(buf, "");
}

static struct pcv_input *text_input(const char *text)
{
    const struct pcv_media media = {.data = text, .len = strlen(text)};
    struct pcv_input *in = NULL;

    CHECK_OK(pcv_input_from_media(&in, m, &media, 1, &e), e);
    return in;
}

static void inputs_know_their_positions(void **state)
{
    struct pcv_input *in = text_input("ab[MASK]c");
    int32_t rows[4] = {-1, -1, -1, -1};

    (void)state;
    assert_int_equal(pcv_input_positions(in), 6);
    assert_int_equal(pcv_input_tokens(in), 6);
    assert_int_equal(pcv_input_channels(in), 24);
    assert_int_equal(pcv_input_token(in, 0), PCV_TOKEN_CLS);
    assert_int_equal(pcv_input_token(in, 3), PCV_TOKEN_MASK);
    assert_int_equal(pcv_input_token(in, 5), PCV_TOKEN_SEP);
    assert_int_equal(pcv_input_token(in, 6), -1);
    assert_int_equal(pcv_input_token(in, -1), -1);
    assert_int_equal(pcv_input_byte_offset(in, 0), -1);
    assert_int_equal(pcv_input_byte_offset(in, 3), 2);
    assert_int_equal(pcv_input_byte_offset(in, 4), 8);
    assert_int_equal(pcv_input_byte_offset(in, 5), -1);
    assert_int_equal(pcv_input_byte_offset(in, 6), -1);
    assert_int_equal(pcv_query_rows_all(m, 0, in), 6);
    assert_int_equal(pcv_query_rows_default(m, 0, in, rows, 4), 1);
    assert_true(rows[0] == 3 && rows[1] == -1);
    pcv_input_free(in);
    in = text_input("[MASK][MASK][MASK]");
    assert_int_equal(pcv_query_rows_default(m, 0, in, rows, 2), 3); /* more than there is room */
    assert_true(rows[0] == 1 && rows[1] == 2 && rows[2] == -1);
    pcv_input_free(in);
}

/* 20 positions hold 18 bytes. */
static void the_longest_text_fits(void **state)
{
    struct pcv_media media = {.data = "123456789012345678[MASK]", .len = 18};
    struct pcv_input *in = (void *)0x1;

    (void)state;
    CHECK_OK(pcv_input_from_media(&in, m, &media, 1, &e), e);
    assert_int_equal(pcv_input_positions(in), 20);
    pcv_input_free(in);
    in = (void *)0x1;
    media.len = 19;
    CHECK_FAILS(pcv_input_from_media(&in, m, &media, 1, &e), e, PCV_ELIMIT, "text", "21 positions");
    media.data = "[MASK]12345678901234567";
    media.len = 23; /* 18 tokens */
    assert_ptr_equal(in, (void *)0x1);
    CHECK_OK(pcv_input_from_media(&in, m, &media, 1, &e), e);
    pcv_input_free(in);
    in = text_input("");
    assert_int_equal(pcv_input_positions(in), 2);
    pcv_input_free(in);
}

/* The token array is byte embedding plus position, written out. */
static void tokens_are_embedding_plus_position(void **state)
{
    const struct pcv_text_adapter *a = &m->bp.input[0].text;
    struct pcv_input *in = text_input("xy");
    const int ids[] = {PCV_TOKEN_CLS, 'x' + 6, 'y' + 6, PCV_TOKEN_SEP};
    float out[4 * 24];

    (void)state;
    CHECK_OK(pcv_input_dense(in, out, &e), e);
    for (int i = 0; i < 4; i++)
        for (int c = 0; c < 24; c++)
            CHECK_ONE(out[i * 24 + c], a->bytes[ids[i] * 24 + c] + a->positions[i * 24 + c], 0,
                      "token %d channel %d", i, c);
    pcv_input_free(in);
}

static void media_are_checked(void **state)
{
    struct pcv_media media[2] = {{.data = "a", .len = 1}, {.data = "a", .len = 1}};
    struct pcv_input *in = (void *)0x1;

    (void)state;
    CHECK_FAILS(pcv_input_from_media(&in, m, media, 0, &e), e, PCV_EMISSING, "text", "missing");
    CHECK_FAILS(pcv_input_from_media(&in, m, media, 2, &e), e, PCV_EFORMAT, "(unnamed)", "twice");
    media[0].input = "image";
    CHECK_FAILS(pcv_input_from_media(&in, m, media, 1, &e), e, PCV_EUNKNOWN, "image", "takes text");
    media[0].input = "text";
    media[0].type = "image/png";
    CHECK_FAILS(pcv_input_from_media(&in, m, media, 1, &e), e, PCV_EUNSUPPORTED, "text",
                "image/png");
    assert_ptr_equal(in, (void *)0x1);
    media[0].type = "text/plain; charset=utf-8";
    CHECK_OK(pcv_input_from_media(&in, m, media, 1, &e), e);
    pcv_input_free(in);
    pcv_input_free(NULL);
}

/* Another vocabulary than bytes: text means nothing to the model. */
static void other_vocabularies_take_ids_only(void **state)
{
    const struct pcv_media media = {.data = "a", .len = 1};
    struct tiny t = tiny_masked_lm;
    struct pcv_model *other;
    struct pcv_input *in;

    (void)state;
    t.vocab = 300;
    CHECK_OK(pcv_model_open(&other, tiny_model(&t), NULL, &e), e);
    CHECK_FAILS(pcv_input_from_media(&in, other, &media, 1, &e), e, PCV_EUNSUPPORTED, "text",
                "300 tokens");
    pcv_model_close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_become_tokens),
        cmocka_unit_test(special_tokens_are_one_position),
        cmocka_unit_test(almost_special_is_text),
        cmocka_unit_test(tokens_have_texts),
        cmocka_unit_test(inputs_know_their_positions),
        cmocka_unit_test(the_longest_text_fits),
        cmocka_unit_test(tokens_are_embedding_plus_position),
        cmocka_unit_test(media_are_checked),
        cmocka_unit_test(other_vocabularies_take_ids_only),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
