"""The inputs of a method: the problem (no data), and the decomposition of the kernel that it runs.

Every filter has one canonical form, a correlation

    out[i] = sum_j taps[j] * x[i + j - left],    0 <= left < len(taps)

along each filtered axis, where x is extended by its border mode. Convolution flips the taps first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import Border
from separable.engine.lazy_kernel import Kernel, to_float
from separable.engine.pass_tree import Pass, share_passes
from separable.engine.spread_passes import SpreadPass
from separable.engine.symmetry import mirrored
from separable.process_cache import ProcessCache
from separable.value import Value

__all__ = [
    "Decomposition",
    "Pass",
    "Problem",
    "WorkEstimate",
    "dense_decomposition",
    "pass_decomposition",
    "rounding_of",
    "sum_rounding",
    "too_inexact",
    "work_dtype",
]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Problem(Value):
    """One filter of one image, without the data.

    Attributes
    ----------
    shape, dtype : tuple of int, dtype
        Shape and type of the image.
    out, work : dtype
        Type of the result, and of everything computed on the way (`work_dtype`).
    axes : tuple of int
        Image axis of each kernel axis, >= 0.
    kernel_shape, lefts : tuple of int
        Length of the kernel along each of its axes, and the number of taps left of the output's sample.
    modes : tuple of Border
        Border mode along each kernel axis.
    cval : number
        Constant that lies outside where a border mode fills one in.
    threads : int
        Number of threads.
    exponent : int
        Results of the methods are those divided by 2**exponent, see `Kernel.normalised`.
    pairs : bool
        True if the last axis holds the real and the imaginary parts of complex samples.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    out: np.dtype[Any]
    work: np.dtype[Any]
    axes: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    lefts: tuple[int, ...]
    modes: tuple[Border, ...]
    cval: complex
    threads: int
    exponent: int = 0
    pairs: bool = False

    @property
    def size(self) -> int:
        """Number of outputs."""
        return math.prod(self.shape)

    @property
    def fills(self) -> bool:
        """True if `cval` lies outside along some axis."""
        return any(border.fills for border in self.modes)

    @property
    def widths(self) -> tuple[tuple[int, int], ...]:
        """Number of samples that the kernel reaches before and after the output, for each of its axes."""
        return tuple(
            (left, n - 1 - left) for left, n in zip(self.lefts, self.kernel_shape, strict=True)
        )


@dataclass(frozen=True, eq=False)
class Decomposition(Value):
    """A kernel as a method runs it: dense, or as passes (taps for correlation, in float64).

    Attributes
    ----------
    weights : Kernel
        Kernel itself.
    roots : tuple of Pass
        Passes that run on the image; empty for a dense kernel and for a kernel of zeros.
    terms : tuple of tuple of ndarray
        Terms that the passes were made from, one array per factor.
    bound : float
        1-norm of the error relative to the kernel's 1-norm.
    weight : float
        Sum of the terms' 1-norms relative to the kernel's: the factor by which rounding is amplified.
    separated : bool
        True for passes, False for the dense kernel.
    groups : tuple of tuple of int
        Kernel axes of each factor of the terms.
    recursions : tuple of Coefficients
        Fitted recursion of each filtered axis; empty if none was fitted.
    spread : tuple of tuple of SpreadPass
        Coarse and fine passes of each Kronecker term, whose sum is the kernel; empty for other
        decompositions. Methods that do not know them run the dense kernel.
    cached : ProcessCache
        Records that methods have built for this decomposition and its problem in this process.
    """

    ARRAYS = ("terms",)

    weights: Kernel
    roots: tuple[Pass, ...] = ()
    terms: tuple[tuple[Array, ...], ...] = ()
    bound: float = 0.0
    weight: float = 1.0
    separated: bool = False
    groups: tuple[tuple[int, ...], ...] = ()
    recursions: tuple[Any, ...] = ()
    spread: tuple[tuple[SpreadPass, ...], ...] = ()
    cached: ProcessCache = field(
        default_factory=ProcessCache, init=False, repr=False, compare=False
    )

    @property
    def kernel(self) -> Array:
        """Dense kernel in float64 or complex128, computed from its factors at first use."""
        return self.weights.dense

    @cached_property
    def passes(self) -> tuple[Pass, ...]:
        """All passes, in the order they run."""
        return tuple(p for root in self.roots for p in root.walk())

    @property
    def shares(self) -> bool:
        """True if some pass serves several terms."""
        return any(len(p.then) > 1 for p in self.passes)

    @property
    def multiplications(self) -> int:
        """Multiplications per output."""
        if self.spread:
            return sum(p.multiplications for chain in self.spread for p in chain)
        if not self.separated:
            return self.weights.nonzeros
        return sum(int(p.taps.size) for p in self.passes)


@dataclass(frozen=True)
class WorkEstimate:
    """Work of a method for one problem: counts to print, and counts to predict its time from.

    Attributes
    ----------
    passes : int
        Number of sweeps over the image.
    multiplications : float
        Multiplications per output.
    bytes : float
        Total number of bytes read and written.
    counts : dict of str to float
        Number of operations of each kind; a machine profile holds the seconds of each.
    rounding : float
        Part of the error bound that comes from rounding.
    """

    passes: int
    multiplications: float
    bytes: float
    counts: dict[str, float] = field(default_factory=dict)
    rounding: float = 0.0


MOST_ROUNDING = 100  # in units of eps: more is not "exact to rounding"


# Rounding of a sum of products, in halves of eps relative to the sum of their sizes. The compiled
# engine adds up 16 to 33 products at a time and these sums with little loss: of more products the
# error is no larger. Measured, on images and taps of the worst kind, are at most 5.6.
MOST_OF_A_SUM = 6.0


def sum_rounding(count: int) -> float:
    """Return the rounding of a sum of so many products by the compiled engine, in halves of eps.

    Examples
    --------
    >>> sum_rounding(1), sum_rounding(5), sum_rounding(1000)
    (1.0, 2.125, 6.0)
    """
    return min(1.5 + count / 8, MOST_OF_A_SUM) if count > 1 else 1.0


def rounding_of(problem: Problem, form: Decomposition, *, compiled: bool = False) -> float:
    """Return the part of the error bound that comes from rounding.

    SciPy's passes sum in double precision and round once. Those of the compiled engine round as
    `sum_rounding` says, and passes along several axes independently of each other. Each addition
    of a term rounds once.
    """
    leaves = sum(not p.then for p in form.passes)
    roundings = float(len(problem.axes))
    if compiled:
        longest: dict[tuple[int, ...], int] = {}
        for p in form.passes:
            longest[p.axes] = max(longest.get(p.axes, 1), p.taps.size)
        roundings = max(roundings, math.hypot(*map(sum_rounding, longest.values())))
    return form.weight * (roundings + max(0, leaves - 1)) * float(np.finfo(problem.work).eps) / 2


def too_inexact(problem: Problem, form: Decomposition) -> str:
    """Return why so many terms should not be run (their rounding could add up), or an empty string."""
    rounding = rounding_of(problem, form)
    if rounding > MOST_ROUNDING * float(np.finfo(problem.work).eps):
        return f"rounding in {len(form.terms)} terms could add up to {rounding:.0e}"
    return ""


def work_dtype(image: Any, out: Any, kernel: Array | Kernel) -> np.dtype[Any]:
    """Return the type of the intermediates.

    float32 for float16 and float32 images, float64 otherwise, and complex where anything is. Results
    with more than 16 bits of their own need float64, and so do whole numbers, which are correctly
    rounded: the compiled engine sums them in float32 where it can tell which sums to do again. 8- and
    16-bit images with floating results are summed in float32 if no sum exceeds 2**20.

    Examples
    --------
    >>> work_dtype("uint8", "uint8", np.ones((3, 3)) / 9), work_dtype("uint8", "float32", np.ones(3))
    (dtype('float64'), dtype('float32'))
    """
    image, out = np.dtype(image), np.dtype(out)
    small = {"f": 4, "c": 8}
    narrow = all(t.itemsize <= small.get(t.kind, 2) for t in (image, out))
    if narrow and image.kind in "biu":
        largest = 2.0 ** (8 * image.itemsize)
        norm = kernel.norm if isinstance(kernel, Kernel) else float(np.sum(np.abs(kernel)))
        narrow = norm * largest <= 2.0**20 and out.kind not in "biu"
    if any(t.kind == "c" for t in (image, out, kernel.dtype)):
        return np.dtype(np.complex64 if narrow else np.complex128)
    return np.dtype(np.float32 if narrow else np.float64)


def dense_decomposition(kernel: Array | Kernel) -> Decomposition:
    """Return the decomposition that is the dense kernel itself."""
    return Decomposition(kernel if isinstance(kernel, Kernel) else Kernel(kernel))


def pass_decomposition(
    terms: Sequence[tuple[Array, ...]],
    groups: tuple[tuple[int, ...], ...],
    kernel: Array | Kernel,
    lefts: tuple[int, ...],
    bound: float = 0.0,
    *,
    shared: bool = True,
) -> Decomposition:
    """Return a factored correlation kernel as passes.

    Parameters
    ----------
    terms : sequence of tuple of ndarray
        Terms whose products add up to the kernel, each with one array per factor.
    groups : tuple of tuple of int
        Kernel axes of each factor.
    kernel : ndarray or Kernel
    lefts : tuple of int
        Number of taps left of the output's sample, for each kernel axis.
    bound : float
        1-norm of the terms' error relative to the kernel's 1-norm.
    shared : bool
        If true, passes that several terms begin with are run once for all of them.
    """
    weights = kernel if isinstance(kernel, Kernel) else Kernel(kernel)
    terms = [tuple(to_float(v) for v in term) for term in terms]
    terms = [t for t in terms if all(np.any(v) for v in t)]
    total = weights.norm
    terms, change = mirrored(terms, total)
    bundles = [terms] if shared and terms else [[t] for t in terms]
    roots = tuple(r for bundle in bundles for r in share_passes(bundle, groups, lefts)[0])
    weight = sum(math.prod(float(np.sum(np.abs(v))) for v in t) for t in terms)
    return Decomposition(
        weights,
        roots,
        tuple(terms),
        bound + change,
        weight / total if total else 1.0,
        separated=True,
        groups=groups,
    )
