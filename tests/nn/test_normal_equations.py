"""Normal equations of the factors of each filter."""

from __future__ import annotations

import numpy as np
import pytest

from separable.nn.convert.normal_equations import filter_equations


@pytest.mark.parametrize("block", [1, 3 * 8 * 2 * 16 * 5, 2**26])
def test_blocks_of_outputs_have_the_equations_of_each_output(block: int) -> None:
    rng = np.random.default_rng(0)
    outputs, terms, taps, tail = 7, 2, 4, 5
    rows = rng.normal(size=(outputs, terms, tail))
    product = rng.normal(size=(outputs, taps, tail))
    moment = rng.normal(size=(taps, tail, taps, tail))
    flat = moment.transpose(1, 0, 2, 3).reshape(tail, -1)
    seen = []
    for (first, last), normals, right in filter_equations(rows, product, flat, block):
        for o, normal, wanted in zip(range(first, last), normals, right, strict=True):
            seen.append(o)
            expected = np.einsum("kM,lMpN,jN->lkpj", rows[o], moment, rows[o])
            np.testing.assert_allclose(normal, expected, atol=1e-10)
            np.testing.assert_allclose(wanted, product[o] @ rows[o].T, atol=1e-12)
    assert seen == list(range(outputs))
