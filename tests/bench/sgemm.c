/* sgemm.c - the machine's own SGEMM peak: threads that each multiply their own rows with OpenBLAS
 * on one thread. Usage: sgemm THREADS. Prints GFLOP/s of the best of several rounds. */
#include <cblas.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROWS = 512, N = 1024, ROUNDS = 12 };

static pthread_barrier_t together;

static void *worker(void *arg)
{
    float *a = malloc(sizeof(float) * ROWS * N), *b = malloc(sizeof(float) * N * N);
    float *c = malloc(sizeof(float) * ROWS * N);

    (void)arg;
    if (!a || !b || !c)
        exit(1);
    for (int i = 0; i < ROWS * N; i++)
        a[i] = (float)(i % 17) * 0.01f;
    for (int i = 0; i < N * N; i++)
        b[i] = (float)(i % 13) * 0.01f;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&together);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, ROWS, N, N, 1.0f, a, N, b, N, 0.0f, c,
                    N);
        pthread_barrier_wait(&together);
    }
    free(a);
    free(b);
    free(c);
    return NULL;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    const int threads = argc == 2 ? atoi(argv[1]) : 1;
    double best = 1e9;
    pthread_t id;

    if (threads < 1 || threads > 256)
        return 2;
    openblas_set_num_threads(1);
    pthread_barrier_init(&together, NULL, (unsigned)threads + 1);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&id, NULL, worker, NULL) != 0)
            return 1;
    for (int i = 0; i < ROUNDS; i++) {
        double t;

        pthread_barrier_wait(&together);
        t = now();
        pthread_barrier_wait(&together);
        t = now() - t;
        if (t < best)
            best = t;
    }
    printf("%.1f\n", 2.0 * threads * ROWS * N * N / best / 1e9);
    return 0;
}
