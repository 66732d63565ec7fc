"""Pointwise features of the derivatives that a sweep computes, while they are in the cache."""

__all__: list[str] = []
