"""Bad input: each message names the argument, what was expected and what was got."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from separable.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    ModeError,
    OutputError,
    SeparableError,
)
from separable.resample import downsample, pyramid, resample, rescale, resize

IMAGE = np.zeros((6, 8))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: resize(IMAGE, (0, 3)), ArgumentError, r"`shape` must be 1 .. 2147483648 for every axis; got \(0, 3\)"),
        (lambda: resize(IMAGE, (-1, 3)), ArgumentError, "`shape` must be 1"),
        (lambda: resize(IMAGE, 2.5), ArgumentError, "`shape` must be a whole number; got 2.5"),
        (lambda: resize(IMAGE, (1, 2, 3)), ArgumentError, "`shape` must have one value for each of the 2"),
        (lambda: resize(IMAGE, "big"), ArgumentTypeError, "`shape` must be a number; got 'big'"),
        (lambda: rescale(IMAGE, 0), ArgumentError, "`factor` must be > 0 for every axis; got 0"),
        (lambda: rescale(IMAGE, (-1, 2)), ArgumentError, "`factor` must be > 0"),
        (lambda: rescale(IMAGE, 0.01), ArgumentError, "`factor` must leave at least one sample"),
        (lambda: rescale(IMAGE, 1e12), ArgumentError, "`factor` must leave at least one sample"),
        (lambda: rescale(IMAGE, float("nan")), ArgumentError, "`factor` must be finite"),
        (lambda: resample(IMAGE, 0, 1), ArgumentError, "`spacing_in` must be > 0"),
        (lambda: resample(IMAGE, 1, (1, -2)), ArgumentError, r"`spacing_out` must be > 0 for every axis; got \(1, -2\)"),
        (lambda: resample(IMAGE, 1, 100), ArgumentError, "less than half a sample of the 6 along axis 0"),
        (lambda: resize(IMAGE, 3, interpolation="cubik"), ArgumentError, 'Did you mean "cubic"'),
        (lambda: resize(IMAGE, 3, interpolation=6), ArgumentError, "order 0 .. 5"),
        (lambda: resize(IMAGE, 3, interpolation=1.0), ArgumentTypeError, "`interpolation` must be a name"),
        (lambda: resize(IMAGE, 3, antialias="yes"), ArgumentError, "`antialias` must be one of"),
        (lambda: resize(IMAGE, 3, align="corners"), ArgumentError, "`align` must be"),
        (lambda: resize(IMAGE, 3, mode="mirrored"), ModeError, "`mode` must be one of"),
        (lambda: resize(IMAGE, 3, axes=5), SeparableError, "axes"),
        (lambda: resize(IMAGE, 3, threads=0), ArgumentError, "`threads` must be >= 1"),
        (lambda: resize(IMAGE, 3, cval=1j, output=float), ArgumentTypeError, "`cval` must be a real number"),
        (lambda: resize(np.zeros((0, 4)), 3), ArgumentError, "must not be empty along a resampled axis; axis 0"),
        (lambda: resize(3.0, 3), ArgumentError, "must have at least one axis"),
        (lambda: resize(IMAGE, 3, output=np.zeros((2, 2))), OutputError, r"must have shape \(3, 3\)"),
        (lambda: resize(IMAGE, 3, interpolation="majority"), DTypeError, "labels must be whole numbers"),
        (lambda: resize(IMAGE.astype(int), 3, interpolation="majority", mask=IMAGE, fill=0), ArgumentError, "missing samples are not for"),
        (lambda: resize(np.array(["a", "b"]), 3), DTypeError, "`image` must be bool"),
        (lambda: downsample(IMAGE, 0), ArgumentError, "`factor` must be 1 .."),
        (lambda: downsample(IMAGE, 1.5), ArgumentError, "`factor` must be a whole number"),
        (lambda: downsample(IMAGE, 2, method="gauss"), ArgumentError, "`interpolation` must be one of"),
        (lambda: pyramid(IMAGE, 0), ArgumentError, "`levels` must be 1"),
        (lambda: pyramid(IMAGE, 9), ArgumentError, "`levels` must be at most 4"),
        (lambda: resize(np.zeros(4, complex), 3, output=float), OutputError, "must be complex"),
    ],
)  # fmt: skip
def test_messages(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
