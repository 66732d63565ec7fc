"""Kernels of the fused layers, in the engine's vectors.

`words` adds to the engine's vocabulary what layers need; `blocks` holds the two register blocks, of the
depthwise and of the pointwise step; `layer` walks over an output with them.
"""

__all__: list[str] = []
