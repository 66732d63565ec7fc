"""Runs of a program for an audit: its arguments, its stages, and what is observed and probed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from separable.errors import ArgumentError, ArgumentTypeError
from separable.nn.audit.audit_data import Finding
from separable.nn.audit.impulse_probe import as_filter, seeded, transform_finding
from separable.nn.audit.observed_calls import ObservedConv, ObservedTransform, Observer, observed
from separable.nn.convert.conversion import copied
from separable.nn.factored_conv import FactoredConv
from separable.nn.ledger.fake_model import fake_inputs

__all__ = ["arguments_of", "described", "observe", "program_name", "stages_of"]


def stages_of(model: Any) -> list[Callable[..., Any]] | None:
    """Return the functions of a pipeline, or None if it is one function or network."""
    found = model if isinstance(model, (list, tuple)) else getattr(model, "transforms", None)
    if isinstance(found, (list, tuple)) and found and all(map(callable, found)):
        return list(found)
    return None


def program_name(model: Any) -> str:
    """Return the name of a function, or of the class of a network."""
    if isinstance(model, (list, tuple)):
        return "pipeline"
    return getattr(model, "__name__", None) or type(model).__name__


def arguments_of(model: Any, example: Any) -> list[Any]:
    """Return the positional arguments of one call; shapes become random numbers."""
    if isinstance(example, (Tensor, np.ndarray)):
        return [example]
    given = list(example) if isinstance(example, (list, tuple)) else None
    if given and any(isinstance(v, (Tensor, np.ndarray)) for v in given):
        return [v if isinstance(v, (Tensor, np.ndarray)) else _random(model, v)[0] for v in given]
    try:
        return _random(model, example)
    except ArgumentTypeError:
        raise ArgumentTypeError(
            "`example` must be a tensor, an array, a shape such as (1, 3, 224, 224), or a list of "
            f"those; got {example!r:.80}"
        ) from None


def _random(model: Any, shapes: Any) -> list[Any]:
    like = model if isinstance(model, nn.Module) else nn.Identity()
    with torch.device("meta"):
        wanted = fake_inputs(like, shapes, None)
    device = next((p.device for p in like.parameters()), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    return [
        torch.rand(tuple(w.shape), generator=generator).to(device, w.dtype) for w in wanted
    ]  # fmt: skip


def described(given: Sequence[Any]) -> tuple[str, ...]:
    """Return the shapes and types of inputs as text."""
    return tuple(
        f"{'x'.join(map(str, v.shape))} {str(v.dtype).removeprefix('torch.')}"
        for v in given
        if hasattr(v, "shape")
    )


def observe(
    model: Any, stages: Sequence[Callable[..., Any]] | None, given: list[Any]
) -> tuple[list[ObservedConv], list[ObservedTransform], list[Finding]]:
    """Run a program, and probe its functions and modules without convolutions."""
    uses: list[ObservedConv] = []
    transforms: list[ObservedTransform] = []
    findings: list[Finding] = []
    for function in stages if stages is not None else [model]:
        seen, output, probed = _observe_stage(function, given)
        prefix = f"{program_name(function)}." if stages is not None else ""
        for use in seen.convolutions.values():
            use.name = f"{prefix}{use.name}".rstrip(".")
        uses += seen.convolutions.values()
        transforms += seen.transforms
        findings += probed
        given = list(output) if isinstance(output, tuple) else [output]
    return uses, transforms, findings


def _observe_stage(
    function: Callable[..., Any], given: Sequence[Any]
) -> tuple[Observer, Any, list[Finding]]:
    target = copied(function).eval() if isinstance(function, nn.Module) else function
    entries: dict[str, Any] = {}
    handles = _watch_custom(target, entries) if isinstance(target, nn.Module) else []
    try:
        with seeded(), observed(target) as seen:
            output = target(*given)
    except Exception as problem:
        raise ArgumentError(
            f"`example` {', '.join(described(given)) or repr(given)[:60]} does not go through "
            f"{program_name(function)}: {str(problem).strip() or type(problem).__name__}"
        ) from problem
    finally:
        for handle in handles:
            handle.remove()
    probed = list(_probed(target, function, given, entries, seen))
    names = [n for finding in probed for n in finding.names]
    if names and not isinstance(target, nn.Module):
        return seen, output, probed  # the whole function is the filter
    return seen, output, [*probed, *seen.translations.findings(names)]


def _watch_custom(model: nn.Module, entries: dict[str, Any]) -> list[Any]:
    """Keep the input of modules that are neither PyTorch's own nor contain convolutions."""
    handles = []
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if name.startswith(inside) and inside:
            continue
        own = type(module).__module__.startswith("torch.nn.modules")
        kinds = (nn.modules.conv._ConvNd, FactoredConv)
        if own or any(isinstance(m, kinds) or list(m.parameters(False)) for m in module.modules()):
            continue
        inside += (f"{name}.",)

        def keep(module: nn.Module, args: Any, name: str = name) -> None:
            if len(args) == 1 and isinstance(args[0], Tensor):
                entries.setdefault(name, (module, args[0].detach()))

        handles.append(module.register_forward_pre_hook(keep))
    return handles


def _probed(
    target: Any, function: Any, given: Sequence[Any], entries: Mapping[str, Any], seen: Observer
) -> Iterator[Finding]:
    """Yield the findings of functions that turn out to be linear filters."""
    at = {use.name for use in seen.convolutions.values()}
    tests: list[tuple[str, Any, Any]] = []
    if not isinstance(target, nn.Module):
        tests = [(program_name(function), target, given[0])] if len(given) == 1 and not at else []
    for name, (module, example) in entries.items():
        if not any(use == name or use.startswith(f"{name}.") for use in at):
            tests.append((name or program_name(function), module, example))
    for name, call, example in tests:
        axes = min(2, example.ndim - 1 if example.ndim > 2 else example.ndim)
        if axes < 2 or not _is_real(example):
            continue
        found = as_filter(call, example, axes)
        finding = None if found is None else transform_finding(name, found)
        if finding is not None:
            yield finding


def _is_real(example: Any) -> bool:
    if isinstance(example, Tensor):
        return example.is_floating_point()
    return isinstance(example, np.ndarray) and example.dtype.kind == "f"
