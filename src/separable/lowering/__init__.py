"""Lowering: the convolutions ("steps") that compute a layer whose weights are factors.

A `Scheme` is a convolution together with the pattern and the ranks that factorise its weights. It is
lowered in two stages, both in NumPy alone:

* `step_shapes` decides which factor runs when, and gives the sizes of each step. This is all that
  `separable.cost` needs to count a layer.
* `lower` adds the map from channels to the values of letters, from which `separable.nn` builds
  modules; `weights_of` and `read_weights` convert between arrays of factors and weights of steps.
"""

from __future__ import annotations

from separable.lowering.conv_spec import ConvSpec
from separable.lowering.lower import lower, read_weights, weights_of
from separable.lowering.scheme import Scheme
from separable.lowering.step import SamePadding, Step
from separable.lowering.step_shapes import StepShape, step_shapes

__all__ = [
    "ConvSpec",
    "SamePadding",
    "Scheme",
    "Step",
    "StepShape",
    "lower",
    "read_weights",
    "step_shapes",
    "weights_of",
]
