"""separable: separable convolution for images, volumes and networks.

>>> import numpy as np, separable as sep
>>> sep.factorize([[1, 2, 1], [2, 4, 2], [1, 2, 1]])
Factors 'yx -> y,x' of a kernel 3x3: rank 1, exact
  y  1 2 1
  x  1 2 1

`ndimage` and `nn` (which needs PyTorch) are imported when they are first asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

from separable import cost, errors, kernels
from separable.configuration import show_config
from separable.distribution import VERSION
from separable.engine import get_num_threads, set_num_threads
from separable.factorize import Spectrum, factorize, is_separable, spectrum
from separable.factors import Factors
from separable.filter_bank import bank, gradient
from separable.filtering import convolve, correlate
from separable.machine import Machine
from separable.plan import Plan, plan

__all__ = [
    "Factors",
    "Machine",
    "Plan",
    "Spectrum",
    "bank",
    "convolve",
    "correlate",
    "cost",
    "errors",
    "factorize",
    "get_num_threads",
    "gradient",
    "is_separable",
    "kernels",
    "ndimage",
    "nn",
    "plan",
    "plot",
    "set_num_threads",
    "show_config",
    "spectrum",
]

__version__ = VERSION


def __getattr__(name: str) -> Any:
    if name in ("ndimage", "nn", "plot"):
        return importlib.import_module(f"separable.{name}")
    raise AttributeError(f"module 'separable' has no attribute {name!r}")
