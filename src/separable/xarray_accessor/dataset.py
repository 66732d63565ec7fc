"""`DatasetAccessor`, the filters of the variables of a `Dataset`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import xarray as xr
from numpy.typing import ArrayLike

from separable import resample as resampling
from separable.errors import ArgumentError
from separable.factors import Factors
from separable.request import axes_by_name, check_axes
from separable.xarray_accessor.array_transforms import Dims, Lengths, computed_feature
from separable.xarray_accessor.data_array import SeparableAccessor
from separable.xarray_accessor.engine_hook import filter_array
from separable.xarray_accessor.spacing import Step, is_spatial, lengths_along, per_dim, step_of

__all__ = ["DatasetAccessor", "filter_with", "step_along", "variables_with"]


class DatasetAccessor:
    """Filters of a `Dataset`, as ``dataset.separable``.

    Every method filters the data variables that have all the dims, as the method of
    `SeparableAccessor` of the same name does, and leaves other variables, coordinates and
    attributes as they are. Without `dims` these are the dims that a dict among the arguments names,
    else the spatial dims of the dataset.

    Parameters
    ----------
    dataset : Dataset
        The dataset to filter.

    Examples
    --------
    >>> import numpy as np, xarray as xr, separable.xarray_accessor
    >>> field = xr.Dataset({"t": (("time", "y", "x"), np.ones((2, 3, 4))), "mean": ("time", [1.0, 2.0])})
    >>> smooth = field.separable.gaussian(1.0)
    >>> smooth.t.dims, smooth["mean"].values
    (('time', 'y', 'x'), array([1., 2.]))
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    def gaussian(self, sigma: Lengths, dims: Dims = None, **options: Any) -> xr.Dataset:
        """Smooth each variable with a Gaussian, as `SeparableAccessor.gaussian`.

        Examples
        --------
        >>> import numpy as np, xarray as xr, separable.xarray_accessor
        >>> xr.Dataset({"a": ("x", np.eye(5)[2])}).separable.gaussian(0.5, radius=1).a.values.round(2)
        array([0.  , 0.11, 0.79, 0.11, 0.  ])
        """
        return self._each("gaussian", dims, (sigma,), sigma, **options)

    def laplacian_of_gaussian(
        self, sigma: Lengths, dims: Dims = None, **options: Any
    ) -> xr.Dataset:
        """Filter each variable as `SeparableAccessor.laplacian_of_gaussian`.

        Examples
        --------
        >>> import numpy as np, xarray as xr, separable.xarray_accessor
        >>> flat = xr.Dataset({"a": (("y", "x"), np.ones((5, 5)))})
        >>> bool(abs(flat.separable.laplacian_of_gaussian(1).a[2, 2]) < 1e-3)
        True
        """
        return self._each("laplacian_of_gaussian", dims, (sigma,), sigma, **options)

    def gradient_magnitude(self, sigma: Lengths, dims: Dims = None, **options: Any) -> xr.Dataset:
        """Filter each variable as `SeparableAccessor.gradient_magnitude`.

        Examples
        --------
        >>> import numpy as np, xarray as xr, separable.xarray_accessor
        >>> ramp = xr.Dataset({"a": (("y", "x"), np.tile(np.arange(20.0), (20, 1)))})
        >>> float(ramp.separable.gradient_magnitude(1.0).a[10, 10].round(3))
        1.0
        """
        return self._each("gradient_magnitude", dims, (sigma,), sigma, **options)

    def derivative(self, dim: Hashable, sigma: Any = None, **options: Any) -> xr.Dataset:
        """Take the derivative of each variable along a dim, as `SeparableAccessor.derivative`.

        Examples
        --------
        >>> import xarray as xr, separable.xarray_accessor
        >>> ramp = xr.Dataset({"a": ("x", [0.0, 2.0, 4.0])})
        >>> float(ramp.separable.derivative("x").a[1])
        2.0
        """
        names = self._names((dim,), ())
        return _mapped(self._dataset, names, lambda a: _of(a).derivative(dim, sigma, **options))

    def filter(self, kernel: str, dims: Dims = None, **parameters: Any) -> xr.Dataset:
        """Filter each variable with a kernel of the catalogue, as `SeparableAccessor.filter`.

        Examples
        --------
        >>> import xarray as xr, separable.xarray_accessor
        >>> xr.Dataset({"a": ("x", [0.0, 3.0, 0.0])}).separable.filter("box", size=3).a.values
        array([1., 1., 1.])
        """
        values = tuple(parameters.values())
        return self._each("filter", dims, values, kernel, **parameters)

    def convolve(
        self, kernel: ArrayLike | Factors, dims: Dims = None, **options: Any
    ) -> xr.Dataset:
        """Convolve each variable with any kernel, in samples, as `SeparableAccessor.convolve`.

        Examples
        --------
        >>> import xarray as xr, separable.xarray_accessor
        >>> xr.Dataset({"a": ("x", [0, 0, 1, 0])}).separable.convolve([1, 2, 3]).a.values
        array([0, 1, 2, 3])
        """
        return self._each("convolve", dims, (), kernel, **options)

    def correlate(
        self, kernel: ArrayLike | Factors, dims: Dims = None, **options: Any
    ) -> xr.Dataset:
        """Correlate each variable with any kernel, in samples, as `SeparableAccessor.correlate`.

        Examples
        --------
        >>> import xarray as xr, separable.xarray_accessor
        >>> xr.Dataset({"a": ("x", [0, 0, 1, 0])}).separable.correlate([1, 2, 3]).a.values
        array([0, 3, 2, 1])
        """
        return self._each("correlate", dims, (), kernel, **options)

    def feature(
        self, name: str | Callable[..., Any], *arguments: Any, dims: Dims = None, **options: Any
    ) -> Any:
        """Compute a feature of each variable, as `SeparableAccessor.feature`.

        Examples
        --------
        >>> import numpy as np, xarray as xr, separable.xarray_accessor
        >>> ramp = xr.Dataset({"a": (("y", "x"), np.tile(np.arange(20.0), (20, 1)))})
        >>> float(ramp.separable.feature("gradient_magnitude", 1.0).a[10, 10].round(3))
        1.0
        """
        return computed_feature(self._dataset, name, arguments, self.dims_of(dims), options)

    def resample(self, spacing: Lengths, dims: Dims = None, **options: Any) -> xr.Dataset:
        """Resample dims to another spacing, as `SeparableAccessor.resample`.

        Variables that have some of the dims are resampled along those.

        Examples
        --------
        >>> import numpy as np, xarray as xr, separable.xarray_accessor
        >>> line = xr.Dataset({"a": ("x", np.arange(6.0))}, {"x": 2.0 * np.arange(6)})
        >>> line.separable.resample(4.0).x.values
        array([1., 5., 9.])
        """
        names = self._names(dims, (spacing,))
        steps = [step_along(self._dataset, name) for name in names]
        lengths = per_dim("spacing", lengths_along("spacing", spacing, steps, several=True), names)
        before = tuple(step.size for step in steps)
        return _as_dataset(
            resampling.resample(self._dataset, before, lengths, axes=self._axes(names), **options)
        )

    def resize(self, shape: Any, dims: Dims = None, **options: Any) -> xr.Dataset:
        """Take another number of samples along dims, as `SeparableAccessor.resize`.

        Examples
        --------
        >>> import xarray as xr, separable.xarray_accessor
        >>> xr.Dataset({"a": ("x", [0.0, 4.0])}).separable.resize({"x": 4}).a.values
        array([0., 1., 3., 4.])
        """
        names = self._names(dims, (shape,))
        sizes = per_dim("shape", shape, names)
        return _as_dataset(
            resampling.resize(self._dataset, sizes, axes=self._axes(names), **options)
        )

    def rescale(self, factor: Any, dims: Dims = None, **options: Any) -> xr.Dataset:
        """Take `factor` times as many samples along dims, as `SeparableAccessor.rescale`.

        Examples
        --------
        >>> import numpy as np, xarray as xr, separable.xarray_accessor
        >>> dict(xr.Dataset({"a": (("y", "x"), np.zeros((4, 6)))}).separable.rescale(0.5).sizes)
        {'y': 2, 'x': 3}
        """
        names = self._names(dims, (factor,))
        factors = per_dim("factor", factor, names)
        return _as_dataset(
            resampling.rescale(self._dataset, factors, axes=self._axes(names), **options)
        )

    def dims_of(self, dims: Any) -> tuple[Hashable, ...]:
        """Return dims by their names or numbers, or the spatial ones.

        Raises
        ------
        ArgumentError
            If the dataset has no such dim.

        Examples
        --------
        >>> import numpy as np, xarray as xr
        >>> field = xr.Dataset({"t": (("time", "y", "x"), np.ones((2, 3, 4)))})
        >>> DatasetAccessor(field).dims_of(None), DatasetAccessor(field).dims_of(-1)
        (('y', 'x'), ('x',))
        """
        if dims is None:
            return self._names(None, ())
        sizes = tuple(self._dataset.sizes)
        return tuple(sizes[axis] for axis in check_axes(axes_by_name(dims, sizes), len(sizes)))

    def _each(
        self, method: str, dims: Dims, values: Sequence[Any], first: Any, /, **options: Any
    ) -> xr.Dataset:
        names = self._names(dims, values)
        return _mapped(
            self._dataset, names, lambda a: getattr(_of(a), method)(first, names, **options)
        )

    def _axes(self, dims: Sequence[Hashable]) -> tuple[int, ...]:
        """Return the places of dims among those of the dataset."""
        return tuple(tuple(self._dataset.sizes).index(dim) for dim in dims)

    def _names(self, dims: Dims, values: Sequence[Any]) -> tuple[Hashable, ...]:
        """Return the dims to filter: given, named by a dict, or the spatial ones."""
        sizes = tuple(self._dataset.sizes)
        if dims is None:
            named = [d for v in values if isinstance(v, Mapping) for d in v]
            chosen = set(named) or {d for d in sizes if is_spatial(self._dataset, d)}
            found = (*(d for d in sizes if d in chosen), *(d for d in named if d not in sizes))
            found = found or sizes[: len(sizes) == 1]  # a series
        else:
            found = (
                (dims,) if isinstance(dims, str) or not isinstance(dims, Sequence) else tuple(dims)
            )
        unknown = [d for d in found if d not in sizes]
        if unknown or not found:
            got = repr(unknown[0]) if unknown else "no spatial dim. Name them"
            raise ArgumentError(
                f"`dims` must be some of {', '.join(map(str, sizes))}, the dims of the dataset; got {got}"
            )
        return tuple(found)


def _of(array: xr.DataArray) -> SeparableAccessor:
    return SeparableAccessor(array)


def _as_dataset(result: Any) -> xr.Dataset:
    found: xr.Dataset = result
    return found


def step_along(dataset: xr.Dataset, dim: Hashable) -> Step:
    """Return the step of a dim's coordinate, or of one sample if it has none.

    Examples
    --------
    >>> step_along(xr.Dataset(coords={"x": [0.0, 2.0, 4.0]}), "x").size
    2.0
    """
    return step_of(dataset[dim], dim) if dim in dataset.coords else Step(dim)


def _mapped(
    dataset: xr.Dataset, dims: Sequence[Hashable], run: Callable[[xr.DataArray], xr.DataArray]
) -> xr.Dataset:
    """Filter the variables of numbers that have all the dims."""
    return dataset.assign({name: run(dataset[name]) for name in variables_with(dataset, dims)})


def variables_with(dataset: xr.Dataset, dims: Sequence[Hashable]) -> list[Hashable]:
    """Return the names of the variables of numbers that have all the dims.

    Raises
    ------
    ArgumentError
        If there is none.

    Examples
    --------
    >>> variables_with(xr.Dataset({"a": ("x", [0.0]), "b": ("time", [1.0])}), ("x",))
    ['a']
    """
    chosen = [
        name for name, array in dataset.data_vars.items()
        if set(dims) <= set(array.dims) and array.dtype.kind in "biufc"
    ]  # fmt: skip
    if not chosen:
        raise ArgumentError(
            f"no variable of the dataset has the dims {', '.join(map(str, dims))} and numbers; it "
            f"has {', '.join(f'{n}{v.dims}' for n, v in dataset.data_vars.items())}"
        )
    return chosen


def filter_with(
    image: Any,
    kernel: ArrayLike | Factors,
    output: Any = None,
    *,
    axes: Any = None,
    **options: Any,
) -> Any:
    """Filter a `DataArray`, or each variable of a `Dataset` that has the dims.

    The parameters are those of `separable.filtering.filter_with`; `axes` may be names of dims,
    `mode` and `origin` dicts of dims, and `mask` a `DataArray`.

    Raises
    ------
    SeparableError
        Its subclasses, as for `separable.convolve`.

    Examples
    --------
    >>> import numpy as np, separable as sep
    >>> both = xr.Dataset({"a": ("x", [0.0, 3.0, 0.0]), "b": ("time", [1.0])})
    >>> sep.convolve(both, np.ones(3) / 3).a.values
    array([1., 1., 1.])
    """
    if not isinstance(image, xr.Dataset):
        return filter_array(image, kernel, output, axes=axes, **options)
    options = {k: v for k, v in options.items() if k != "progress"}
    operation = options.pop("operation", "convolve")
    accessor = DatasetAccessor(image)
    run = accessor.correlate if operation == "correlate" else accessor.convolve
    given = {} if output is None else {"output": output}
    return run(kernel, axes, **given, **options)
