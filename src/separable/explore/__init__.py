"""A local web page to explore kernels, layers and conversions.

``separable explore`` starts the server on this computer. Everything is served from the package;
uploads are never executed and stay in the memory of the process. `docs/files.md` lists the
accepted files and the limits. ``separable explore --static`` writes the same page as one file whose
scripts compute kernels and layers in the browser; `docs/explore.md` compares the two.
"""

from separable.explore.app import create_app
from separable.explore.report_page import kernel_report
from separable.explore.server import serve
from separable.explore.static_site import static_page, write_static

__all__ = ["create_app", "kernel_report", "serve", "static_page", "write_static"]
