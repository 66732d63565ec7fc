"""Conversion of trained networks to separable layers: `convert`, its `Report`, and saving.

Patterns and refs say what can be done with which layer, `curves` and `choose` how far to go,
`moments` and `fitting` what the factors are to be, `report` what came of it.
"""

from __future__ import annotations

from separable.nn.convert.conversion_report import ConvertedLayer, Report
from separable.nn.convert.convert_network import convert
from separable.nn.convert.saving import blueprint, merge, rebuild

__all__ = ["ConvertedLayer", "Report", "blueprint", "convert", "merge", "rebuild"]
