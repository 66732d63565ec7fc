"""The compiled engine: fused correlations of arrays, by Numba with explicit vectors.

`fused` is the way in (`Correlation`, `DenseCorrelation`); `simd`, `squares` and `convert` are the
vocabulary of vectors; `blocks`, `stages` and `direct` the arithmetic; `sweep` the schedule in compiled
code, `layout` and `schedule` its preparation in Python; `threads` the pool; `kernel` compiles and
caches on disk.
"""

__all__: list[str] = []
