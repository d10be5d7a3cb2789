/* all_lanes.h - every operation once, in the instruction set of the including file, and the table of them. */
#include "lanes.h"
#include "pairs.h"

#include "activation.h"
#include "pixels.h"
#include "conv.h"
#include "pairs_forward.h"
#include "pairs_input.h"
#include "pairs_weight.h"
#include "conv_bias.h"
#include "conv_forward.h"
#include "conv_input.h"
#include "conv_weight.h"
#include "dense.h"
#include "loss.h"
#include "peak.h"
#include "pool.h"
#include "sums.h"
#include "update.h"
#include "view.h"

const struct lane_kernels ISA_TABLE = {
    .name = ISA_NAME,
    .lanes = LANES,
    .open_view = open_view,
    .transpose_row = transpose_row,
    .normalise_row = normalise_row,
    .conv_forward_row = conv_forward_row,
    .conv_forward_pixels = conv_forward_pixels,
    .conv_backward_weight = conv_backward_weight,
    .conv_backward_weight_pixels = conv_backward_weight_pixels,
    .conv_strip_columns = conv_strip_columns,
    .conv_backward_bias = conv_backward_bias,
    .conv_row_sums = conv_row_sums,
    .conv_backward_input = conv_backward_input,
    .dense_forward = dense_forward,
    .dense_backward_input = dense_backward_input,
    .dense_backward_weight = dense_backward_weight,
    .pool_forward = pool_forward,
    .pool_backward = pool_backward,
    .subsample_backward_weight = subsample_backward_weight,
    .activation_forward = activation_forward,
    .activation_backward = activation_backward,
    .softmax = softmax,
    .lane_sums = lane_sums,
    .add_quantised = add_quantised,
    .descend = descend,
    .sum_of_squares = sum_of_squares,
    .fma_chains = fma_chains,
    .chains = CHAINS,
};
