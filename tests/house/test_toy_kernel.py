"""A kernel that is registered at run time works everywhere without any other edit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import separable as sep
from separable import kernels
from separable.cli.main import run
from separable.errors import ArgumentError
from separable.explore.questions import answer
from separable.kernels import register_kernel, registered_kernels, unregister_kernel

ROW = np.array([1.0, 2.0, 3.0])


def ramp(height: float, *, ndim: int = 2) -> sep.Factors:
    """Return a ramp along every axis."""
    letters = "tzyx"[-ndim:]
    return sep.Factors.from_terms(
        f"{letters} -> {','.join(letters)}", [[height * ROW] + [ROW] * (ndim - 1)]
    )


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    register_kernel(ramp, {"height": "number"})
    yield
    unregister_kernel("ramp")


def test_text_names_it() -> None:
    assert (registered_kernels()[-1].name, registered_kernels()[-1].description) == (
        "ramp", "a ramp along every axis",
    )  # fmt: skip
    expected = 4.0 * np.multiply.outer(ROW, ROW)
    np.testing.assert_array_equal(kernels.parse_spec("ramp:4").dense(), expected)
    assert kernels.parse_spec("ramp:height=4", ndim=3).shape == (3, 3, 3)
    with pytest.raises(ArgumentError, match="`height` of kernel `ramp` must be a number; got 'x'"):
        kernels.parse_spec("ramp:x")


def test_the_command_line_lists_it_and_filters_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["kernel"]) == 0
    assert "a ramp along every axis" in capsys.readouterr().out
    image = np.arange(30.0).reshape(5, 6)
    np.save(tmp_path / "in.npy", image)
    paths = [str(tmp_path / "in.npy"), str(tmp_path / "out.npy")]
    assert run(["filter", *paths, "--kernel", "ramp:4"]) == 0
    np.testing.assert_allclose(
        np.load(tmp_path / "out.npy"), sep.correlate(image, ramp(4)), rtol=1e-12
    )


def test_the_page_offers_it() -> None:
    assert "ramp" in answer("start", b"{}", {})["kernels"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"height": "colour"}, "must have types among number, .*; got height='colour'"),
        ({"width": "number"}, "must name parameters of slope; got 'width'"),
    ],
)
def test_wrong_parameters_are_refused(parameters: dict[str, str], message: str) -> None:
    def slope(height: float) -> sep.Factors:
        return ramp(height)

    with pytest.raises(ArgumentError, match=message):
        register_kernel(slope, parameters)


def test_a_name_is_given_once() -> None:
    with pytest.raises(ArgumentError, match="the catalogue has 'ramp' already"):
        register_kernel(ramp, {})
