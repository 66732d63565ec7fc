"""Cost of filters and layers, in closed form.

A *multiplication* is the product of a weight and a value, a MAC is a multiplication with the addition
that follows, and FLOPs count both, so they are twice the MACs. Biases are counted separately, as
`additions`. All counts are for one forward pass of one image. Products with padded zeros count, as in
every library.

Some introductions print other numbers: 12x12x3 with 5x5 to 256 channels costs 4,800 + 49,152 = 53,952
separably (not 52,952), and its output is 8x8x256 (not 12x12x256); 3x1 and then 1x3 on 15x15 costs
585 + 507 = 1,092 (not 1,170, because the second pass runs on the smaller result of the first). The ratio
of dense to separable is ``C_out K^N / (M (K^N + C_out))``. Both layers have the same output shape, but not
the same values.
"""

from __future__ import annotations

from separable.cost.attention import attention
from separable.cost.count import Cost
from separable.cost.factored_layers_cost import factor_costs, factored
from separable.cost.filter_costs import dense_filter, separable_filter
from separable.cost.geometry import Convolution
from separable.cost.kernel_count import KernelCount, count_kernel
from separable.cost.layer_costs import conv, separable

__all__ = [
    "Convolution",
    "Cost",
    "KernelCount",
    "attention",
    "conv",
    "count_kernel",
    "dense_filter",
    "factor_costs",
    "factored",
    "separable",
    "separable_filter",
]
