"""Conversion of trained networks to separable layers: `convert`, its `Report`, and saving.

`layer_refs` and `patterns` find the layers and their patterns, `error_curves`, `rank_allocation` and
`rank_decision` choose the ranks, `covariances` and `least_squares` fit factors to data. The report's values
are in `conversion_report`, its formats in `report_text`, `report_html` and `plots`.
"""

from __future__ import annotations

from separable.nn.convert.conversion_report import ConvertedLayer, Report
from separable.nn.convert.convert_network import convert
from separable.nn.convert.saving import blueprint, merge, rebuild

__all__ = ["ConvertedLayer", "Report", "blueprint", "convert", "merge", "rebuild"]
