"""Method: one way to run a filter. Every fact about a method is an attribute or a method of its object.

The planner, the filters of blocks, Dask arrays, files, masked images and tensors ask the object; none of
them compares names. A new method is a subclass, and `separable.engine.register_method` makes it known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from separable.engine.base import Decomposition, Problem, WorkEstimate

if TYPE_CHECKING:
    from separable.machine import Machine

__all__ = ["DENSE", "KRONECKER", "TERMS", "TREE", "CalibrationCase", "Method", "TermSizes"]

Array = NDArray[Any]
Progress = Callable[[float], None]

# The decompositions of a kernel that a method can run.
DENSE = "dense"  # the kernel itself
TERMS = "terms"  # a sum of products; the passes of each term are run one after the other
TREE = "tree"  # a sum of products; a pass that several terms begin with is run once
KRONECKER = "kronecker"  # a sum of products of coarse and fine passes, whose taps lie apart


@dataclass(frozen=True)
class CalibrationCase:
    """A problem on which a method is timed.

    Attributes
    ----------
    method, dtype : str
        Names of the method and of the image's type.
    shape : tuple of int
        Shape of the image.
    kernel : tuple
        Kind of the kernel ("even", "general", "rank2", "full", "partial", "box", "gaussian" or "ball"), then
        its size along each axis (the standard deviation of a "gaussian", the radius of a "ball").
    axes : tuple of int
        Filtered axes of the image.
    """

    method: str
    dtype: str
    shape: tuple[int, ...]
    kernel: tuple[Any, ...]
    axes: tuple[int, ...]


@dataclass(frozen=True)
class TermSizes:
    """Lower bounds that are known of a decomposition before it is built.

    Attributes
    ----------
    terms : int
        Least number of terms.
    taps : int
        Least number of taps of all their passes together.
    """

    terms: int = 0
    taps: int = 0


class Method:
    """One way to run a filter: the base class.

    A subclass sets `name`, `title` and `explanation` and overrides `estimate` and `run`. The other
    attributes and methods have safe defaults: a method of which nothing is claimed is not run block by
    block, on masked images only where its error bound allows it, and on tensors only through arrays.

    Examples
    --------
    >>> from separable.engine import METHODS
    >>> METHODS["fft"].title, METHODS["fft"].spreads_nan
    ('FFT', True)
    """

    name: ClassVar[str] = ""
    """Name for programs: what ``method=`` accepts and what plans store."""
    title: ClassVar[str] = ""
    """Name for people, as printed in tables."""
    explanation: ClassVar[str] = ""
    """One line that says how the method computes the result."""
    kernels: ClassVar[str] = ""
    """The kernels that the method is for, in words, if it is not for all."""
    runs: ClassVar[tuple[str, ...]] = (DENSE,)
    """Decompositions of a kernel that the method runs: `DENSE`, `TERMS`, `TREE`, `KRONECKER`."""
    own_candidate: ClassVar[bool] = True
    """Whether a plan lists the method under its own name.

    Otherwise it is one of several implementations of the candidates "direct", "separable", "low-rank"
    ...; the first one in the registry that does not refuse a decomposition runs it.
    """
    planned: ClassVar[bool] = True
    """Whether the planner may choose the method where it is not asked for by name."""
    most_terms: ClassVar[int | None] = None
    """Largest number of terms of a decomposition that is worth offering to the method."""
    spreads_nan: ClassVar[bool] = False
    """Whether one NaN in the image spreads beyond the support of the kernel."""
    chunk_invariant: ClassVar[bool] = False
    """Whether results are bit-identical however an image is cut into blocks."""
    exact_beside_small_weights: ClassVar[bool] = False
    """Whether the error is relative to the sum of the products, not to the sum of all weights.

    Such a method adds up products of the weights themselves, so that a small sum is as exact as a large
    one. Masked images need it: the weights of their valid samples may be few and small.
    """
    runs_on_tensors: ClassVar[bool] = False
    """Whether PyTorch's convolutions may run the same decomposition on a device."""
    splits_into_stages: ClassVar[bool] = False
    """Whether the passes of one term, run as one filter after the other, give the same bits."""
    overwrites: ClassVar[bool] = False
    """Whether the target may be the image itself."""
    fallback: ClassVar[str] = ""
    """Name of the method that runs the same decomposition without the compiled engine."""
    rates_of: ClassVar[str] = ""
    """Name of the method whose rates predict the time of this one; empty for rates of its own."""
    compared_as: ClassVar[str] = ""
    """Name of the method whose predicted time stands for this one where sweeps are compared."""
    scales_with: ClassVar[Mapping[str, str]] = {}
    """Kind of counted operation -> the primitive of a computer that its time is proportional to.

    The primitives are the attributes of `separable.machine.Primitives`. Rates that were measured on another computer
    are adjusted by them; those of other kinds stay as they are.
    """

    @property
    def separated(self) -> bool:
        """True if the method runs passes; otherwise it runs the dense kernel."""
        return DENSE not in self.runs

    def unavailable(self) -> str:
        """Return why the method cannot run in this process at all, or an empty string."""
        return ""

    def decompose(
        self, problem: Problem, decomposition: Decomposition, tol: float | None
    ) -> Decomposition | None:
        """Return the decomposition that the method runs, made from the exact one of its kind.

        Only called for a method with a candidate of its own.

        Parameters
        ----------
        problem : Problem
        decomposition : Decomposition
            Exact decomposition of the kind that the method runs.
        tol : float or None
            Error that the result may have.

        Returns
        -------
        Decomposition or None
            None where the method has nothing to offer for this kernel: it is not listed then.
        """
        return decomposition

    def refuse(self, problem: Problem, decomposition: Decomposition) -> str:
        """Return why the method cannot run a decomposition, or an empty string."""
        return ""

    def estimate(self, problem: Problem, decomposition: Decomposition) -> WorkEstimate:
        """Count what the method does: passes, multiplications, bytes and timed operations."""
        raise NotImplementedError

    def least_seconds(
        self, machine: Machine, problem: Problem, kind: str, sizes: TermSizes
    ) -> float:
        """Return a time that the prediction cannot fall below, whatever the decomposition.

        The planner does not build a decomposition whose least time is above that of a candidate it
        knows already. The default, 0, claims nothing.
        """
        return 0.0

    def seconds(self, machine: Machine, problem: Problem, counts: Mapping[str, float]) -> float:
        """Predict the time of counted operations from the rates of a machine."""
        return machine.predict(self.name, problem.dtype, counts, problem.threads)

    def timed_counts(self, problem: Problem, decomposition: Decomposition) -> dict[str, float]:
        """Return the counts that the time of a run on this computer is proportional to, for calibration."""
        return self.estimate(problem, decomposition).counts

    def run(
        self,
        problem: Problem,
        decomposition: Decomposition,
        image: Array,
        target: Array,
        progress: Progress,
    ) -> None:
        """Filter an image.

        Parameters
        ----------
        problem : Problem
        decomposition : Decomposition
        image : ndarray
            Image of the problem's shape, in native byte order.
        target : ndarray
            Array to fill: of the working type or of one that the method `stores`. It does not overlap
            the image, or is the image itself if the method `overwrites` it.
        progress : callable
            Called with the fraction of the work just done; the fractions add up to 1.
        """
        raise NotImplementedError

    def prepared(
        self, problem: Problem, decomposition: Decomposition
    ) -> Callable[[Array, Array, int], Any] | None:
        """Return what does the same as `run` in one call of compiled code, if there is such a thing.

        It is called as ``prepared(image, target, threads)`` without further checks. The default is None.
        """
        return None

    def stores(self, dtype: np.dtype[Any]) -> bool:
        """Return whether the method rounds and stores this type of output itself."""
        return False

    def scratch_bytes(self, problem: Problem, decomposition: Decomposition) -> int:
        """Return the memory that the method allocates, in bytes per sample of a block."""
        return 3 * max(problem.work.itemsize, 8)

    def turning_axes(self, problem: Problem, decomposition: Decomposition) -> tuple[int, ...]:
        """Return the image axes after which the number of samples decides the order of passes."""
        return ()

    def calibration_cases(self) -> Iterator[CalibrationCase]:
        """Yield the problems from which the rates of the method are measured."""
        yield from ()

    def __reduce__(self) -> Any:
        return type(self), ()
