"""Kernels of the fused layers, compiled by Numba with the engine's vectors.

`layer_params` defines the records that describe a run; `simd_ops` adds vector operations that layers need, and
`activation_ops` the activations; `layer_blocks` holds the register blocks; `layer_kernels` and `gradient_kernels` run separable layers with
channels last, `spatial_kernels` convolutions with channels first; `layout_kernels` converts between the two. `elementwise_kernels`, `pooling_kernels`, `copy_kernels`,
`normalisation_kernels` and `excitation_kernels` have the light steps of networks, each with a record of its own.
"""

__all__: list[str] = []
