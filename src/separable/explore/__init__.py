"""The page where a kernel comes apart: a small web server for people who would rather look.

``separable explore`` starts it on this computer. Everything is served from the package; nothing
uploaded is executed or kept beyond the memory of the process. What it accepts, and within which
limits, is in `docs/files.md`.
"""

from separable.explore.app import create_app
from separable.explore.report_page import kernel_report
from separable.explore.server import serve

__all__ = ["create_app", "kernel_report", "serve"]
