/*
 * lenet.h - everything that Python sees of the C core.
 *
 * Declarations only: build_ffi.py feeds this very file to cffi's cdef() and to the compiler, so that the two
 * can not disagree. Include <stddef.h> and <stdint.h> before it.
 *
 * Arrays are float32, C-contiguous, (N, H, W, C); weights are (KH, KW, C_in, C_out) followed by their C_out
 * biases. Outputs come first; gradients are named d + the thing and are overwritten, never added to.
 * Nothing here prints, exits or keeps a pointer after it returns, except a plan its own memory, and what a file
 * that brings the process down needs (lenet_mapped_watch, lenet_crash_expect).
 */

enum lenet_constants {
    LENET_GROUP = 16,        /* samples of a group at most: the unit of work and of float32 summation */
    LENET_QUANTUM_BITS = 40  /* totals count units of 2^-40 */
};

enum lenet_kind { LENET_CONV, LENET_DENSE, LENET_AVERAGE_POOL, LENET_MAX_POOL, LENET_SUBSAMPLE, LENET_ACTIVATION };

enum lenet_activation { LENET_SQUASH, LENET_SIGMOID, LENET_TANH, LENET_RELU, LENET_PRELU, LENET_ELU };

/* The counts behind the gradient in a step's totals. */
enum lenet_count { LENET_LOSS, LENET_SAMPLES, LENET_TOP1, LENET_TOP5, LENET_REFUSED, LENET_COUNTS };

/* Phases of a step whose time a plan can take. Loading is part of forward and backward. */
enum lenet_phase { LENET_LOAD, LENET_FORWARD, LENET_BACKWARD, LENET_REDUCTION, LENET_PHASES };

/* One layer with every size known. Pooling has no padding; a dense layer is a convolution whose kernel is its
 * whole input. The caller has checked that the sizes fit together. */
struct lenet_layer {
    int32_t kind;        /* enum lenet_kind */
    int32_t activation;  /* enum lenet_activation, for LENET_ACTIVATION only */
    int32_t height, width, channels;
    int32_t out_height, out_width, out_channels;
    int32_t kernel_height, kernel_width;
    int32_t stride, padding;
    int64_t offset;      /* of its first parameter in the flat vector */
};

/* How a step may change images as it reads them. What becomes of a sample is drawn by (seed, epoch, sample) alone
 * (augment.c). Probabilities are in units of 2^-16, factors of 2^-8. Zeros change nothing. */
struct lenet_augmentation {
    uint64_t seed, epoch;
    int32_t height, width, channels;        /* of the images */
    int32_t fill;                           /* value of what is not image: outside it, or erased */
    int32_t mirror;                         /* probability of a mirror image */
    int32_t padding_rows, padding_columns;  /* largest shift up or down, left or right, less than the image's size */
    int32_t brightness, contrast;           /* largest change of a factor from 1 */
    int32_t erase;                          /* probability of an erased rectangle, ... */
    int32_t least_area, most_area;          /* ... its pixels, ... */
    int32_t most_ratio;                     /* ... and the largest ratio of its sides, in units of 2^-16 */
};

/* Instruction sets: name number index, best last, or NULL past the end; those that this CPU lacks included. */
const char *lenet_isa_name(int32_t index);
/* 1 where this CPU and its operating system have it. */
int32_t lenet_isa_supported(int32_t index);

/* One layer alone, for n samples; isa is an index as above. parameters and dparameters are the layer's own
 * (weight, then bias). backward leaves out what is NULL of dx and dparameters; it reads y for an activation, x for
 * pooling with a maximum and for dparameters, parameters for dx. Returns 0, or -1 where memory is short. */
int32_t lenet_layer_forward(float *y, const float *x, const float *parameters, int64_t n,
                            const struct lenet_layer *layer, int32_t isa);
int32_t lenet_layer_backward(float *dx, float *dparameters, const float *dy, const float *x, const float *y,
                             const float *parameters, int64_t n, const struct lenet_layer *layer, int32_t isa);

/* What a sample of one class is to become, where that is not just 1 for its class and 0 for the others
 * (loss_sample.c): `share` for this class whatever a sample's label, `own` more for a sample of this class, `mass`
 * in all for a sample of this class. Finite, not negative. */
struct lenet_target {
    float own, share, mass;
};

/* loss[i] = log(sum_j exp(logits[i][j])) - logits[i][label]; dlogits = softmax - one-hot. Labels are in range.
 * targets: one a class, or NULL. */
int32_t lenet_softmax_cross_entropy(float *loss, float *dlogits, const float *logits, const int32_t *labels,
                                    const struct lenet_target *targets, int64_t n, int32_t classes, int32_t isa);

/* n images as a step with these rules reads them, one after the other. Returns 0, or -1 where memory is short. */
int32_t lenet_augment(uint8_t *out, const uintptr_t *images, const int64_t *samples, int64_t n,
                      const struct lenet_augmentation *rules, int32_t isa);

/* A network compiled for one instruction set and a number of threads, with all memory that its steps need.
 * Pixels are read as float(pixel) * scale + offset. NULL where memory is short. Not for two callers at once. */
struct lenet_plan;
struct lenet_plan *lenet_plan_create(const struct lenet_layer *layers, int32_t count, float scale, float offset,
                                     int32_t threads, int32_t isa);
void lenet_plan_free(struct lenet_plan *plan);
int64_t lenet_plan_scratch_bytes(const struct lenet_plan *plan);  /* of all threads together */

/* The gradient of the summed loss and the counts, as integers (enum lenet_count, behind the parameters).
 * images: addresses of samples of height * width * channels uint8; group g is the samples starts[g] to
 * starts[g + 1], at most LENET_GROUP. A group's float32 gradient and a sample's loss add their value rounded to
 * a multiple of 2^-40, or nothing and one to LENET_REFUSED where it is not below limit in magnitude.
 * targets: one a class, or NULL; what is summed and compared with the limit is the loss with them. With an
 * augmentation, the images are changed as it says for the sample numbers `samples`; NULL for both: they are not. */
void lenet_plan_step(struct lenet_plan *plan, int64_t *totals, const float *parameters, const uintptr_t *images,
                     const int32_t *labels, const int32_t *starts, int32_t groups, float limit,
                     const struct lenet_target *targets, const struct lenet_augmentation *augmentation,
                     const int64_t *samples);

/* Forward only, n samples: counts (LENET_COUNTS values, plain cross-entropy) where labels are given, logits where not
 * NULL. */
void lenet_plan_forward(struct lenet_plan *plan, int64_t *counts, float *logits, const float *parameters,
                        const uintptr_t *images, const int32_t *labels, int64_t n, float limit);

/* Seconds of each phase (LENET_PHASES values), all threads together, since the last call; on: whether to go on
 * taking them. A fresh plan does not. */
void lenet_plan_profile(struct lenet_plan *plan, int32_t on, double *seconds);

/* One step of gradient descent with momentum (update.h): totals are a step's sums over all ranks, times unit the gradient. */
struct lenet_descent {
    double unit;
    float rate, momentum, weight_decay;
    float shrink;       /* factor of the gradient; 1: none */
    int32_t nesterov;
};
void lenet_descend(float *parameters, float *velocity, const int64_t *totals, int64_t count,
                   const struct lenet_descent *descent, int32_t threads, int32_t isa);
/* Of the values totals * unit. */
double lenet_sum_of_squares(const int64_t *totals, int64_t count, double unit, int32_t isa);

int32_t lenet_default_threads(void);

/* What measurements need: floating-point operations a second of `threads` threads in independent fused multiply-adds,
 * and seconds of one pass of a layer for LENET_GROUP samples, on one thread and warm caches, or -1 where memory is
 * short. Both are one short measurement; take the best of several. */
enum lenet_pass { LENET_PASS_FORWARD, LENET_PASS_INPUT, LENET_PASS_PARAMETERS };
double lenet_fma_rate(int32_t threads, int32_t isa);
double lenet_layer_seconds(const struct lenet_layer *layer, int32_t pass, int32_t isa);

/* How a process ends that a file brings down: text on stderr, exit code. */
struct lenet_last_words {
    const char *text;
    int32_t code;
};
/* A mapped file, and the end of who touches a page of it which the file, having been cut short, has no longer (cut),
 * or which the disk can not give (failed). */
struct lenet_mapped {
    uintptr_t begin, bytes;
    const char *path;
    struct lenet_last_words cut, failed;
};
/* Be prepared for that until lenet_mapped_forget of the number returned, or -1 where too many files are watched; file
 * and what it points at must stay until then. Any thread may call them. SIGBUS from elsewhere goes where it went. */
int32_t lenet_mapped_watch(const struct lenet_mapped *file);
void lenet_mapped_forget(int32_t number);
/* Reads one byte in every step of them: the kernel enters the page, and those around it, into the page table. */
void lenet_mapped_touch(const uint8_t *bytes, int64_t count, int64_t step);
/* From here to lenet_crash_expect_none the calling thread is in a library that may crash of a file: by SIGSEGV, SIGFPE,
 * SIGILL or abort(). This is told from that stack, since the thread's own may be what overflowed. Not nested. */
void lenet_crash_expect(const struct lenet_last_words *last, uint8_t *stack, int64_t bytes);
void lenet_crash_expect_none(void);
/* Before a process ends because of a mapped file, the code is written to this descriptor, one byte, and a moment given
 * to who reads it. */
void lenet_crash_listen(int32_t descriptor);
