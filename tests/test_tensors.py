"""Tensors: the values of arrays, exact gradients, and every way that PyTorch calls a function."""

from __future__ import annotations

import contextlib
import math
import operator
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import separable as sep
from separable import kernels
from separable.borders import registered_borders
from separable.errors import ArgumentError, DTypeError, KernelError, OutputError
from separable.tensors.ops import untraced
from separable.tensors.tensor_filter import _by_torch

torch = pytest.importorskip("torch")

MODES = [border.name for border in registered_borders()]


def noise(shape: tuple[int, ...], seed: int = 0, **options: Any) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64, **options)


def elsewhere(image: Any, kernel: Any, axes: Any = None, output: Any = None, **options: Any) -> Any:
    """Filter on this device by the code for tensors on other devices."""
    kernel = kernel if isinstance(kernel, sep.Factors) else np.asarray(kernel)
    count = len(kernel.shape)
    given = {"mode": "reflect", "cval": 0.0, "origin": 0, "tol": None, "method": "auto"}
    given |= {"operation": "convolve", "threads": None, **options}
    return _by_torch(image, kernel, None, axes or tuple(range(-count, 0)), output, given)


@st.composite
def filters(draw: Any) -> dict[str, Any]:
    """A random filter of up to three axes somewhere in an image of up to four."""
    ndim = draw(st.integers(1, 4))
    shape = tuple(draw(st.integers(1, 7)) for _ in range(ndim))
    count = draw(st.integers(1, min(3, ndim)))
    axes = tuple(draw(st.permutations(range(ndim)))[:count])
    sizes = tuple(draw(st.integers(1, 5)) for _ in range(count))
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    if draw(st.booleans()):
        kernel = math.prod(np.ix_(*(rng.standard_normal(n) for n in sizes)))
    else:
        kernel = rng.standard_normal(sizes)
    operation = draw(st.sampled_from(["convolve", "correlate"]))
    origin = tuple(0 if n < 3 else draw(st.integers(-1, 1)) for n in sizes)
    return {
        "shape": shape, "kernel": kernel, "axes": axes, "operation": operation, "origin": origin,
        "mode": tuple(draw(st.sampled_from(MODES)) for _ in sizes),
        "cval": draw(st.sampled_from([0.0, 1.5])),
        "seed": draw(st.integers(0, 99)),
    }  # fmt: skip


@settings(deadline=None, max_examples=30)
@given(filters(), st.sampled_from(["float32", "float64", "uint8", "int32", "complex128"]))
def test_a_tensor_is_filtered_as_the_array_it_holds(given: dict[str, Any], dtype: str) -> None:
    rng = np.random.default_rng(given.pop("seed"))
    operation = getattr(sep, given.pop("operation"))
    array = (rng.standard_normal(given.pop("shape")) * 60 + 60).clip(0, 250).astype(dtype)
    kernel = given.pop("kernel")
    wanted = operation(array, kernel, **given)
    found = operation(torch.from_numpy(array.copy()), kernel, **given)
    assert found.numpy().dtype == wanted.dtype
    np.testing.assert_array_equal(found.numpy(), wanted)
    given["axes"] = tuple(a - array.ndim for a in given["axes"])
    name = operation.__name__
    passes = elsewhere(torch.from_numpy(array.copy()), kernel, operation=name, **given).numpy()
    size = max(1.0, float(np.abs(array).max()), given["cval"]) * float(np.abs(kernel).sum())
    eps = {"float32": 1e-5, "uint8": 1, "int32": 1}.get(dtype, 1e-13)
    assert np.abs(passes.astype(complex) - wanted).max() <= (eps if eps == 1 else eps * size)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_of_the_image_are_exact(mode: str) -> None:
    kernel = np.random.default_rng(1).standard_normal((3, 4))
    image = noise((2, 3, 4), requires_grad=True)

    def run(x: Any) -> Any:
        return sep.convolve(x, kernel, mode=mode, cval=1.5, origin=(1, -1))

    assert torch.autograd.gradcheck(run, (image,))
    assert torch.autograd.gradgradcheck(run, (image,))
    tangent = noise((2, 3, 4), 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's own, of torch.jit
        _, change = torch.func.jvp(run, (image.detach(),), (tangent,))
    shifted = run(image + tangent) - run(image)
    torch.testing.assert_close(change, shifted.detach())


def test_a_short_image_folds_its_border_many_times() -> None:
    kernel = np.random.default_rng(1).standard_normal(9)
    for mode in MODES:
        image = noise((2, 2), requires_grad=True)
        assert torch.autograd.gradcheck(lambda x, m=mode: sep.correlate(x, kernel, mode=m), image)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_gradients_with_complex_kernels(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((3, 2)) + 1j * rng.standard_normal((3, 2))
    image = noise((3, 2)).to(dtype).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sep.convolve(x, kernel), (image,))
    assert torch.autograd.gradgradcheck(lambda x: sep.convolve(x, kernel), (image,))
    factors = kernels.gaussian(1, radius=1)
    waved = sep.Factors.from_terms("yx -> y,x", [[t[0] * 1j, t[1]] for t in factors.terms])
    assert torch.autograd.gradcheck(lambda x: sep.convolve(x, waved), (image,))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_kernelthat_requires_a_gradient_gets_one(mode: str, ndim: int) -> None:
    image = noise((1, *(3, 2, 3)[:ndim]), requires_grad=True)
    kernel = noise((3, 2, 1)[:ndim], 2, requires_grad=True)

    def run(x: Any, k: Any) -> Any:
        return sep.convolve(x, k, mode=mode, cval=0.5)

    assert torch.autograd.gradcheck(run, (image, kernel))
    plain = sep.convolve(image, kernel.detach(), mode=mode, cval=0.5)
    torch.testing.assert_close(run(image, kernel), plain)


def test_other_devices_get_gradients_from_the_passes() -> None:
    kernel = kernels.laplacian_of_gaussian(0.5, radius=1)
    for mode in MODES:
        image = noise((2, 3, 2), requires_grad=True)
        assert torch.autograd.gradcheck(lambda x, m=mode: elsewhere(x, kernel, mode=m), image)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision_is_summed_in_float32(name: str) -> None:
    dtype = getattr(torch, name)
    image = noise((16, 16)).to(dtype).requires_grad_()
    exact = sep.convolve(image.detach().float(), kernels.gaussian(2))
    for found in (sep.convolve(image, kernels.gaussian(2)), elsewhere(image, kernels.gaussian(2))):
        assert found.dtype == dtype
        torch.testing.assert_close(found, exact.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-6)
        (gradient,) = torch.autograd.grad(found.float().sum(), image)
        assert gradient.dtype == dtype


def test_whole_numbers_are_rounded_half_to_even_and_saturated() -> None:
    image = torch.tensor([0, 1, 2, 3, 250], dtype=torch.uint8)
    for run in (sep.convolve, elsewhere):
        assert run(image, [0.5]).tolist() == [0, 0, 1, 2, 125]
        assert run(image, [2.0]).tolist() == [0, 2, 4, 6, 255]
        assert run(image, [-1.0]).tolist() == [0, 0, 0, 0, 0]
        assert run(image, [-1.0], output=torch.int16).tolist() == [0, -1, -2, -3, -250]
        large = run(torch.tensor([2**62, -(2**62)]), [4.0])
        assert large.tolist() == [2**63 - 1, -(2**63)]
        assert run(torch.tensor([True, False]), [1.0]).tolist() == [True, False]


def test_a_nan_stays_within_the_kernel() -> None:
    image = torch.zeros(15, 15)
    image[7, 7] = math.nan
    for run in (sep.convolve, elsewhere):
        spoilt = run(image, kernels.laplacian_of_gaussian(1, radius=2)).isnan()
        assert spoilt[5:10, 5:10].all()
        assert spoilt.sum() == 25


def test_the_form_with_the_fewest_multiplications_is_taken_within_the_tolerance() -> None:
    kernel = kernels.gaussian(1).dense() + noise((9, 9)).numpy() / 5000  # of full rank, nearly of 1
    image = noise((32, 32))
    exact = sep.convolve(image, kernel)
    close = elsewhere(image, kernel, tol=0.05)
    error = float((close - exact).abs().max() / image.abs().max())
    assert 1e-6 < error <= 0.05
    for method in ("direct", "low-rank", "torch"):
        torch.testing.assert_close(elsewhere(image, kernel, method=method), exact)
    volume, log = noise((5, 4, 5)), kernels.laplacian_of_gaussian(0.6, ndim=3, radius=2)
    torch.testing.assert_close(elsewhere(volume, log, method="nested"), sep.convolve(volume, log))
    four = kernels.gaussian(0.6, ndim=4)
    torch.testing.assert_close(
        elsewhere(noise((5, 4, 5, 4)), four), sep.convolve(noise((5, 4, 5, 4)), four)
    )
    with pytest.raises(ArgumentError, match="`method` must be auto or one of direct, separable"):
        elsewhere(image, kernel, method="fft")


def test_the_last_axes_are_filtered_and_the_memory_is_not_copied() -> None:
    batch = noise((2, 3, 8, 9))
    kernel = kernels.gaussian(1)
    single = torch.stack([torch.stack([sep.convolve(x, kernel) for x in y]) for y in batch])
    torch.testing.assert_close(sep.convolve(batch, kernel), single, rtol=0, atol=0)
    torch.testing.assert_close(
        sep.convolve(batch, kernel, axes=(0, 2)),
        torch.from_numpy(sep.convolve(batch.numpy(), kernel, axes=(0, 2))),
    )
    transposed = batch.transpose(1, 3)
    torch.testing.assert_close(
        sep.convolve(transposed, kernel, axes=(3, 2)),
        sep.convolve(batch, kernel, axes=(1, 2)).transpose(1, 3),
    )


def test_a_device_without_data() -> None:
    image = torch.empty(2, 8, 9, device="meta")
    for kernel in (kernels.gaussian(1), kernels.disk(2), kernels.laplacian_of_gaussian(1)):
        found = sep.convolve(image, kernel)
        assert (found.shape, found.device.type, found.dtype) == ((2, 8, 9), "meta", torch.float32)
    assert sep.convolve(image, kernels.gaussian(1), output=torch.float64).dtype == torch.float64


def test_vmap_and_gradients_of_samples() -> None:
    kernel = kernels.gaussian(1)
    batch = noise((4, 8, 7))

    def energy(x: Any) -> Any:
        return sep.convolve(x, kernel).pow(2).sum()

    torch.testing.assert_close(
        torch.func.vmap(lambda x: sep.convolve(x, kernel), in_dims=2, out_dims=2)(batch),
        sep.convolve(batch, kernel, axes=(0, 1)),
    )
    each = torch.stack([torch.func.grad(energy)(x) for x in batch])
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(energy))(batch), each)


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # Dynamo looks at it
def test_compile_and_autocast() -> None:
    kernel = kernels.gaussian(1)
    image = torch.ones(8, 8, requires_grad=True)
    compiled = torch.compile(lambda x: sep.convolve(x * 2, kernel) + 1, backend="eager")
    torch.testing.assert_close(compiled(image), torch.full((8, 8), 3.0))
    weights = torch.tensor(kernel.dense(), requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert sep.convolve(image, weights).dtype == torch.float32
        assert sep.convolve(image, kernel).dtype == torch.float32


def test_outputs_and_progress() -> None:
    image, told = noise((6, 7)), []
    out = torch.empty(6, 7)
    assert sep.convolve(image, [[0.5]], output=out) is out
    torch.testing.assert_close(out, (image * 0.5).float())
    assert sep.convolve(image.float(), [[0.5]], output="float64").dtype == torch.float64
    elsewhere(image, [[1.0]])
    from separable.filtering import filter_with

    filter_with(image, [[1.0]], None, progress=told.append)
    assert sum(told) == pytest.approx(1.0)


def test_mistakes_are_named() -> None:
    image = noise((6, 7))
    with pytest.raises(
        KernelError, match="the kernel has more axes than the image: 3, the image 2"
    ):
        sep.convolve(image, np.ones((3, 3, 3)))
    with pytest.raises(
        OutputError, match=r"`output` must have shape \(6, 7\) on cpu; got \(7, 6\)"
    ):
        sep.convolve(image, [[1.0]], output=torch.empty(7, 6))
    with pytest.raises(OutputError, match="must be a type where a gradient is asked for"):
        sep.convolve(image.clone().requires_grad_(), [[1.0]], output=torch.empty(6, 7))
    for missing in ({"mask": np.ones((6, 7))}, {"nan": "ignore"}):
        with pytest.raises(ArgumentError, match=r"kernel with gradients.*divide two filters"):
            sep.convolve(image, torch.ones(1, 1, requires_grad=True), **missing)
    with pytest.raises(DTypeError, match="a tensor must be dense and unquantized"):
        sep.convolve(image.to_sparse(), [[1.0]])
    with contextlib.suppress(ImportError):
        import ml_dtypes  # noqa: F401  makes NumPy know the name
    with pytest.raises(DTypeError, match="a tensor must be bool, an integer, float16"):
        sep.convolve(image.to(torch.float8_e4m3fn), [[1.0]])
    with pytest.raises(ArgumentError, match="is filtered densely along at most 3 axes; got 4"):
        sep.convolve(noise((2, 2, 2, 2)), torch.ones(1, 1, 1, 2, requires_grad=True))
    with pytest.raises(
        TypeError, match=r"`output` must be a torch\.dtype or a tensor; got 'nothing'"
    ):
        sep.convolve(image, [[1.0]], output="nothing")


def test_filtering_does_not_import_the_compiler() -> None:
    code = (
        "import sys, torch, separable as sep\n"
        "from separable.resample import resize\n"
        "x = torch.ones(8, 8, requires_grad=True)\n"
        "sep.convolve(x, sep.kernels.gaussian(1)).sum().backward()\n"
        "resize(x, 4)\n"
        "sep.convolve(x.detach(), [[1.0, 2.0]], output_region='valid', stride=2)\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "step = torch.compile(lambda x: sep.convolve(x * 2, [[0.5]]) + 1, backend='eager')\n"
        "assert step(x).tolist() == (x + 1).tolist()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
def test_the_compiler_leaves_filters_alone() -> None:
    torch._dynamo.reset()
    graphs: list[list[Any]] = []

    def backend(graph: Any, _inputs: Any) -> Any:
        graphs.append([n.target for n in graph.graph.nodes if n.op == "call_function"])
        return graph.forward

    filtered = untraced(lambda x: torch.cat([x, x.flip(0)]))
    compiled = torch.compile(lambda x: filtered(x * 2) + 1, backend=backend)
    image = torch.arange(3.0)
    for _ in range(2):
        torch.testing.assert_close(compiled(image), torch.cat([image, image.flip(0)]) * 2 + 1)
    assert graphs == [[operator.mul], [operator.add]]
    whole = torch.compile(lambda x: filtered(x) + 1, backend=backend, fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="disable"):
        whole(image)
