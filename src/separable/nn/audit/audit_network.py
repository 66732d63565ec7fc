"""audit: a network or a pipeline -> which of its convolutions and transforms are separable."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from separable.errors import ArgumentError, ArgumentTypeError
from separable.nn.audit.audit_data import Audit, AuditedLayer, Finding, Form
from separable.nn.audit.finding_texts import fourier_finding, layer_finding
from separable.nn.audit.kernel_forms import POOLING, Forms, forms_of, properties
from separable.nn.audit.layer_outputs import LayerOutputs, plain_conv
from separable.nn.audit.observed_calls import (
    ObservedConv,
)
from separable.nn.audit.program_run import (
    arguments_of,
    described,
    observe,
    program_name,
    stages_of,
)
from separable.nn.audit.shared_inputs import bank_findings
from separable.nn.convert.conversion import Progress
from separable.nn.convert.factored_layers import built, plain
from separable.nn.convert.layer_refs import LayerRef, find_layers, refusal, selected
from separable.nn.convert.trace import trace_model
from separable.nn.dense_weights import as_array
from separable.nn.factored_conv import FactoredConv
from separable.nn.fused import fuse
from separable.nn.torch_convs import weights_in_order

__all__ = ["audit", "audit_traced"]


def audit(
    model: Any,
    example: Any = None,
    *,
    tol: float = 0.05,
    repeats: int = 5,
    include: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    progress: Progress | None = None,
) -> Audit:
    """Find the convolutions and transforms of a program that are separable, and what they would save.

    Parameters
    ----------
    model : torch.nn.Module, function, or sequence of functions
        A network; a function of tensors or arrays, such as an augmentation; or a pipeline of them
        (also an object with a list ``transforms``), of which each one takes what the one before
        gives. A network is copied and run in evaluation mode; functions are run as they are, random
        ones with the same seed each time.
    example : tensor, array, shape, or list of those, optional
        Input of one call. Shapes stand for random numbers. With an example, convolutions are found
        wherever they are called, in modules and in functions, and multiplications and times are
        those of the example. Without one, only the convolution modules of a network are examined.
    tol : float
        Relative error of the weights up to which an approximation is called close.
    repeats : int
        Number of timed runs of each layer that can be separated; 0 measures no times.
    include, exclude : iterable of str, optional
        Modules to examine, or not to examine, as for `convert`.
    progress : function, optional
        Function called with the current activity, the number of layers done, and their total.

    Returns
    -------
    Audit
        Every convolution with its exact and close forms, and the findings: layers, banks of filters
        that read one input, transforms, and Fourier transforms of separable values.

    Raises
    ------
    ArgumentError
        If the program does not take the example, has no convolution, or a name matches none.
    ArgumentTypeError
        If an argument is of another type.

    Notes
    -----
    A layer is exactly separable if a form with fewer multiplications reproduces its weights up to
    the rounding of their type. Random weights never are.

    Examples
    --------
    >>> import torch
    >>> line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    >>> kernel = (line[:, None] * line).expand(3, 1, 5, 5)
    >>> def blur(image):
    ...     return torch.nn.functional.conv2d(image, kernel, padding=2, groups=3)
    >>> found = audit(blur, (1, 3, 32, 32), repeats=0)
    >>> [(x.exact.pattern, x.multiplications / x.exact.multiplications) for x in found.layers]
    [('cyx -> cy,cx', 2.5)]
    """
    _check(tol, repeats)
    stages = stages_of(model)
    if stages is None and not callable(model):
        raise ArgumentTypeError(
            "`model` must be a torch.nn.Module, a function, or a sequence of functions; got "
            f"{type(model).__name__}"
        )
    if example is None:
        if not isinstance(model, nn.Module):
            raise ArgumentError(
                f"`example` is needed to audit the function {program_name(model)}: give one input of it, "
                "for instance (1, 3, 224, 224)"
            )
        return audit_traced(
            model, None, tol=tol, repeats=0, include=include, exclude=exclude, progress=progress
        )
    given = arguments_of(model, example)
    uses, transforms, findings = observe(model, stages, given)
    uses = _selected(model, uses, include, exclude)
    if not uses and not findings and not transforms and isinstance(model, nn.Module):
        raise ArgumentError(f"`model` {program_name(model)} runs no convolution on this example")
    found = [*bank_findings(uses), *map(fourier_finding, transforms), *findings]
    made = _audited(program_name(model), described(given), uses, found, tol, repeats, progress)
    return replace(made, ran_on="the example" if _has_values(example) else "random numbers")


def _has_values(example: Any) -> bool:
    """Return True if an example has numbers and not shapes alone."""
    values = example if isinstance(example, (list, tuple)) else [example]
    return any(isinstance(v, (torch.Tensor, np.ndarray)) for v in values)


def audit_traced(
    model: nn.Module,
    shapes: Any,
    sources: Mapping[str, Sequence[Hashable]] | None = None,
    samples: Mapping[str, torch.Tensor] | None = None,
    *,
    tol: float = 0.05,
    repeats: int = 5,
    include: Iterable[str] | None = None,
    exclude: Iterable[str] = (),
    progress: Progress | None = None,
) -> Audit:
    """Examine the convolution modules of a network, which is not run here.

    Parameters
    ----------
    model : torch.nn.Module
    shapes : tuple of int, list of shapes or tensors, or None
        Input as for `ledger`; None counts multiplications per output position.
    sources : mapping of str to sequence, optional
        For each convolution what stands for its input in each call; equal for equal inputs.
    samples : mapping of str to tensor, optional
        Input of each convolution in a run, for errors of outputs.
    tol, repeats, include, exclude, progress
        See `audit`.
    """
    _check(tol, repeats)
    refs = selected(find_layers(model), include, exclude)
    if not refs:
        raise ArgumentError(f"`model` {program_name(model)} has no convolution to examine")
    trace = None
    if shapes is not None:
        watched = {r.name: r.conv for r in refs if not refusal(r.conv)}
        trace = trace_model(model, shapes, watched)
    numbers: dict[Hashable, int] = {}
    uses = []
    for ref in refs:
        use = _use_of(ref)
        if trace is not None:
            use.shapes = [tuple(s) for s in trace.shapes.get(ref.name, ())]
            if not use.shapes and not use.reason:
                use.reason = "does not run"
        use.inputs = (samples or {}).get(ref.name)
        known = (sources or {}).get(ref.name, [])
        use.values = [numbers.setdefault(s, len(numbers)) for s in known]
        uses.append(use)
    banks = [u for u in uses if u.values and u.shapes]
    inputs = () if trace is None else trace.inputs
    return _audited(
        program_name(model),
        inputs,
        uses,
        bank_findings(banks),
        tol,
        repeats if shapes else 0,
        progress,
    )


def _check(tol: float, repeats: int) -> None:
    if isinstance(tol, bool) or not isinstance(tol, (int, float, np.number)):
        raise ArgumentTypeError(f"`tol` must be a number; got {tol!r}")
    if not 0 <= float(tol) < 1:
        raise ArgumentError(f"`tol` must be 0 .. 1; got {tol!r}")
    if isinstance(repeats, bool) or not isinstance(repeats, (int, np.integer)):
        raise ArgumentTypeError(f"`repeats` must be an integer; got {repeats!r}")
    if repeats < 0:
        raise ArgumentError(f"`repeats` must be >= 0; got {repeats!r}")


def _use_of(ref: LayerRef) -> ObservedConv:
    conv: Any = ref.conv
    reason = ref.reason or refusal(conv)
    if isinstance(conv, FactoredConv) or reason:
        weight = getattr(conv, "weight", None)
        spec = getattr(conv, "spec", None)
        empty = np.zeros(() if weight is None or reason else tuple(weight.shape))
        return ObservedConv(
            ref.name, "", type(conv).__name__, spec, empty, torch.float32,  # type: ignore[arg-type]
            reason=reason or "separable already",
        )  # fmt: skip
    spec = ref.spec
    weight = weights_in_order(as_array(conv.weight), spec.groups, spec.transposed)
    return ObservedConv(ref.name, "", type(conv).__name__, spec, weight, conv.weight.dtype)


def _selected(
    model: Any, uses: list[ObservedConv], include: Iterable[str] | None, exclude: Iterable[str]
) -> list[ObservedConv]:
    """Leave out the convolutions of modules that were not selected."""
    if include is None and not tuple(exclude):
        return uses
    refs = [LayerRef(u.name, (), nn.Identity()) for u in uses]
    for use, ref in zip(uses, selected(refs, include, exclude), strict=True):
        use.reason = use.reason or ref.reason
    return uses


def _audited(
    name: str,
    inputs: tuple[str, ...],
    uses: Sequence[ObservedConv],
    findings: Sequence[Finding],
    tol: float,
    repeats: int,
    progress: Progress | None,
) -> Audit:
    layers = []
    for at, use in enumerate(uses):
        if progress is not None:
            progress(f"examining {use.title}", at, len(uses))
        layers.append(_layer(use, tol, repeats))
    own = [f for x in layers if (f := layer_finding(x)) is not None]
    return Audit(name, inputs, tol, tuple(layers), (*own, *findings))


def _layer(use: ObservedConv, tol: float, repeats: int) -> AuditedLayer:
    shape = tuple(use.weight.shape) if use.spec is None else use.spec.weight_shape
    groups = 1 if use.spec is None else use.spec.groups
    common: dict[str, Any] = {
        "name": use.name, "where": use.where, "kind": use.kind, "weight_shape": shape,
        "groups": groups, "calls": max(1, len(use.shapes)),
    }  # fmt: skip
    reason = use.reason
    if not reason and not use.weight.any():
        reason = "all weights are 0"
    if reason:
        return AuditedLayer(**common, reason=reason)
    forms = forms_of(use.spec, use.weight, use.shapes or None, use.dtype)
    outputs = None
    if use.inputs is not None:
        outputs = LayerOutputs(use.spec, use.weight, use.inputs)
    exact = forms.within(0.0)
    close = forms.within(tol)
    if outputs is not None:
        exact = None if exact is None else forms.on_outputs(exact, outputs)
        close = None if close is None else forms.on_outputs(close, outputs)
    if close is not None and (close.error == 0.0 or close == exact):
        close = None
    best = close or exact
    times = (math.nan,) * 3
    if best is not None and repeats and use.shapes:
        times = _times(use, forms, best, repeats)
    return AuditedLayer(
        **common, multiplications=forms.before, exact=exact, close=close,
        cheapest=forms.cheapest(), at_half=forms.at_share(0.5, outputs), at_quarter=forms.at_share(0.25, outputs),
        seconds_before=times[0], seconds=times[1], seconds_fused=times[2],
        notes=properties(use.weight, use.spec, use.dtype), spectrum=forms.spectrum(best),
    )  # fmt: skip


def _times(use: ObservedConv, forms: Forms, form: Form, repeats: int) -> tuple[float, float, float]:
    """Return the shortest times of a layer, of a form of it, and of that form after `fuse`."""
    tensor = torch.rand(use.shapes[0], dtype=torch.float32)
    dense = plain_conv(use.spec, use.weight)
    if form.pattern == POOLING:
        pools = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
        layers = [dense, pools[use.spec.ndim](use.spec.kernel_size)]
    else:
        parts = plain_conv(forms.spec, forms.weight)
        other = built(*plain(forms.scheme(form), parts), parts) if form.pattern else parts
        layers = [dense, other]
        if form.pattern:
            layers.append(fuse(nn.Sequential(other).eval(), tensor)[0])
    with torch.no_grad():
        best = [math.inf] * len(layers)
        for layer in layers:
            layer(tensor)
        for _ in range(repeats):
            for at, layer in enumerate(layers):
                start = time.perf_counter()
                layer(tensor)
                best[at] = min(best[at], time.perf_counter() - start)
    return best[0], best[1], best[2] if len(best) > 2 else math.nan
