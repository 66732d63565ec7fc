"""Demonstration: dense kernels on a photograph and a volume, factored, planned and run."""

from separable.demo.demo_pictures import Result
from separable.demo.demonstration import run_demo

__all__ = ["Result", "run_demo"]
