"""The plan: which ways there are to run a filter, what each costs, and which one is taken."""

from separable.plan.candidates import Candidate
from separable.plan.core import Measurement, Plan, plan
from separable.plan.request import Request, request

__all__ = ["Candidate", "Measurement", "Plan", "Request", "plan", "request"]
