"""Compiled passes of banded matrices: Numba kernels with the engine's vectors and threads.

Everything here imports Numba; callers enter through `separable.resample.band_passes`, which runs the same
passes with SciPy's sparse matrices where Numba cannot be used.
"""
