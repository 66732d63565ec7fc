"""The plan: which ways there are to run a filter, what each costs, and which one is taken."""

from separable.plan.candidates import Candidate
from separable.plan.plan_request import Request, request
from separable.plan.planned_filter import Measurement, Plan, plan

__all__ = ["Candidate", "Measurement", "Plan", "Request", "plan", "request"]
