"""The files that pages share."""

from __future__ import annotations

from importlib.resources import files

__all__ = ["part", "parts"]


def parts() -> list[str]:
    """Return the names of all of them."""
    return sorted(f.name for f in files("separable.pages").joinpath("static").iterdir())


def part(name: str) -> str:
    """Return the text of one of them."""
    return files("separable.pages").joinpath("static", name).read_text("utf-8")
