"""Probing of functions that may be linear filters, and of the kernels that they have.

The function is run on zeros, on an impulse per channel and on noise. If its outputs on noise are those
of a convolution with the impulse responses, up to the border, it is a filter whatever its code does:
a dense convolution, a sum of translations, a product in the Fourier domain.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from separable.factorize import spectrum
from separable.nn.audit.audit_data import Finding
from separable.pattern import Pattern

__all__ = ["Filter", "as_filter", "seeded", "transform_finding"]

Array = NDArray[Any]
Run = Callable[[Array], Array | None]

MOST_CHANNELS = 16  # more channels are taken together as one probe
NOISE = 2e-5  # relative difference between outputs that is rounding in float32


@dataclass(frozen=True, eq=False)
class Filter:
    """Linear filter that a function computes.

    Attributes
    ----------
    kernels : ndarray, shape (channels, *kernel)
        One kernel per channel, as an impulse response.
    circular : bool
        True if the response reaches around the border of the image.
    taps : int
        Weights per output that are not zero; the largest number of all channels.
    """

    kernels: Array
    circular: bool
    taps: int


@contextlib.contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Make random functions repeatable, and restore all random states afterwards."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  # functions may draw from the global state
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def as_filter(function: Callable[..., Any], example: Any, space: int = 2) -> Filter | None:
    """Return the filter that a function is, or None if it is none.

    Parameters
    ----------
    function : callable
        Function of one tensor or array; a random one is run with the same seed each time.
    example : Tensor or ndarray, shape (..., channels, *space)
        Example that gives the shape and type of the input. Its values are not used.
    space : int
        Number of spatial axes, at the end.
    """
    shape = tuple(example.shape)
    run = _runner(function, example)
    zero = np.zeros(shape)
    offset = run(zero)
    if offset is None or offset.shape != shape or min(shape[-space:]) < 3:
        return None
    noise = np.random.default_rng(0).standard_normal(shape)
    output = run(noise)
    if output is None or not np.isfinite(output).all():
        return None
    size = float(np.abs(output - offset).max())
    responses = _responses(run, shape, offset, space)
    if responses is None or size == 0:
        return None
    found = _cut(responses)
    if found is None or not _explains(found, responses, noise, output - offset, size):
        return None
    return found


def _runner(function: Callable[..., Any], example: Any) -> Run:
    is_tensor = isinstance(example, torch.Tensor)

    def run(values: Array) -> Array | None:
        try:
            with seeded(), torch.no_grad():
                given: Any = values.astype(np.float64)
                if is_tensor:
                    given = torch.from_numpy(given).to(example.device, example.dtype)
                else:
                    given = given.astype(example.dtype)
                found = function(given)
        except Exception:  # any function may refuse zeros or noise: it is no filter then
            return None
        if isinstance(found, torch.Tensor):
            found = found.detach().cpu()
            found = None if found.is_complex() else found.double().numpy()
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
            return None
        return found.astype(np.float64)

    return run


def _responses(run: Run, shape: tuple[int, ...], offset: Array, space: int) -> Array | None:
    """Return the impulse response of each channel with the origin at index 0, ``(channels, *size)``.

    Channels that mix give None.
    """
    size = shape[-space:]
    flat = int(np.prod(shape[:-space]))
    centre = tuple(n // 2 for n in size)
    found = np.zeros((flat, *size))
    together = flat > MOST_CHANNELS
    for at in [slice(None)] if together else range(flat):
        impulse = np.zeros((flat, *size))
        impulse[(at, *centre)] = 1.0
        output = run(impulse.reshape(shape))
        if output is None or not np.isfinite(output).all():
            return None
        response = (output - offset).reshape(flat, *size)
        found[at] = response[at]
        if not together:
            rest = np.delete(response, at, axis=0)
            if rest.size and np.abs(rest).max() > NOISE * max(np.abs(response).max(), 1e-30):
                return None
    return np.roll(found, [-c for c in centre], axis=tuple(range(1, space + 1)))


def _cut(responses: Array) -> Filter | None:
    """Cut the zeros around the responses, which are centred for that."""
    space = responses.ndim - 1
    axes = tuple(range(1, space + 1))
    peak = float(np.abs(responses).max())
    if peak == 0:
        return None
    centred = np.roll(responses, [n // 2 for n in responses.shape[1:]], axis=axes)
    used = np.abs(centred).max(axis=0) > NOISE * peak / 4
    box = []
    for axis in range(space):
        lines = np.flatnonzero(used.any(axis=tuple(a for a in range(space) if a != axis)))
        box.append(slice(int(lines[0]), int(lines[-1]) + 1))
    kernels = centred[(slice(None), *box)]
    circular = any(b.stop - b.start > 0.75 * n for b, n in zip(box, used.shape, strict=True))
    taps = int((np.abs(kernels) > NOISE * peak / 4).sum(axis=axes).max())
    return Filter(kernels, circular, taps)


def _explains(found: Filter, responses: Array, noise: Array, output: Array, size: float) -> bool:
    """Return True if the output on noise is the convolution with the responses."""
    space = responses.ndim - 1
    axes = tuple(range(1, space + 1))
    flat = noise.reshape(responses.shape)
    wanted = np.fft.ifftn(
        np.fft.fftn(flat, axes=axes) * np.fft.fftn(responses, axes=axes), axes=axes
    ).real
    difference = np.abs(wanted - output.reshape(responses.shape))
    inner: list[Any] = [slice(None)]
    for n, k in zip(responses.shape[1:], found.kernels.shape[1:], strict=True):
        inner.append(slice(None) if found.circular else slice(k, n - k))
    part = difference[tuple(inner)]
    return part.size > 0 and float(part.max()) <= 20 * NOISE * size


def transform_finding(name: str, found: Filter) -> Finding | None:
    """Return the finding for a filter whose kernels are separable, or None.

    Parameters
    ----------
    name : str
        Name of the function.
    found : Filter
    """
    letters = "zyx"[-(found.kernels.ndim - 1) :]
    pattern = Pattern(tuple(letters), tuple(letters))
    size = found.kernels.shape[1:]
    if sum(n > 1 for n in size) < 2:
        return None
    peak = float(np.abs(found.kernels).max())
    kernels = [k for k in found.kernels if np.abs(k).max() > 1e-6 * peak]
    rank = max(spectrum(k, pattern).rank_for(5 * NOISE) for k in kernels)
    after = rank * sum(size)
    if after >= found.taps:
        return None
    kernel = "x".join(map(str, size))
    is_box = all(np.ptp(k) <= 20 * NOISE * np.abs(k).max() for k in kernels)
    text = (
        f"{name} is a linear filter with a kernel of {kernel}"
        f"{' that wraps around the border' if found.circular else ''}, exactly separable with "
        f"rank {rank}: {after} multiplications per output position as 1-D passes instead of "
        f"{found.taps} weights."
    )
    if is_box:
        text += " All weights are equal: running sums compute it with two additions per axis."
    text += " `separable.convolve` runs it with such passes, on arrays and tensors."
    return Finding("transform", (name,), text, found.taps, after)
