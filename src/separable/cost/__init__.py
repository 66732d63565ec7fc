"""What filters and layers cost, in closed form.

One convention: a *multiplication* is one multiplication of a weight with a value; a MAC is that
with the addition that follows; FLOPs count both, so they are twice the MACs. Biases are counted
apart, under `additions`. One forward pass, one image. Where a convolution pads with zeros, the
products with those zeros count, as they do in every library.

These counts are right where introductions print others: 12x12x3 by 5x5 to 256 channels costs
4,800 + 49,152 = 53,952 separately (not 52,952) and its output is 8x8x256 (not 12x12x256); 3x1 and
then 1x3 on 15x15 costs 585 + 507 = 1,092 (not 1,170: the second pass runs on what the first left,
and 13 x 13 is 169, not 225). Dense over separable is ``Cout K^N / (M (K^N + Cout))``, also where a
derivation prints ``K^2 M / (K^2 + N)`` between two correct lines; and what is the same for both is
the shape of the result, not its values.
"""

from __future__ import annotations

from separable.cost.attention import attention
from separable.cost.count import Cost
from separable.cost.factored_layers_cost import factor_costs, factored
from separable.cost.filter_costs import dense_filter, separable_filter
from separable.cost.geometry import Convolution
from separable.cost.layer_costs import conv, separable

__all__ = [
    "Convolution",
    "Cost",
    "attention",
    "conv",
    "dense_filter",
    "factor_costs",
    "factored",
    "separable",
    "separable_filter",
]
