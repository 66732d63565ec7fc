"""Trained networks in files: read, converted as modules, written again in the same format.

A `Source` is a network that was read: a module for `separable.nn.convert`, and the way back to a
file. Nothing is ever unpickled.
"""

from __future__ import annotations

from separable.nn.formats.core import SUFFIXES, open_network
from separable.nn.formats.source import Source

__all__ = ["SUFFIXES", "Source", "open_network"]
