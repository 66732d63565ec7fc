"""The widget: a magicgui form for `separable.napari.filter_layer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from separable.errors import SeparableError
from separable.kernels import registered_kernels
from separable.napari.filter_layer import AXES, KEPT, Settings, explained, filtered, mode_choices

if TYPE_CHECKING:
    import napari.layers
    import napari.types

__all__ = ["make_widget"]

HELP = (
    "Kernel name, or name with parameters: gabor:8,theta=45deg, gaussian:2um, gaussian:3px. Names: "
)


def make_widget() -> Any:
    """Return a new widget for the dock of napari.

    Returns
    -------
    magicgui.widgets.FunctionGui
        When called, it returns a `LayerDataTuple`, which napari adds to the viewer.

    Raises
    ------
    ImportError
        If magicgui, which comes with napari, is not installed.
    """
    from magicgui import magic_factory  # optional

    factory = magic_factory(
        _run,
        call_button="Apply",
        widget_init=_connect,
        kernel={"tooltip": HELP + ", ".join(sorted(k.name for k in registered_kernels()))},
        sigma={
            "min": 0.01,
            "max": 1e6,
            "step": 0.5,
            "tooltip": "Standard deviation in the units of the scale.",
        },
        mode={"choices": mode_choices()},
        axes={"choices": tuple(AXES)},
        plan={"widget_type": "TextEdit", "value": "", "enabled": True},
    )
    return factory()


def _run(
    image: napari.layers.Image,
    kernel: str = "gaussian",
    sigma: float = 1.0,
    mode: str = "reflect",
    axes: str = "all axes",
    plan: str = "",
) -> napari.types.LayerDataTuple:
    """Filter the selected layer; `plan` is the text shown in the form, and is not used."""
    if image is None:
        return None
    try:
        return filtered(image.data, Settings(kernel, sigma, mode, axes), attributes_of(image))
    except SeparableError as mistake:
        from napari.utils.notifications import show_error  # optional

        show_error(str(mistake))
        return None


def attributes_of(layer: Any) -> dict[str, Any]:
    """Return the attributes of a layer that the new layer takes over."""
    found = {name: getattr(layer, name, None) for name in KEPT}
    return {**found, "name": layer.name}


def _connect(form: Any) -> None:
    """Update the plan whenever a setting changes."""
    form.plan.read_only = True
    text = form.plan.native  # a table, so lines must not be wrapped
    text.setMinimumHeight(220)
    text.setLineWrapMode(text.LineWrapMode.NoWrap)
    text.setStyleSheet("font-family: monospace; font-size: 10px")

    def explain() -> None:
        if form.image.value is None:
            form.plan.value = "Open an image first."
            return
        layer = form.image.value
        settings = Settings(form.kernel.value, form.sigma.value, form.mode.value, form.axes.value)
        form.plan.value = explained(layer.data, settings, attributes_of(layer))

    for field in (form.image, form.kernel, form.sigma, form.mode, form.axes):
        field.changed.connect(explain)
    explain()
