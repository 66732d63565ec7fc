"""fuse: a copy of a trained network with its separable layers fused, for inference."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves

from separable.errors import ArgumentError
from separable.gpu.kernel_support import serves
from separable.nn.fused.batchnorm_folding import name_of_activation
from separable.nn.fused.chain_fusion import fuse_chain
from separable.nn.fused.data_flow import DataFlow, cut_at_open_flow, names_of_chains
from separable.nn.fused.fused_modules import (
    Fused,
    FusedDepthwise,
    FusedPointwise,
    FusedSeparable,
    refuse_training,
)
from separable.nn.fused.fused_split import (
    FusedSplit,
)
from separable.nn.fused.fusion_report import FusionReport
from separable.nn.fused.kernel_choice import (
    Choose,
    copied,
    kernels_everywhere,
    last,
    lay_last,
    measured,
    predicted,
)
from separable.nn.fused.kernel_use import can_use_fused_kernel
from separable.nn.fused.layout_transpose import known_last_strides, to_last
from separable.nn.fused.program import attach
from separable.nn.fused.spatial_pair import FusedPair
from separable.nn.fused.tracing import Call, chains, record
from separable.nn.ties import ties_of, untied

__all__ = ["fuse", "fuse_without_choice"]

TOLERANCE = 1e-4
"""Largest difference of outputs, relative to the largest output, that `fuse` lets pass."""
LESS_EXACT = 2.0
"""How many times as large as before the errors of a network in bfloat16 or float16 may be."""


class _SameFlow:
    """Hook that checks the path of the data for each new shape of input."""

    def __init__(self, flow: DataFlow) -> None:
        self._flow = flow

    def __call__(self, module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        if not torch.compiler.is_compiling():
            self._flow.check(args)


def _flow_of(model: nn.Module, inputs: Sequence[Any], calls: list[Call]) -> DataFlow | None:
    """Return the path of the data for any shape of input, or None if it depends on values."""
    flow = DataFlow(model, _is_leaf)
    try:
        found = flow.chains(inputs)
    except Exception:  # PyTorch raises errors of many kinds for operators that need values
        return None
    return flow if names_of_chains(found) == names_of_chains(chains(calls)) else None


class _ToLast:
    """Hook that converts a network's inputs to channels-last layout, once."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(_input_last(a) if isinstance(a, Tensor) else a for a in args)


def _input_last(x: Tensor) -> Tensor:
    """Return an input in channels-last layout, by the compiled transposition where that is possible."""
    plain = type(x) is Tensor and not torch.compiler.is_compiling()
    if not (plain and x.is_cpu and x.dim() in (4, 5) and not x.requires_grad):
        return last(x)
    if x.stride() == known_last_strides(x.shape):
        return x
    return to_last(x) if can_use_fused_kernel(x) else last(x)


def fuse(
    model: nn.Module, *inputs: Any, measure: bool = True, exact: bool = False
) -> tuple[nn.Module, FusionReport]:
    """Return a copy of a network whose separable layers are fused, and a report.

    Batch normalisation is folded into the convolution before it. A chain of depthwise -> [norm] ->
    [activation] -> pointwise -> [norm] -> [activation] becomes one module that keeps the values
    between the two convolutions in the cache. Any other convolution takes up the normalisation and
    activation that follow; the compiled kernels run it if it is dense and padded with zeros. Chains are found from the data flow in one run.

    Parameters
    ----------
    model : torch.nn.Module
        Network in evaluation mode; it is not changed.
    *inputs
        Arguments of one usual call. They may be omitted for networks of `separable.nn.models`.
    measure : bool
        Whether programs are timed beside PyTorch's operators on the example, so that PyTorch runs what it is faster
        at, and the report says the gain. True, because kernels that are fastest on one processor are not on all; it
        takes a second or a few. If False, the times are predicted from the profile of this computer
        (``separable machine --layers`` measures it).
    exact : bool
        Dense convolutions of 3 x 3, 3 x 1 or 1 x 3 taps run by Winograd's minimal filtering where that is
        faster; its rounding errors in float32 are at most twice as large. True computes each output on
        its own.

    Returns
    -------
    network : torch.nn.Module
        Network for inference: its weights are constants, and ``train()`` raises an error. Its
        layers use channels-last layout.
    report : FusionReport
        Fused chains, convolutions left to PyTorch, and the difference of the outputs.

    Raises
    ------
    ArgumentError
        If the model is in training mode, there is no input, or outputs differ.

    Examples
    --------
    >>> from separable import nn as layers
    >>> net = layers.models.MobileNetV1(width=0.25, classes=10).eval()
    >>> fused, report = fuse(net, torch.zeros(1, 3, 64, 64))
    >>> len(report.fused), report.difference < 1e-5
    (14, True)
    """
    return _fused(model, inputs, exact, measured if measure else predicted)


def fuse_without_choice(
    model: nn.Module, *inputs: Any, exact: bool = False
) -> tuple[nn.Module, FusionReport]:
    """Return the result of `fuse` where programs run all that they have kernels for, whatever is faster."""
    return _fused(model, inputs, exact, kernels_everywhere)


def _fused(
    model: nn.Module, inputs: tuple[Any, ...], exact: bool, choose: Choose
) -> tuple[nn.Module, FusionReport]:
    """Return a fused copy of a network, and the report; `choose` decides what PyTorch runs."""
    if any(m.training for m in model.modules()):
        raise ArgumentError("fuse: the model is in training mode; call model.eval() first")
    if not inputs:
        if not hasattr(model, "example"):
            raise ArgumentError("fuse: expected the inputs of one call of the model, for instance "
                                "fuse(model, torch.zeros(1, 3, 224, 224)); got none")  # fmt: skip
        inputs = tuple(_drawn(x, model) for x in cast(Any, model).example())
    if _is_leaf(model):  # a single layer: its place in a container can be taken
        model = nn.Sequential(model).eval()
    network = copy.deepcopy(model).requires_grad_(False)
    ties = ties_of(network)
    with _without_autocast(network) as is_cast:
        if is_cast is not None:
            inputs = tuple(_cast(x, is_cast) for x in inputs)
        calls, before = record(network, copied(inputs), _is_leaf)
        fused: list[tuple[str, str]] = []
        left: list[tuple[str, str]] = []
        flow = _flow_of(model, inputs, calls)
        groups: list[tuple[str, ...]] = [] if flow is None else flow.groups
        found = chains(calls)
        for chain in found if flow is not None else cut_at_open_flow(network, found):
            fuse_chain(network, chain, fused, left, exact, groups)
        if flow is not None and groups:
            network.register_forward_pre_hook(_SameFlow(flow), with_kwargs=True)
        if _wants_last(network):
            lay_last(network)
            network.register_forward_pre_hook(_ToLast())
            inputs = tuple(last(x) if isinstance(x, Tensor) else x for x in inputs)
        left += _without_kernels(network)
        compiled, whole = attach(network.eval(), copied(inputs), exact=exact)
        choice = choose(model, network, inputs, compiled)
        with torch.no_grad():
            after = network(*copied(inputs))
        difference = _difference(before, after)
        allowed = TOLERANCE if difference <= TOLERANCE else _allowed(model, inputs, before, after)
    if not difference <= allowed:
        raise ArgumentError(
            f"fuse: the outputs of the fused network differ by {difference:.1e} of the largest one; "
            "either a module behaves differently in its second call, or the model itself turns on "
            "autocast or computes in low precision"
        )
    refuse_training(network)
    report = FusionReport(
        tuple(fused), tuple(left), difference, untied(ties, network), choice.times, choice.segments,
        tuple(whole), choice.origin,
    )  # fmt: skip
    return network, report


@contextlib.contextmanager
def _without_autocast(network: nn.Module) -> Iterator[torch.dtype | None]:
    """Disable autocast; yield its dtype if it was on, so that inputs can be cast to it."""
    tensors = itertools.chain(network.parameters(), network.buffers())
    like = next((t for t in tensors if t.is_floating_point()), None)
    kinds = {"cpu"} if like is None else {"cpu", like.device.type}
    kinds = {k for k in kinds if torch.amp.is_autocast_available(k)}
    is_on = any(torch.is_autocast_enabled(k) for k in kinds)
    with contextlib.ExitStack() as stack:
        for kind in kinds:
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield like.dtype if is_on and like is not None else None


def _cast(x: Any, dtype: torch.dtype) -> Any:
    """Return an input in the dtype of the weights, as autocast would have done."""
    return x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x


def _drawn(x: Any, model: nn.Module) -> Any:
    """Return random numbers in place of an example's, where the model is: all networks return the same for zeros."""
    if not isinstance(x, Tensor):
        return x
    device = next((t.device for t in model.parameters()), x.device)
    if not x.is_floating_point():
        return x.to(device)
    made = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    return made.to(device)


def _wants_last(network: nn.Module) -> bool:
    """Return True if channels-last layout is faster: unless pairs are most of what was fused."""
    modules = list(network.modules())
    pairs = sum(isinstance(m, FusedPair) for m in modules)
    others = sum(
        isinstance(m, FusedSeparable | FusedDepthwise | FusedPointwise | FusedSplit)
        for m in modules
    )
    return pairs <= others


def _difference(before: Any, after: Any) -> float:
    worst = 0.0
    for a, b in zip(tree_leaves(before), tree_leaves(after), strict=True):
        if isinstance(a, Tensor) and a.is_floating_point() and a.numel():
            scale = max(float(a.abs().max()), 1e-30)
            worst = max(worst, float((a - b).abs().max()) / scale)
    return worst


def _without_kernels(network: nn.Module) -> list[tuple[str, str]]:
    """Return the fused modules that PyTorch runs because of their dtype, and the reason."""
    found = []
    for name, module in network.named_modules():
        tensors = list(module.parameters()) + list(module.buffers())
        dtype = tensors[0].dtype if isinstance(module, Fused) and tensors else torch.float32
        if dtype is torch.float32 or isinstance(module, FusedDepthwise | FusedSeparable):
            continue
        if isinstance(module, FusedSplit) and serves(tensors[0]):
            continue
        kind = str(dtype).removeprefix("torch.")
        found.append((name, f"its weights are of {kind}, and its kernels compute in float32"))
    return found


def _allowed(model: nn.Module, inputs: tuple[Any, ...], before: Any, after: Any) -> float:
    """Return the difference of outputs that rounding explains in a network of lower precision than float32.

    It is allowed if the fused network is not much farther from the result in float64 than the network as it was.
    """
    dtypes = {t.dtype for t in itertools.chain(model.parameters(), model.buffers())}
    if not dtypes & {torch.bfloat16, torch.float16}:
        return TOLERANCE
    wide = tuple(
        x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs
    )
    try:
        with torch.no_grad():
            exact = copy.deepcopy(model).double()(*wide)
    except Exception:  # a network that is written for its own precision
        return TOLERANCE
    errors = _difference(exact, before), _difference(exact, after)
    return sum(errors) if errors[1] <= LESS_EXACT * errors[0] + TOLERANCE else TOLERANCE


def _is_leaf(module: nn.Module) -> bool:
    if isinstance(module, _ConvNd | _BatchNorm | nn.Identity | nn.Dropout):
        return True
    return name_of_activation(module) is not None
