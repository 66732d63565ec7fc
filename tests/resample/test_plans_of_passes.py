"""Plans of resampling, of regions and of features count what is computed, print it, and run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sep
from separable import features, resample
from separable.cli import run
from separable.errors import ArgumentError, ArgumentTypeError, SeparableError

pytestmark = pytest.mark.apart

RNG = np.random.default_rng(6)
VOLUME = RNG.random((10, 24, 18)).astype(np.float32)
CALLS: dict[str, tuple[Any, Any, tuple[Any, ...], dict[str, Any]]] = {
    "resize": (resample.plan_resize, resample.resize, ((20, 12, 18),), {"interpolation": "cubic"}),
    "rescale": (resample.plan_rescale, resample.rescale, (0.5,), {"interpolation": "area"}),
    "resample": (resample.plan_resample, resample.resample, ((3, 1, 1), 1.5), {"mode": "wrap"}),
    "downsample": (resample.plan_downsample, resample.downsample, (3,), {"method": "gaussian"}),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_plan_has_the_shape_and_values_of_the_function(name: str) -> None:
    planner, function, arguments, options = CALLS[name]
    # `plan_resize(shape, new_shape, dtype)` has the arguments of the function before the type.
    planned = planner(VOLUME.shape, *arguments, "float32", **options)
    expected = function(VOLUME, *arguments, **options)
    assert planned.shape == expected.shape
    np.testing.assert_array_equal(planned(VOLUME), expected)
    with pytest.raises(ArgumentError, match="this plan is for shape"):
        planned(VOLUME[1:])


@pytest.mark.parametrize("name", CALLS)
def test_multiplications_are_weights_times_lines(name: str) -> None:
    planner, _, arguments, options = CALLS[name]
    planned = planner(VOLUME.shape, *arguments, "float32", **options)
    sides, total, dense = list(VOLUME.shape), 0, 1.0
    for one in planned.passes:
        matrix = planned.request.bands[one.axis]
        weights = np.count_nonzero(matrix.weights)
        sides[one.axis] = matrix.size
        others = math.prod(n for a, n in enumerate(sides) if a != one.axis)
        total += others * weights
        dense *= weights / matrix.size
        assert one.shape == tuple(sides)
    assert planned.multiplications == total
    assert planned.multiplications_dense == pytest.approx(dense * math.prod(planned.shape))
    shrinking = [planned.request.bands[one.axis].outputs_per_sample for one in planned.passes]
    assert shrinking == sorted(shrinking)  # the later passes have less to do
    assert f"{total:,} in all" in " ".join(str(planned).split())


def test_labels_levels_and_types() -> None:
    labels = resample.plan_resize((8, 8), (3, 3), "uint8", interpolation="majority")
    assert labels.multiplications == 0
    assert "Labels are counted" in str(labels)
    levels = resample.plan_pyramid((40, 50), 3, "float32")
    found = resample.pyramid(np.zeros((40, 50), np.float32), 3)
    assert [level.shape for level in levels.levels] == [level.shape for level in found[1:]]
    assert f"All levels: {levels.multiplications} multiplications." in str(levels)
    wide = resample.plan_resize((8,), 4, "uint8", output="float32")
    assert wide(np.arange(8, dtype=np.uint8)).dtype == np.float32
    assert "uint8 -> float32" in str(wide)
    assert "every output is a sample" in str(resample.plan_resize((8,), 8))
    for wrong in (lambda: resample.plan_resize(8, 4), lambda: resample.plan_resize("8", 4)):
        with pytest.raises(ArgumentTypeError, match="`shape` must be the sizes"):
            wrong()
    with pytest.raises(SeparableError, match="dtype"):
        resample.plan_resize((8,), 4, "text")


def test_plans_of_regions_are_plans_of_the_package() -> None:
    kernel = sep.kernels.gaussian(1.0)
    planned: Any = sep.plan(kernel, (40, 50), "float32", stride=(2, 1), output_region="valid")
    assert isinstance(planned, resample.RegionPlan)
    image = RNG.random((40, 50)).astype(np.float32)
    expected = sep.convolve(image, kernel, stride=(2, 1), output_region="valid")
    np.testing.assert_array_equal(planned(image), expected)
    assert planned.multiplications == sum(one.multiplications for one in planned.passes)
    assert planned.to_dict()["stride"] == [2, 1]
    assert isinstance(sep.plan(kernel, (40, 50), stride=1), sep.Plan)
    dense: Any = sep.plan(RNG.random((3, 3)) > 0.5, (40, 50), stride=2)
    assert str(dense).splitlines()[1].startswith(("dense:", "separable:"))


FEATURES: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
    (features.frangi, ([1.0, 2.0],), {"black_ridges": False}),
    (features.hessian_eigenvalues, (1.5,), {"spacing": (2, 1, 1)}),
    (features.structure_tensor_eigvals_of, (1.0,), {}),
    (features.local_variance, (3,), {}),
    (features.meijering, ([1.0],), {}),
    (features.gradient_magnitude, (1.0,), {"axes": (1, 2)}),
    (features.blob_response, ([1.0, 2.0],), {}),
]


@pytest.mark.parametrize(("function", "arguments", "options"), FEATURES)
def test_plans_of_features(function: Any, arguments: Any, options: Any) -> None:
    planned = features.plan_features(function, VOLUME.shape, "float32", *arguments, **options)
    np.testing.assert_array_equal(planned(VOLUME), function(VOLUME, *arguments, **options))
    for sweep in planned.sweeps:
        assert sweep.multiplications <= sweep.alone <= sweep.dense
    assert f"{planned.multiplications} per sample" in " ".join(str(planned).split())
    with pytest.raises(ArgumentError, match="this plan is for shape"):
        planned(VOLUME[1:])


def test_shared_passes_of_the_six_second_derivatives() -> None:
    planned = features.plan_features(features.hessian_eigenvalues, (64, 64, 64), "float32", 2.0)
    (sweep,) = planned.sweeps
    taps = sweep.sides[0]
    # 3 + 6 + 6 passes: along the first axis three orders, along the others one for each sum.
    assert sweep.passes == 15
    assert sweep.dense <= 6 * taps**3
    assert planned.results == 3
    many = features.plan_features(features.texture_features, (64, 64), "uint8")
    assert len(many.sweeps) == 18
    assert "×" not in str(many)
    assert max(map(len, str(many).splitlines())) <= 80
    for function in (np.zeros, features.gradient_direction):
        with pytest.raises(SeparableError):
            features.plan_features(function, (8, 8))


def test_the_command_line_explains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "in.npy", VOLUME)
    source = str(tmp_path / "in.npy")
    assert run(["resample", source, str(tmp_path / "out.npy"), "--scale", "0.5", "--explain"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "pass axis samples weights result multiplications" in said
    assert "Multiplications:" in said
    assert run(["features", source, str(tmp_path / "out"), "--frangi", "1", "--explain"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "computes reads results passes mult alone dense" in said
    assert run(["plan", "-k", "gaussian:1", "--shape", "15x15", "--output-region", "valid"]) == 0
    assert "7x7 outputs of 15x15 (valid)" in capsys.readouterr().out
    assert run(["plan", "-k", "gaussian:1", "--shape", "15x15", "--stride", "2", "--sweep"]) == 2
    assert "leave out" in capsys.readouterr().err
