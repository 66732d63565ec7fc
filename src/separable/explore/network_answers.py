"""Answers about layers, networks and conversions."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from separable import kernels
from separable.cost import Convolution, Cost, KernelCount
from separable.cost.factored_layers_cost import separate
from separable.distribution import install_command
from separable.explore.limits import InputError
from separable.factors import Factors
from separable.pattern import parse

__all__ = [
    "AUDITS",
    "TRADEOFFS",
    "audit_of",
    "audited",
    "layer",
    "ledger_rows",
    "network_names",
    "report_of",
    "tradeoff",
]

SPACE = {1: "x", 2: "yx", 3: "zyx"}  # letters of the axes
LARGEST = 1 << 14  # largest value of any size of a layer
KERNELS = (1, 2, 3, 4, 5, 7, 9, 11, 16, 32, 64, 128, 256, 512, 1024)
FILTERS = (1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
TRADEOFFS: dict[
    str, dict[str, Any]
] = {  # networks of the catalogue, small enough to convert while the user waits
    "mobilenet_v1": {"width": 0.5, "resolution": 128},
    "unet": {"widths": (16, 32, 64, 128)},
    "unet_3d": {"widths": (8, 16, 32)},
}
AUDITS = {
    "filters": "three filters of images, as dense layers",
    "unet": "unet, random weights",
    "unet_3d": "unet_3d, random weights",
}
AUDITED_FILTERS = {"blur": "gaussian:1", "edges": "sobel", "focus": "disk:4"}
POINTS = 200  # points of a curve
BUDGET = 0.5  # fraction of the multiplications that the shown conversion keeps


def layer(asked: dict[str, Any]) -> dict[str, Any]:
    """Count a dense and a separable layer, and return the curves around them."""
    space = _whole_numbers(asked, "input", 1, 3)
    channels = _whole_number(asked, "channels")
    kernel = _whole_number(asked, "kernel")
    filters = _whole_number(asked, "filters")
    multiplier = _whole_number(asked, "multiplier")
    stride = _whole_number(asked, "stride", default=1)
    padding = asked.get("padding", "valid")
    if padding not in ("valid", "same"):
        raise InputError(f"`padding` must be valid or same; got {padding!r}")
    shape, window = (*space, channels), (kernel,) * len(space)
    options: dict[str, Any] = {"stride": stride, "padding": padding}
    sizes = Convolution.of(shape, window, filters, **options)
    steps = separate(sizes, parse(f"oc{SPACE[len(space)]} -> oc,c{SPACE[len(space)]}"), multiplier)
    depthwise, pointwise = steps.values()
    dense, parts = sizes.cost, depthwise + pointwise
    volume = kernel ** len(space)
    return {
        "output": list(sizes.outputs),
        "dense": _counts(dense),
        "depthwise": _counts(depthwise),
        "pointwise": _counts(pointwise),
        "separable": _counts(parts),
        "spatial": _spatial(sizes) if channels == filters == 1 and sizes.ndim > 1 else None,
        "sentence": _sentence(sizes, parts),
        "ratio": dense.multiplications / parts.multiplications,
        "break_even": filters * volume / (volume + filters),
        "exact_from": min(filters, volume),
        "curves": {
            "kernel": [[k, _ratio(k ** len(space), filters, multiplier)] for k in KERNELS],
            "filters": [[f, _ratio(volume, f, multiplier)] for f in FILTERS],
            "multiplier": [[m, _ratio(volume, filters, m)] for m in range(1, 17)],
        },
    }


def _sentence(sizes: Convolution, parts: Cost) -> str:
    """Return the counts for one value of the output, in the words of filters."""
    each = math.prod(sizes.kernel) * sizes.channels
    values = math.prod(sizes.outputs) * sizes.filters
    return KernelCount(each, each, parts.multiplications / values, 0, "separable").sentence


def _spatial(sizes: Convolution) -> dict[str, Any]:
    """Count one filter of one channel in passes along the axes; each runs on what the one before left."""
    passes, space = [], sizes.space
    for axis, length in enumerate(sizes.kernel):
        along = [1] * sizes.ndim
        along[axis] = length
        before, after = [(0, 0)] * sizes.ndim, [1] * sizes.ndim
        before[axis], after[axis] = sizes.padding[axis], sizes.stride[axis]
        one = replace(
            sizes, space=space, kernel=tuple(along), padding=tuple(before), stride=tuple(after)
        )
        passes.append(one.multiplications)
        space = one.outputs
    return {"passes": passes, "multiplications": sum(passes)}


def _ratio(volume: int, filters: int, multiplier: int) -> float:
    """Return separable over dense multiplications, ``M (1 / C_out + 1 / K^N)``."""
    return multiplier * (1 / filters + 1 / volume)


def _counts(layer_cost: Any) -> dict[str, Any]:
    per_byte = layer_cost.multiplications_per_byte
    return {
        "multiplications": layer_cost.multiplications,
        "parameters": layer_cost.parameters,
        "activation_bytes": layer_cost.activation_bytes,
        "weight_bytes": layer_cost.weight_bytes,
        "per_byte": None if math.isnan(per_byte) else per_byte,
    }


def network_names() -> list[str]:
    """Return the names of the available networks; none without PyTorch."""
    try:
        from separable.nn.models.model_registry import names  # PyTorch is optional
    except ImportError:
        return []
    return list(names())


@lru_cache(maxsize=32)
def ledger_rows(name: str) -> dict[str, Any]:
    """Count a network of the catalogue at its usual input."""
    if name not in network_names():
        raise InputError(_no_network(name))
    from separable.nn import ledger  # PyTorch is optional
    from separable.nn.models.model_registry import create, sample_shape  # PyTorch is optional

    model = create(name, device="meta").eval()
    found = ledger(model, (1, *sample_shape(model)))
    rows = [
        {
            "name": x.name or x.kind,
            "kind": x.kind,
            "output": "x".join(map(str, x.output_shape)),
            "multiplications": x.cost.multiplications,
            "parameters": x.cost.parameters,
            "bytes": x.cost.bytes,
        }
        for x in found.layers
        if x.cost.multiplications or x.cost.parameters
    ]
    total = found.total
    return {
        "model": found.model,
        "inputs": list(found.inputs),
        "rows": rows,
        "total": {**_counts(total), "macs": total.macs},
    }


@lru_cache(maxsize=8)
def tradeoff(name: str) -> dict[str, Any]:
    """Convert a network of the catalogue, with random weights, and return its report."""
    if name not in TRADEOFFS or name not in network_names():
        raise InputError(_no_network(name))
    from separable.nn import convert  # PyTorch is optional
    from separable.nn.models.model_registry import create, sample_shape  # PyTorch is optional

    model = create(name, seed=0, dense=True, **TRADEOFFS[name]).eval()
    _, report = convert(model, budget=BUDGET, input_shape=(1, *sample_shape(model)))
    note = (
        "This is a small dense version of the network with random weights, the hardest case for a "
        "conversion. For your own network, upload the report of its conversion."
    )
    return {**_report_rows(report.to_dict()), "note": note}


def report_of(content: bytes) -> dict[str, Any]:
    """Read the report of a conversion: `Report.to_dict` as JSON."""
    try:
        found = json.loads(content)
        if not isinstance(found, dict):
            raise TypeError
        return {**_report_rows(found), "note": ""}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InputError(
            "expected the report of a conversion as JSON (`separable convert --report json`); got "
            "something else"
        ) from None


def _report_rows(report: dict[str, Any]) -> dict[str, Any]:
    curve = [[float(x), float(y)] for x, y in report["tradeoff"]]
    step = max(1, len(curve) // POINTS)
    dense = max((x for x, _ in curve), default=0.0) or 1.0
    rows = [
        {
            "name": str(x["name"])[:120],
            "pattern": str(x["pattern"])[:60],
            "before": float(x["multiplications_before"]),
            "after": float(x["multiplications"]),
            "error": float(x["weight_error"]),
            "reason": str(x["reason"])[:200],
        }
        for x in report["layers"][:1000]
    ]
    after, before = report["multiplications"], report["multiplications_before"]
    return {
        "model": str(report["model"])[:120],
        "curve": [[x / dense, y] for x, y in curve[::step]],
        "rows": rows,
        "multiplications": None if after is None else float(after),
        "multiplications_before": None if before is None else float(before),
    }


@lru_cache(maxsize=8)
def audited(name: str) -> dict[str, Any]:
    """Audit a network of the catalogue, with random weights, or a few filters as layers."""
    if name not in AUDITS or not network_names():
        raise InputError(_no_network(name))
    from separable.nn import audit  # PyTorch is optional
    from separable.nn.models.model_registry import create  # PyTorch is optional

    if name in TRADEOFFS:
        model = create(name, seed=0, dense=True, **TRADEOFFS[name]).eval()
        note = (
            "The weights are random, so none is exactly separable, and half of the multiplications "
            "leaves a large error. For your own network, upload its audit."
        )
    else:
        model = _filter_layers()
        note = "Each layer filters one channel with a dense kernel."
    found = audit(model, repeats=0)
    return {**_audit_rows(found.to_dict()), "note": note}


def _filter_layers() -> Any:
    """Return a network of known filters, each a dense layer of one channel."""
    import torch  # optional

    layers = {}
    for name, text in AUDITED_FILTERS.items():
        parsed = kernels.parse(text)
        dense = np.asarray(parsed.dense() if isinstance(parsed, Factors) else parsed, np.float32)
        layer = torch.nn.Conv2d(1, 1, dense.shape, padding="same", bias=False)
        layer.weight.data[0, 0] = torch.from_numpy(dense)
        layers[name] = layer
    model = torch.nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    return model.eval()


def audit_of(content: bytes) -> dict[str, Any]:
    """Read an audit: `Audit.to_dict` as JSON."""
    try:
        found = json.loads(content)
        if not isinstance(found, dict):
            raise TypeError
        return {**_audit_rows(found), "note": ""}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InputError(
            "expected an audit as JSON (`separable audit NETWORK -o audit.json`); got something else"
        ) from None


def _audit_rows(audit: dict[str, Any]) -> dict[str, Any]:
    rows = []
    for x in audit["layers"][:1000]:
        exact, half = x["exact"], x["at_half"]
        rows.append(
            {
                "name": str(x["name"] or x["kind"])[:120],
                "reason": str(x.get("reason") or "")[:200],
                "weights": "x".join(str(int(n)) for n in x["weight_shape"]),
                "multiplications": float(x["multiplications"]),
                "exact": None if exact is None else {
                    "pattern": str(exact["pattern"])[:60],
                    "multiplications": float(exact["multiplications"]),
                },
                "half": None if half is None else float(half["error"]),
            }
        )  # fmt: skip
    findings = [str(x["text"])[:400] for x in audit["findings"][:100]]
    return {"model": str(audit["model"])[:120], "rows": rows, "findings": findings}


def _no_network(name: str) -> str:
    known = network_names()
    if not known:
        return f"networks need PyTorch: {install_command('torch')}"
    return f"there is no network `{name[:60]}`; choose one of {', '.join(known)}"


def _whole_number(asked: dict[str, Any], name: str, default: int | None = None) -> int:
    value = asked.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST:
        raise InputError(f"`{name}` must be a whole number, 1 .. {LARGEST}; got {value!r}")
    return value


def _whole_numbers(asked: dict[str, Any], name: str, low: int, high: int) -> tuple[int, ...]:
    values = asked.get(name)
    if not isinstance(values, list) or not low <= len(values) <= high:
        raise InputError(f"`{name}` must be {low} to {high} whole numbers; got {values!r}")
    return tuple(_whole_number({name: v}, name) for v in values)
