"""`SeparableAccessor`, the filters of a `DataArray`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from separable import filtering, ndimage
from separable.errors import ArgumentTypeError
from separable.factors import Factors
from separable.kernels import gaussian1d
from separable.kernels.kernel_arguments import mirrored
from separable.kernels.parse import kernel_by_name, lengths_of
from separable.xarray_accessor.array_transforms import ArrayTransforms, Dims, Lengths
from separable.xarray_accessor.engine_hook import by_dims, like
from separable.xarray_accessor.spacing import Step, dims_of, lengths_along, per_dim, steps_along

__all__ = ["SeparableAccessor"]

OPTIONS = tuple(inspect.signature(filtering.correlate).parameters)[2:]  # axes, mode, cval ...
SLOPE = np.array([-0.5, 0.0, 0.5])


class SeparableAccessor(ArrayTransforms):
    """Filters of a `DataArray`, as ``array.separable``.

    Every method returns a `DataArray` with the same coordinates, attributes, name and order of dims.
    Lengths (`sigma`, `size`, `radius`, `wavelength` ...) are in the units of the coordinates of
    the filtered dims: a number, a sequence in the order of `dims`, or a dict ``{dim: length}``.
    Along a dim of times (datetime64, timedelta64) they are durations: ``"3h"``, a
    `numpy.timedelta64`. Along a dim without a coordinate they are in samples, and with
    ``units="samples"`` along all dims. Derivatives are per unit of the coordinate (per second along
    times) and are positive where values rise with the coordinate, in whichever order it is stored.
    Coordinates must be evenly spaced, within 1e-6 of a step or the rounding of their type.

    Other keywords are those of `separable.convolve`: `mode` (also a dict of dims), `cval`, `output`,
    `tol`, `mask` ... Without `dims` the spatial dims are filtered, as in files: not time, band, channel
    and spectrum. A series is filtered along its only dim.

    Parameters
    ----------
    array : DataArray
        The array to filter.

    Examples
    --------
    >>> import separable.xarray_accessor
    >>> t = np.arange("2026-01-01", "2026-01-03", 30, "datetime64[m]")
    >>> series = xr.DataArray(np.arange(96.0), dims="time", coords={"time": t})
    >>> series.separable.gaussian("3h").values[40:43].round(6)
    array([40., 41., 42.])
    >>> series.separable.derivative("time", "3h").values[48:50].round(6)  # per second
    array([0.000555, 0.000555])
    """

    def __init__(self, array: xr.DataArray) -> None:
        self._array = array

    def gaussian(
        self, sigma: Lengths, dims: Dims = None, *, order: Any = 0, **options: Any
    ) -> xr.DataArray:
        """Smooth the array with a Gaussian, or compute a derivative of the smoothed array.

        Parameters
        ----------
        sigma : length, sequence or dict of dim to length
            Standard deviation, in the units of the coordinates.
        dims : str or sequence of str, optional
            Dims to filter. Default is those that `sigma` names, else the spatial ones: not time,
            band, channel or spectrum.
        order : int, sequence or dict of dim to int, default 0
            Derivative along each dim; 0 for dims that a dict does not name.
        **options
            `truncate` and `radius` (in samples) as for `kernels.gaussian`, `units`, and the
            options of `separable.convolve`.

        Returns
        -------
        DataArray

        Raises
        ------
        ArgumentError, ArgumentTypeError
            If there is no such dim, it is not evenly spaced, or a length is wrong.

        Examples
        --------
        >>> import separable.xarray_accessor
        >>> volume = xr.DataArray(np.eye(16), dims=("y", "x"), coords={"y": 2.0 * np.arange(16)})
        >>> volume.separable.gaussian(2.0).dims  # 1 sample along y, 2 along x
        ('y', 'x')
        """
        return self.filter("gaussian", dims, sigma=sigma, order=order, **options)

    def laplacian_of_gaussian(
        self, sigma: Lengths, dims: Dims = None, **options: Any
    ) -> xr.DataArray:
        """Add up the second derivatives of a Gaussian, each per unit squared.

        Parameters and results are as for `gaussian`.

        Examples
        --------
        >>> import separable.xarray_accessor
        >>> bowl = xr.DataArray(np.linspace(0, 2, 41) ** 2, {"x": np.linspace(0, 2, 41)}, "x")
        >>> float(bowl.separable.laplacian_of_gaussian(0.1).values[20].round(1))
        2.0
        """
        if len(dims_of(self._array, dims, (sigma,))) == 1:
            return self.filter("gaussian", dims, sigma=sigma, order=2, **options)
        return self.filter("laplacian_of_gaussian", dims, sigma=sigma, **options)

    def gradient_magnitude(
        self,
        sigma: Lengths,
        dims: Dims = None,
        *,
        units: str = "coordinates",
        truncate: float = 4.0,
        **options: Any,
    ) -> xr.DataArray:
        """Take the length of the gradient of the smoothed array, per unit of the coordinates.

        Dims of different units have no common gradient: name only dims of the same unit.

        Parameters
        ----------
        sigma : length, sequence or dict of dim to length
            Standard deviation, in the units of the coordinates.
        dims : str or sequence of str, optional
            Dims to filter. Default is those that `sigma` names, else the spatial ones: not time,
            band, channel or spectrum.
        units : str, default "coordinates"
            Units of lengths: "coordinates" or "samples".
        truncate : float, default 4.0
            Number of standard deviations at which the Gaussian is cut off.
        **options
            Options of `separable.convolve`.

        Examples
        --------
        >>> import separable.xarray_accessor
        >>> y, x = 2.0 * np.arange(30), 0.5 * np.arange(40)
        >>> plane = xr.DataArray(np.add.outer(3 * y, 4 * x), {"y": y, "x": x}, ("y", "x"))
        >>> float(plane.separable.gradient_magnitude(2.0).values[15, 20].round(1))
        5.0
        """
        found = dims_of(self._array, dims, (sigma,))
        steps = steps_along(self._array, found, units)
        widths = per_dim("sigma", lengths_along("sigma", sigma, steps, several=True), found)
        arguments = {
            "sigma": tuple(w / s.size for w, s in zip(widths, steps, strict=True)),
            "truncate": truncate,
        }
        return _magnitude(self._array, arguments, steps, options)

    def derivative(
        self, dim: Hashable, sigma: Any = None, *, units: str = "coordinates", **options: Any
    ) -> xr.DataArray:
        """Take the first derivative along a dim, per unit of its coordinate.

        Parameters
        ----------
        dim : str
            Dim to differentiate along.
        sigma : length, optional
            Standard deviation of the Gaussian that smooths the array. Without it the derivative is
            half the difference of the two neighbours, without smoothing.
        units : str, default "coordinates"
            Units of lengths: "coordinates" or "samples".
        **options
            Options of `separable.convolve`.

        Examples
        --------
        >>> import separable.xarray_accessor
        >>> falling = xr.DataArray(np.arange(5.0), {"x": [8, 6, 4, 2, 0]}, "x")
        >>> falling.separable.derivative("x").values[1:-1]
        array([-0.5, -0.5, -0.5])
        """
        if sigma is not None:
            return self.filter("gaussian", dim, sigma=sigma, order=1, units=units, **options)
        (found,) = dims_of(self._array, (dim,), ())
        (step,) = steps_along(self._array, (found,), units)
        taps = SLOPE / (-step.size if step.falls else step.size)
        return _filtered(self._array, taps, (found,), options)

    def filter(
        self, kernel: str, dims: Dims = None, *, units: str = "coordinates", **parameters: Any
    ) -> xr.DataArray:
        """Filter the array with a kernel of the catalogue, `separable.kernels.registered_kernels`, given by its name.

        Masks are written for correlation: derivatives are positive where values rise with the
        coordinate.

        Parameters
        ----------
        kernel : str
            Name of the kernel: "box", "sobel", "log", "dog", "gabor", "disk" ...
        dims : str or sequence of str, optional
            Dims to filter, in the order of the kernel's axes. Default is those that a dict among
            the parameters names, else the spatial ones.
        units : str, default "coordinates"
            Units of lengths: "coordinates" or "samples".
        **parameters
            Parameters of the function of that name (`axis` may be the name of a dim), and options of
            `separable.convolve`.

        Returns
        -------
        DataArray

        Raises
        ------
        ArgumentError, ArgumentTypeError
            If there is no such kernel, or a parameter is wrong.

        Examples
        --------
        >>> import separable.xarray_accessor
        >>> x = 0.5 * np.arange(8)
        >>> ramp = xr.DataArray(np.tile(x, (6, 1)), dims=("y", "x"), coords={"x": x})
        >>> ramp.separable.filter("sobel", axis="x").values[2, 1:4]
        array([8., 8., 8.])
        >>> ramp.separable.filter("box", size={"x": 1.5}).values[0, 1:4]
        array([0.5, 1. , 1.5])
        """
        options = {k: parameters.pop(k) for k in OPTIONS if k in parameters}
        lengths = lengths_of(kernel)
        found = dims_of(self._array, dims, list(parameters.values()))
        steps = steps_along(self._array, found, units)
        arguments = {
            key: _argument(key, value, steps, lengths)
            for key, value in parameters.items()
            if value is not None
        }
        spacing = None
        if units == "coordinates":
            spacing = steps[0].size if len(steps) == 1 else tuple(s.size for s in steps)
        made = kernel_by_name(kernel, arguments, len(found), spacing)
        made = mirrored(made, [k for k, step in enumerate(steps) if step.falls])
        return _filtered(self._array, made, found, options)

    def convolve(
        self, kernel: ArrayLike | Factors, dims: Dims = None, **options: Any
    ) -> xr.DataArray:
        """Convolve with any kernel, in samples, along dims: `separable.convolve`.

        Parameters
        ----------
        kernel : array_like or Factors
            Kernel with one axis for each of `dims`, in their order, for the samples as stored.
        dims : str or sequence of str, optional
            Dims to filter. Default is all of them if the kernel has as many axes, else the spatial
            ones.
        **options
            Options of `separable.convolve`.

        Examples
        --------
        >>> import separable.xarray_accessor
        >>> xr.DataArray([0, 0, 1, 0], dims="x").separable.convolve([1, 2, 3]).values
        array([0, 1, 2, 3])
        """
        found = _dims_for(self._array, kernel, dims)
        return _filtered(self._array, kernel, found, options, operation="convolve")

    def correlate(
        self, kernel: ArrayLike | Factors, dims: Dims = None, **options: Any
    ) -> xr.DataArray:
        """Correlate with any kernel, in samples, along dims, as `convolve` without flipping the kernel.

        Examples
        --------
        >>> import separable.xarray_accessor
        >>> xr.DataArray([0, 0, 1, 0], dims="x").separable.correlate([1, 2, 3]).values
        array([0, 3, 2, 1])
        """
        return _filtered(self._array, kernel, _dims_for(self._array, kernel, dims), options)


def _dims_for(array: xr.DataArray, kernel: Any, dims: Dims) -> tuple[Hashable, ...]:
    """Return the dims for a kernel with a fixed number of axes."""
    count = len(kernel.shape) if isinstance(kernel, Factors) else np.ndim(kernel)
    return dims_of(array, array.dims if dims is None and count == array.ndim else dims, ())


def _filtered(
    array: xr.DataArray,
    kernel: ArrayLike | Factors,
    dims: tuple[Hashable, ...],
    options: dict[str, Any],
    operation: str = "correlate",
) -> xr.DataArray:
    """Run a kernel along dims; `options` are those of `separable.convolve`."""
    run: Callable[..., xr.DataArray] = getattr(filtering, operation)
    unknown = [k for k in options if k not in OPTIONS]
    if unknown or "axes" in options:
        wrong = unknown[0] if unknown else "axes"
        raise ArgumentTypeError(
            f"unexpected keyword argument `{wrong}`: dims are named by `dims`, and the options are "
            f"{', '.join(k for k in OPTIONS if k != 'axes')}"
        )
    return run(array, kernel, axes=dims, **options)


def _magnitude(
    array: xr.DataArray, arguments: dict[str, Any], steps: list[Step], options: dict[str, Any]
) -> xr.DataArray:
    """Return the root of the sum of the squared slopes; `ndimage` computes it for arrays in memory."""
    options = by_dims(options, tuple(step.dim for step in steps))
    where = array.get_axis_num(tuple(step.dim for step in steps))
    sizes = tuple(step.size for step in steps)
    if isinstance(array.data, np.ndarray) and set(options) <= {"mode", "cval", "output"}:
        widths = tuple(w * h for w, h in zip(arguments["sigma"], sizes, strict=True))
        data = ndimage.gaussian_gradient_magnitude(
            array.data, widths, axes=where, spacing=sizes, truncate=arguments["truncate"], **options
        )
        return like(array, data)
    out = np.dtype(options.pop("output", None) or array.dtype)
    work = out if out.kind == "f" else np.dtype(np.float64)
    total: Any = 0.0
    for along in range(len(steps)):
        taps = [
            gaussian1d(w, order=int(k == along), truncate=arguments["truncate"]) / h ** (k == along)
            for k, (w, h) in enumerate(zip(arguments["sigma"], sizes, strict=True))
        ]
        kernel = taps[0] if len(taps) == 1 else _product(taps)
        dims = tuple(step.dim for step in steps)
        total = total + _filtered(array, kernel, dims, {**options, "output": work}).data ** 2
    root = np.sqrt(total)
    if out.kind in "iu":
        root = np.clip(np.rint(root), None, np.iinfo(out).max)
    return like(array, root.astype(out))


def _product(taps: list[Any]) -> Factors:
    letters = "tzyx"[-len(taps) :]
    return Factors.from_terms(f"{letters} -> {','.join(letters)}", [taps])


def _argument(name: str, value: Any, steps: list[Step], lengths: dict[str, bool]) -> Any:
    """Return an argument of a kernel's function, from values that may be given by dim."""
    dims = [step.dim for step in steps]
    if name in lengths:
        return lengths_along(name, value, steps, several=lengths[name])
    if name == "axis" and value in dims:
        return dims.index(value)
    if isinstance(value, Mapping):
        found = per_dim(name, value, dims, default=0 if name == "order" else None)
        return found[0] if len(found) == 1 else found
    return value
