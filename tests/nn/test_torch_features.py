"""Features of PyTorch modules: each works for every kind of step."""

from __future__ import annotations

import copy
import io
import pickle
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from separable import nn as snn

RAGGED = [0, 2, 1, 3]
LAYERS: dict[str, Any] = {
    "plain": lambda **kw: snn.SeparableConv2d(4, 6, 3, **kw),
    "uneven padding": lambda **kw: snn.SeparableConv2d(4, 6, (2, 3), padding_mode="reflect", **kw),
    "same with a stride": lambda **kw: snn.SeparableConv2d(4, 6, 3, 2, dilation=2, **kw),
    "ragged": lambda **kw: snn.SeparableConv2d(4, 6, 3, depth_multiplier=RAGGED, **kw),
    "ragged sums": lambda **kw: snn.SeparableConv2d(
        4, 4, 3, depth_multiplier=RAGGED, order="pointwise_first", **kw
    ),
    "shared weights": lambda **kw: snn.FactoredConv("ocyx -> oc,yx", 4, 6, 3, rank=2, **kw),
    "Tucker": lambda **kw: snn.FactoredConv("ocyx -> oR,RyxS,Sc", 4, 6, 3, rank=2, **kw),
    "between": lambda **kw: snn.SeparableConv2d(
        4, 6, 3, intermediate=nn.Sequential(nn.BatchNorm2d(4, **kw), nn.ReLU()), **kw
    ),
}
every = pytest.mark.parametrize("name", LAYERS)


def image(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(*(shape or (2, 4, 9, 10)), generator=generator)


def trained(name: str) -> Any:
    """A layer of its own weights, in evaluation mode."""
    torch.manual_seed(1)
    return LAYERS[name]().eval()


@every
def test_compiles_as_one_graph(name: str) -> None:
    layer = trained(name)
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(image()), layer(image()), atol=1e-6)


def test_compiles_once_for_images_of_all_sizes() -> None:
    layer = trained("same with a stride")
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(layer, fullgraph=True, backend=counter, dynamic=True)
    for size in (9, 12, 17, 30):
        assert torch.allclose(compiled(image(2, 4, size, 13)), layer(image(2, 4, size, 13)))
    assert counter.frame_count == 1


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # within PyTorch
@pytest.mark.skipif(shutil.which("g++") is None, reason="the compiler of PyTorch needs g++")
@pytest.mark.peers
def test_compiles_to_machine_code(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    layer = trained("ragged")
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True)
    assert torch.allclose(compiled(image()), layer(image()), atol=1e-5)


@every
def test_autocast_computes_in_bfloat16(name: str) -> None:
    layer = trained(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = layer(image())
        assert layer(image().bfloat16()).dtype == torch.bfloat16  # no error: autocast converts
    assert got.dtype == torch.bfloat16
    expected = layer(image())
    assert float((got.float() - expected).abs().max().detach()) < 0.05 * float(
        expected.abs().max().detach()
    )


@every
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    layer = trained(name).double()
    small = image(1, 4, 5, 4).double().requires_grad_()
    parameters = [p for p in layer.parameters() if p.requires_grad]

    def run(signal: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return layer(signal)

    assert torch.autograd.gradcheck(run, (small, *parameters))
    layer(small).sum().backward()
    assert all(p.grad is not None for p in parameters)


@every
def test_state_copies_and_pickles(name: str) -> None:
    layer = trained(name)
    expected = layer(image())
    torch.manual_seed(5)
    other = LAYERS[name]().eval()
    assert not torch.equal(other(image()), expected)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    for again in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(again(image()), expected)
        assert repr(again) == repr(layer)
    assert all(
        a is not b
        for a, b in zip(copy.deepcopy(layer).parameters(), layer.parameters(), strict=True)
    )


@every
def test_every_parameter_is_a_plain_one_of_a_convolution(name: str) -> None:
    layer = trained(name)
    for step in layer.step_names:
        module = getattr(layer, step)
        assert isinstance(module, nn.Conv2d)
        assert {n for n, _ in module.named_parameters()} <= {"weight", "bias"}
    own = sum(p.numel() for s in layer.step_names for p in getattr(layer, s).parameters())
    between = getattr(layer, "intermediate", None)
    others = sum(p.numel() for p in between.parameters()) if between is not None else 0
    assert own + others == sum(p.numel() for p in layer.parameters())


@every
def test_channels_last(name: str) -> None:
    layer = trained(name)
    expected = layer(image())
    layer = layer.to(memory_format=torch.channels_last)
    got = layer(image().to(memory_format=torch.channels_last))
    assert torch.allclose(got, expected, atol=1e-6)
    if name in ("plain", "Tucker", "between"):
        assert got.is_contiguous(memory_format=torch.channels_last)


@every
def test_the_meta_device_needs_no_memory_and_becomes_real(name: str) -> None:
    layer = LAYERS[name](device="meta").eval()
    assert all(p.is_meta for p in layer.parameters())
    assert layer(torch.empty(2, 4, 9, 10, device="meta")).shape == trained(name)(image()).shape
    real = layer.to_empty(device="cpu")
    for module in real.modules():
        if module is not real and hasattr(module, "reset_parameters"):
            module.reset_parameters()
    assert real(image()).isfinite().all()
    state = trained(name).state_dict()
    skeleton = LAYERS[name](device="meta").eval()
    skeleton.load_state_dict(state, assign=True)
    assert torch.equal(skeleton(image()), trained(name)(image()))


@every
def test_a_batch_of_none_and_an_image_without_a_batch(name: str) -> None:
    layer = trained(name)
    assert layer(image(0, 4, 9, 10)).shape == (0, *layer(image()).shape[1:])
    if name != "between":  # BatchNorm2d wants a batch
        assert torch.allclose(layer(image()[1]), layer(image())[1], atol=1e-6)


def test_dtypes_and_parametrised_weights() -> None:
    layer = trained("plain").bfloat16()
    assert layer(image().bfloat16()).dtype == torch.bfloat16
    layer = trained("plain")
    expected = layer(image())
    nn.utils.parametrizations.weight_norm(layer.depthwise)
    assert torch.allclose(layer(image()), expected, atol=1e-6)


def test_vmap_and_functional_call() -> None:
    layer = trained("plain")
    state = {name: p.detach() for name, p in layer.named_parameters()}
    # Without gradients the compiled kernels run: the same sums in another order.
    found = torch.func.functional_call(layer, state, (image(),))
    assert torch.allclose(found, layer(image()), atol=1e-6)
    mapped = torch.func.vmap(layer)(image(3, 2, 4, 9, 10))
    assert torch.allclose(mapped[1], layer(image(3, 2, 4, 9, 10)[1]), atol=1e-6)


@pytest.mark.apart
@pytest.mark.filterwarnings("ignore:.*treespec.*:FutureWarning")
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        pytest.param(
            name,
            "free" if name in ("plain", "same with a stride") else "fixed",
            marks=[pytest.mark.peers] if name in ("uneven padding", "ragged", "between") else [],
        )
        for name in LAYERS
    ],
)
def test_onnx_gives_the_same_output(name: str, sizes: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    layer = trained(name)
    size = torch.export.Dim
    free = {0: size("n"), 2: size("y", min=4), 3: size("x", min=4)}
    program = torch.onnx.export(
        layer, (image(),), dynamo=True, verbose=False,
        dynamic_shapes=(free,) if sizes == "free" else None,
    )  # fmt: skip
    session = runtime.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    tried = [image()] if sizes == "fixed" else [image(), image(3, 4, 12, 17)]
    for signal in tried:
        got = session.run(None, {session.get_inputs()[0].name: signal.numpy()})[0]
        assert np.allclose(got, layer(signal).detach().numpy(), atol=1e-5)


def test_fully_sharded_training_gives_the_same_gradients() -> None:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    net = nn.Sequential(trained("ragged"), nn.ReLU(), snn.SeparableConv2d(6, 2, 3, 2))
    whole = copy.deepcopy(net)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        for layer in (net[0], net[2], net):
            fully_shard(layer, mesh=mesh)
        net(image()).square().mean().backward()
        whole(image()).square().mean().backward()
        for mine, theirs in zip(net.parameters(), whole.parameters(), strict=True):
            assert torch.allclose(mine.grad.full_tensor(), theirs.grad, atol=1e-6)
    finally:
        dist.destroy_process_group()


def test_the_package_is_imported_without_torch() -> None:
    code = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Without())
import separable
try:
    separable.nn
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "`separable.nn` needs PyTorch, which is not installed: "
        'pip install "separable-convolution[torch]"\n'
    )
