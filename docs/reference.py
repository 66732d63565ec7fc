"""Write the pages of the reference from the exports of each public module."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

__all__ = ["MODULES", "write_reference"]

MODULES = {
    "separable": "Factorise, plan, filter",
    "separable.borders": "Border modes",
    "separable.kernels": "Kernels",
    "separable.ndimage": "Filters of scipy.ndimage",
    "separable.resample": "Resampling",
    "separable.cost": "Counts",
    "separable.plot": "Plots",
    "separable.filter_bank": "Filter banks",
    "separable.features": "Features: edges, vessels, blobs, textures",
    "separable.xarray_accessor": "xarray accessor",
    "separable.files": "Files",
    "separable.volumes": "Volumes larger than memory",
    "separable.nn": "Layers, counts and conversion for PyTorch",
    "separable.nn.models": "Networks",
    "separable.testing": "Oracles for tests",
}


def write_reference(folder: Path) -> None:
    """Write one page per module and one that lists them."""
    folder.mkdir(exist_ok=True)
    names = []
    for module, title in MODULES.items():
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name == module:
                continue
            raise
        names.append(module)
        _write(folder / f"{module}.rst", _page(module, title, found))
    listing = "\n".join(f"   {name}" for name in names)
    head = "Reference\n=========\n\nThe tests run every example.\n"
    _write(folder / "index.rst", f"{head}\n.. toctree::\n   :maxdepth: 1\n\n{listing}\n")


def _page(module: str, title: str, found: object) -> str:
    exported = [n for n in getattr(found, "__all__", []) if not inspect.ismodule(_get(found, n))]
    groups = {
        "Classes": [n for n in exported if inspect.isclass(_get(found, n))],
        "Functions": [n for n in exported if inspect.isroutine(_get(found, n))],
    }
    known = {n for names in groups.values() for n in names}
    groups["Values"] = [n for n in exported if n not in known]
    heading = f"{title}: ``{module}``"
    lines = [heading, "=" * len(heading), "", f".. automodule:: {module}", "   :no-members:"]
    lines += ["   :no-index:", ""]  # a function may have the name of a module: `sep.bank`
    lines += [f".. currentmodule:: {module}", ""]
    for name, members in groups.items():
        if members:
            lines += [name, "-" * len(name), "", ".. autosummary::", "   :toctree: generated", ""]
            lines += [f"   {m}" for m in members] + [""]
    return "\n".join(lines)


def _get(module: object, name: str) -> object:
    return getattr(module, name)


def _write(path: Path, text: str) -> None:
    """Write a file only if its text changed, so that a second build is quick."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
