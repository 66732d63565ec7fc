"""Filters of tensors on GPUs: methods, their predicted times, and the operator that runs all passes at once."""

from __future__ import annotations

from separable.tensors.device.device_methods import (
    DeviceMethod,
    register_device_method,
    registered_device_methods,
    unregister_device_method,
)
from separable.tensors.device.device_plans import DevicePlan

__all__ = [
    "DeviceMethod",
    "DevicePlan",
    "register_device_method",
    "registered_device_methods",
    "unregister_device_method",
]
