"""Absolute values of filtered images, and gradients: their magnitude and direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.arrays import array_of
from separable.errors import ArgumentError
from separable.filtering import correlate
from separable.kernels import parse_spec
from separable.kernels.kernel_registry import catalogue_kernel
from separable.request import check_axes

__all__ = ["Gradient", "Magnitude", "gradient", "gradient_specs", "wide_type"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Magnitude:
    """Kernels whose results are combined to ``sqrt(sum of squares)``; for one kernel, ``|result|``.

    `separable.files.filter_image` and `separable.volumes.filter` take it in place of a kernel. The
    intermediate results are floats, and the magnitude is rounded once.

    Attributes
    ----------
    kernels : tuple of array_like or Factors
        Kernels of the same number of axes.

    Examples
    --------
    >>> from separable import files
    >>> edge = np.array([[0, 0, 9, 9, 0]], "uint8")
    >>> absolute = Magnitude(([[-1, 0, 1]],))
    >>> files.filter_image(edge, files.ImageInfo("YX"), absolute, operation="correlate").image
    array([[0, 9, 9, 9, 9]], dtype=uint8)
    """

    kernels: tuple[Any, ...]

    def combined(self, parts: Sequence[Array]) -> Array:
        """Return the magnitude of the results of the kernels."""
        if len(parts) == 1:
            return np.asarray(np.abs(parts[0]))
        total: Array = np.square(parts[0])
        for part in parts[1:]:
            total += np.square(part)
        return np.asarray(np.sqrt(total, out=total))


def wide_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of the results of kernels before their magnitude is computed.

    Examples
    --------
    >>> wide_type(np.dtype("uint8")), wide_type(np.dtype("int32"))
    (dtype('float32'), dtype('float64'))
    """
    return np.result_type(dtype, np.float32)


def gradient_specs(text: str, ndim: int) -> tuple[str, ...]:
    """Return the texts of the derivative kernels along each axis.

    Parameters
    ----------
    text : str
        ``sobel``, ``scharr``, ``prewitt`` or ``central_difference``, or ``gaussian:SIGMA``, without
        a direction.
    ndim : int
        Number of axes.

    Raises
    ------
    ArgumentError
        If the kernel has no derivative along each axis, or its text names one axis or an order.

    Examples
    --------
    >>> gradient_specs("sobel:size=5", 2), gradient_specs("gaussian:2mm", 2)
    (('sobel:size=5,axis=0', 'sobel:size=5,axis=1'), ('gaussian:2mm,order=1x0', 'gaussian:2mm,order=0x1'))
    """
    name, _, values = text.strip().partition(":")
    kernel = catalogue_kernel(name)
    given = [item.partition("=")[0].strip() for item in values.split(",") if "=" in item]
    plain = [item for item in values.split(",") if item.strip() and "=" not in item]
    joint = "," if values.strip() else ""
    base = f"{name}:{values}{joint}"
    if "axis" in kernel.parameters:
        if plain or "axis" in given:
            raise ArgumentError(
                f"a gradient takes the derivative along every axis; got {text!r}. Leave the axis out"
            )
        return tuple(f"{base}axis={axis}" for axis in range(ndim))
    if kernel.name == "gaussian":
        if len(plain) > 1 or "order" in given:
            raise ArgumentError(
                f"a gradient takes the first derivative along every axis; got {text!r}. Leave the "
                "order out"
            )
        orders = ("x".join("1" if k == axis else "0" for k in range(ndim)) for axis in range(ndim))
        return tuple(f"{base}order={order}" for order in orders)
    raise ArgumentError(
        f"a gradient needs a derivative: sobel, scharr, prewitt, central_difference or gaussian:SIGMA; "
        f"got {text!r}"
    )


@dataclass(frozen=True, eq=False)
class Gradient:
    """Gradient of an image.

    Attributes
    ----------
    components : ndarray
        Derivative along each axis, shape ``(number of axes, *image.shape)``.
    axes : tuple of int
        Image axes of the components.

    Examples
    --------
    >>> found = Gradient(np.array([[3.0], [4.0]]), (0, 1))
    >>> found.magnitude, found.direction.round(2)
    (array([5.]), array([0.64]))
    """

    components: Array
    axes: tuple[int, ...]

    @property
    def magnitude(self) -> Array:
        """Length of the gradient at each sample."""
        return Magnitude(()).combined(list(self.components))

    @property
    def direction(self) -> Array:
        """Angle of the steepest ascent in radians, -pi .. pi, for two axes.

        0 points to larger indices of the second axis (right), pi / 2 to larger indices of the first
        (down).

        Raises
        ------
        ArgumentError
            If there are not two axes; `unit_vectors` has the direction for any number.
        """
        if len(self.axes) != 2:
            raise ArgumentError(
                f"a direction is an angle for 2 axes; got {len(self.axes)}. Take `unit_vectors`"
            )
        return np.asarray(np.arctan2(self.components[0], self.components[1]))

    @property
    def unit_vectors(self) -> Array:
        """Gradient divided by its length; 0 where the length is 0."""
        length = self.magnitude
        return np.asarray(self.components / np.where(length == 0, 1, length))


def gradient(
    image: ArrayLike,
    kernel: str = "sobel",
    *,
    axes: int | Sequence[int] | None = None,
    spacing: float | Sequence[float] | None = None,
    **options: Any,
) -> Gradient:
    """Compute the gradient of an image, with its magnitude and direction.

    Parameters
    ----------
    image : array_like
        Image of any number of axes.
    kernel : str
        Text of the derivative: "sobel", "sobel:size=5", "scharr", "prewitt", "central_difference",
        or "gaussian:2" for derivatives of a Gaussian.
    axes : int or sequence of int, optional
        Axes to differentiate along; default: all.
    spacing : float or sequence of float, optional
        Distance between samples; derivatives are then per unit of it.
    **options
        Options of `separable.correlate`: mode, cval, mask, nan, fill ...

    Returns
    -------
    Gradient
        Components in float32, or float64 for wider images.

    Raises
    ------
    ArgumentError
        If the kernel has no derivative along each axis.
    SeparableError
        As `separable.correlate`.

    Examples
    --------
    >>> y, x = np.mgrid[:9, :9]
    >>> found = gradient(3 * x + 4 * y, "gaussian:1")
    >>> round(float(found.magnitude[4, 4]), 2), round(float(np.degrees(found.direction[4, 4])), 1)
    (5.0, 53.1)
    """
    values = array_of(image)
    along = check_axes(axes, values.ndim)
    options.setdefault("output", wide_type(values.dtype))
    steps: Any = None if spacing is None else np.ravel(np.asarray(spacing, float)).tolist()
    if steps is not None and len(steps) == 1:
        steps = steps[0]
    parts = [
        correlate(values, parse_spec(spec, len(along), spacing=steps), axes=along, **options)
        for spec in gradient_specs(kernel, len(along))
    ]
    return Gradient(np.stack([np.asarray(part) for part in parts]), along)
