"""Formulas of reductions: means, softmax, normalisation, pooling and resampling."""

from __future__ import annotations

import math
from collections.abc import Sequence

from separable.nn.ledger.formulas import Count, Operation, formula

__all__: list[str] = ["adaptive_sizes"]


# Reductions


@formula("sum", "nansum", "cumsum", "scatter_add", "index_add", "segment_reduce")
def _sum(op: Operation) -> Count:
    source = op.get("source", op.get("src"))
    if source is not None:
        return Count(additions=source.numel())
    whole = op.name == "cumsum"
    return Count(additions=op.inputs[0].numel() - (0 if whole else op.size))


@formula("mean", "nanmean")
def _mean(op: Operation) -> Count:
    return Count(multiplications=op.size, additions=op.inputs[0].numel() - op.size)


@formula("var", "std", "var_mean", "std_mean")
def _variance(op: Operation) -> Count:
    """Count the mean, the differences, their squares and their mean; and the square root."""
    size, count = op.inputs[0].numel(), op.size
    roots = count if op.name.startswith("std") else 0
    return Count(0, size + 2 * count, 3 * size - 2 * count, roots)


@formula("prod", "cumprod")
def _product(op: Operation) -> Count:
    return Count(multiplications=op.inputs[0].numel() - op.size)


@formula(
    "amax", "amin", "aminmax", "max", "min", "argmax", "argmin", "any", "all", "cummax", "cummin",
    "minimum", "maximum",
)  # fmt: skip
def _extreme(op: Operation) -> Count:
    size = op.inputs[0].numel()
    return Count(others=size - op.size if size > op.size else size)


@formula("linalg_vector_norm", "norm")
def _vector_norm(op: Operation) -> Count:
    size = op.inputs[0].numel()
    order = op.get("ord", op.get("p", 2))
    if order in (1, 2):
        squares = size if order == 2 else 0
        return Count(0, squares, size - op.size, op.size if order == 2 else size)
    return Count(0, 0, size - op.size, size + op.size)


@formula("logsumexp")
def _log_sum(op: Operation) -> Count:
    size = op.inputs[0].numel()
    return Count(additions=2 * size, others=2 * size + op.size)


@formula("_softmax", "_log_softmax", "_safe_softmax")
def _softmax(op: Operation) -> Count:
    """Count the maximum, the difference, the exponential, the sum, and a division (or difference)."""
    size, is_log = op.size, op.name == "_log_softmax"
    return Count(0, 0 if is_log else size, (3 if is_log else 2) * size, 2 * size)


@formula("_softmax_backward_data", "_log_softmax_backward_data")
def _softmax_backward(op: Operation) -> Count:
    """Count ``y (g - sum y g)``, or for the logarithm ``g - exp(y) sum g``."""
    size, is_log = op.size, op.name == "_log_softmax_backward_data"
    return Count(0, (1 if is_log else 2) * size, 2 * size, size if is_log else 0)


@formula("nll_loss_forward", "nll_loss2d_forward", "nll_loss_backward", "nll_loss2d_backward")
def _nll(op: Operation) -> Count:
    return Count(additions=op["target"].numel())


# Norms: n elements, s statistics (channels, rows or groups).


def _norm(size: int, statistics: int, *, weight: bool, bias: bool) -> Count:
    """Count mean and variance of the data, then ``(x - mean) r w + b``."""
    return Count(
        0,
        2 * size + size * weight + 3 * statistics,  # squares, times r; two means and 1 / root
        3 * size + size * bias + statistics,  # sum, difference, sum of squares; eps
        statistics,  # the root
    )


def _norm_backward(size: int, mask: Sequence[bool], *, weight: bool, statistics: bool) -> Count:
    """Count the gradients of a normalisation; statistics of the data itself have gradients too."""
    to_input, to_weight, to_bias = (bool(m) for m in mask)
    normalised = to_weight or (to_input and statistics)
    products = to_weight or (to_input and statistics)
    times = size * (normalised + products)
    plus = size * (normalised + products + (to_bias or (to_input and statistics)))
    if to_input:
        times += size * (2 + weight if statistics else 1)
        plus += 2 * size if statistics else 0
    return Count(0, times, plus, 0)


@formula(
    "native_batch_norm", "_native_batch_norm_legit", "_batch_norm_with_update", "cudnn_batch_norm",
    "_native_batch_norm_legit_no_training", "_batch_norm_no_update", "miopen_batch_norm",
)  # fmt: skip
def _batch_norm(op: Operation) -> Count:
    """Count batch normalisation; in evaluation one scale and shift per element, from five numbers per channel."""
    size, channels = op.size, op.outputs[0].shape[1]
    weight, bias = op.get("weight") is not None, op.get("bias") is not None
    training = op.get("training", op.name == "_batch_norm_with_update")
    if training:
        found = _norm(size, channels, weight=weight, bias=bias)
        running = op.get("running_mean") is not None
        updates = 4 * channels * running  # (1 - m) old + m new, of mean and variance
        return found._replace(
            multiplications=found.multiplications + updates,
            additions=found.additions + updates // 2,
        )
    return Count(0, size + (2 + weight) * channels, size + (1 + bias) * channels, channels)


@formula("native_batch_norm_backward", "batch_norm_backward", "cudnn_batch_norm_backward")
def _batch_norm_backward(op: Operation) -> Count:
    mask = op.get("output_mask", (True, True, True))
    training = bool(op.get("train", op.get("update", True)))
    size = op.inputs[0].numel()
    return _norm_backward(size, mask, weight=op["weight"] is not None, statistics=training)


@formula("native_layer_norm", "native_group_norm")
def _layer_norm(op: Operation) -> Count:
    weight, bias = op["weight"] is not None, op["bias"] is not None
    return _norm(op.size, op.outputs[1].numel(), weight=weight, bias=bias)


@formula("native_layer_norm_backward", "native_group_norm_backward")
def _layer_norm_backward(op: Operation) -> Count:
    size = op["grad_out"].numel()
    weight = op["weight"] is not None
    return _norm_backward(size, op["output_mask"], weight=weight, statistics=True)


@formula("_fused_rms_norm")
def _rms_norm(op: Operation) -> Count:
    size, rows = op.size, op.outputs[1].numel()
    weight = op["weight"] is not None
    return Count(0, 2 * size + size * weight + 2 * rows, size + rows, rows)


@formula("_fused_rms_norm_backward")
def _rms_norm_backward(op: Operation) -> Count:
    size, weight = op["grad_out"].numel(), op["weight"] is not None
    to_input, to_weight = op["output_mask"]
    times = (2 + weight) * bool(to_input) + 2 * bool(to_input or to_weight)
    plus = 2 * bool(to_input) + bool(to_weight)
    return Count(0, times * size, plus * size, 0)


@formula("_weight_norm_interface")
def _weight_norm(op: Operation) -> Count:
    """Count ``v g / |v|``: squares, their sums and square roots, and a scaling."""
    size, rows = op["v"].numel(), op["g"].numel()
    return Count(0, 2 * size + rows, size - rows, rows)


@formula("_weight_norm_interface_backward")
def _weight_norm_backward(op: Operation) -> Count:
    size, rows = op["saved_v"].numel(), op["saved_g"].numel()
    return Count(0, 3 * size + 4 * rows, 2 * size - rows, 0)


# Pooling


def _window(op: Operation) -> int:
    ndim = int(op.name.partition("pool")[2][0])
    sizes = op["kernel_size"]
    return int(math.prod(sizes)) if len(sizes) > 1 else int(sizes[0]) ** ndim


@formula(
    "max_pool2d_with_indices", "max_pool3d_with_indices", "fractional_max_pool2d",
    "fractional_max_pool3d",
)  # fmt: skip
def _max_pool(op: Operation) -> Count:
    """Count one comparison less than elements per window; windows over the edge count in full."""
    return Count(others=op.size * (_window(op) - 1))


@formula("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _mean_pool(op: Operation) -> Count:
    return Count(multiplications=op.size, additions=op.size * (_window(op) - 1))


@formula("avg_pool2d_backward", "avg_pool3d_backward")
def _mean_pool_backward(op: Operation) -> Count:
    size = op["grad_output"].numel()
    return Count(multiplications=size, additions=size * _window(op))


def adaptive_sizes(inputs: Sequence[int], outputs: Sequence[int]) -> int:
    """Return the total number of elements in all windows of an adaptive pooling.

    Window i of m over n elements goes from ``floor(i n / m)`` to ``ceil((i + 1) n / m)``.

    Examples
    --------
    >>> adaptive_sizes((7,), (3,)), adaptive_sizes((8, 8), (1, 1))
    (9, 64)
    """
    along = (
        sum(-(-(i + 1) * n // m) - i * n // m for i in range(m))
        for n, m in zip(inputs, outputs, strict=True)
    )
    return math.prod(along)


def _adaptive(op: Operation, outer: Sequence[int], inner: Sequence[int]) -> tuple[int, int]:
    """Return the number of outputs, and of elements in their windows."""
    ndim = int(op.name.partition("pool")[2][0])
    planes = math.prod(outer[:-ndim])
    return math.prod(outer), planes * adaptive_sizes(inner[-ndim:], outer[-ndim:])


@formula("_adaptive_avg_pool2d", "_adaptive_avg_pool3d")
def _adaptive_mean(op: Operation) -> Count:
    count, elements = _adaptive(op, op.outputs[0].shape, op["self"].shape)
    return Count(multiplications=count, additions=elements - count)


@formula("_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward")
def _adaptive_mean_backward(op: Operation) -> Count:
    count, elements = _adaptive(op, op["grad_output"].shape, op["self"].shape)
    return Count(multiplications=count, additions=elements)


@formula("adaptive_max_pool2d", "adaptive_max_pool3d")
def _adaptive_max(op: Operation) -> Count:
    count, elements = _adaptive(op, op.outputs[0].shape, op["self"].shape)
    return Count(others=elements - count)


@formula(
    "max_pool2d_with_indices_backward", "max_pool3d_with_indices_backward",
    "adaptive_max_pool2d_backward", "adaptive_max_pool3d_backward",
    "fractional_max_pool2d_backward", "fractional_max_pool3d_backward",
    "reflection_pad1d_backward", "reflection_pad2d_backward", "reflection_pad3d_backward",
    "replication_pad1d_backward", "replication_pad2d_backward", "replication_pad3d_backward",
    "upsample_nearest1d_backward", "upsample_nearest2d_backward", "upsample_nearest3d_backward",
    "_upsample_nearest_exact1d_backward", "_upsample_nearest_exact2d_backward",
    "_upsample_nearest_exact3d_backward", "embedding_dense_backward", "col2im",
    "unfold_backward",
)  # fmt: skip
def _scatter(op: Operation) -> Count:
    """Count one addition per element of the gradient."""
    return Count(additions=op.inputs[0].numel())


# Embeddings and resampling


@formula("_embedding_bag", "_embedding_bag_forward_only")
def _embedding_bag(op: Operation) -> Count:
    """Count the sums (mode 0), means (1) or comparisons (2) over the rows of each bag."""
    width = op["weight"].shape[1]
    rows, size = op["indices"].numel() * width, op.size
    if op["mode"] == 2:
        return Count(others=rows - size)
    weighted = rows if op["per_sample_weights"] is not None else 0
    return Count(0, weighted + (size if op["mode"] == 1 else 0), rows - size, 0)


@formula("_embedding_bag_backward", "_embedding_bag_dense_backward")
def _embedding_bag_backward(op: Operation) -> Count:
    return Count(additions=op["indices"].numel() * op["grad"].shape[-1])


RESAMPLED = {
    "upsample_linear1d": 2,
    "upsample_bilinear2d": 4,
    "_upsample_bilinear2d_aa": 4,
    "upsample_trilinear3d": 8,
    "upsample_bicubic2d": 16,
    "_upsample_bicubic2d_aa": 16,
    "grid_sampler_2d": 4,
    "grid_sampler_3d": 8,
}


@formula(*RESAMPLED)
def _resample(op: Operation) -> Count:
    """Count a weighted sum of neighbours; computing the weights is not counted."""
    taps = RESAMPLED[op.name]
    return Count(multiplications=taps * op.size, additions=(taps - 1) * op.size)


@formula(*(f"{name}_backward" for name in RESAMPLED))
def _resample_backward(op: Operation) -> Count:
    taps = RESAMPLED[op.name.removesuffix("_backward")]
    size = op.inputs[0].numel()
    return Count(multiplications=taps * size, additions=taps * size)
