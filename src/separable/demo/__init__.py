"""The demonstration: dense kernels on a photograph and on a volume, factored, planned and run."""

from separable.demo.demonstration import Result, run_demo

__all__ = ["Result", "run_demo"]
