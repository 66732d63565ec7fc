"""OnnxRuntime: the network as an ONNX model, run by ONNX Runtime on the processor."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import math
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from separable.distribution import install_command
from separable.errors import ArgumentError
from separable.nn.runtimes.onnx_cases import model_of_cases
from separable.nn.runtimes.profile_cases import ProfileCase
from separable.nn.runtimes.runtime import GROUP, Runtime
from separable.nn.step_times.operation_folding import FoldingRules, PlacedStep, folded_steps
from separable.nn.step_times.recorded_operation import RecordedOperation

__all__ = ["OnnxRuntime"]

RULES = FoldingRules(
    frozenset({"relu", "hardtanh", "sigmoid", "tanh", "leaky_relu", "hardsigmoid"})
)
FEWEST_RUNS = 4
LOWEST = (
    4  # times are whole microseconds: the mean of a quarter of the runs, the shortest, is finer
)
SUFFIX = "_kernel_time"


class OnnxRuntime(Runtime):
    """ONNX Runtime on the processor."""

    name, title = "onnxruntime", "ONNX Runtime"
    profile_seconds = 6.0

    def why_not(self) -> str:
        """Return which package is missing, or an empty string."""
        try:
            for package in ("onnxruntime", "onnx"):
                importlib.import_module(package)
        except ImportError as missing:
            return f"it cannot be imported ({missing}): {install_command('convert')}"
        return ""

    def steps(self, operations: Sequence[RecordedOperation]) -> list[PlacedStep]:
        """Return the nodes that are left after the graph was optimised."""
        return folded_steps(operations, RULES)

    def measure(self, cases: Sequence[ProfileCase], seconds: float) -> list[float]:
        """Return the time of each case by ONNX Runtime's own profile, without changes of layout."""
        found = []
        groups = [cases[at : at + GROUP] for at in range(0, len(cases), GROUP)]
        with tempfile.TemporaryDirectory() as folder:
            for group in groups:
                found += _group_times(group, seconds / len(groups), Path(folder))
        return found

    def prepared(self, network: nn.Module, inputs: Sequence[Any]) -> Callable[[], Any]:
        """Return a call of a session for the network, exported for these inputs."""
        own = getattr(network, "onnx_bytes", None)  # a network that was read from an ONNX file
        data = own() if own is not None else _exported(network, inputs)
        session = _session(data)
        given = [np.ascontiguousarray(x.detach().numpy()) for x in tree_leaves(list(inputs))]
        names = [value.name for value in session.get_inputs()]
        feeds = dict(zip(names, given, strict=False))
        return lambda: _outputs(session, feeds)


def _session(data: bytes, profile: Path | None = None) -> Any:
    """Return a session with as many threads as PyTorch uses."""
    onnxruntime: Any = importlib.import_module("onnxruntime")  # optional dependency

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _outputs(session: Any, feeds: dict[str, Any]) -> Any:
    """Run a session; exceptions of ONNX Runtime, which derive from `Exception` alone, become RuntimeError."""
    try:
        return session.run(None, feeds)
    except Exception as problem:
        raise RuntimeError(str(problem).strip().splitlines()[0]) from problem


def _exported(network: nn.Module, inputs: Sequence[Any]) -> bytes:
    """Return a network as an ONNX model.

    Raises
    ------
    ArgumentError
        If PyTorch cannot export it.
    """
    out = io.BytesIO()
    with warnings.catch_warnings(), _silent():
        warnings.simplefilter("ignore")
        try:
            export: Any = torch.onnx.export
            export(network, tuple(inputs), out, dynamo=False)
        except Exception as problem:
            raise ArgumentError(
                f"`runtime` 'onnxruntime': PyTorch cannot export {type(network).__name__} to ONNX: "
                f"{str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__}. "
                "Choose 'torch' or 'fused'"
            ) from problem
    return out.getvalue()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Hide what the exporter prints."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _group_times(cases: Sequence[ProfileCase], seconds: float, folder: Path) -> list[float]:
    """Return the times of cases that run as one graph; NaN for those that ONNX has no node for."""
    begun, runs = time.perf_counter(), 0
    model, feeds = model_of_cases(cases)
    session = _session(model.SerializeToString(), folder / "cases")
    while runs < FEWEST_RUNS or time.perf_counter() - begun < seconds:
        session.run(None, feeds)
        runs += 1
    path = session.end_profiling()
    events = json.loads(Path(path).read_text(encoding="utf-8"))
    os.unlink(path)
    nodes: dict[int, dict[str, list[float]]] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.startswith("case_") and name.endswith(SUFFIX):
            case = int(name.split("_")[1])
            nodes.setdefault(case, {}).setdefault(name, []).append(float(event["dur"]) * 1e-6)
    return [_sum(nodes.get(at, {})) for at in range(len(cases))]


def _sum(nodes: dict[str, list[float]]) -> float:
    """Return the sum of the times of a case's nodes, each the mean of its shortest runs."""
    if not nodes:
        return math.nan
    total = 0.0
    for times in nodes.values():
        count = max(1, len(times) // LOWEST)
        total += sum(sorted(times)[:count]) / count
    return max(total, 5e-7)
