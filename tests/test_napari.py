"""The plugin of napari without a viewer: its manifest, and what the widget does."""

from __future__ import annotations

import importlib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from separable import kernels, ndimage
from separable.errors import ArgumentError
from separable.napari import Settings, explained, filtered
from separable.napari.filter_layer import AXES

DATA = np.random.default_rng(2).normal(size=(7, 20, 24))
LAYER = {"scale": (3, 1, 0.5), "translate": (1, 2, 3), "name": "stack", "units": ("um",) * 3}


def test_the_manifest_is_complete_and_names_what_is_there():
    yaml, tomllib = pytest.importorskip("yaml"), pytest.importorskip("tomllib")
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    module, _, name = project["project"]["entry-points"]["napari.manifest"]["separable"].partition(
        ":"
    )
    manifest = yaml.safe_load(files(module).joinpath(name).read_text())
    assert manifest["name"] == project["project"]["name"]
    commands = {c["id"]: c for c in manifest["contributions"]["commands"]}
    for command in commands.values():
        assert command["id"].startswith(f"{manifest['name']}.")
        assert command["title"]
        place, _, function = command["python_name"].partition(":")
        assert callable(getattr(importlib.import_module(place), function))
    (widget,) = manifest["contributions"]["widgets"]
    assert widget["command"] in commands
    assert widget["display_name"]


def test_the_new_layer_lies_where_the_old_one_does():
    data, attributes, kind = filtered(DATA, Settings(sigma=2.0), LAYER)
    np.testing.assert_allclose(
        data, ndimage.gaussian_filter(DATA, 2.0, spacing=LAYER["scale"]), atol=1e-13
    )
    assert kind == "image"
    assert attributes == {**LAYER, "name": "stack gaussian:2"}
    assert filtered(DATA, Settings(), {})[1] == {"name": "gaussian:1"}


@pytest.mark.parametrize(
    ("text", "kernel"),
    [
        ("gaussian", kernels.gaussian(2, spacing=LAYER["scale"])),
        ("gaussian:3", kernels.gaussian(3, spacing=LAYER["scale"])),
        ("gaussian:3000nm", kernels.gaussian(3, spacing=LAYER["scale"])),
        ("gaussian:3px", kernels.gaussian(3, ndim=3)),
        ("log", kernels.laplacian_of_gaussian(2, spacing=LAYER["scale"])),
        ("sobel:axis=0", kernels.sobel(0, spacing=LAYER["scale"])),
        ("ball:4", kernels.ball(4, spacing=LAYER["scale"])),
    ],
)
def test_kernels_are_measured_with_the_scale(text, kernel):
    import separable as sep

    data, _, _ = filtered(DATA, Settings(text, 2.0, "nearest"), LAYER)
    np.testing.assert_allclose(data, sep.correlate(DATA, kernel, mode="nearest"), atol=1e-12)


def test_axes_and_colours():
    stack = filtered(DATA, Settings(sigma=2.0, axes="the last two"), LAYER)[0]
    expected = ndimage.gaussian_filter(DATA, 2.0, axes=(1, 2), spacing=(1, 0.5))
    np.testing.assert_allclose(stack, expected, atol=1e-13)
    photo = np.random.default_rng(3).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    data, attributes, _ = filtered(photo, Settings(), {"rgb": True, "scale": (1, 1)})
    np.testing.assert_array_equal(data, ndimage.gaussian_filter(photo, 1, axes=(0, 1)))
    assert attributes["rgb"] is True
    with pytest.raises(ArgumentError, match="which a colour image cannot show"):
        filtered(photo, Settings("sobel"), {"rgb": True, "scale": (1, 1)})
    with pytest.raises(ArgumentError, match="which has 2; got 'the last three'"):
        filtered(photo, Settings(axes="the last three"), {"rgb": True})
    assert set(AXES.values()) == {0, 2, 3}


def test_a_layer_shown_upside_down_has_slopes_of_the_other_sign():
    one = filtered(DATA, Settings("sobel:axis=1"), {"scale": (3, 1, 0.5)})[0]
    other = filtered(DATA, Settings("sobel:axis=1"), {"scale": (3, -1, 0.5)})[0]
    np.testing.assert_allclose(other, -one, atol=1e-12)


def test_whole_numbers_keep_their_signs_and_smooth_ones_their_type():
    image = np.array([[9, 9, 0, 0]] * 4, np.uint8)
    data = filtered(image, Settings("sobel"), {})[0]
    assert data.dtype == np.float32
    assert data.min() == -36
    assert filtered(image, Settings(), {})[0].dtype == np.uint8


def test_the_finest_level_of_a_pyramid_is_filtered():
    data = filtered([DATA, DATA[:, ::2, ::2]], Settings(), LAYER)[0]
    assert data.shape == DATA.shape


def test_the_plan_and_mistakes_are_shown():
    text = explained(DATA, Settings(sigma=2.0), LAYER)
    assert text.startswith("correlate 7x17x33 on 7x20x24 float64, reflect, exact")
    assert "Chosen: " in text
    assert explained(DATA, Settings("gaussian:x"), LAYER).startswith("`sigma` of kernel")
    wrong = explained(DATA, Settings("gaussian:2mm"), {"scale": (1, 1, 1), "units": ("pixel",) * 3})
    assert "has no unit of length" in wrong


def test_the_widget_is_made():
    pytest.importorskip("napari")
    from separable.napari.widget import make_widget

    assert [w.name for w in make_widget()][:5] == ["image", "kernel", "sigma", "mode", "axes"]
