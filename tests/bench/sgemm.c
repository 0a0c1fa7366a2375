/* sgemm.c - the machine's own SGEMM peak: threads that each multiply their own rows with OpenBLAS
 * on one thread, on huge pages where there are any. Usage: sgemm THREADS. Prints GFLOP/s of the
 * best of several rounds, and of the median. */
#include <cblas.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { ROWS = 512, N = 1024, ROUNDS = 12 };

enum { MOST = 256, HUGE_PAGE = 2 << 20 };

static pthread_barrier_t together;
static double began[ROUNDS][MOST], ended[ROUNDS][MOST];

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* n floats; a multiple of a huge page. */
static float *matrix(size_t n)
{
    float *p = aligned_alloc(HUGE_PAGE, n * sizeof(*p));

    if (!p)
        exit(1);
    (void)madvise(p, n * sizeof(*p), MADV_HUGEPAGE);
    return p;
}

static void *worker(void *arg)
{
    float *a = matrix(ROWS * N), *b = matrix(N * N), *c = matrix(ROWS * N);
    const int self = *(int *)arg;

    for (int i = 0; i < ROWS * N; i++)
        a[i] = (float)(i % 17) * 0.01f;
    for (int i = 0; i < N * N; i++)
        b[i] = (float)(i % 13) * 0.01f;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&together);
        began[i][self] = now();
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, ROWS, N, N, 1.0f, a, N, b, N, 0.0f,
                    c, N);
        ended[i][self] = now();
    }
    free(a);
    free(b);
    free(c);
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    const int threads = argc == 2 ? (int)strtol(argv[1], NULL, 10) : 1;
    const double work = 2e-9 * threads * ROWS * N * N;
    static pthread_t id[MOST];
    static int self[MOST];
    double took[ROUNDS];

    if (threads < 1 || threads > MOST)
        return 2;
    openblas_set_num_threads(1);
    pthread_barrier_init(&together, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++) {
        self[i] = i;
        if (pthread_create(&id[i], NULL, worker, &self[i]) != 0)
            return 1;
    }
    for (int i = 0; i < threads; i++)
        pthread_join(id[i], NULL);
    for (int i = 0; i < ROUNDS; i++) { /* from the first to begin to the last to end */
        double first = began[i][0], last = ended[i][0];

        for (int t = 1; t < threads; t++) {
            first = began[i][t] < first ? began[i][t] : first;
            last = ended[i][t] > last ? ended[i][t] : last;
        }
        took[i] = last - first;
    }
    qsort(took, ROUNDS, sizeof(*took), by_value);
    printf("%.1f %.1f\n", work / took[0], work / took[ROUNDS / 2]);
    return 0;
}
