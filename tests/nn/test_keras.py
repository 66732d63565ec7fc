"""Against Keras, on its PyTorch backend: layer by layer the same outputs, weights and fans."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from separable import nn as snn
from separable.errors import ArgumentError

# What Keras does with NumPy 2 is for Keras to mend.
pytestmark = pytest.mark.filterwarnings("ignore:.*__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def keras(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Keras reads its backend and its folder from the environment when it is imported."""
    wanted = {"KERAS_BACKEND": "torch", "KERAS_HOME": str(tmp_path_factory.mktemp("keras"))}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    module = importlib.import_module("keras")
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    assert module.backend.backend() == "torch"
    return module


@dataclass(frozen=True)
class Case:
    """The arguments of a Keras layer and the shape of an input."""

    ndim: int
    channels: int
    outputs: int
    kernel: tuple[int, ...]
    stride: int
    padding: str
    dilation: int
    multiplier: int
    bias: bool
    space: tuple[int, ...]
    seed: int

    @property
    def arguments(self) -> dict[str, Any]:
        """Names of these in Keras."""
        return {
            "strides": self.stride, "padding": self.padding, "dilation_rate": self.dilation,
            "depth_multiplier": self.multiplier, "use_bias": self.bias,
            "bias_initializer": "random_normal",
        }  # fmt: skip

    @property
    def image(self) -> np.ndarray:
        """An input, channels last."""
        shape = (2, *self.space, self.channels)
        return np.random.default_rng(self.seed).normal(size=shape).astype(np.float32)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    ndim = draw(st.sampled_from([1, 2]))
    small = st.integers(1, 4)
    return Case(
        ndim, draw(small), draw(small), draw(st.tuples(*[st.integers(1, 5)] * ndim)),
        draw(st.integers(1, 3)), draw(st.sampled_from(["same", "valid"])),
        draw(st.integers(1, 2)), draw(small), draw(st.booleans()),
        draw(st.tuples(*[st.integers(9, 14)] * ndim)), draw(st.integers(0, 10**6)),
    )  # fmt: skip


def compare(case: Case, theirs: Any, ours: Any) -> None:
    """The same output, and the same weights when they are handed back."""
    expected = theirs(case.image).detach().numpy()
    weights = theirs.get_weights()
    layer = ours.from_keras_weights(
        weights, stride=case.stride, padding=case.padding, dilation=case.dilation
    )
    got = layer(torch.tensor(case.image).movedim(-1, 1)).movedim(1, -1).detach().numpy()
    assert got.shape == expected.shape
    assert np.allclose(got, expected, atol=1e-5)
    back = layer.to_keras_weights()
    assert [w.shape for w in back] == [w.shape for w in weights]
    assert all(np.array_equal(a, b) for a, b in zip(back, weights, strict=True))
    theirs.set_weights(back)


@settings(max_examples=60)
@given(case=cases())
def test_separable_layers(keras: Any, case: Case) -> None:
    made = getattr(keras.layers, f"SeparableConv{case.ndim}D")
    theirs = made(case.outputs, case.kernel, **case.arguments)
    compare(case, theirs, getattr(snn, f"SeparableConv{case.ndim}d"))


@settings(max_examples=60)
@given(case=cases())
def test_depthwise_layers(keras: Any, case: Case) -> None:
    made = getattr(keras.layers, f"DepthwiseConv{case.ndim}D")
    theirs = made(case.kernel, **case.arguments)
    compare(case, theirs, getattr(snn, f"DepthwiseConv{case.ndim}d"))


@pytest.mark.parametrize("size", range(3, 12))
@pytest.mark.parametrize("stride", [2, 3, 4])
@pytest.mark.parametrize("kernel", [2, 3, 5])
def test_same_padding_of_strides_at_every_size(
    keras: Any, size: int, stride: int, kernel: int
) -> None:
    theirs = keras.layers.DepthwiseConv1D(kernel, strides=stride, padding="same")
    image = np.random.default_rng(size).normal(size=(1, size, 2)).astype(np.float32)
    expected = theirs(image).detach().numpy()
    layer = snn.DepthwiseConv1d.from_keras_weights(
        theirs.get_weights(), stride=stride, padding="same"
    )
    got = layer(torch.tensor(image).movedim(-1, 1)).movedim(1, -1).detach().numpy()
    assert got.shape == expected.shape
    assert np.allclose(got, expected, atol=1e-6)


def test_the_keras_initialiser_has_the_bounds_that_keras_draws_within(keras: Any) -> None:
    theirs = keras.layers.SeparableConv2D(64, 3, depth_multiplier=2)
    theirs.build((None, 8, 8, 128))
    layer = snn.initialise(snn.SeparableConv2d(128, 64, 3, depth_multiplier=2), "keras")
    for mine, keras_weight in zip(layer.to_keras_weights(), theirs.get_weights(), strict=True):
        assert np.abs(mine).max() == pytest.approx(np.abs(keras_weight).max(), rel=0.01)


def test_what_keras_has_no_layer_for_is_refused() -> None:
    first = snn.SeparableConv2d(4, 6, 3, order="pointwise_first")
    ragged = snn.SeparableConv2d(4, 6, 3, depth_multiplier=[1, 2, 1, 1])
    grouped = snn.SeparableConv2d.from_dense(torch.nn.Conv2d(4, 6, 3, groups=2))
    for layer in (first, ragged, grouped):
        with pytest.raises(ArgumentError, match="Keras's separable layers have no groups, run"):
            layer.to_keras_weights()


@pytest.mark.parametrize(
    ("layer", "shapes", "wanted"),
    [
        (snn.SeparableConv2d, [(3, 3, 4, 2)], "(*space, in, multiplier), (1.., in * multiplier"),
        (snn.SeparableConv2d, [(3, 4, 2), (1, 8, 5)], "(*space, in, multiplier), (1.., in"),
        (snn.SeparableConv2d, [(3, 3, 4, 2), (1, 1, 6, 5)], "(3, 3, 4, 2), (1, 1, 8, 5)"),
        (snn.SeparableConv1d, [(3, 4, 2), (1, 8, 5), (4,)], "(3, 4, 2), (1, 8, 5), (5,)"),
        (snn.DepthwiseConv2d, [(3, 3, 4, 2), (4,)], "(3, 3, 4, 2), (8,)"),
        (snn.DepthwiseConv1d, [], "(*space, in, multiplier), (in * multiplier,)"),
    ],
)
def test_weights_of_other_shapes_are_refused(
    layer: Any, shapes: list[tuple[int, ...]], wanted: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        layer.from_keras_weights([np.zeros(s) for s in shapes])
    message = str(caught.value)
    assert message.startswith(f"{layer.__name__}.from_keras_weights: expected `weights` of shapes")
    assert wanted in message
    assert f"got {len(shapes)} of shapes" in message
