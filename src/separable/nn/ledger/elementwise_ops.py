"""Formulas of elementwise operations, and of operations that only move data."""

from __future__ import annotations

from separable.nn.ledger.formulas import FORMULAS, Count, Operation, formula

__all__ = ["EMPTY", "UNREAD", "moves"]

# Per element of the result: multiplications, additions, others. A division is a multiplication;
# comparisons, roots, exponentials and random numbers are others.
EACH = {
    "mul": (1, 0, 0),
    "div": (1, 0, 0),
    "reciprocal": (1, 0, 0),
    "square": (1, 0, 0),
    "lerp": (1, 2, 0),
    "prelu": (1, 0, 1),
    "_prelu_kernel": (1, 0, 1),
    "leaky_relu": (1, 0, 1),
    "elu": (1, 1, 2),  # x > 0, or a (exp x - 1)
    "celu": (2, 1, 2),
    "selu": (2, 1, 2),
    "silu": (1, 0, 1),  # x sigmoid(x)
    "mish": (1, 1, 3),  # x tanh(log(1 + exp x))
    "softplus": (2, 1, 2),  # log(1 + exp(b x)) / b
    "log_sigmoid_forward": (0, 1, 2),
    "hardsigmoid": (1, 1, 1),  # clip(x + 3) / 6
    "hardswish": (2, 1, 1),  # x clip(x + 3) / 6
    "glu": (1, 0, 1),
    # Their gradients, as autograd runs them:
    "threshold_backward": (0, 0, 1),
    "hardtanh_backward": (0, 0, 1),
    "sigmoid_backward": (2, 1, 0),  # g (1 - y) y
    "tanh_backward": (2, 1, 0),  # g (1 - y y)
    "silu_backward": (3, 2, 1),  # g s (1 + x (1 - s))
    "mish_backward": (5, 3, 3),
    "leaky_relu_backward": (1, 0, 1),
    "_prelu_kernel_backward": (2, 0, 1),
    "elu_backward": (2, 1, 2),
    "softplus_backward": (2, 1, 1),
    "log_sigmoid_backward": (2, 1, 1),
    "hardsigmoid_backward": (1, 0, 1),
    "hardswish_backward": (2, 1, 1),  # g (x / 3 + 1/2) within, g or 0 outside
    "glu_backward": (3, 1, 1),
    "hardshrink_backward": (0, 0, 1),
    "softshrink_backward": (0, 0, 1),
    "rrelu_with_noise": (1, 0, 2),  # and a draw
    "rrelu_with_noise_backward": (1, 0, 0),
    "masked_fill": (0, 0, 1),
    "native_dropout": (2, 0, 1),
    "native_dropout_backward": (2, 0, 0),
}

# These only move numbers. Those of the second set create them and read nothing.
MOVED = frozenset(
    [
        "clone",
        "copy",
        "_to_copy",
        "contiguous",
        "cat",
        "stack",
        "hstack",
        "vstack",
        "repeat",
        "expand_copy",
        "constant_pad_nd",
        "reflection_pad1d",
        "reflection_pad2d",
        "reflection_pad3d",
        "replication_pad1d",
        "replication_pad2d",
        "replication_pad3d",
        "index_select",
        "index",
        "_unsafe_index",
        "gather",
        "embedding",
        "im2col",
        "roll",
        "flip",
        "rot90",
        "pixel_shuffle",
        "pixel_unshuffle",
        "channel_shuffle",
        "native_channel_shuffle",
        "tril",
        "triu",
        "masked_select",
        "upsample_nearest1d",
        "upsample_nearest2d",
        "upsample_nearest3d",
        "_upsample_nearest_exact1d",
        "_upsample_nearest_exact2d",
        "_upsample_nearest_exact3d",
        "select_backward",
        "slice_backward",
        "unfold_copy",
        "view_copy",
        "permute_copy",
        "transpose_copy",
        "index_copy",
        "select_scatter",
        "slice_scatter",
        "scatter",
        "max_unpool2d",
        "max_unpool3d",
        "masked_scatter",
        "resize",
        "set",
        "new_empty_strided",
        "take",
        "repeat_interleave",
        "diag_embed",
        "split_with_sizes_copy",
        "unsafe_split",
        "unsafe_split_with_sizes",
        "unsafe_chunk",
        "block_diag",
        "diagonal_backward",
        "diagonal_scatter",
        "trace_backward",
        "index_put",
        "index_fill",
    ]
)
CREATED = frozenset(
    [
        "zeros",
        "ones",
        "full",
        "arange",
        "linspace",
        "eye",
        "fill",
        "zero",
        "zeros_like",
        "ones_like",
        "full_like",
        "new_zeros",
        "new_ones",
        "new_full",
        "scalar_tensor",
        "tril_indices",
        "triu_indices",
        "hann_window",
    ]
)
EMPTY = frozenset(["empty", "empty_like", "empty_strided", "new_empty", "empty_permuted"])
DRAWN = frozenset(
    [
        "bernoulli",
        "rand",
        "randn",
        "rand_like",
        "randn_like",
        "normal",
        "uniform",
        "randint",
        "exponential",
    ]
)
UNREAD = CREATED | DRAWN | {"copy", "normal"}  # in place, they overwrite their target


# Counts per element of the first operand, and the sum or mean of all.
LOSSES = {
    "mse_loss": (1, 1, 0),
    "smooth_l1_loss": (2, 1, 2),
    "huber_loss": (2, 1, 2),
    "binary_cross_entropy": (2, 3, 2),
    "binary_cross_entropy_with_logits": (1, 3, 3),
    "mse_loss_backward": (2, 1, 0),
    "smooth_l1_loss_backward": (2, 1, 2),
    "huber_loss_backward": (2, 1, 2),
    "binary_cross_entropy_backward": (3, 2, 0),
}


def _loss(op: Operation) -> Count:
    multiplications, additions, others = LOSSES[op.name]
    size = op.inputs[0].numel()
    summed = size - op.size
    return Count(0, multiplications * size, additions * size + summed, others * size)


FORMULAS.update(dict.fromkeys(LOSSES, _loss))


def _each(op: Operation) -> Count:
    multiplications, additions, others = EACH[op.name]
    size = op.size
    return Count(0, multiplications * size, additions * size, others * size)


FORMULAS.update(dict.fromkeys(EACH, _each))


@formula(*MOVED, *CREATED, *EMPTY)
def moves(op: Operation) -> Count:
    """Count operations that only move or create values: no arithmetic, unless they add to a target."""
    if op.name == "index_put" and op["accumulate"]:
        return Count(additions=op["values"].numel())
    return Count()


@formula(*DRAWN)
def _draw(op: Operation) -> Count:
    return Count(others=op.size)


@formula("add", "sub", "rsub")
def _add(op: Operation) -> Count:
    scaled = op.get("alpha", 1) != 1
    return Count(multiplications=op.size * scaled, additions=op.size)


@formula("addcmul", "addcdiv")
def _add_product(op: Operation) -> Count:
    return Count(multiplications=op.size * (1 + (op["value"] != 1)), additions=op.size)


@formula("pow")
def _power(op: Operation) -> Count:
    """Count a power; small integer exponents are repeated multiplications."""
    exponent = op["exponent"]
    if isinstance(exponent, int | float) and exponent in (0, 1, 2, 3, -1):
        times = {0: 0, 1: 0, 2: 1, 3: 2, -1: 1}[int(exponent)]
        return Count(multiplications=times * op.size)
    return Count(others=op.size)


@formula("gelu")
def _gelu(op: Operation) -> Count:
    """Count ``x / 2 (1 + erf(x / sqrt 2))``, or its approximation by tanh of a cubic."""
    times, plus = (6, 2) if op["approximate"] == "tanh" else (3, 1)
    return Count(0, times * op.size, plus * op.size, op.size)


@formula("gelu_backward")
def _gelu_backward(op: Operation) -> Count:
    """Count ``g (cdf(x) + x pdf(x))``, or the derivative of the approximation."""
    times, plus, special = (12, 5, 1) if op["approximate"] == "tanh" else (7, 2, 2)
    return Count(0, times * op.size, plus * op.size, special * op.size)
