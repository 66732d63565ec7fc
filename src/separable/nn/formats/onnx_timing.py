"""Comparison of two ONNX files in onnxruntime: time per call and outputs."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from separable.nn.formats.onnx_stages import session

__all__ = ["compared"]

Array = NDArray[Any]
LEAST, LONGEST = 5, 3.0  # calls of each file, and seconds after which no further call begins


def compared(
    before: bytes, after: bytes, inputs: Mapping[str, Array], repeats: int
) -> tuple[float, float, float]:
    """Return the shortest time of each of two models, and the difference of their outputs.

    Both have as many threads as PyTorch. They run in turns, so that other load on the machine affects both equally. The shortest time is
    the one that other programs disturbed least.

    Parameters
    ----------
    before, after : bytes
        Contents of two files with the same inputs and outputs.
    inputs : mapping of str to ndarray
    repeats : int
        Number of calls of each; at least 5, more while the first 3 s last.

    Returns
    -------
    before, after : float
        Seconds.
    error : float
        Root mean square difference relative to the deviation of the first outputs from their mean.
    """
    sessions = [session(content, torch.get_num_threads()) for content in (before, after)]
    results = [s.run(None, dict(inputs)) for s in sessions]
    best = [math.inf, math.inf]
    end = time.perf_counter() + LONGEST
    done = 0
    while done < LEAST or (done < 20 * repeats and time.perf_counter() < end):
        for at, one in enumerate(sessions):
            one.run(
                None, dict(inputs)
            )  # its weights are in the cache, as in calls one after another
            start = time.perf_counter()
            one.run(None, dict(inputs))
            best[at] = min(best[at], time.perf_counter() - start)
        done += 1
    return best[0], best[1], _difference(*results)


def _difference(wanted: Sequence[Any], got: Sequence[Any]) -> float:
    squares = spread = 0.0
    for first, second in zip(wanted, got, strict=True):
        real = isinstance(first, np.ndarray) and first.dtype.kind == "f" and first.size
        if not real or first.shape != second.shape:
            continue
        a, b = first.astype(np.float64), second.astype(np.float64)
        squares += float(((a - b) ** 2).sum())
        spread += float(((a - a.mean()) ** 2).sum())
    if not spread:
        return math.nan
    return math.sqrt(squares / spread)
