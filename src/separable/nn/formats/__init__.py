"""Trained networks in files: read, converted as modules, and written in the same format.

A `Source` is a network that was read: a module for `separable.nn.convert`, and the way back to a
file. Reading one never runs code that it brings: see `docs/files.md`.
"""

from __future__ import annotations

from separable.nn.formats.network_files import SUFFIXES, open_network
from separable.nn.formats.network_source import Source
from separable.nn.formats.weight_files import imported_function

__all__ = ["SUFFIXES", "Source", "imported_function", "open_network"]
