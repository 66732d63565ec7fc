"""Plans of resampling: the passes, their multiplications and the memory, from shapes alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from separable.arrays import ImageShape
from separable.errors import ArgumentError, ArgumentTypeError
from separable.plan.plan_text import amount, count_text, wrapped
from separable.request import check_dtype, shown, whole_per_axis
from separable.resample.band_matrix import Band
from separable.resample.band_passes import pass_order
from separable.resample.pass_tables import BandPass, passes_table
from separable.resample.pyramids import downsample, pyramid
from separable.resample.resampled_arrays import BandRequest
from separable.resample.resampled_arrays import run_request as run_on_array
from separable.resample.resizing import resample, rescale, resize

__all__ = [
    "PyramidPlan",
    "ResamplingPlan",
    "plan_downsample",
    "plan_pyramid",
    "plan_resample",
    "plan_rescale",
    "plan_resize",
    "run_request",
]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ResamplingPlan:
    """Plan of one resampling: a value that prints its passes and runs.

    Attributes
    ----------
    image : ImageShape
        Shape and type of the image.
    request : BandRequest
        The band of each resampled axis.
    dtype : dtype
        Type of the result.

    Examples
    --------
    >>> p = plan_resize((20, 30), (10, 30), "float32", interpolation="area")
    >>> p.shape, p.multiplications
    ((10, 30), 600)
    >>> p(np.ones((20, 30), "float32")).shape
    (10, 30)
    """

    image: ImageShape
    request: BandRequest
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return self.request.result_shape(self.image.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.image.ndim

    @property
    def passes(self) -> tuple[BandPass, ...]:
        """Passes in the order in which they run: those that shrink most come first."""
        sides, found = list(self.image.shape), []
        for axis in pass_order(self.request.bands):
            band = self.request.bands[axis]
            sides[axis] = 1
            lines = math.prod(sides)
            sides[axis] = band.size
            most, total = _weights(band)
            found.append(
                BandPass(axis, band.length, band.size, most, tuple(sides), lines * total)
            )  # fmt: skip
        return tuple(found)

    @property
    def multiplications(self) -> int:
        """Number of multiplications of all outputs, by weights that are not zero."""
        if self.request.votes:
            return 0
        return sum(one.multiplications for one in self.passes)

    @property
    def multiplications_dense(self) -> int:
        """Number of multiplications if each output were one sum over all axes."""
        bands = self.request.bands
        along = [_weights(bands[a])[1] if a in bands else n for a, n in enumerate(self.image.shape)]
        return math.prod(along)

    def __call__(self, image: Any, out: Any = None) -> Any:
        """Resample an image of the planned shape and type.

        Parameters
        ----------
        image : array_like, tensor or Dask array
        out : ndarray, optional
            The array to write into.

        Raises
        ------
        ArgumentError
            If the image is not of the planned shape and type.
        """
        given = image if hasattr(image, "dtype") else np.asarray(image)
        kind = str(given.dtype).removeprefix("torch.")
        if tuple(given.shape) != self.image.shape or kind != self.image.dtype.name:
            raise ArgumentError(
                f"this plan is for shape {self.image.shape}, {self.image.dtype}; got shape "
                f"{tuple(given.shape)}, {kind}"
            )
        into = out if out is not None else self.dtype if self.dtype != self.image.dtype else None
        return run_on_array(given, self.request, into)

    def __str__(self) -> str:
        before, after = ("x".join(map(str, s)) for s in (self.image.shape, self.shape))
        kinds = str(self.image.dtype)
        kinds += f" -> {self.dtype}" if self.dtype != self.image.dtype else ""
        head = wrapped(f"{self.request.title}: {before} -> {after} {kinds}")
        passes = self.passes
        if not passes:
            return f"{head}\nNothing is computed: every output is a sample."
        return "\n".join([head, passes_table(passes), *self._notes()])

    def _notes(self) -> list[str]:
        outputs = max(1, math.prod(self.shape))
        dense = count_text(round(self.multiplications_dense / outputs, 1))
        notes = [
            f"Multiplications: {count_text(round(self.multiplications / outputs, 1))} per output, "
            f"{self.multiplications:,} in all. As one sum over all axes: {dense} per output."
        ]
        if self.request.votes:
            notes = [f"Labels are counted, with up to {dense} samples per output."]
        if not self.request.missing.are_default:
            notes.append("Missing samples: the passes run for the samples and for the mask.")
        sizes = [
            amount(float(math.prod(s) * t.itemsize))
            for s, t in ((self.image.shape, self.image.dtype), (self.shape, self.dtype))
        ]
        notes.append(f"Memory: input {sizes[0]}, result {sizes[1]}, and at most 64 MiB.")
        return [wrapped(note) for note in notes]


@dataclass(frozen=True, eq=False)
class PyramidPlan:
    """Plan of the levels of a pyramid, each computed from the one before.

    Attributes
    ----------
    levels : tuple of ResamplingPlan
        Plan of each level but the first, which is the image.

    Examples
    --------
    >>> [level.shape for level in plan_pyramid((40, 50), 3).levels]
    [(20, 25), (10, 13)]
    """

    levels: tuple[ResamplingPlan, ...]

    @property
    def multiplications(self) -> int:
        """Number of multiplications of all levels."""
        return sum(level.multiplications for level in self.levels)

    def __str__(self) -> str:
        parts = [str(level) for level in self.levels]
        return "\n\n".join([*parts, f"All levels: {self.multiplications} multiplications."])


def run_request(image: Any, request: BandRequest, output: Any) -> ResamplingPlan:
    """Return the plan of a request for a shape, or for the result of another plan.

    Examples
    --------
    >>> run_request(ImageShape((4, 5), np.dtype(float)), BandRequest({}), None).shape
    (4, 5)
    """
    if isinstance(image, ResamplingPlan):
        image = ImageShape(image.shape, image.dtype)
    if not isinstance(image, ImageShape):
        raise ArgumentTypeError(f"`image` must be an array; got {type(image).__name__}")
    dtype = getattr(output, "dtype", output)
    return ResamplingPlan(
        image, request, image.dtype if dtype is None else check_dtype(dtype, "output")
    )  # fmt: skip


def plan_resize(
    shape: Sequence[int],
    new_shape: int | Sequence[int],
    dtype: DTypeLike = np.float64,
    **options: Any,
) -> ResamplingPlan:
    """Plan `resize` without data.

    Parameters
    ----------
    shape : sequence of int
        Shape of the image.
    new_shape : int or sequence of int
        Number of samples of the result along each resampled axis.
    dtype : dtype
        Type of the image.
    **options
        Options of `resize`.

    Examples
    --------
    >>> print(plan_resize((32, 192, 192), (64, 96, 96), "float32"))
    Linear, gaussian against aliasing, edges, reflect: 32x192x192 -> 64x96x96
    float32
    pass  axis    samples  weights     result  multiplications
    ──────────────────────────────────────────────────────────
       1     1  192 -> 96        6  32x96x192          3538944
       2     2  192 -> 96        6   32x96x96          1769472
       3     0   32 -> 64        2   64x96x96          1179648
    Multiplications: 11 per output, 6,488,064 in all. As one sum over all axes: 72
    per output.
    Memory: input 4.5 MiB, result 2.25 MiB, and at most 64 MiB.
    """
    found: ResamplingPlan = _planned(resize, shape, dtype, new_shape, **options)
    return found


def plan_rescale(
    shape: Sequence[int],
    factor: float | Sequence[float],
    dtype: DTypeLike = np.float64,
    **options: Any,
) -> ResamplingPlan:
    """Plan `rescale` without data.

    Parameters
    ----------
    shape : sequence of int
        Shape of the image.
    factor : float or sequence of float
        Factor of the number of samples along each resampled axis.
    dtype : dtype
        Type of the image.
    **options
        Options of `rescale`.

    Examples
    --------
    >>> plan_rescale((100, 80), (0.5, 1.5)).shape
    (50, 120)
    """
    found: ResamplingPlan = _planned(rescale, shape, dtype, factor, **options)
    return found


def plan_resample(
    shape: Sequence[int],
    spacing_in: float | Sequence[float],
    spacing_out: float | Sequence[float],
    dtype: DTypeLike = np.float64,
    **options: Any,
) -> ResamplingPlan:
    """Plan `resample` without data.

    Parameters
    ----------
    shape : sequence of int
        Shape of the image.
    spacing_in, spacing_out : float or sequence of float
        Distance between neighbours along each resampled axis, in the same unit.
    dtype : dtype
        Type of the image.
    **options
        Options of `resample`.

    Examples
    --------
    >>> plan_resample((20, 64, 64), (3, 0.5, 0.5), 1).shape
    (60, 32, 32)
    """
    found: ResamplingPlan = _planned(resample, shape, dtype, spacing_in, spacing_out, **options)
    return found


def plan_downsample(
    shape: Sequence[int],
    factor: int | Sequence[int] = 2,
    dtype: DTypeLike = np.float64,
    **options: Any,
) -> ResamplingPlan:
    """Plan `downsample` without data.

    Parameters
    ----------
    shape : sequence of int
        Shape of the image.
    factor : int or sequence of int
        Samples for each sample of the result, along each axis.
    dtype : dtype
        Type of the image.
    **options
        Options of `downsample`.

    Examples
    --------
    >>> plan_downsample((100, 80), 4).multiplications
    10000
    """
    found: ResamplingPlan = _planned(downsample, shape, dtype, factor, **options)
    return found


def plan_pyramid(
    shape: Sequence[int], levels: int, dtype: DTypeLike = np.float64, **options: Any
) -> PyramidPlan:
    """Plan `pyramid` without data.

    Parameters
    ----------
    shape : sequence of int
        Shape of the image.
    levels : int
        Number of levels, of which the image itself is the first.
    dtype : dtype
        Type of the image.
    **options
        Options of `pyramid`.

    Examples
    --------
    >>> plan_pyramid((512, 512), 3).multiplications
    491520
    """
    return PyramidPlan(_planned(pyramid, shape, dtype, levels, **options)[1:])


def _planned(
    function: Callable[..., Any], shape: Any, dtype: Any, *arguments: Any, **options: Any
) -> Any:
    """Call a function with a shape in place of an image."""
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        raise ArgumentTypeError(f"`shape` must be the sizes of an image; got {shown(shape)}")
    sizes = whole_per_axis("shape", tuple(shape), len(shape), 0, 1 << 62)
    return function(ImageShape(sizes, check_dtype(dtype, "dtype")), *arguments, **options)


def _weights(band: Band) -> tuple[int, int]:
    """Return the largest number of weights of an output that are not zero, and the number of all."""
    used = np.count_nonzero(band.weights, axis=1)
    return int(used.max(initial=0)), int(used.sum())
