"""The plan: which ways there are to run a filter, what each costs, and which one is taken."""

from separable.plan.candidates import Candidate
from separable.plan.plan_request import Request, request
from separable.plan.planned_filter import Measurement, Plan, plan
from separable.plan.size_sweep import SizeSweep, sweep_sizes

__all__ = [
    "Candidate",
    "Measurement",
    "Plan",
    "Request",
    "SizeSweep",
    "plan",
    "request",
    "sweep_sizes",
]
