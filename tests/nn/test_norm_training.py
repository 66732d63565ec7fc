"""The operator of a separable layer with batch normalisation, in training: against PyTorch in float64."""

from __future__ import annotations

import math

import pytest
import torch
from guarded_memory import guarded
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from layer_cases import drawn_layer
from torch.nn import functional

from separable.engine.compiled import thread_pool as pool
from separable.errors import ArgumentError
from separable.nn.fused import layer_gradients
from separable.nn.fused.operators import activate, convolve, depthwise_by_torch

pytestmark = pytest.mark.widths

OPS = torch.ops.separable
KINKS = {"relu": (0.0,), "relu6": (0.0, 6.0), "hardswish": (-3.0, 3.0)}
ACTS = ("none", "relu", "relu6", "silu", "hardswish")
EPS = 1e-3
NO_NORM = (None, None, None, "none")


@pytest.fixture(autouse=True)
def _same_threads(monkeypatch):
    monkeypatch.setattr(pool, "poison", True)
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@pytest.fixture(params=[1, 1000], ids=["image by image", "two passes"])
def _one_pass(request, monkeypatch):
    """Run both ways to compute the depthwise gradients, whatever the number of images."""
    layer_gradients.in_one_pass.cache_clear()
    monkeypatch.setattr(layer_gradients, "LEAST_IMAGES", request.param)
    yield
    layer_gradients.in_one_pass.cache_clear()


@st.composite
def cases(draw):
    """Tensors of a layer, then stride, padding, dilation, and the activation."""
    drawn = drawn_layer(draw, images=(2, 9), least=2)
    x, depthwise, between_bias, pointwise, bias, window, normal = drawn
    depth = depthwise.shape[0]
    tensors = [x, depthwise, between_bias, normal(depth), normal(depth), pointwise, bias]
    for optional in (2, 3, 4, 6):
        if draw(st.integers(0, 3)) == 0:
            tensors[optional] = None
    return tensors, window, draw(st.sampled_from(ACTS))


@st.composite
def output_norms(draw, outputs):
    """Parameters of the normalisation of the output, its epsilon, and the activation."""
    if draw(st.booleans()):
        return None, None, None, "none"
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    gamma, beta = (
        torch.randn(outputs, generator=generator) if draw(st.integers(0, 3)) else None
        for _ in range(2)
    )
    return gamma, beta, EPS, draw(st.sampled_from(ACTS))


def moments_of(rows):
    return torch.var_mean(rows, [0, *range(2, rows.dim())], correction=0)


def is_unclear(rows, z, act):
    """Return True if gradients in float32 may be far from those in float64, and both right.

    A variance near 0 magnifies rounding errors without bound; at a kink both slopes are right.
    """
    var, _ = moments_of(rows)
    near_kink = any((z - kink).abs().min() < 1e-5 for kink in KINKS.get(act, ()))
    return rows.numel() <= 8 * rows.shape[1] or bool(var.min() < 1e-2) or near_kink


def reference(tensors, window, act, out_gamma=None, out_beta=None, out_eps=None, out_act="none"):
    """Return the output and the moments by PyTorch in float64, and whether the case is unclear."""
    x, depthwise, between_bias, gamma, beta, pointwise, bias = tensors
    d = depthwise_by_torch(x, depthwise, between_bias, *window)
    z = functional.batch_norm(d, None, None, gamma, beta, True, 0.1, EPS)
    rows = convolve(activate(z, act), pointwise, bias)
    unclear, (var, mean) = is_unclear(d, z, act), moments_of(d)
    if out_eps is None:
        return (rows, mean, var, *(mean.new_empty(0) for _ in range(3))), unclear
    out_z = functional.batch_norm(rows, None, None, out_gamma, out_beta, True, 0.1, out_eps)
    out_var, out_mean = moments_of(rows)
    unclear = unclear or is_unclear(rows, out_z, out_act)
    return (activate(out_z, out_act), mean, var, out_mean, out_var, rows), unclear


def leaves_of(tensors, dtype):
    return [None if t is None else t.detach().to(dtype).requires_grad_() for t in tensors]


def gradients(out, leaves):
    back = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    return torch.autograd.grad(out, [t for t in leaves if t is not None], back)


def near(found, exact, tolerance):
    assert found.shape == exact.shape
    if exact.numel():
        scale = exact.abs().max() + 1  # inputs are of size 1; sums may cancel
        assert (found.double() - exact).abs().max() <= tolerance * scale


@pytest.mark.usefixtures("_one_pass")
def test_values_gradients_and_bits_for_any_number_of_threads():
    @settings(max_examples=60)
    @given(st.data())
    def check(data):
        tensors, window, act = data.draw(cases())
        norm = data.draw(output_norms(tensors[5].shape[0]))
        tensors, rest = [*tensors, *norm[:2]], norm[2:]
        wide = leaves_of(tensors, torch.float64)
        exact, unclear = reference(wide[:7], window, act, *wide[7:], *rest)
        assume(not unclear)
        found = []
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            leaves = leaves_of(tensors, torch.float32)
            made = OPS.depthwise_separable_norm(*leaves[:7], *window, EPS, act, *leaves[7:], *rest)
            assert made[0].grad_fn is not None
            assert not any(m.requires_grad for m in made[1:])
            found.append((*made, *gradients(made[0], leaves)))
        for other in found[1:]:
            assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
        for one, right in zip(found[0], (*exact, *gradients(exact[0], wide)), strict=True):
            near(one, right, 2e-4)
        assert found[0][6].stride() == leaves[0].stride()

    check()


@pytest.mark.usefixtures("_one_pass")
def test_gradients_without_normalisation():
    @settings(max_examples=40)
    @given(cases())
    def check(case):
        tensors, window, act = case
        acts = {"relu": ("relu6", "relu"), "relu6": ("none", "relu6")}.get(act, ("none", "none"))
        tensors = [t for i, t in enumerate(tensors) if i not in (3, 4)]
        found = []
        for threads, dtype in (
            (1, torch.float32), (2, torch.float32), (5, torch.float32), (2, torch.float64)
        ):  # fmt: skip
            torch.set_num_threads(threads)
            leaves = leaves_of(tensors, dtype)
            found.append(gradients(OPS.depthwise_separable(*leaves, *window, *acts), leaves))
        for one, two, five, exact in zip(*found, strict=True):
            assert torch.equal(one, two)
            assert torch.equal(one, five)
            near(one, exact, 3e-5)

    check()


def layer_tensors(dtype, channels=2, outputs=3, size=(4, 4), images=2):
    def made(*shape):
        return torch.randn(*shape, dtype=dtype).requires_grad_()

    return [made(images, channels, *size), made(2 * channels, 1, 3, 2), made(2 * channels), made(2 * channels),
            made(2 * channels), made(outputs, 2 * channels, 1, 1), made(outputs)]  # fmt: skip


WINDOW = ([1, 2], [1, 1, 1, 0], [1, 1])


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("act", ["none", "relu", "silu", "hardswish"])
def test_the_operator_by_the_book(act, norm):
    torch.manual_seed(0)
    rest = (*WINDOW, EPS, act, *((torch.randn(3), torch.randn(3), 1e-2, act) if norm else NO_NORM))

    def out(*tensors):
        wide = [r.double() if isinstance(r, torch.Tensor) else r for r in rest]
        return OPS.depthwise_separable_norm(
            *tensors[:7], *wide[:5], *(tensors[7:] or wide[5:7]), *wide[7:]
        )[0]

    tensors = layer_tensors(torch.float64)
    tensors += [r.double().requires_grad_() for r in rest[5:7] if norm]
    assert torch.autograd.gradcheck(out, tensors)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    narrow = layer_tensors(torch.float32)
    found = torch.library.opcheck(OPS.depthwise_separable_norm, (*narrow, *rest), test_utils=checks)
    assert set(found.values()) == {"SUCCESS"}
    made = OPS.depthwise_separable_norm(*narrow, *rest)
    plain = [t.detach() for t in narrow]
    backward = (torch.ones_like(made[0]), *plain, *rest, *(m.detach() for m in made[1:]), True)
    found = torch.library.opcheck(
        OPS.depthwise_separable_norm_backward, backward,
        test_utils=("test_schema", "test_faketensor"),
    )  # fmt: skip
    assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_second_derivatives_raise_the_error_of_pytorch(dtype):
    tensors = layer_tensors(dtype)
    x, depthwise, between_bias, _, _, pointwise, bias = tensors
    for out in (
        OPS.depthwise_separable_norm(*tensors, *WINDOW, EPS, "none")[0],
        OPS.depthwise_separable(
            x, depthwise, between_bias, pointwise, bias, *WINDOW, "none", "relu"
        ),
        OPS.depthwise(x, depthwise, between_bias, *WINDOW, "none"),
    ):
        (first,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="differentiate twice"):
            first.sum().backward()


def test_moments_far_from_zero_are_accurate():
    torch.manual_seed(0)
    x = (torch.randn(9, 16, 30, 30) + 3000).contiguous(memory_format=torch.channels_last)
    weight, point = torch.ones(16, 1, 1, 1), torch.randn(8, 16, 1, 1)
    rest = ([1, 1], [0] * 4, [1, 1], EPS, "none")
    out, mean, var, *_ = OPS.depthwise_separable_norm(
        x, weight, None, None, None, point, None, *rest
    )
    exact_var, exact_mean = torch.var_mean(x.double(), (0, 2, 3), correction=0)
    assert (mean - exact_mean).abs().max() <= 1.3e-4  # half a unit in the last place of 3000
    assert (var / exact_var - 1).abs().max() <= 1e-6
    tensors = [x.double(), weight.double(), None, None, None, point.double(), None]
    near(out, reference(tensors, rest[:3], "none")[0][0], 1e-3)


def test_bfloat16_and_empty_batches_run_in_pytorch():
    tensors = [t.detach() for t in layer_tensors(torch.float32, 8, 5, (9, 9), 3)]
    exact = OPS.depthwise_separable_norm(*tensors, *WINDOW, EPS, "relu")
    half = [t.bfloat16() for t in tensors]
    made = OPS.depthwise_separable_norm(*half, *WINDOW, EPS, "relu")
    assert made[0].dtype is torch.bfloat16
    assert made[1].dtype is torch.float32
    assert (made[0].float() - exact[0]).abs().max() <= 0.05 * exact[0].abs().max()
    tensors[0] = tensors[0][:0]
    out, mean, *_ = OPS.depthwise_separable_norm(*tensors, *WINDOW, EPS, "relu")
    assert out.shape == (0, 5, 9, 5)
    assert mean.isnan().all()


@pytest.mark.parametrize(
    ("index", "shape", "message"),
    [
        (3, (3,), r"depthwise_separable_norm: expected a bias of shape \(4,\)"),
        (5, (3, 5, 1, 1), "expected pointwise weights"),
        (1, (5, 1, 3, 2), "expected weights"),
    ],
)
def test_bad_sizes(index, shape, message):
    tensors = [t.detach() for t in layer_tensors(torch.float32)]
    tensors[index] = torch.zeros(shape)
    with pytest.raises(ArgumentError, match=message):
        OPS.depthwise_separable_norm(*tensors, *WINDOW, EPS, "none")


@pytest.mark.parametrize("norm", [(torch.ones(3), None, None, "none"), (None, None, None, "relu")])
def test_an_activation_needs_a_normalisation(norm):
    tensors = [t.detach() for t in layer_tensors(torch.float32)]
    with pytest.raises(
        ArgumentError, match=r"belong to a normalisation of the output; .* no `out_eps`"
    ):
        OPS.depthwise_separable_norm(*tensors, *WINDOW, EPS, "none", *norm)


def test_one_position_raises_the_error_of_pytorch():
    tensors = [t.detach() for t in layer_tensors(torch.float32, size=(1, 1), images=1)]
    with pytest.raises(ValueError, match=r"more than 1 value per channel.*\[1, 4, 1, 1\]"):
        OPS.depthwise_separable_norm(*tensors, *WINDOW, EPS, "none")


def test_flops_are_counted():
    from torch.utils.flop_counter import FlopCounterMode

    tensors = layer_tensors(torch.float32)
    with FlopCounterMode(display=False) as counter:
        out = OPS.depthwise_separable_norm(*tensors, *WINDOW, EPS, "none")[0]
        forward = counter.get_total_flops()
        out.sum().backward()
    depthwise, pointwise = 2 * 2 * 4 * 2 * 4 * 6, 2 * 2 * 4 * 2 * 4 * 3
    assert forward == depthwise + pointwise
    assert counter.get_total_flops() == 3 * forward


def guarded_last(shape, at_end):
    """A tensor with channels last that ends or begins at a page that cannot be touched."""
    order = [shape[0], *shape[2:], shape[1]]
    return guarded(math.prod(shape), at_end).view(order).movedim(-1, 1)


@pytest.mark.usefixtures("_one_pass")
@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize(("channels", "outputs", "stride"), [(3, 5, 1), (17, 33, 2), (16, 64, 1)])
def test_guard_pages(channels, outputs, stride, at_end):
    torch.manual_seed(0)
    x = guarded_last((9, channels, 9, 8), at_end).normal_()
    tensors = [
        x,
        torch.randn(channels, 1, 3, 3),
        None,
        None,
        None,
        torch.randn(outputs, channels, 1, 1),
        None,
    ]
    rest = ([stride] * 2, [1] * 4, [1, 1], EPS, "silu", None, None, EPS, "relu6")
    out, *moments, rows = OPS.depthwise_separable_norm(*tensors, *rest)
    back = guarded_last(out.shape, at_end).normal_()
    seen = guarded_last(out.shape, at_end).copy_(rows)
    operator = OPS.depthwise_separable_norm_backward
    found = operator(back, *tensors, *rest, *moments, seen, True)
    free = [None if t is None else t.clone() for t in tensors]
    again = operator(back.clone(), *free, *rest, *moments, rows, True)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    separable = (tensors[0], tensors[1], None, tensors[5], None)
    plain = (separable[0].clone(), *separable[1:])
    acts = (*rest[:3], "none", "none", True)
    found = OPS.depthwise_separable_backward(back, *separable, back, *acts)
    again = OPS.depthwise_separable_backward(back.clone(), *plain, back, *acts)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
