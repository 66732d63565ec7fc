"""The compiled engine: fused correlations of arrays, by Numba with explicit vectors.

``README.md`` beside this file has a picture, a glossary and the list of modules.
"""

__all__: list[str] = []
