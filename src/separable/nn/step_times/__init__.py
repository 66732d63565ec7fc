"""Times of the steps of networks: what they depend on, and the profile that predicts them.

A network is a list of `RecordedOperation`; a runtime folds them into steps (`operation_folding`). The time of a step follows
from its `StepWork` by a `TimeModel`, and the `LayerProfile` of a computer has one model for each kind of step and runtime.
"""

from __future__ import annotations

from separable.nn.step_times.recorded_operation import RecordedOperation

__all__ = ["RecordedOperation"]
