"""The work of the widget without a viewer: data and settings -> a new layer, or a plan as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from separable.borders import registered_borders
from separable.errors import ArgumentError, ArgumentTypeError
from separable.factors import Factors
from separable.filtering import filter_with
from separable.kernels import Kernel, parse_spec
from separable.kernels.kernel_arguments import mirrored
from separable.kernels.parse import lengths_of
from separable.kernels.units import unit_of
from separable.plan import plan

__all__ = ["AXES", "LayerData", "Settings", "explained", "filtered", "mode_choices"]

LayerData: TypeAlias = tuple[Any, dict[str, Any], str]  # napari's LayerDataTuple

AXES = {"all axes": 0, "the last two": 2, "the last three": 3}
# Position and axes of a layer, which the new layer takes over.
KEPT = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels", "rgb")


@dataclass(frozen=True)
class Settings:
    """Settings of the widget.

    Attributes
    ----------
    kernel : str
        Kernel name such as ``gaussian``, to which `sigma` is added if the kernel has one; or a
        name with parameters such as ``gabor:8,theta=45deg``, ``gaussian:2um`` or ``gaussian:3px``.
    sigma : float
        Standard deviation in the units of the scale of the layer.
    mode : str
        Border mode, one of `mode_choices()`.
    axes : str
        Axes to filter, one of `AXES`; the colour axis is never filtered.
    """

    kernel: str = "gaussian"
    sigma: float = 1.0
    mode: str = "reflect"
    axes: str = "all axes"

    @property
    def text(self) -> str:
        """Kernel name with its parameters."""
        name = self.kernel.strip()
        if ":" in name or "sigma" not in lengths_of(name):
            return name
        return f"{name}:sigma={self.sigma:g}" if name == "gabor" else f"{name}:{self.sigma:g}"


def mode_choices() -> tuple[str, ...]:
    """Return the names of the border modes that are registered now."""
    return tuple(border.name for border in registered_borders())


def filtered(data: Any, settings: Settings, attributes: Mapping[str, Any]) -> LayerData:
    """Filter the data of an image layer and return a layer with the result.

    Parameters
    ----------
    data : array_like
        Image, with the colour axis last if `attributes` contain ``rgb``. Of a multiscale layer, the
        first level is used.
    settings : Settings
    attributes : mapping
        Attributes of the layer with their names in napari: ``scale``, ``translate``, ``units``,
        ``rgb`` ...

    Returns
    -------
    tuple
        The data, the attributes of the new layer and ``"image"``. Integers become float32 if the
        kernel has negative weights, so that derivatives keep their signs.

    Raises
    ------
    SeparableError
        If the kernel or the data are not valid.

    Examples
    --------
    >>> step = np.zeros((4, 6), np.uint8)
    >>> step[:, 3:] = 10
    >>> data, attributes, _ = filtered(step, Settings("sobel"), {"scale": (1, 2)})
    >>> data[1].tolist(), data.dtype, attributes["scale"]
    ([0.0, 0.0, 20.0, 20.0, 0.0, 0.0], dtype('float32'), (1, 2))
    """
    array = _array(data)
    kernel, axes = _kernel(array, settings, attributes)
    dense = kernel.dense() if isinstance(kernel, Factors) else kernel
    signed = array.dtype.kind in "biu" and bool((dense < 0).any())
    result = filter_with(
        array, kernel, np.float32 if signed else None, operation="correlate", axes=axes,
        mode=settings.mode,
    )  # fmt: skip
    kept = {k: attributes[k] for k in KEPT if attributes.get(k) is not None}
    if kept.get("rgb") and signed:
        raise ArgumentError(
            f"kernel `{settings.text}` gives negative values, which a colour image cannot show. Split "
            "the layer into channels first"
        )
    name = attributes.get("name")
    return result, {**kept, "name": f"{name} {settings.text}" if name else settings.text}, "image"


def explained(data: Any, settings: Settings, attributes: Mapping[str, Any]) -> str:
    """Return the plan as text, or the error message for wrong settings.

    Examples
    --------
    >>> text = explained(np.zeros((64, 64)), Settings("gaussian", 2), {"scale": (1, 0.5)})
    >>> text.splitlines()[0]
    'correlate 17x33 on 64x64 float64, reflect, exact, ... thread...'
    >>> explained(np.zeros((64, 64)), Settings("gausian"), {})
    'unknown kernel `gausian`. Did you mean `gaussian`?'
    """
    try:
        array = _array(data)
        kernel, axes = _kernel(array, settings, attributes)
        return str(
            plan(
                kernel, array.shape, array.dtype, axes=axes, mode=settings.mode,
                operation="correlate",
            )
        )  # fmt: skip
    except (ArgumentError, ArgumentTypeError) as mistake:
        return str(mistake)


def _array(data: Any) -> Any:
    """Return the finest level of a multiscale layer, or else the data."""
    if isinstance(data, (list, tuple)) or type(data).__name__ == "MultiScaleData":
        return data[0]
    return data if hasattr(data, "dtype") and hasattr(data, "shape") else np.asarray(data)


def _kernel(
    array: Any, settings: Settings, attributes: Mapping[str, Any]
) -> tuple[Kernel, tuple[int, ...]]:
    """Return the kernel in samples, and the axes that it is applied along."""
    ndim = array.ndim - bool(attributes.get("rgb"))  # the colour axis is last and has no scale
    if settings.axes not in AXES:
        raise ArgumentError(f"`axes` must be one of {', '.join(AXES)}; got {settings.axes!r}")
    count = AXES[settings.axes] or ndim
    if count > ndim:
        raise ArgumentError(
            f"`axes` must be axes of the layer, which has {ndim}; got {settings.axes!r}"
        )
    axes = tuple(range(ndim - count, ndim))
    scale = np.asarray(attributes.get("scale", (1.0,) * ndim), float)[-count:]
    units: Any = attributes.get("units") or ()
    unit = unit_of(str(units[-1])) if len(units) else ""
    # A layer in pixels, for instance one without metadata, may have a scale as well.
    kernel = parse_spec(
        settings.text, count, spacing=abs(scale).tolist(), unit="" if unit == "px" else unit
    )
    return mirrored(kernel, [k for k in range(count) if scale[k] < 0]), axes
