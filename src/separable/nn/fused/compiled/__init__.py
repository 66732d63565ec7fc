"""Kernels of the fused layers, compiled by Numba with the engine's vectors.

`layer_params` defines the records that describe a run; `simd_ops` adds vector operations that layers need;
`layer_blocks` holds the register blocks; `layer_kernels`, `depthwise_kernels` and `gradient_kernels` run separable
layers with channels last, `inverted_residual_kernels` expand, depthwise and project as one step, and
`split_depthwise_kernels` depthwise kernels that are products of factors; `spatial_kernels` runs convolutions with
channels first; `layout_kernels` converts between the two layouts.
"""

__all__: list[str] = []
