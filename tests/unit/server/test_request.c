/* Which states may follow which, and when a request's memory goes. */
#include "server/request.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Rows: from; columns: to, in the order of enum srv_state. As the diagram in request.h has it. */
static const char legal[SRV_STATES][SRV_STATES + 1] = {
    /*               P A W Q R Y S O D */
    [SRV_PARSED] = ".xxx....x",  [SRV_ADAPTING] = "..xx...xx", [SRV_WAITING] = "...x....x",
    [SRV_QUEUED] = "....x...x",  [SRV_RUNNING] = ".....x.xx",  [SRV_REPLYING] = "...x..xxx",
    [SRV_SENDING] = "...x....x", [SRV_ORPHAN] = "........x",   [SRV_DONE] = ".........",
};

static void test_moves_are_those_of_the_diagram(void **state)
{
    (void)state;
    for (int from = 0; from < SRV_STATES; from++)
        for (int to = 0; to < SRV_STATES; to++)
            if (srv_state_may_follow(from, to) != (legal[from][to] == 'x'))
                fail_msg("from %s to %s", srv_state_name(from), srv_state_name(to));
}

/* Every state but the first is reached, and from every state but the last there is a way out. */
static void test_no_state_is_a_dead_end(void **state)
{
    (void)state;
    for (int s = 0; s < SRV_STATES; s++) {
        int in = 0, out = 0;
        for (int o = 0; o < SRV_STATES; o++) {
            in += srv_state_may_follow(o, s);
            out += srv_state_may_follow(s, o);
        }
        assert_int_equal(in != 0, s != SRV_PARSED);
        assert_int_equal(out != 0, s != SRV_DONE);
    }
}

static void test_a_wrong_move_ends_the_process(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct srv_request *r = srv_request_new(NULL, NULL, NULL, 0);
        signal(SIGABRT, SIG_DFL);
        srv_request_move(r, SRV_DONE);
        srv_request_move(r, SRV_RUNNING);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

/* Under a sanitizer a second free or a leak would show. */
static void test_memory_goes_when_done_and_gone(void **state)
{
    (void)state;
    struct srv_exchange *x = (struct srv_exchange *)&legal; /* never looked into */
    struct srv_request *r = srv_request_new(NULL, NULL, x, 1);
    assert_int_equal(r->state, SRV_PARSED);
    srv_request_settle(r); /* not done */
    srv_request_move(r, SRV_QUEUED);
    srv_request_move(r, SRV_RUNNING);
    srv_request_move(r, SRV_ORPHAN);
    r->x = NULL;
    srv_request_settle(r); /* gone, but a lane has it */
    assert_int_equal(r->state, SRV_ORPHAN);
    r->held = x;
    srv_request_move(r, SRV_DONE);
    srv_request_settle(r); /* still held */
    assert_int_equal(r->state, SRV_DONE);
    r->held = NULL;
    r->made.body = strdup("a reply nobody took");
    srv_request_settle(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moves_are_those_of_the_diagram),
        cmocka_unit_test(test_no_state_is_a_dead_end),
        cmocka_unit_test(test_a_wrong_move_ends_the_process),
        cmocka_unit_test(test_memory_goes_when_done_and_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
