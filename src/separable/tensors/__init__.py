"""Filters of PyTorch tensors on their own device, with gradients."""

from separable.tensors.tensor_filter import filter_with

__all__ = ["filter_with"]
