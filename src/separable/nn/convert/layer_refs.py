"""LayerRef: the convolutions of a network, their names, and why some are left alone."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from separable.errors import ArgumentError, ArgumentTypeError
from separable.lowering.conv_spec import ConvSpec
from separable.nn.factored_conv import FactoredConv
from separable.nn.torch_convs import CONVS, TRANSPOSED, spec_of

__all__ = ["LayerRef", "find_layers", "matching", "nearest", "put", "refusal", "selected"]


@dataclass(frozen=True)
class LayerRef:
    """Reference to one convolution of a network.

    Attributes
    ----------
    name : str
        First path of the module in the model; "" for the model itself.
    aliases : tuple of str
        Other paths of the same module.
    conv : torch.nn.Module
    reason : str
        Reason why it is left alone; empty if it may be converted.
    whole : torch.nn.Module or None
        The original convolution, if `conv` is the same with a group for each block of channels.
    """

    name: str
    aliases: tuple[str, ...]
    conv: nn.Module
    reason: str = ""
    whole: nn.Module | None = None

    @property
    def title(self) -> str:
        """Name for messages, also if the convolution is the model itself."""
        return self.name or "(model)"

    @property
    def names(self) -> tuple[str, ...]:
        """All paths of the convolution."""
        return (self.name, *self.aliases)

    @property
    def spec(self) -> ConvSpec:
        """Arguments of the convolution."""
        return spec_of(self.conv)

    @property
    def original(self) -> nn.Module:
        """The convolution as the network has it."""
        return self.conv if self.whole is None else self.whole

    def left(self, reason: str) -> LayerRef:
        """Return a copy with a reason to leave the layer alone; the first reason is kept."""
        return self if self.reason else replace(self, reason=reason)


def find_layers(model: nn.Module) -> list[LayerRef]:
    """Return every convolution; a module that occurs several times is listed once."""
    found: dict[int, list[str]] = {}
    modules: dict[int, nn.Module] = {}
    _walk(model, "", found, modules)
    return [
        LayerRef(names[0], tuple(names[1:]), modules[key], refusal(modules[key]))
        for key, names in found.items()
    ]


def _walk(
    module: nn.Module, name: str, paths: dict[int, list[str]], modules: dict[int, nn.Module]
) -> None:
    if isinstance(module, (nn.modules.conv._ConvNd, FactoredConv)):
        paths.setdefault(id(module), []).append(name)
        modules[id(module)] = module
        return
    for key, child in module._modules.items():
        if child is not None:
            _walk(child, f"{name}.{key}" if name else key, paths, modules)


def refusal(module: nn.Module) -> str:
    """Return the reason why no layer can replace this one, or an empty string."""
    if isinstance(module, FactoredConv):
        return "separable already"
    if isinstance(module, nn.modules.lazy.LazyModuleMixin):
        return "no weights yet: run the model once on an input"
    if nn.utils.parametrize.is_parametrized(module):
        return "parametrised: torch.nn.utils.parametrize.remove_parametrizations first"
    kinds = TRANSPOSED if isinstance(module, _ConvTransposeNd) else CONVS
    standard = kinds[len(module.kernel_size)]  # type: ignore[arg-type]
    kind: Any = type(module)
    if any(
        getattr(kind, name, None) is not getattr(standard, name, None)
        for name in ("forward", "_conv_forward")
    ):
        return f"{kind.__name__} overrides the convolution"
    if _hooked(module):
        return "has hooks, which a new layer would not have"
    conv: Any = module
    if conv.weight.is_meta:
        return "weights on the meta device: no numbers to factorise"
    if not conv.weight.is_floating_point():
        return f"weights of {conv.weight.dtype}"
    if not bool(conv.weight.isfinite().all()):
        return "weights that are not finite"
    return ""


def _hooked(module: nn.Module) -> bool:
    """Return True if hooks read or change inputs or outputs, as those of the old `weight_norm` do."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
        or module._backward_pre_hooks
    )  # fmt: skip


def matching(name: str, wanted: str) -> bool:
    """Return True if a name means a layer: its own name, that of a parent module, or one with `*`."""
    return name == wanted or name.startswith(f"{wanted}.") or fnmatch.fnmatchcase(name, wanted)


def selected(
    refs: Sequence[LayerRef], include: Iterable[str] | None, exclude: Iterable[str]
) -> list[LayerRef]:
    """Mark the layers that were not selected as left alone.

    Raises
    ------
    ArgumentError
        If a name stands for no convolution; the nearest ones are suggested.
    """
    wanted = None if include is None else _names("include", include)
    unwanted = _names("exclude", exclude)
    for argument, names in (("include", wanted or []), ("exclude", unwanted)):
        check_known(argument, names, refs)
    found = []
    for ref in refs:
        if wanted is not None and not _any(ref, wanted):
            ref = ref.left("not in `include`")
        if _any(ref, unwanted):
            ref = ref.left("in `exclude`")
        found.append(ref)
    return found


def check_known(argument: str, names: Iterable[str], refs: Sequence[LayerRef]) -> None:
    """Raise an error for names that match no convolution."""
    for name in names:
        if not any(_any(ref, [name]) for ref in refs):
            raise ArgumentError(
                f"`{argument}` names {name!r}, which is neither a convolution nor a module "
                f"that contains one. {nearest(name, refs)}"
            )


def nearest(name: str, refs: Sequence[LayerRef]) -> str:
    """Return a hint with similar names, or with all names."""
    known = [n for ref in refs for n in ref.names if n]
    parts = {".".join(n.split(".")[:depth]) for n in known for depth in range(1, n.count(".") + 2)}
    close = difflib.get_close_matches(name, sorted(parts), n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(map(repr, close))}?"
    shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
    return f"There are {shown}"


def _names(argument: str, names: Iterable[str]) -> list[str]:
    found = [names] if isinstance(names, str) else list(names)
    for name in found:
        if not isinstance(name, str):
            raise ArgumentTypeError(f"`{argument}` must be names of layers; got {name!r}")
    return found


def _any(ref: LayerRef, names: Iterable[str]) -> bool:
    return any(matching(own, name) for own in ref.names for name in names)


def put(model: nn.Module, new: Mapping[int, nn.Module]) -> nn.Module:
    """Replace modules, found by identity, everywhere in a network.

    Returns
    -------
    torch.nn.Module
        The model, or what takes its place.
    """
    if id(model) in new:
        return new[id(model)]
    for module in list(model.modules()):
        for key, child in module._modules.items():
            if child is not None and id(child) in new:
                module._modules[key] = new[id(child)]
    return model
