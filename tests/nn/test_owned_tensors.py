"""Results are ordinary tensors: each owns its storage, at sizes on both sides of every threshold."""

from __future__ import annotations

import io
import itertools
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import separable as sep
from separable import nn as layers
from separable.engine import result_memory, tensor_memory
from separable.kernels import gaussian

pytestmark = pytest.mark.apart

pytest.importorskip("numba")

Make = Callable[[], Tensor]
LIMIT = result_memory.LARGE * 3 // 2
FORMATS = {"first": torch.contiguous_format, "last": torch.channels_last}
SIZES = {
    "below": result_memory.LARGE - 4096,
    "the first remembered": result_memory.LARGE,
    "more than may wait": LIMIT + result_memory.LARGE,
}
GAUSSIAN = gaussian(1, ndim=2)


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor_memory.release()
    monkeypatch.setenv("SEPARABLE_KEEP_BYTES", str(LIMIT))
    torch.manual_seed(0)


def picture(
    channels: int = 32, size: int = result_memory.LARGE, layout: str = "last", **kind: Any
) -> Tensor:
    """Return a batch of about so many bytes, and at least as many as float32."""
    side = math.isqrt(math.ceil(size / 4 / channels) - 1) + 1
    made = torch.randn(1, channels, side, side, **kind)
    return made.to(memory_format=FORMATS[layout])


def assert_ordinary(make: Make) -> None:
    """Require of a result, fresh each time, what holds for any tensor that PyTorch makes."""
    made = make()
    assert_owns(made)
    size, flat = made.numel(), made.as_strided((made.numel(),), (1,)).clone()
    made.resize_(size + 100)
    assert torch.equal(made[:size], flat)
    made.untyped_storage().resize_(0)
    assert made.untyped_storage().nbytes() == 0
    assert made.set_(torch.zeros(3, dtype=made.dtype)).shape == (3,)
    made = make()
    assert torch.equal(made.as_strided((size,), (1,)), flat)  # not what was resized before
    file = io.BytesIO()
    torch.save(made, file)
    assert len(file.getvalue()) < size * made.element_size() + 4000
    same = torch.from_dlpack(made)
    assert same.data_ptr() == made.data_ptr()
    assert torch.from_dlpack(torch.utils.dlpack.to_dlpack(made)).shape == made.shape
    if made.dtype != torch.bfloat16:
        array = made.numpy()
        assert np.from_dlpack(array).ctypes.data == made.data_ptr()
    made.share_memory_()
    assert made.is_shared()
    assert torch.equal(made.as_strided((size,), (1,)), flat)
    assert_owns(make())


def assert_owns(made: Tensor) -> None:
    """Require that a tensor is no view, and its storage its own."""
    assert made._base is None
    assert not made._is_view()
    plain = made.detach()
    assert plain.storage_offset() == 0
    storage = plain.untyped_storage()
    size, is_resizable = storage.nbytes(), storage.resizable()
    del storage  # which a failure would print, number by number
    assert size == plain.numel() * plain.element_size()
    assert is_resizable
    assert plain.data_ptr() % 16 == 0


def weights(channels: int, outputs: int, dtype: torch.dtype) -> dict[str, Tensor]:
    return {
        "depthwise": torch.randn(channels, 1, 3, 3, dtype=dtype),
        "pointwise": torch.randn(outputs, channels, 1, 1, dtype=dtype),
        "between": torch.randn(channels, dtype=dtype),
        "bias": torch.randn(outputs, dtype=dtype),
    }


def operator_results(
    name: str, x: Tensor, multiplier: int = 1, act: str = "none", bias: bool = True
) -> list[Tensor]:
    """Return what one of the operators gives, a list in any case."""
    channels = x.shape[1]
    inner = channels * multiplier
    w = weights(inner, channels, x.dtype)
    settings: Any = ([1, 1], [1, 1, 1, 1], [1, 1])
    between, last = (w["between"], w["bias"]) if bias else (None, None)
    ops = torch.ops.separable
    if name.startswith("depthwise_separable_norm"):
        tensors = (x, w["depthwise"], between, between, between, w["pointwise"], last)
        rest = (*settings, 1e-3, "relu", last, last, 1e-3, act)
        every = list(ops.depthwise_separable_norm(*tensors, *rest))
        if name == "depthwise_separable_norm":
            return every
        gradient = torch.randn_like(every[0])
        return list(
            ops.depthwise_separable_norm_backward(gradient, *tensors, *rest, *every[1:], True)
        )
    if name.startswith("depthwise_separable"):
        tensors = (x, w["depthwise"], between, w["pointwise"], last)
        made = ops.depthwise_separable(*tensors, *settings, "none", act)
        if name == "depthwise_separable":
            return [made]
        gradient = torch.randn_like(made)
        return list(
            ops.depthwise_separable_backward(gradient, *tensors, made, *settings, "none", act, True)
        )
    made = ops.depthwise(x, w["depthwise"], between, *settings, act)
    if name == "depthwise":
        return [made]
    gradient = torch.randn_like(made)
    return list(
        ops.depthwise_backward(gradient, x, w["depthwise"], between, made, *settings, act, True)
    )


def names_of_operators() -> list[str]:
    """Return the operators that the library has registered with PyTorch, without that of GPUs (`tests/gpu`)."""
    schemas = torch._C._jit_get_all_schemas()
    found = {
        s.name.removeprefix("separable::") for s in schemas if s.name.startswith("separable::")
    }
    return sorted(found - {"filter_passes"})


@pytest.mark.parametrize(
    ("multiplier", "act"), [(1, "none"), (1, "relu"), (3, "relu"), (1, "silu")]
)
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("name", names_of_operators())
def test_every_operator_returns_ordinary_tensors(
    name: str, layout: str, multiplier: int, act: str
) -> None:
    x = picture(layout=layout)
    found = operator_results(name, x, multiplier, act)
    for made in found:
        assert_owns(made)
    storages = [t.untyped_storage()._cdata for t in (x, *found)]
    assert len(set(storages)) == len(storages)
    if (multiplier, act) != (1, "relu"):
        return

    def result(at: int) -> Tensor:
        torch.manual_seed(1)
        return operator_results(name, x, multiplier, act)[at]

    for at in range(len(found)):
        assert_ordinary(lambda at=at: result(at))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        *((torch.float32, size) for size in SIZES), *((torch.bfloat16, size) for size in SIZES),
        (torch.float64, "the first remembered"),  # by PyTorch
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", names_of_operators())
def test_operators_at_every_threshold(name: str, dtype: torch.dtype, size: str) -> None:
    x = picture(size=SIZES[size] * 4 // dtype.itemsize).to(dtype)
    for bias in (True, False):
        for made in operator_results(name, x, bias=bias):
            assert_owns(made)


def test_there_are_operators() -> None:
    assert len(names_of_operators()) == 6


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("recorded", [False, True])
def test_default_types_and_devices_do_not_matter(
    layout: str, dtype: torch.dtype, recorded: bool
) -> None:
    """Buffers of the kernels are float32, whatever PyTorch's default is."""
    x = torch.randn(1, 8, 40, 40).to(memory_format=FORMATS[layout])
    for layer in (
        layers.SeparableConv2d(8, 8, 3, dtype=torch.float32),
        layers.DepthwiseConv2d(8, 3, bias=False, dtype=torch.float32),
    ):
        want = x.clone().requires_grad_(recorded)
        expected = layer(want)
        if recorded:
            expected.square().sum().backward()
        torch.set_default_dtype(dtype)
        try:
            given = x.clone().requires_grad_(recorded)
            made = layer(given)
            if recorded:
                made.square().sum().backward()
                assert torch.equal(given.grad, want.grad)
        finally:
            torch.set_default_dtype(torch.float32)
        assert made.dtype == torch.float32
        assert torch.equal(made, expected)


FILTERS: dict[str, Callable[[Tensor], Tensor]] = {
    "convolve": lambda x: sep.convolve(x, GAUSSIAN),
    "correlate": lambda x: sep.correlate(x, GAUSSIAN),
    "integers": lambda x: sep.convolve((x * 9).to(torch.int16), GAUSSIAN),
    "another type": lambda x: sep.convolve(x, GAUSSIAN, output=torch.float64),
    "to integers": lambda x: sep.convolve(x, GAUSSIAN, output=torch.uint8),
    "bfloat16": lambda x: sep.convolve(x.bfloat16(), GAUSSIAN),
    "half": lambda x: sep.convolve(x.half(), GAUSSIAN),
    "complex kernel": lambda x: sep.convolve(x, np.ones((3, 3)) * 1j),
    "real of complex": lambda x: sep.convolve(
        x.to(torch.complex64), GAUSSIAN, output=torch.float32
    ),
    "one axis": lambda x: sep.convolve(x, np.ones(5) / 5, axes=1),
    "kernel with a gradient": lambda x: sep.convolve(x, torch.ones(3, 3, requires_grad=True)),
    "kernel with a gradient, other axes": lambda x: sep.convolve(
        x, torch.ones(3, 3, requires_grad=True), axes=(1, 2)
    ),
}


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("recorded", [False, True])
def test_filters_of_tensors_return_ordinary_tensors(name: str, recorded: bool) -> None:
    x = picture(channels=8, layout="first").requires_grad_(recorded)
    made = FILTERS[name](x)
    assert_owns(made)
    if not made.requires_grad:
        assert_ordinary(lambda: FILTERS[name](x))
        return
    before = made.detach().clone()
    made.mul_(2)
    assert torch.equal(made.detach(), before * 2)
    made.abs().sum().backward()
    if recorded:
        assert_owns(x.grad)
    assert x.detach().untyped_storage().resizable()  # the argument is as it was


@pytest.mark.parametrize("mode", ["reflect", "wrap", "constant"])
def test_gradients_of_filters_are_ordinary(mode: str) -> None:
    x = picture(channels=8, layout="first").requires_grad_()

    def gradient() -> Tensor:
        (found,) = torch.autograd.grad(sep.convolve(x, GAUSSIAN, mode=mode).square().sum(), x)
        return found

    assert_ordinary(gradient)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "SeparableConv2d": lambda: layers.SeparableConv2d(32, 32, 3),
    "SeparableConv2d, pointwise first": lambda: layers.SeparableConv2d(
        32, 32, 3, order="pointwise_first"
    ),
    "SeparableConv2d, multiplier": lambda: layers.SeparableConv2d(32, 32, 3, depth_multiplier=2),
    "DepthwiseConv2d": lambda: layers.DepthwiseConv2d(32, 3),
    "DepthwiseConv2d, multiplier": lambda: layers.DepthwiseConv2d(32, 3, depth_multiplier=2),
    "PointwiseConv": lambda: layers.PointwiseConv(32, 32),
    "SpatiallySeparableConv2d": lambda: layers.SpatiallySeparableConv2d(32, 32, 3),
    "FactoredConv": lambda: layers.FactoredConv("ocyx -> oR,RyxS,Sc", 32, 32, 3, rank=8),
}


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_return_ordinary_tensors(name: str, layout: str) -> None:
    layer = LAYERS[name]().requires_grad_(False)
    x = picture(layout=layout)
    assert_ordinary(lambda: layer(x))
    with torch.inference_mode():
        made = layer(x)
    assert not made._is_view()


@pytest.mark.parametrize("name", ["separable", "depthwise", "pointwise", "pair", "conv"])
@pytest.mark.parametrize("layout", FORMATS)
def test_fused_networks_return_ordinary_tensors(name: str, layout: str) -> None:
    chains: dict[str, list[nn.Module]] = {
        "separable": [layers.SeparableConv2d(32, 32, 3), nn.BatchNorm2d(32), nn.ReLU()],
        "depthwise": [layers.DepthwiseConv2d(32, 3), nn.BatchNorm2d(32), nn.SiLU()],
        "pointwise": [nn.Conv2d(32, 32, 1), nn.BatchNorm2d(32), nn.ReLU6()],
        "pair": [layers.SpatiallySeparableConv2d(32, 32, 3), nn.ReLU()],
        "conv": [nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()],
    }
    x = picture(layout=layout)
    fused, _ = layers.fuse(nn.Sequential(*chains[name]).eval(), x)
    assert_ordinary(lambda: fused(x))


def plain(layer: Any) -> nn.Sequential:
    """Return PyTorch's own convolutions with the weights of a layer."""
    steps = [getattr(layer, name) for name in layer.step_names]
    convs = []
    for step in steps:
        conv = nn.Conv2d(
            step.in_channels, step.out_channels, step.kernel_size, step.stride,
            padding=[k // 2 for k in step.kernel_size], groups=step.groups,
            bias=step.bias is not None,
        )  # fmt: skip
        conv.load_state_dict({k: v for k, v in step.state_dict().items() if k in conv.state_dict()})
        convs.append(conv)
    return nn.Sequential(*convs)


class _Added(nn.Module):
    """A residual block that adds in place."""

    def forward(self, x: Tensor) -> Tensor:
        return x.add_(1.0).mul_(0.5)


AFTER: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "silu": lambda: nn.SiLU(inplace=True),
    "dropout": lambda: nn.Dropout(0.5, inplace=True),
    "add": _Added,
}


TRAINED = [
    *itertools.product(["SeparableConv2d"], ["last"], AFTER, ["eager", "checkpoint", "autocast"]),
    *itertools.product(["DepthwiseConv2d"], ["last"], AFTER, ["eager"]),
    *itertools.product(
        ["SeparableConv2d", "DepthwiseConv2d"], ["first"], ["relu"], ["eager", "autocast"]
    ),
    *itertools.product(["SpatiallySeparableConv2d"], FORMATS, ["relu"], ["eager"]),
]


@pytest.mark.parametrize(("name", "layout", "after", "way"), TRAINED)
def test_training_in_place_has_the_gradients_of_plain_convolutions(
    name: str, layout: str, after: str, way: str
) -> None:
    layer = LAYERS[name]()
    want = plain(layer)
    batch = picture(layout=layout)
    found = []
    for net in (layer, want):
        whole = nn.Sequential(net, AFTER[after]())
        x = batch.clone(memory_format=torch.preserve_format).requires_grad_()
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
            y = checkpoint(whole, x, use_reentrant=False) if way == "checkpoint" else whole(x)
            y.float().square().mean().backward()
        gradients = [p.grad for p in net.parameters()]
        found.append([y.detach().float(), x.grad, *gradients])
        if net is layer:
            for made in (x.grad, *gradients):
                assert_owns(made)
    bound = 5e-2 if way == "autocast" else 1e-4
    for got, expected in zip(*found, strict=True):
        assert (got - expected).abs().max() <= bound * expected.abs().max()


def test_compiled_training_in_place() -> None:
    layer = LAYERS["SeparableConv2d"]()
    whole = nn.Sequential(layer, nn.ReLU(inplace=True))
    x = picture().requires_grad_()
    expected = torch.autograd.grad(whole(x).square().mean(), [x, *whole.parameters()])
    compiled = torch.compile(whole, backend="aot_eager")
    found = torch.autograd.grad(compiled(x).square().mean(), [x, *whole.parameters()])
    for got, want in zip(found, expected, strict=True):
        assert torch.allclose(got, want, rtol=1e-4, atol=1e-7)


# The memory that is remembered


def test_memory_is_used_again_where_the_compiler_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's compiler replaces the evaluation of frames, which then hold more references."""
    frames = pytest.importorskip("torch._C._dynamo.eval_frame")
    if tensor_memory._FREE is None or not hasattr(frames, "set_eval_frame"):
        pytest.skip("this PyTorch cannot be watched in a way that is understood")
    monkeypatch.setenv("SEPARABLE_KEEP_BYTES", str(8 * result_memory.LARGE))
    tensor_memory.release()
    before = frames.set_eval_frame(False)
    try:
        made = tensor_memory.empty((result_memory.LARGE // 4,))
        where = made.data_ptr()
        assert tensor_memory.kept_bytes() == 0
        del made
        assert tensor_memory.kept_bytes() == result_memory.LARGE
        assert tensor_memory.empty((result_memory.LARGE // 4,)).data_ptr() == where
    finally:
        frames.set_eval_frame(before)
        tensor_memory.release()


def test_memory_is_used_again_only_when_nothing_refers_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEPARABLE_KEEP_BYTES", str(8 * result_memory.LARGE))

    def fresh() -> Tensor:
        return tensor_memory.empty((result_memory.LARGE // 4,))

    size = result_memory.LARGE
    holders: dict[str, Callable[[Tensor], Any]] = {
        "a view": lambda t: t[5:],
        "an array": lambda t: t.numpy(),
        "its memory": lambda t: memoryview(t.numpy()),
        "a storage": lambda t: t.untyped_storage(),
        "DLPack": torch.utils.dlpack.to_dlpack,
        "a graph": lambda t: torch.ones(t.shape, requires_grad=True) * t,
        "a detached alias": lambda t: t.detach(),
    }
    if tensor_memory._FREE is None:
        pytest.skip("this PyTorch does not count references in a way that is understood")
    for what, hold in holders.items():
        tensor_memory.release()
        first = fresh()
        where, held = first.data_ptr(), hold(first)
        del first
        assert tensor_memory.kept_bytes() == 0, what
        assert fresh().data_ptr() != where, what
        kept = tensor_memory.kept_bytes()
        del held
        # `Tensor.numpy` marks memory as not resizable: it goes back to PyTorch, which may return any address.
        lent = what in ("an array", "its memory")
        assert (tensor_memory.kept_bytes() == kept) is lent, what
        assert lent or where in [t.data_ptr() for t in (fresh(), fresh(), fresh())], what
    tensor_memory.release()
    shared = fresh().share_memory_()
    del shared
    resized = fresh().resize_(10)
    del resized
    emptied = fresh()
    emptied.untyped_storage().resize_(0)
    del emptied
    kept = tensor_memory.kept_bytes()
    assert kept in (0, size)
    assert fresh().untyped_storage().nbytes() == size


def test_no_more_is_remembered_than_allowed() -> None:
    held = [tensor_memory.empty((result_memory.LARGE // 4,)) for _ in range(8)]
    del held
    assert tensor_memory.kept_bytes() <= LIMIT
    big = tensor_memory.empty((LIMIT // 4 + 1,))
    assert big.untyped_storage().nbytes() == LIMIT + 4
    del big
    assert tensor_memory.kept_bytes() <= LIMIT


def test_nothing_is_remembered_where_that_is_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPARABLE_KEEP_BYTES", "0")
    made = tensor_memory.empty((result_memory.LARGE // 4,))
    assert made.shape == (result_memory.LARGE // 4,)
    assert tensor_memory._blocks == []


def test_results_of_many_threads_keep_apart() -> None:
    layer = layers.DepthwiseConv2d(32, 3).requires_grad_(False)
    inputs = [picture() * n for n in range(4)]
    expected = [layer(x).clone() for x in inputs]
    wrong: list[int] = []

    def work(n: int) -> None:
        wrong.extend(n for _ in range(15) if not torch.equal(layer(inputs[n]), expected[n]))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def _received(queue: Any, answers: Any) -> None:
    import torch

    got = queue.get()
    answers.put(float(got.double().sum()))
    del got, torch


def test_results_are_sent_to_other_processes() -> None:
    context = torch.multiprocessing.get_context("spawn")
    queue, answers = context.Queue(), context.Queue()
    layer = layers.DepthwiseConv2d(32, 3).requires_grad_(False)
    x = picture()
    made = layer(x)
    expected = float(made.double().sum())
    process = context.Process(target=_received, args=(queue, answers))
    process.start()
    queue.put(made)
    for _ in range(3):
        layer(x * 0)  # results after it do not get its memory
    assert answers.get(timeout=600) == pytest.approx(expected)
    process.join(timeout=600)
    assert process.exitcode == 0
