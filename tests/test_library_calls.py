"""Calls of SciPy and OpenCV that stand beside a plan: they compute the same filter, and the table says so."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sep
from separable import kernels
from separable.cli import run
from separable.files import write_image
from separable.plan import library_calls as module
from separable.plan.library_calls import compare_calls, library_calls

RNG = np.random.default_rng(11)
LOG = kernels.laplacian_of_gaussian(1.2)


@pytest.mark.parametrize("operation", ["convolve", "correlate"])
@pytest.mark.parametrize(
    ("mode", "cval"),
    [(m, 0.5) for m in ("reflect", "mirror", "nearest", "wrap", "constant")] + [("constant", 0.0)],
)
@pytest.mark.parametrize(
    ("kernel", "shape", "axes", "names"),
    [
        (np.outer([1, 2, 5.0], [1, 0, -1, 4, 2]), (21, 18), None, {"SciPy, passes", "OpenCV"}),
        (np.outer([1, 2, 5.0], [1, 0, -1, 4, 2]), (19, 21, 3), (0, 1), {"SciPy, passes", "OpenCV"}),
        (np.outer([1, 2, 5.0], [1, 0, -1, 4, 2]), (19, 5, 21), (2, 0), {"SciPy, passes"}),
        (np.outer([1, 2.0], [1, 3, -1, 4.0]), (17, 18), None, {"SciPy, passes"}),
        (LOG, (23, 20), None, {"SciPy, passes", "OpenCV"}),
        (RNG.normal(size=(7, 7)), (21, 18), None, {"OpenCV"}),
        (RNG.normal(size=5), (9, 30), 1, set()),
        (kernels.gaussian(1, ndim=3), (11, 12, 13), None, {"SciPy, passes"}),
    ],
)
def test_every_call_computes_the_filter(
    kernel: Any, shape: tuple[int, ...], axes: Any, names: set[str], mode: str, cval: float,
    operation: str,
) -> None:  # fmt: skip
    image = RNG.normal(size=shape)
    planned = sep.plan(
        kernel, shape, image.dtype, axes=axes, mode=mode, cval=cval, operation=operation
    )
    calls = library_calls(planned, image)
    expected = {"SciPy, dense", *names}
    if mode == "constant" and cval:  # lies outside between the passes too
        expected.discard("SciPy, passes")
    if "OpenCV" in names and (
        find_spec("cv2") is None or mode not in ("reflect", "mirror", "nearest")
    ):
        expected.remove("OpenCV")
    assert set(calls) == expected
    result = planned(image)
    for name, call in calls.items():
        np.testing.assert_allclose(
            call(), result, rtol=1e-9, atol=1e-9 * np.abs(result).max(), err_msg=name
        )


def test_opencv_is_left_out_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    image = np.zeros((9, 9))
    assert "OpenCV" not in library_calls(sep.plan("sobel", image.shape), image)


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        (np.float16, {}),
        (np.complex64, {}),
        (np.float64, {"origin": 1}),
        (np.float64, {"mode": ("reflect", "wrap")}),
        (np.float64, {"output": np.complex128}),
    ],
)
def test_what_the_libraries_do_not_have_is_not_compared(
    dtype: Any, options: dict[str, Any]
) -> None:
    image = np.zeros((12, 12), dtype)
    planned = sep.plan("gaussian:1", image.shape, image.dtype, **options)
    assert library_calls(planned, image) == {}
    compared = compare_calls(planned, image)
    assert compared.others == ()
    assert "SciPy and OpenCV have no function for this filter and type." in str(compared)


def test_a_large_image_is_compared_in_its_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PRODUCTS", 1e5)
    image = RNG.normal(size=(200, 60, 3))
    planned = sep.plan("gaussian:1", image.shape, image.dtype, axes=(0, 1))
    compared = compare_calls(planned, image)
    assert not compared.whole
    assert math.prod(compared.shape) * planned.request.kernel.size <= 1e5
    assert all(
        n >= 2 * taps for n, taps in zip(compared.shape, planned.request.kernel.shape, strict=False)
    )
    sizes = "x".join(map(str, compared.shape))
    assert f"Measured on {sizes} samples in the image's centre" in str(compared)


def test_no_call_is_timed_that_would_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that is large beside its image cannot be tried on a small part."""
    monkeypatch.setattr(module, "MOST_PRODUCTS", 1e3)
    planned = sep.plan("gaussian:1", (20, 20))
    names = [call.name for call in compare_calls(planned, np.zeros((20, 20))).others]
    assert "SciPy, dense" not in names
    assert "SciPy, passes" in names


def test_the_chosen_method_may_be_the_dense_one() -> None:
    image = RNG.normal(size=(30, 30))
    compared = compare_calls(sep.plan("gaussian:1", image.shape, method="direct"), image)
    assert compared.dense is None
    assert compared.chosen.name == "direct"
    assert str(compared).count(" direct ") == 1


def test_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    found = module.Comparison(
        (512, 700), True,
        (module.TimedCall("SciPy, dense", 0.0869), module.TimedCall("SciPy, passes", 0.00365)),
        module.TimedCall("direct", 0.0002, 0.000969),
        module.TimedCall("separable", 0.000366, 0.000196),
    )  # fmt: skip
    lines = str(found).splitlines()
    assert lines[0].startswith("Measured on the image, 512x700: the shortest of up to 5 runs")
    assert [line.split() for line in lines[3:7]] == [
        ["SciPy,", "dense", "-", "86.9", "ms", "237.4x", "slower"],
        ["SciPy,", "passes", "-", "3.65", "ms", "10.0x", "slower"],
        ["direct", "969", "us", "200", "us", "1.8x", "faster"],
        ["*", "separable", "196", "us", "366", "us", "chosen"],
    ]
    assert max(map(len, lines)) <= 80


def test_a_call_that_takes_long_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    counts = {"a": 0, "b": 0}

    def call(name: str) -> Any:
        def counted() -> Any:
            counts[name] += 1

        return counted

    times = module.shortest_times({name: call(name) for name in counts})
    assert counts == {"a": 1, "b": 1}
    assert set(times) == {"a", "b"}


def test_the_command_prints_it_for_one_kernel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.png"
    write_image(source, RNG.integers(0, 255, (40, 50), np.uint8))
    given = ["filter", str(source), str(tmp_path / "out.png"), "--force", "--explain"]
    assert run([*given, "-k", "gaussian:1"]) == 0
    text = capsys.readouterr().out
    assert "Measured on the image, 40x50" in text
    assert "SciPy, passes" in text
    assert run([*given, "-k", "sobel", "--magnitude"]) == 0
    assert "Measured on" not in capsys.readouterr().out
