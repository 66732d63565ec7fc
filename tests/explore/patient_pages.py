"""Pages of a browser on a machine that may be busy: they wait minutes, for a condition and not for a time."""

from __future__ import annotations

from typing import Any

__all__ = ["PATIENCE", "at_rest", "new_page"]

PATIENCE = 200_000
"""Milliseconds after which waiting for a condition has failed; Playwright's own limit is 30 seconds."""

AT_REST = """() => !document.querySelector("[aria-busy=true]")
  && document.getAnimations().every((a) => a.playState !== "running")
  && !(document.getElementById("computing")?.textContent)"""


def new_page(browser: Any, **options: Any) -> Any:
    """Open a page in a browser or in one of its contexts."""
    found = browser.new_page(**options)
    found.set_default_timeout(PATIENCE)
    return found


def at_rest(page: Any) -> None:
    """Wait until a page computes nothing, draws nothing in motion and has no answer to come."""
    page.wait_for_load_state("networkidle")
    page.wait_for_function(AT_REST)
