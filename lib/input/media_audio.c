/* media_audio.c - WAV, FLAC and OGG through libsndfile, to the model's rate through libsamplerate.
 */
#include "lib/input/media.h"

#include <math.h>
#include <samplerate.h>
#include <sndfile.h>
#include <stdlib.h>
#include <string.h>

/* Beyond these a file is no recording that anybody made. */
enum { MAX_CHANNELS = 8, MIN_RATE = 1000, MAX_RATE = 768000 };

/* A file in memory, as libsndfile reads it. */
struct bytes {
    const unsigned char *data;
    sf_count_t len, at;
};

static sf_count_t length(void *user)
{
    return ((struct bytes *)user)->len;
}

static sf_count_t seek(sf_count_t offset, int whence, void *user)
{
    struct bytes *b = user;
    const sf_count_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? b->at : b->len;

    if (offset < -from || offset > b->len - from)
        return -1;
    return b->at = from + offset;
}

static sf_count_t read_bytes(void *to, sf_count_t n, void *user)
{
    struct bytes *b = user;

    if (n > b->len - b->at)
        n = b->len - b->at;
    memcpy(to, b->data + b->at, (size_t)n);
    b->at += n;
    return n;
}

static sf_count_t tell(void *user)
{
    return ((struct bytes *)user)->at;
}

/* *n: samples that it has at the model's rate. */
static int check(const SF_INFO *info, const struct pcv_sound_length *l, int64_t *n,
                 struct pcv_err *e)
{
    double samples;

    if (info->frames < 1)
        return pcv_fail(e, PCV_EFORMAT, "the sound has no samples");
    if (info->channels < 1 || info->channels > MAX_CHANNELS)
        return pcv_fail(e, PCV_ELIMIT, "%d channels; 1 to %d are taken", info->channels,
                        MAX_CHANNELS);
    if (info->samplerate < MIN_RATE || info->samplerate > MAX_RATE)
        return pcv_fail(e, PCV_ELIMIT, "%d samples a second; %d to %d are taken", info->samplerate,
                        MIN_RATE, MAX_RATE);
    samples = (double)info->frames * l->rate / info->samplerate;
    if (l->shorter)
        samples = fmax(1, round(samples));
    if (samples > (double)(l->samples + l->slack) ||
        (!l->shorter && samples < (double)(l->samples - l->slack)))
        return pcv_fail(e, PCV_ESHAPE,
                        "%.3f s of sound; the model takes %s%.3f s (%lld samples at %d Hz)",
                        (double)info->frames / info->samplerate, l->shorter ? "up to " : "",
                        (double)l->samples / l->rate, (long long)l->samples, l->rate);
    *n = l->shorter ? (int64_t)samples : l->samples;
    return 0;
}

/* All samples as the mean of the channels. own: free() */
static int read_mono(SNDFILE *file, const SF_INFO *info, float **ret, struct pcv_err *e)
{
    const size_t frames = (size_t)info->frames, channels = (size_t)info->channels;
    float *all = malloc(frames * channels * sizeof(*all));

    if (!all)
        return pcv_fail(e, PCV_ENOMEM, "no memory for %zu samples", frames * channels);
    if (sf_readf_float(file, all, info->frames) != info->frames) {
        free(all);
        return pcv_fail(e, PCV_EFORMAT, "the sound is cut off");
    }
    for (size_t i = 0; i < frames; i++) {
        float sum = 0;

        for (size_t c = 0; c < channels; c++)
            sum += all[i * channels + c];
        all[i] = sum / (float)channels;
    }
    *ret = all;
    return 0;
}

/* in [n] at `from` Hz to out [want] at `rate`; what is missing stays 0, what is too much is left.
 */
static int resample(const float *in, int64_t n, int from, float *out, int64_t want, int rate,
                    struct pcv_err *e)
{
    SRC_DATA d = {.data_in = in,
                  .data_out = out,
                  .input_frames = (long)n,
                  .output_frames = (long)want,
                  .src_ratio = (double)rate / from};
    int s;

    if (from == rate) {
        memcpy(out, in, (size_t)(n < want ? n : want) * sizeof(*out));
        return 0;
    }
    s = src_simple(&d, SRC_SINC_MEDIUM_QUALITY, 1);
    return s ? pcv_fail(e, PCV_EIO, "resampling: %s", src_strerror(s)) : 0;
}

static int decode(SNDFILE *file, const SF_INFO *info, const struct pcv_sound_length *l, float **ret,
                  int64_t *n, struct pcv_err *e)
{
    float *mono = NULL, *out;
    int64_t want = 0;
    int r = check(info, l, &want, e);

    if (r == 0)
        r = read_mono(file, info, &mono, e);
    if (r < 0)
        return r;
    out = calloc((size_t)want, sizeof(*out));
    r = out ? resample(mono, info->frames, info->samplerate, out, want, l->rate, e)
            : pcv_fail(e, PCV_ENOMEM, "no memory for %lld samples", (long long)want);
    free(mono);
    if (r < 0) {
        free(out);
        return r;
    }
    *ret = out;
    *n = want;
    return 0;
}

static bool begins(const void *data, size_t len, const char *with)
{
    return len >= 12 && memcmp(data, with, 4) == 0;
}

bool pcv_media_is_audio(const void *data, size_t len)
{
    return begins(data, len, "RIFF") || begins(data, len, "fLaC") || begins(data, len, "OggS");
}

int pcv_media_audio(float **ret, int64_t *n, const void *data, size_t len, const char *type,
                    const struct pcv_sound_length *l, struct pcv_err *e)
{
    SF_VIRTUAL_IO io = {length, seek, read_bytes, NULL, tell};
    struct bytes b = {data, (sf_count_t)len, 0};
    SF_INFO info = {0};
    SNDFILE *file;
    int r;

    if (type && strncmp(type, "audio/", 6) && strcmp(type, "application/ogg"))
        return pcv_fail(e, PCV_EUNSUPPORTED, "media type %.60s where a sound is wanted", type);
    if (!pcv_media_is_audio(data, len))
        return pcv_fail(e, PCV_EUNSUPPORTED, "neither WAV, FLAC nor OGG");
    file = sf_open_virtual(&io, SFM_READ, &info, &b);
    if (!file)
        return pcv_fail(e, PCV_EFORMAT, "%.120s", sf_strerror(NULL));
    r = decode(file, &info, l, ret, n, e);
    sf_close(file);
    return r;
}
