/* adapt.h - from a decoded request to what the engine computes.
 *
 * A job holds a request's inputs, its output queries and the memory for what comes out. Everything
 * is checked here: after adapting, computing cannot fail for what a client sent. Errors carry the
 * place in the request ("$.queries[1].task"). Slow for media; any thread. */
#ifndef SRV_ADAPT_H
#define SRV_ADAPT_H

#include "lib/perceiver.h"
#include "proto/wire.h"
#include "server/digest.h"

#include <stdatomic.h>

struct srv_kept; /* store.h */

/* Memory that all jobs may hold together. */
struct srv_job_budget {
    atomic_size_t used;
    size_t limit;
};

/* What every model answers, whatever its tasks; instead of a task's index. */
enum { SRV_EMBED = -1, SRV_ATTENTION = -2 };

/* One answer: what a query says of one input; of the Open Inference Protocol, what a task says of
 * all inputs. */
struct srv_answer {
    int item;          /* of the request; -1: all of them */
    int query;         /* of the request's queries or outputs; -1: nobody asked for it by name */
    int task;          /* index in the model, SRV_EMBED or SRV_ATTENTION */
    const char *name;  /* of the task; the model's, or static */
    int from;          /* the answer that computes the numbers: itself, or an earlier one */
    int64_t rows;      /* output queries of each item; SRV_ATTENTION: latents; SRV_EMBED: 0 */
    int64_t width;     /* numbers of a row */
    int32_t *which;    /* own: [rows], or NULL for all in order */
    int32_t *classes;  /* own: of the query's nclasses the indices, or NULL */
    float *numbers;    /* own: [items, rows, width]; in pieces: of one piece; NULL: from another */
    bool pieces;       /* streamed: its rows are computed some at a time */
    int region[4];     /* pixels: x, y, width, height of what the rows cover; width 0: no picture */
    int nframes;       /* pixels: frames that the rows cover; */
    const int *frames; /* [nframes] the query's, or NULL: 0, 1 .. */
};

/* An input of the request. */
struct srv_job_item {
    struct pcv_input *input; /* own; NULL: given to kept latents, or a question to some */
    struct srv_kept *kept;   /* a reference (loop thread), or NULL */
    bool cached;             /* they were there, or are another item's or request's */
    int same;                /* the item of this job that is computed for it; itself by default */
    bool keyed;              /* key is what it is known by */
    struct srv_digest key;
    float *latents; /* own: [num_latents, d_latents], where they are an answer */
    struct pcv_attention attention;
};

/* A pair of pictures: every item is a tile, and what the tiles say becomes one field. */
struct srv_job_flow {
    struct pcv_flow_grid grid;
    int npoints; /* 0: every pixel; points are the request's */
    const int32_t (*points)[2];
    int32_t **rows;     /* [tiles] with points: the output queries of each tile, in one block */
    const float **tile; /* [tiles] into the answer's numbers; NULL: not computed */
};

/* Where a stream is: the rows of one answer that are computed now. */
struct srv_job_piece {
    int answer;    /* nanswers: all are through */
    int64_t first; /* of its rows */
    int n;
    int32_t *rows; /* own: [stream_rows] */
    struct pcv_item item;
    struct pcv_query query;
};

struct srv_job {
    const struct pcv_model *model;
    int nitems, nanswers;
    struct srv_job_item *of;    /* [nitems] */
    struct pcv_item *items;     /* [nitems] */
    struct pcv_query *queries;  /* of all items */
    struct pcv_item *merged;    /* own: [nitems], the same with equal inputs made one; or NULL */
    struct pcv_query *asked;    /* own: their queries */
    int *merged_of;             /* own: [nitems] the items that they are */
    struct srv_answer *answers; /* [nanswers] item by item, in the order of the queries */
    struct srv_job_flow *flow;  /* own, or NULL */
    int stream_rows;            /* 0: all at once */
    struct srv_job_piece piece;
    struct pcv_item *run; /* what is computed next: items, merged, or the piece's */
    int nrun;
    int64_t tokens, output_queries; /* of all items */
    int64_t tokens_read;            /* of those that are encoded */
    struct wire_stages gmac;        /* of all that was run, and of what is run next */
    double run_gmac;                /* of what is run next */
    size_t bytes;                   /* taken from the budget */
    struct srv_job_budget *budget;
};

/* What adapting depends on beside the request. */
struct srv_adapt_parts {
    const struct pcv_model *model;
    int max_items;                /* more is PCV_ELIMIT */
    int stream_rows;              /* of a streamed piece */
    bool keyed;                   /* inputs get their keys: their latents may become others' */
    size_t store;                 /* bytes of latents that can be kept; 0: none */
    struct pcv_latents *kept;     /* what is asked, instead of inputs of the request. borrow */
    const atomic_bool *cancelled; /* given to every item, and looked at between them (then PCV_EIO,
                                     which nobody will see) */
    struct srv_job_budget *budget;
};

/* r may be changed: the raw form's tensor gets the model's name, type and shape. PCV_ENOMEM with
 * *busy set when the budget is used up by others just now. own: srv_job_free, before the model is
 * closed. */
PCV_CHECK int srv_adapt(struct srv_job **ret, const struct srv_adapt_parts *p,
                        struct wire_request *r, bool *busy, struct pcv_err *e);
void srv_job_free(struct srv_job *j); /* NULL is fine; loop thread once items have kept latents */

/* The input of an item, its own or that of its kept latents; NULL: unknown. borrow */
const struct pcv_input *srv_job_input(const struct srv_job *j, int item);
/* Which of the model's inputs it is. */
int srv_job_which(const struct srv_job *j, int item);
/* Its latents, once computed. borrow */
const float *srv_job_latents(const struct srv_job *j, int item);

/* The item that is run at a place of the first run; -1: this is a piece of a stream. */
int srv_job_run_item(const struct srv_job *j, int place);

/* Items have, or have not, latents to read: what is to be run, and what it costs, are those. */
void srv_job_prepare(struct srv_job *j);

/* A stream: the next piece is what is to be run. False when there is none. */
bool srv_job_next_piece(struct srv_job *j);

/* Whether adapting this is slow whatever its size: it holds pictures to decode. */
bool srv_adapt_is_slow(const struct wire_request *r);

#endif
