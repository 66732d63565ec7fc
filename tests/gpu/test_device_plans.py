"""Plans for GPUs, banks of tensors in one launch, and GPU arrays of other libraries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import separable as sep
from separable import kernels
from separable.errors import ArgumentError, ArgumentTypeError

torch = pytest.importorskip("torch", reason="needs torch, which is not installed")

from separable.gpu.device_profile import PROFILES  # noqa: E402
from separable.gpu.tile_cost import Prediction  # noqa: E402
from separable.tensors.device import (  # noqa: E402
    DeviceMethod,
    register_device_method,
    unregister_device_method,
)

TEXT = """\
convolve 17x17 on 4096x4096 float32, reflect, exact, on NVIDIA H100 SXM
        form      by  mult/out     read  written  predicted  bound by  error
────────────────────────────────────────────────────────────────────────────
"""


def test_a_plan_lists_what_each_way_moves_and_what_binds_it() -> None:
    made = sep.plan("gaussian:2", (4096, 4096), "float32", device="h100")
    text = str(made)
    assert text.startswith(TEXT)
    size = 4096 * 4096 * 4
    assert made.moved_bytes == (size, size)
    assert made.seconds >= 2 * size / PROFILES["h100"].memory_rate
    assert "Rejected: direct by triton (the kernel is not a sum of products of 1-D passes)." in text
    assert "Rates: NVIDIA H100 SXM, data sheet." in text
    assert max(map(len, text.splitlines())) <= 80
    assert made.chosen.method.name in repr(made)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("shape", [(64, 64), (5, 512, 512), (128, 128, 128)])
def test_plans_of_all_profiles_move_no_less_than_the_image_and_the_result(
    name: str, shape: Any
) -> None:
    made = sep.plan(
        kernels.gaussian(1, ndim=len(shape)), shape, "uint8", output="float32", device=name
    )
    least = int(np.prod(shape))
    for c, prediction in zip(made.candidates, made.predictions, strict=True):
        if prediction is None:
            continue
        read, written = c.method.moved_bytes(
            torch.empty(shape, dtype=torch.uint8, device="meta"), c.work
        )
        assert read >= least
        assert written >= 4 * least
        assert prediction.seconds >= (read + written) / PROFILES[name].memory_rate
    assert made.seconds == min(p.seconds for p in made.predictions if p is not None)


def test_mistakes_about_devices_are_named() -> None:
    options: dict[str, Any] = {"shape": (8, 9), "dtype": "float32"}
    with pytest.raises(
        ArgumentError, match="`device` must be a CUDA device or one of the profiles 'a100'"
    ):
        sep.plan([1, 2, 1], (9,), device="h1000")
    with pytest.raises(
        ArgumentError, match="`device` must be a CUDA device of this computer, or one of"
    ):
        sep.plan("gaussian:1", **options, device="cpu")
    with pytest.raises(ArgumentError, match="`device` takes no `output_region` and no `stride`"):
        sep.plan("gaussian:1", **options, device="h100", stride=2)
    made = sep.plan("gaussian:1", **options, device="h100")
    with pytest.raises(ArgumentError, match="this plan is for a described device, NVIDIA H100 SXM"):
        made(torch.zeros(8, 9))
    if not torch.cuda.is_available():
        with pytest.raises(ArgumentError, match="PyTorch finds no CUDA device"):
            sep.plan("gaussian:1", **options, device="cuda")


class Toy(DeviceMethod):
    """A method that is always predicted to be the fastest."""

    name, title, explanation = "toy-device", "toy", "multiplies by two"

    def moved_bytes(self, image: Any, work: Any) -> tuple[int, int]:
        return 1, 1

    def predict(self, image: Any, work: Any, device: Any) -> Prediction:
        return Prediction(0.0, "memory")

    def run(self, image: Any, work: Any) -> Any:
        return image[None] * 2


@pytest.fixture
def toy() -> Iterator[DeviceMethod]:
    made = register_device_method(Toy())
    yield made
    unregister_device_method(made)


@pytest.mark.usefixtures("toy")
def test_a_new_device_method_is_listed_chosen_and_asked_for_by_name() -> None:
    made = sep.plan("gaussian:1", (8, 9), "float32", device="h100")
    assert made.chosen.method.name == "toy-device"
    assert "multiplies by two" in str(made)
    image = torch.ones(8, 9)
    from separable.tensors.tensor_filter import _by_torch

    options = {
        "mode": "reflect", "cval": 0.0, "origin": 0, "tol": None, "operation": "convolve",
        "threads": None,
    }  # fmt: skip
    kernel = kernels.gaussian(1)
    for method in ("toy-device", "auto"):
        found = _by_torch(image, kernel, None, (0, 1), None, {**options, "method": method})
        torch.testing.assert_close(found, 2 * image)
    plain = _by_torch(image, kernel, None, (0, 1), None, {**options, "method": "torch"})
    torch.testing.assert_close(plain, image)


class GpuArray:
    """An array of another library: it says that it is on a GPU, but its memory is a tensor's of this computer."""

    def __init__(self, held: Any) -> None:
        self.held, self.ndim, self.shape = held, held.ndim, held.shape

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)

    def __dlpack__(self, **options: Any) -> Any:
        return self.held.__dlpack__()

    @classmethod
    def from_dlpack(cls, tensor: Any) -> GpuArray:
        return cls(tensor)


@pytest.fixture
def exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the memory of the array above, which PyTorch would look for on a GPU."""
    from torch.utils import dlpack

    real = dlpack.from_dlpack
    monkeypatch.setattr(dlpack, "from_dlpack", lambda a: real(a.__dlpack__()))


@pytest.mark.usefixtures("exchanged")
def test_arrays_of_other_libraries_are_returned_in_kind() -> None:
    values = torch.randn(6, 7, generator=torch.Generator().manual_seed(0))
    kernel = kernels.gaussian(1)
    found = sep.convolve(GpuArray(values), kernel)
    assert isinstance(found, GpuArray)
    torch.testing.assert_close(found.held, sep.convolve(values, kernel))
    weights = GpuArray(torch.tensor([[1.0, 2.0, 1.0]]))
    out = GpuArray(torch.empty(6, 7))
    assert sep.correlate(GpuArray(values), weights, output=out) is out
    torch.testing.assert_close(out.held, sep.correlate(values, [[1.0, 2.0, 1.0]]))
    both = sep.bank(["gaussian:1", "log:1"], (6, 7), "float32")
    bands = both(GpuArray(values))
    assert isinstance(bands, GpuArray)
    torch.testing.assert_close(bands.held, both(values))


def test_an_array_that_pytorch_cannot_read_is_named() -> None:
    class Unreadable(GpuArray):
        def __dlpack__(self, **options: Any) -> Any:
            raise RuntimeError("no driver")

    with pytest.raises(
        ArgumentTypeError, match="`image` must be an array that PyTorch reads by DLPack"
    ):
        sep.convolve(Unreadable(torch.zeros(3, 3)), kernels.gaussian(1))
