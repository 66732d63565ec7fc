"""All passes of a filter in one Triton kernel, run by Triton's interpreter, against the definition in float64."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import separable as sep
import toy_borders
from separable import kernels
from separable.borders import OUTSIDE, canonical_modes, registered_borders
from separable.errors import ArgumentError

torch = pytest.importorskip("torch", reason="needs torch, which is not installed")
pytest.importorskip("triton", reason="needs triton, which is not installed")

from separable.gpu import interpreting  # noqa: E402
from separable.gpu.kernel_launch import recorded  # noqa: E402
from separable.tensors.device.pass_operator import fixed_tile  # noqa: E402
from separable.tensors.device.pass_tiling import PassTile  # noqa: E402

DTYPES = (
    "float32", "float32", "float64", "float16", "bfloat16", "uint8", "int16", "int32", "int64",
    "bool", "uint16",
)  # fmt: skip
ERRORS = {"float32": 1e-6, "float64": 1e-14, "float16": 1e-3, "bfloat16": 8e-3}
"""Largest errors relative to sum|kernel| * max|input|; the interpreter rounds to bfloat16 towards zero."""
BORDERS = [*registered_borders(), toy_borders.FarEdge(), toy_borders.EdgeOnce()]


@pytest.fixture(autouse=True)
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve tensors on the CPU by the kernels for GPUs."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with interpreting():
        yield


def defined(
    image: np.ndarray, kernel: np.ndarray, axes: tuple[int, ...], modes: Any, cval: float,
    operation: str, origin: tuple[int, ...],
) -> np.ndarray:  # fmt: skip
    """The filter by its definition in float64: write all borders out, then sum the dense kernel."""
    if operation == "convolve":
        kernel = np.flip(kernel)
        lefts = [(n - 1) // 2 - o for n, o in zip(kernel.shape, origin, strict=True)]
    else:
        lefts = [n // 2 + o for n, o in zip(kernel.shape, origin, strict=True)]
    wide = image.astype(np.float64)
    for axis, left, size, border in zip(axes, lefts, kernel.shape, modes, strict=True):
        places = border.extension(wide.shape[axis], left, size - 1 - left)
        shape = [1] * wide.ndim
        shape[axis] = -1
        inside = (places != OUTSIDE).reshape(shape)
        wide = np.where(inside, np.take(wide, np.where(places == OUTSIDE, 0, places), axis), cval)
    total = np.zeros(image.shape)
    for place in np.ndindex(kernel.shape):
        part: list[slice] = [slice(None)] * image.ndim
        for axis, start in zip(axes, place, strict=True):
            part[axis] = slice(start, start + image.shape[axis])
        total += kernel[place] * wide[tuple(part)]
    return total


@dataclass
class FilterCase:
    """A random filter of a random tensor, and a random tile."""

    image: Any
    kernel: np.ndarray
    axes: tuple[int, ...]
    options: dict[str, Any]
    tile: PassTile
    terms: int

    @classmethod
    def drawn(cls, seed: int, dtypes: tuple[str, ...] = DTYPES) -> FilterCase:
        draw, rng = random.Random(seed), np.random.default_rng(seed)
        ndim = draw.choice((1, 2, 2, 2, 3, 3, 4))
        count = draw.randint(1, min(3, ndim))
        axes = tuple(draw.sample(range(ndim), count))
        most = {1: 40, 2: 14, 3: 6, 4: 4}[ndim]
        shape = tuple(draw.randint(1, most) for _ in range(ndim))
        sizes = tuple(draw.choice((1, 2, 3, 3, 4, 5)) for _ in range(count))
        terms = draw.choice((1, 1, 1, 2)) if count > 1 else 1
        kernel = np.zeros(sizes)
        for _ in range(terms):
            factors = [rng.integers(-3, 4, n) + 0.25 * rng.integers(-2, 3, n) for n in sizes]
            kernel += math.prod(np.ix_(*factors))
        if not kernel.any():
            kernel.flat[0] = 1.5
        dtype = getattr(torch, draw.choice(dtypes))
        values = torch.as_tensor(rng.standard_normal(shape) * 60)
        if not dtype.is_floating_point:
            values = values.abs() if dtype in (torch.uint8, torch.uint16) else values
            values = values.round().clamp(-120, 120)
        image = values.to(dtype)
        if draw.random() < 0.4:  # other orders of the axes in memory, and gaps
            order = draw.sample(range(ndim), ndim)
            back = [order.index(a) for a in range(ndim)]
            image = image.permute(*order).contiguous().permute(*back)
        elif draw.random() < 0.2:
            image = torch.stack([image, image], -1)[..., 0]
        options = {
            "operation": draw.choice(("convolve", "correlate")),
            "mode": tuple(draw.choice(BORDERS) for _ in sizes),
            "cval": draw.choice((0.0, 1.5, -2.0)),
            "origin": tuple(0 if n < 3 else draw.randint(-1, 1) for n in sizes),
        }
        tile = PassTile(
            draw.choice((4, 8, 16)), draw.choice((1, 2, 4)), draw.choice((1, 2)),
            draw.choice((2, 4, 16)), draw.choice((1, 2)), 1,
        )  # fmt: skip
        return cls(image, kernel, axes, options, tile, terms)

    def run(self, image: Any, **more: Any) -> Any:
        options = {k: v for k, v in self.options.items() if k != "operation"}
        return getattr(sep, self.options["operation"])(
            image, self.kernel, axes=self.axes, **options, **more
        )

    def wanted(self) -> np.ndarray:
        o = self.options
        return defined(
            self.image.double().numpy(), self.kernel, self.axes, canonical_modes(o["mode"], len(self.axes)),
            o["cval"], o["operation"], o["origin"],
        )  # fmt: skip

    @property
    def scale(self) -> float:
        largest = float(self.image.double().abs().max())
        return float(np.abs(self.kernel).sum()) * max(largest, abs(self.options["cval"]))


def check(seed: int) -> None:
    case = FilterCase.drawn(seed)
    with recorded() as launches, fixed_tile(case.tile):
        found = case.run(case.image, method="triton")
    assert [made.name for made in launches] == ["filter_passes"]
    assert (found.dtype, found.shape) == (case.image.dtype, case.image.shape)
    wanted, name = case.wanted(), str(case.image.dtype).removeprefix("torch.")
    if name in ERRORS:
        error = np.abs(found.double().numpy() - wanted).max()
        assert error <= ERRORS[name] * case.scale + 1e-300
        return
    low, high = (
        (0, 1) if name == "bool" else (torch.iinfo(found.dtype).min, torch.iinfo(found.dtype).max)
    )
    if (
        case.terms > 1
    ):  # the terms of a sum are not exact in float64, and a tie may round either way
        assert np.abs(found.double().numpy() - wanted.clip(low, high)).max() <= 0.5 + 1e-9
        return
    # Weights are multiples of 1/16 and samples are whole, so that float64 is exact: so is the rounding.
    np.testing.assert_array_equal(found.double().numpy(), np.rint(wanted).clip(low, high) + 0.0)


@pytest.mark.parametrize("seed", range(8))
def test_random_filters_agree_with_the_definition(seed: int) -> None:
    check(seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(8, 290))
def test_many_random_filters_agree_with_the_definition(seed: int) -> None:
    check(seed)


def check_gradients(seed: int) -> None:
    case = FilterCase.drawn(seed, ("float64",))
    if case.image.numel() > 30:
        case.image = case.image[tuple(slice(0, 3) for _ in case.image.shape)]
    x = case.image.clone().requires_grad_()
    seen = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    with fixed_tile(case.tile):
        fused = case.run(x, method="triton")
        (found,) = torch.autograd.grad((fused * seen).sum(), x)
    plain = case.run(x, method="torch")
    (wanted,) = torch.autograd.grad((plain * seen).sum(), x)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11 * case.scale)


@pytest.mark.parametrize("seed", range(2))
def test_gradients_agree_with_those_of_pytorchs_passes(seed: int) -> None:
    check_gradients(seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 60))
def test_many_gradients_agree_with_those_of_pytorchs_passes(seed: int) -> None:
    check_gradients(seed)


def test_gradients_are_exact_also_the_second_ones() -> None:
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    taps = np.outer([1.0, -2.0], [1.0, 3.0])

    def run(values: Any) -> Any:
        return sep.convolve(values, taps, mode=("wrap", "constant"), cval=0.5, method="triton")

    with fixed_tile(PassTile(4, 1, 1, 8, 1, 1)):
        assert torch.autograd.gradcheck(run, (x,), fast_mode=True)
        assert torch.autograd.gradgradcheck(run, (x,), fast_mode=True)


def test_results_own_their_memory() -> None:
    """In-place operations work, also while gradients are recorded."""
    image = torch.randn(6, 7).requires_grad_()
    with fixed_tile(PassTile(4, 1, 1, 8, 1, 1)):
        made = sep.convolve(image, np.outer([1, 2], [3, 1.0]), method="triton")
    storage = made.untyped_storage()
    assert storage.nbytes() == made.numel() * made.element_size()
    assert storage.resizable()
    assert storage._cdata != image.untyped_storage()._cdata
    with fixed_tile(PassTile(4, 1, 1, 8, 1, 1)):
        made.relu_().sum().backward()
    assert image.grad.untyped_storage().nbytes() == image.numel() * image.element_size()


def test_a_nan_stays_within_the_kernel() -> None:
    volume = torch.zeros(7, 7, 7)
    volume[3, 3, 3] = float("nan")
    with fixed_tile(PassTile(8, 1, 2, 8, 1, 1)):
        spoilt = sep.convolve(
            volume, kernels.gaussian(0.6, ndim=3, radius=1), method="triton"
        ).isnan()
    assert spoilt[2:5, 2:5, 2:5].all()
    assert spoilt.sum() == 27


def test_whole_numbers_are_rounded_half_to_even_and_saturated() -> None:
    image = torch.tensor([[0, 1, 2, 3, 250]], dtype=torch.uint8)
    for weight, dtype, wanted in (
        (0.5, torch.uint8, [0, 0, 1, 2, 125]), (2.0, torch.uint8, [0, 2, 4, 6, 255]),
        (-1.0, torch.uint8, [0, 0, 0, 0, 0]), (-1.0, torch.int16, [0, -1, -2, -3, -250]),
    ):  # fmt: skip
        assert sep.convolve(image, [[weight]], output=dtype, method="triton").tolist() == [wanted]
    large = sep.convolve(torch.tensor([2**62, -(2**62)]), [4.0], method="triton")
    assert large.tolist() == [2**63 - 1, -(2**63)]


def test_the_automatic_choice_and_the_reasons_against_the_kernel() -> None:
    image = torch.randn(9, 11)
    with recorded() as launches:
        found = sep.convolve(image, kernels.gaussian(0.7, radius=1))
    assert [made.name for made in launches] == ["filter_passes"]
    torch.testing.assert_close(
        found, sep.convolve(image, kernels.gaussian(0.7, radius=1), method="torch")
    )
    assert sep.convolve(image, kernels.disk(2)).shape == (9, 11)  # some form of it runs
    for given, kernel, reason in (
        (image, np.random.default_rng(0).standard_normal((300, 300)), "registers|sum of products"),
        (image.cfloat(), kernels.gaussian(1), "complex"),
        (image[:0], kernels.gaussian(1), "no elements"),
    ):
        with pytest.raises(
            ArgumentError, match=f"`method` 'triton' cannot filter this tensor: .*({reason})"
        ):
            sep.convolve(given, kernel, method="triton")


def test_the_operator_keeps_the_rules_of_pytorch() -> None:
    from separable.tensors.device import pass_operator

    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    seen: list[Any] = []
    real = pass_operator.filter_passes

    def watched(*args: Any) -> Any:
        seen.append(args)
        return real(*args)

    from separable.tensors.device import device_methods

    try:
        device_methods.filter_passes = watched
        sep.convolve(x, [[1.0, 2.0, 1.0]], method="triton")
    finally:
        device_methods.filter_passes = real
    ((image, table, maps, weights, inputs),) = seen
    arguments = (
        image, table, list(maps), inputs.roles, list(inputs.axes), list(inputs.runs),
        inputs.program.encoded(), list(weights), inputs.fills, inputs.dtype,
    )  # fmt: skip
    torch.library.opcheck(torch.ops.separable.filter_passes.default, arguments)


def test_a_bank_is_one_launch_and_shares_its_passes() -> None:
    names = ["gaussian:0.5", "gaussian:0.5,order=0x1", "gaussian:0.5,order=1x0"]
    bank = sep.bank(names, (7, 9), "float32", mode="nearest")
    image = torch.randn(7, 9, generator=torch.Generator().manual_seed(1))
    with recorded() as launches:
        found = bank(image)
    (made,) = launches
    assert (
        made.constants["X"][0] - 1 == 2
    )  # the Gaussian and its derivative along x, of three bands
    assert (made.read_bytes, made.written_bytes) == (7 * 9 * 4, 3 * 7 * 9 * 4)
    for name, band in zip(names, found, strict=True):
        single = sep.convolve(image, name, mode="nearest", method="torch")
        torch.testing.assert_close(band, single, rtol=1e-5, atol=1e-6)


def test_a_kernel_that_cannot_be_run_is_replaced_with_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from separable.tensors.device import pass_operator

    def without_memory(made: Any) -> None:
        raise torch.cuda.OutOfMemoryError("out of memory")

    image = torch.randn(6, 7)
    wanted = sep.convolve(image, kernels.gaussian(0.5), method="torch")
    monkeypatch.setattr(pass_operator, "launch", without_memory)
    with pytest.warns(RuntimeWarning, match="separable.convolve: the GPU kernel could not be run"):
        found = sep.convolve(image, kernels.gaussian(0.5), method="triton")
    torch.testing.assert_close(found, wanted)


def test_too_many_elements_are_left_to_pytorch() -> None:
    from separable.plan import plan
    from separable.tensors.device.device_methods import DeviceWork, FusedPasses

    shape = (2**16, 2**16)
    made = plan("gaussian:1", shape, "float32")
    work = DeviceWork((made.problem,), (made.chosen.form,), torch.float32)
    reason = FusedPasses().refuse(torch.empty(shape, device="meta"), work)
    assert "too many for offsets of 32 bits" in reason
