"""Cost of self-attention, for comparison with a convolution layer of the same width."""

from __future__ import annotations

from separable.cost.count import Cost
from separable.errors import ArgumentError

__all__ = ["attention"]

EXACT, ALIKE = "exact", "alike"


def attention(
    positions: int,
    channels: int,
    heads: int = 1,
    *,
    counted: str = EXACT,
    bias: bool = False,
    itemsize: int = 4,
) -> Cost:
    """Count self-attention over N positions of C channels.

    Parameters
    ----------
    positions, channels : int
        N and C; queries, keys and values have C channels, all heads together.
    heads : int
        Number of heads. It changes only the softmax, which has one row per head and position.
    counted : "exact" or "alike"
        "exact": two products of N x N x C (queries with keys, weights with values), four
        projections of N C^2 (queries, keys, values, output), and for each of the N^2 scores of
        each head a scaling, a comparison, a subtraction, an exponential, a sum and a division.
        "alike": ``N^2 C + N C^2``, one product and one projection, as it is set beside a depthwise
        separable layer's ``N C K^2 + N C^2`` so that the N C^2 of both cancel: those two cross
        where ``N = K^2``.
    bias : bool
        True if the four projections have biases.
    itemsize : int
        Bytes of one number.

    Returns
    -------
    Cost
        Activation bytes as a fused kernel moves them: the scores never leave the processor.

    Raises
    ------
    ArgumentError
        If a number is not positive, `heads` does not divide `channels`, or `counted` is another.

    Notes
    -----
    Vaswani et al. (2017), "Attention is all you need", arXiv:1706.03762.

    Examples
    --------
    >>> attention(49, 64, counted="alike").multiplications == 49**2 * 64 + 49 * 64**2
    True
    >>> attention(49, 64).macs
    1110144
    """
    for name, value in (("positions", positions), ("channels", channels), ("heads", heads)):
        if value < 1:
            raise ArgumentError(f"`{name}` must be >= 1; got {value}")
    if channels % heads:
        raise ArgumentError(f"`heads` must divide `channels`; got {heads} and {channels}")
    if counted not in (EXACT, ALIKE):
        raise ArgumentError(f"`counted` must be {EXACT!r} or {ALIKE!r}; got {counted!r}")
    values, square = positions * channels, channels**2
    if counted == ALIKE:
        macs = positions * values + positions * square
        return Cost(macs, macs, 2 * macs, square, 4 * values * itemsize, square * itemsize)
    scores = heads * positions**2
    macs = 2 * positions * values + 4 * positions * square
    multiplications = macs + 2 * scores
    parameters = 4 * square + 4 * channels * bias
    return Cost(
        multiplications=multiplications,
        macs=macs,
        flops=multiplications + macs,
        parameters=parameters,
        # Each projection reads and writes N C; the attention reads three and writes one.
        activation_bytes=(4 * 2 + 4) * values * itemsize,
        weight_bytes=parameters * itemsize,
        additions=2 * scores + 4 * values * bias,
        others=2 * scores,
    )
