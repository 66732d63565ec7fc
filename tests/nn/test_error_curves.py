"""Curves of errors: every point can be built, and has the error that it says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from separable.lowering.conv_spec import ConvSpec
from separable.nn.convert.decompose import decomposed
from separable.nn.convert.error_curves import curve
from separable.nn.convert.patterns import scheme_of
from separable.pattern import parse


def weights(kind: str, outputs: int, inputs: int) -> np.ndarray:
    """Return weights (outputs, inputs, 3, 3), most or none of whose energy lies in few directions of one axis."""
    rng = np.random.default_rng(3)
    found = rng.normal(size=(outputs, inputs, 3, 3))
    few_out = rng.normal(size=(outputs, 2)) @ rng.normal(size=(2, inputs * 9))
    few_in = rng.normal(size=(outputs * 9, 2)) @ rng.normal(size=(2, inputs))
    if kind == "few outputs":
        return 20 * few_out.reshape(found.shape) + found
    if kind == "few inputs":
        moved = few_in.reshape(outputs, 3, 3, inputs).transpose(0, 3, 1, 2)
        return 20 * moved + found
    return found


@pytest.mark.parametrize("width", [0, 4, 16])
@pytest.mark.parametrize("kind", ["few outputs", "few inputs", "any"])
@pytest.mark.parametrize(("outputs", "inputs"), [(64, 64), (24, 96), (96, 24)])
def test_ranks_of_tucker_points_exist(outputs: int, inputs: int, kind: str, width: int) -> None:
    """The core bounds each rank by the other times its middle size: raised alone, one would not exist."""
    pattern = parse("ocyx -> oR,RyxS,Sc")
    scheme = scheme_of(
        pattern, ConvSpec.make("layer", 2, in_channels=inputs, out_channels=outputs, kernel_size=3)
    )
    kernel = weights(kind, outputs, inputs).reshape(scheme.kernel_shape)

    def cost(made: object) -> float:
        ranks = made.ranks  # type: ignore[attr-defined]
        r, s = (int(ranks[b].max()) for b in "RS")
        return r * outputs + 9 * r * s + s * inputs

    found = curve(scheme, kernel, cost, None, width)
    for point in range(len(found.costs)):
        ranks = found.ranks(point)
        assert isinstance(ranks, dict)
        r, s = (int(ranks[b]) for b in "RS")
        assert s <= 9 * r
        assert r <= 9 * s
        if point % 5:  # the arithmetic of some is enough
            continue
        left, core, right = decomposed(scheme.with_ranks(ranks), kernel)
        made = np.einsum(
            "or,ryxs,sc->ocyx",
            left.reshape(outputs, r),
            core.reshape(r, 3, 3, s),
            right.reshape(s, inputs),
        )
        error = np.linalg.norm(made.reshape(kernel.shape) - kernel) / np.linalg.norm(kernel)
        said = math.sqrt(found.errors[point])
        assert said * 0.7 - 1e-7 <= error <= said * 1.05 + 1e-6
