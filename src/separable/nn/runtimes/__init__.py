"""Runtimes of networks, and the times that they take.

A `Runtime` runs a network: PyTorch's operators one by one, the fused programs of this library, or ONNX Runtime.
`separable machine --layers` measures a profile of each: the times of a few hundred steps, to which
rates and a correction by sizes are fitted (`time_model`). `separable.nn.ledger` predicts the time of each layer from it.
"""

from __future__ import annotations

from separable.nn.step_times.recorded_operation import RecordedOperation

__all__ = ["RecordedOperation"]
