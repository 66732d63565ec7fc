"""Audit of networks and pipelines: what is separable in them, and what that would save.

`observed_calls` sees convolutions and Fourier transforms where they run, `kernel_forms` examines their
weights in every pattern, `shared_inputs` finds filters of one input and `impulse_probe` functions that
are filters. The result's values are in `audit_data`, its formats in `audit_text`.
"""

from __future__ import annotations

from separable.nn.audit.audit_data import Audit, AuditedLayer, Finding, Form
from separable.nn.audit.audit_network import audit, audit_traced

__all__ = ["Audit", "AuditedLayer", "Finding", "Form", "audit", "audit_traced"]
