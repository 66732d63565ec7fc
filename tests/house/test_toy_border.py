"""A border mode is one object in one registry: a toy one works everywhere without another edit."""

from __future__ import annotations

import ast
import importlib
import itertools
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sep
import toy_borders
from separable import ndimage
from separable.borders import (
    Border,
    canonical,
    mode_names,
    register_border,
    registered_borders,
    unregister_border,
)
from separable.errors import ArgumentError, ArgumentTypeError, ModeError, SeparableError
from separable.testing import reference_valid, with_each_method
from separable.volumes import filter_block, needs
from separable.volumes.filter_stages import groupings
from separable.volumes.halo import block_filter, chunkwise
from toy_borders import EdgeOnce, FarEdge

RNG = np.random.default_rng(14)


@pytest.fixture(autouse=True)
def toys() -> Iterator[None]:
    """Register the toy borders for one test."""
    made = [register_border(FarEdge()), register_border(EdgeOnce())]
    yield
    for border in made:
        unregister_border(border)
    assert len(registered_borders()) == 5


NAMES = ("far-edge", "edge-once")
PADDED = {
    "reflect": {"mode": "symmetric"}, "mirror": {"mode": "reflect"}, "nearest": {"mode": "edge"},
    "wrap": {"mode": "wrap"},
}  # fmt: skip


def extended(image: np.ndarray, axis: int, widths: tuple[int, int], mode: str, cval: float) -> Any:
    """An image extended along one axis, without this package."""
    before, after = widths
    pads = [widths if a == axis else (0, 0) for a in range(image.ndim)]
    if mode == "constant":
        return np.pad(image, pads, constant_values=cval)
    if mode in PADDED:
        return np.pad(image, pads, **PADDED[mode])
    lines = np.moveaxis(image, axis, 0)
    first, last = lines[:1], lines[-1:]
    if mode == "far-edge":
        parts = [last] * before + [lines] + [first] * after
    else:
        constant = np.full_like(first, cval)
        parts = [constant] * (before - 1) + [first] * (before > 0)
        parts += [lines, *([last] * (after > 0)), *([constant] * (after - 1))]
    return np.moveaxis(np.concatenate(parts), 0, axis)


def correlated(
    image: np.ndarray, kernel: np.ndarray, axes: tuple[int, ...], modes: Any, cval: float = 0.0
) -> np.ndarray:
    """The definition, in float64."""
    names = [modes] * len(axes) if isinstance(modes, str) else modes
    wide = image.astype(np.float64)
    for axis, n, mode in zip(axes, kernel.shape, names, strict=True):
        wide = extended(wide, axis, (n // 2, n - 1 - n // 2), mode, cval)
    total = np.zeros(image.shape)
    for at in np.ndindex(*kernel.shape):
        window = [slice(None)] * image.ndim
        for axis, start in zip(axes, at, strict=True):
            window[axis] = slice(start, start + image.shape[axis])
        total += kernel[at] * wide[tuple(window)]
    return total


def product(*sizes: int) -> np.ndarray:
    kernel: Any = np.ones(())
    for n in sizes:
        kernel = np.multiply.outer(kernel, RNG.normal(size=n))
    return np.asarray(kernel)


def image_of(shape: tuple[int, ...], dtype: str = "float64") -> np.ndarray:
    values = RNG.normal(size=shape) * 40 + 100
    return np.clip(values, 0, 255).astype(dtype) if dtype == "uint8" else values.astype(dtype)


def close(got: Any, expected: np.ndarray, dtype: str = "float64") -> None:
    got = np.asarray(got)
    if dtype == "uint8":
        expected = np.clip(np.rint(expected), 0, 255)
        assert np.abs(got.astype(float) - expected).max(initial=0) <= 1
        return
    limit = 1e-10 if dtype == "float64" else 1e-4
    np.testing.assert_allclose(got, expected, atol=limit * max(1, np.abs(expected).max()), rtol=0)


SHAPES = [
    ((17,), (5,)), ((3,), (9,)), ((1,), (4,)), ((40,), (40,)), ((9, 14), (3, 4)), ((2, 3), (7, 6)),
    ((6, 40, 5), (3, 4, 2)), ((40, 33), (1, 31)), ((5, 7, 6), (9, 3, 5)),
]  # fmt: skip


@pytest.mark.parametrize("mode", NAMES)
@pytest.mark.parametrize(
    ("shape", "sizes", "dtype"),
    [(*case, "float64") for case in SHAPES]
    + [(*case, dtype) for case in SHAPES[2:8:2] for dtype in ("float32", "uint8")],
)
def test_every_method_gives_the_definition(
    shape: tuple[int, ...], sizes: tuple[int, ...], mode: str, dtype: str
) -> None:
    image, axes = image_of(shape, dtype), tuple(range(len(shape)))
    boxes = np.full(sizes, 1 / np.prod(sizes))
    for kernel in (boxes, product(*sizes), boxes + product(*sizes) / 9, RNG.normal(size=sizes)):
        kernel = kernel / np.abs(kernel).sum()
        expected = correlated(image, kernel, axes, mode, 2.5)
        plan = sep.plan(kernel, shape, dtype, mode=mode, cval=2.5, operation="correlate")
        ran = [
            (name, result, close(result, expected, dtype))
            for name, result in with_each_method(
                lambda m, k=kernel: sep.correlate(image, k, mode=mode, cval=2.5, method=m), plan
            )
        ]
        assert len(ran) >= 3


@pytest.mark.compiled
def test_recursions_give_the_definition_within_their_tolerance() -> None:
    image, kernel = image_of((300, 80)), sep.kernels.gaussian(9)
    plan = sep.plan(kernel, image.shape, mode="far-edge", tol=1e-3, operation="correlate")
    found = next(c for c in plan.candidates if c.method == "recursive")
    assert not found.refused
    again = sep.plan(kernel, image.shape, mode="far-edge", tol=1e-3, method=found.name)
    expected = correlated(image, kernel.dense(), (0, 1), "far-edge")
    assert np.abs(again(image) - expected).max() <= 1e-3 * np.abs(image).max()


@pytest.mark.parametrize("other", ["reflect", "mirror", "nearest", "wrap", "constant", *NAMES])
@pytest.mark.parametrize("mode", NAMES)
def test_modes_mix(mode: str, other: str) -> None:
    image, kernel = image_of((7, 12, 9)), product(4, 5)
    for modes in ((mode, other), (other, mode)):
        expected = correlated(image, kernel, (2, 0), modes, 1.5)
        got = sep.correlate(image, kernel, axes=(2, 0), mode=modes, cval=1.5)
        close(got, expected)
        flipped = sep.convolve(image, kernel[::-1, ::-1], axes=(2, 0), mode=modes, cval=1.5,
                               origin=(-1, 0))  # fmt: skip
        close(flipped, expected)


def taken(image: np.ndarray, index: Any) -> np.ndarray:
    for axis, part in enumerate(index):
        image = np.take(image, np.arange(image.shape[axis])[part], axis=axis)
    return image


@pytest.mark.parametrize("mode", NAMES)
@pytest.mark.parametrize("cval", [0.0, 2.5])
def test_blocks_are_bit_identical_to_the_whole(mode: str, cval: float) -> None:
    for (shape, sizes), terms in itertools.product(SHAPES, (1, 2)):
        image = image_of(shape, "float32")
        kernel = sum(product(*sizes) for _ in range(terms))
        for method in ("auto", "direct"):
            try:
                made = sep.plan(kernel, shape, "float32", mode=mode, cval=cval, method=method)
            except SeparableError:
                continue
            plan = chunkwise(made)
            whole = plan(image)
            cuts = [[slice(a, min(a + 5, n)) for a in range(0, n, 5)] for n in shape]
            for region in itertools.product(*cuts):
                part = filter_block(plan, taken(image, needs(plan, region)), region)
                assert part.tobytes() == whole[region].tobytes(), (shape, region, plan.chosen.name)
            for stages in groupings(block_filter(plan)):
                step = image
                for one in stages:
                    step = one.run(step, one.block([slice(0, n) for n in shape])).copy()
                assert step.tobytes() == whole.tobytes()


def test_a_block_holds_no_more_than_it_needs() -> None:
    plan = sep.plan(np.ones(5), (1000,), mode="far-edge", method="separable")
    assert needs(plan, (slice(500, 510),)) == (slice(498, 512),)
    assert np.array_equal(needs(plan, (slice(0, 4),))[0], [999, 999, 0, 1, 2, 3, 4, 5])
    plan = sep.plan(np.ones(5), (1000,), mode="edge-once", method="separable", cval=1.0)
    assert needs(plan, (slice(0, 4),)) == (slice(0, 6),)


@pytest.mark.parametrize("mode", NAMES)
def test_dask_arrays_are_bit_identical(mode: str) -> None:
    array = pytest.importorskip("dask.array")
    image, kernel = image_of((20, 30), "float32"), product(4, 7) + product(4, 7)
    lazily = array.from_array(image, chunks=(6, 8))
    expected = sep.convolve(image, kernel, mode=mode, cval=1.5)
    got = sep.convolve(lazily, kernel, mode=mode, cval=1.5)
    assert got.compute().tobytes() == expected.tobytes()
    if mode == NAMES[0]:
        processes = got.compute(scheduler="processes", num_workers=1)
        assert processes.tobytes() == expected.tobytes()
    again = sep.convolve(lazily, kernel, mode=canonical(mode), cval=1.5)
    assert again.name == got.name
    assert sep.convolve(lazily, kernel, mode="wrap").name != got.name


@pytest.mark.parametrize("mode", NAMES)
def test_tensors_and_their_gradients(mode: str) -> None:
    torch = pytest.importorskip("torch")
    image, kernel = image_of((6, 9)), product(4, 5)
    expected = correlated(image, kernel, (0, 1), mode, 1.5)
    tensor = torch.tensor(image, requires_grad=True)
    result = sep.correlate(tensor, kernel, mode=mode, cval=1.5)
    close(result.detach(), expected)
    weights = torch.tensor(kernel, requires_grad=True)  # runs as PyTorch's own operations
    other = torch.tensor(image, requires_grad=True)
    close(sep.correlate(other, weights, mode=mode, cval=1.5).detach(), expected)
    seed = torch.tensor(RNG.normal(size=image.shape))
    (own,) = torch.autograd.grad((result * seed).sum(), tensor)
    theirs = sep.correlate(other, weights, mode=mode, cval=1.5)
    (by_torch,) = torch.autograd.grad((theirs * seed).sum(), other)
    close(own, by_torch.numpy())


@pytest.mark.parametrize("mode", NAMES)
def test_files(mode: str, tmp_path: Path) -> None:
    from separable.volumes import filter as filter_file

    image, kernel = image_of((24, 12, 10), "float32"), product(5, 4, 3)
    source, target = tmp_path / "in.npy", tmp_path / "out.npy"
    np.save(source, image)
    expected = sep.correlate(image, kernel, mode=mode, cval=1.5, method="separable")
    options = {"mode": mode, "cval": 1.5, "method": "separable"}
    filter_file(source, target, kernel, operation="correlate", **options)
    assert np.load(target).tobytes() == expected.tobytes()


def run_cli(*arguments: Any) -> int:
    from separable.cli import run

    return run([str(a) for a in arguments])


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = image_of((20, 24), "float32")
    np.save(tmp_path / "in.npy", image)
    np.save(tmp_path / "kernel.npy", kernel := product(4, 5))
    expected = correlated(image, kernel, (0, 1), ("far-edge", "wrap"))
    files = (tmp_path / "in.npy", tmp_path / "out.npy", "-k", tmp_path / "kernel.npy")
    options = ("--operation", "correlate", "--mode", "far-edge,wrap")
    for more in ((), ("--memory", "64GiB", "--force")):
        assert run_cli("filter", *files, *options, *more) == 0
        close(np.load(tmp_path / "out.npy"), expected, "float32")
    assert run_cli("filter", tmp_path / "in.npy", tmp_path / "o.npy", "-k", "log:2", "--mode",
                   "far") == 2  # fmt: skip
    assert "far-edge" in capsys.readouterr().err
    for command in ("filter", "plan"):
        assert run_cli(command, "--help") == 0
        assert "far-edge" in capsys.readouterr().out
    assert run_cli("plan", "-k", "gaussian:2", "--shape", "64x64", "--mode", "far-edge") == 0
    assert "far-edge" in capsys.readouterr().out


def test_the_page() -> None:
    pytest.importorskip("starlette")
    pytest.importorskip("PIL")
    from starlette.testclient import TestClient

    from separable.explore import create_app

    with TestClient(create_app(), headers={"origin": "http://testserver"}) as page:
        assert ">far-edge</option>" in page.get("/").text
        question = {"kernel": {"spec": "box:5"}, "image": "rings", "rank": 1, "shape": [64, 64],
                    "dtype": "float32"}  # fmt: skip
        answers = {
            mode: page.post("/api/filter", json={**question, "mode": mode})
            for mode in ("far-edge", "reflect")
        }
        assert [a.status_code for a in answers.values()] == [200, 200]
        far, near = (a.json()["exact"] for a in answers.values())
        assert far != near
        planned = page.post("/api/plan", json={**question, "mode": "far-edge"})
        assert planned.status_code == 200
        refused = page.post("/api/plan", json={**question, "mode": "bogus"})
        assert "far-edge" not in page.get("/static/app.js").text
        assert refused.status_code == 400


def test_napari_and_xarray() -> None:
    from separable.napari.filter_layer import Settings, explained, filtered, mode_choices

    assert mode_choices()[-2:] == NAMES
    image = image_of((12, 9))
    expected = correlated(image, sep.kernels.gaussian(1).dense(), (0, 1), "far-edge")
    close(filtered(image, Settings(mode="far-edge"), {})[0], expected)
    assert "far-edge" in explained(image, Settings(mode="far-edge"), {})
    xarray = pytest.importorskip("xarray")
    importlib.import_module("separable.xarray_accessor")  # makes the accessor
    array = xarray.DataArray(image, dims=("y", "x"))
    close(array.separable.gaussian(1, mode="far-edge", units="samples").values, expected)
    close(array.separable.correlate(sep.kernels.gaussian(1), mode=FarEdge()).values, expected)


def test_ndimage_and_banks() -> None:
    image = image_of((12, 9))
    gaussian = sep.kernels.gaussian(1).dense()
    expected = correlated(image, gaussian, (0, 1), "far-edge")
    for mode in ("far-edge", "opposite", FarEdge(), ("far-edge", FarEdge())):
        close(ndimage.gaussian_filter(image, 1, mode=mode), expected)
    close(ndimage.correlate(image, gaussian, mode="far-edge"), expected)
    close(
        ndimage.uniform_filter1d(image, 4, 0, mode="edge-once", cval=2.0),
        correlated(image, np.full(4, 0.25), (0,), "edge-once", 2.0),
    )
    kernels = {"a": product(4, 5), "b": product(4, 5), "c": gaussian}
    bands = sep.bank(kernels, image.shape, mode="edge-once", cval=1.5, operation="correlate")(image)
    for band, kernel in zip(bands, kernels.values(), strict=True):
        close(band, correlated(image, kernel, (0, 1), "edge-once", 1.5))


@pytest.mark.parametrize("mode", NAMES)
def test_missing_samples(mode: str) -> None:
    image, kernel = image_of((9, 11)), product(4, 3)
    mask = RNG.random(image.shape) < 0.7
    expected = reference_valid(image, kernel, mask, mode=mode, cval=1.5)
    close(sep.correlate(image, kernel, mask=mask, mode=mode, cval=1.5), expected)
    holed = np.where(mask, image, np.nan)
    close(sep.correlate(holed, kernel, nan="ignore", mode=mode, cval=1.5), expected)
    array = pytest.importorskip("dask.array")
    lazily = sep.correlate(
        array.from_array(holed, chunks=4), kernel, nan="ignore", mode=mode, cval=1.5
    )
    close(lazily.compute(), expected)


def test_plans_are_values() -> None:
    plan = sep.plan(np.ones(5) / 5, (20,), mode="far-edge")
    assert plan.problem.modes == (FarEdge(),)
    assert "far-edge" in str(plan)
    other = pickle.loads(pickle.dumps(plan))
    assert other == plan
    assert hash(other) == hash(plan)
    assert sep.Plan.from_dict(plan.to_dict()) == plan
    assert plan.to_dict()["mode"] == ["far-edge"]
    assert plan != sep.plan(np.ones(5) / 5, (20,), mode="edge-once")


def test_a_plan_travels_to_a_process_where_nothing_is_registered(tmp_path: Path) -> None:
    image = image_of((20,))
    plan = sep.plan(np.ones(5) / 5, image.shape, mode="far-edge")
    (tmp_path / "plan").write_bytes(pickle.dumps((plan, image)))
    code = (
        f"import sys, pickle; sys.path.insert(0, {str(Path(toy_borders.__file__).parent)!r})\n"
        f"plan, image = pickle.load(open({str(tmp_path / 'plan')!r}, 'rb'))\n"
        "from separable.borders import mode_names\n"
        "assert 'far-edge' not in mode_names()\n"
        "print(plan(image).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(plan(image).tolist())


def test_unknown_names_are_refused_with_a_list_of_all() -> None:
    kernel, image = np.ones(3), np.arange(8.0)
    for call in (sep.correlate, ndimage.correlate):
        with pytest.raises(ModeError) as caught:
            call(image, kernel, mode="far-egde")
        assert all(name in str(caught.value) for name in mode_names())
        assert 'Did you mean "far-edge"?' in str(caught.value)
    sep.correlate(image, kernel, mode="far-edge")
    unregister_border(FarEdge())
    with pytest.raises(ModeError):  # also where the plan of the same call is remembered
        sep.correlate(image, kernel, mode="far-edge")
    sep.correlate(image, kernel, mode=FarEdge())
    register_border(FarEdge())


def test_a_mode_is_removed_by_its_name_and_those_of_the_package_stay() -> None:
    unregister_border("far-edge")
    assert "far-edge" not in mode_names()
    register_border(FarEdge())
    for border in ("grid-wrap", registered_borders()[0]):
        with pytest.raises(ArgumentError, match="of the package cannot be removed"):
            unregister_border(border)


class Short(FarEdge):
    name, aliases = "short", ()

    def extension(self, n: int, before: int, after: int) -> np.ndarray:
        return np.arange(n)


class Taken(FarEdge):
    name, aliases = "taken", ("wrap",)


class Nameless(Border):
    def extension(self, n: int, before: int, after: int) -> np.ndarray:
        raise NotImplementedError


class Spaced(FarEdge):
    name, aliases = "far edge", ()


@pytest.mark.parametrize(
    ("border", "error", "message"),
    [
        (Short(), ArgumentError, "must return 9 integers within 0 .. 0"),
        (Taken(), ArgumentError, "there is a border mode 'wrap' already"),
        (Nameless(), ArgumentError, "must have a `name`; Nameless has none"),
        (Spaced(), ArgumentError, "must be lower-case letters"),
        (FarEdge, ArgumentTypeError, "must be a Border"),
    ],
)
def test_what_cannot_be_registered(border: Any, error: type[Exception], message: str) -> None:
    before = registered_borders()
    with pytest.raises(error, match=message):
        register_border(border)
    assert registered_borders() == before


def test_no_other_module_compares_the_name_of_a_mode() -> None:
    """PyTorch's modes of padding, which share some names, are the business of `separable.nn` and `separable.lowering`."""
    package, found = Path(sep.__file__).parent, []
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] in ("borders", "lowering", "nn"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            compared: list[Any] = []
            if isinstance(node, ast.Compare):
                compared = [node.left, *node.comparators]
            elif isinstance(node, ast.Dict):
                compared = node.keys
            elif isinstance(node, ast.MatchValue):
                compared = [node.value]
            parts = [leaf for part in compared if part is not None for leaf in ast.walk(part)]
            if any(isinstance(leaf, ast.Constant) and leaf.value in mode_names() for leaf in parts):
                found.append(f"{path.relative_to(package)}:{node.lineno}")
    assert found == []
