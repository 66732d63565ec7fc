"""Kernels of the fused layers, compiled by Numba with the engine's vectors.

`layer_params` defines the records that describe a run; `simd_ops` adds vector operations that layers need;
`layer_blocks` holds the register blocks; `layer_kernels` and `gradient_kernels` run separable layers with
channels last, `spatial_kernels` convolutions with channels first; `layout_kernels` converts between the two.
"""

__all__: list[str] = []
