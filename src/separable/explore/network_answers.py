"""Answers about layers, networks and conversions."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from typing import Any

from separable import cost
from separable.distribution import install_command
from separable.explore.limits import InputError

__all__ = ["TRADEOFFS", "layer", "ledger_rows", "network_names", "report_of", "tradeoff"]

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
    dense = cost.conv(shape, window, filters, **options)
    parts = cost.separable(shape, window, filters, depth_multiplier=multiplier, **options)
    volume = kernel ** len(space)
    return {
        "dense": _counts(dense),
        "separable": _counts(parts),
        "ratio": dense.multiplications / parts.multiplications,
        "break_even": filters * volume / (volume + filters),
        "exact_from": min(filters, volume),
        "curves": {
            "kernel": [[k, _ratio(k ** len(space), filters, multiplier)] for k in KERNELS],
            "filters": [[f, _ratio(volume, f, multiplier)] for f in FILTERS],
            "multiplier": [[m, _ratio(volume, filters, m)] for m in range(1, 17)],
        },
    }


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
