"""Files that all pages share."""

from __future__ import annotations

from importlib.resources import files

__all__ = ["part", "parts"]


def parts() -> list[str]:
    """Return the names of all shared files."""
    return sorted(f.name for f in files("separable.pages").joinpath("static").iterdir())


def part(name: str) -> str:
    """Return the text of one shared file."""
    return files("separable.pages").joinpath("static", name).read_text("utf-8")
