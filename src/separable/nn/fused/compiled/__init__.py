"""Kernels of the fused layers, compiled by Numba with the engine's vectors.

`layer_params` defines the records that describe a run; `simd_ops` adds vector operations that layers need, and
`activation_ops` the activations; `layer_blocks` holds the register blocks. `layer_kernels`, `depthwise_kernels`,
`pointwise_kernels` and `gradient_kernels` run separable layers with channels last, `norm_kernels` and `norm_rows` those
with batch normalisation in training, `inverted_residual_kernels` expand, depthwise and project as one step, and
`split_depthwise_kernels` depthwise kernels that are products of factors. `dense_conv_kernels` and `winograd_kernels` run dense
convolutions, `spatial_kernels` convolutions with channels first; `layout_kernels` converts between the two layouts.
`elementwise_kernels`, `pooling_kernels`, `copy_kernels`, `normalisation_kernels` and `excitation_kernels` have the
light steps of networks, each with a record of its own. `program_kernels` runs the steps of a network one after the other.
"""

__all__: list[str] = []
