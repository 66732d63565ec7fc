"""Run benchmarks and write their output to the page `docs/benchmarks.md`.

    python benchmarks/page.py                  # all of them
    python benchmarks/page.py volumes bank     # only these; the other sections stay as they are

Each section has the date, the machine and the versions of its measurement, because they may differ. A
benchmark that fails leaves its section unchanged.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import separable as sep
from separable import get_num_threads
from separable.system import processor_name

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Section:
    """Section of the page.

    Attributes
    ----------
    title, text : str
        Heading and introduction.
    runs : tuple of tuple of str
        Scripts with their arguments.
    packages : tuple of str
        Packages whose versions are listed.
    """

    title: str
    text: str
    runs: tuple[tuple[str, ...], ...]
    packages: tuple[str, ...]


SECTIONS = {
    "filters": Section(
        "Filters",
        "First table: every method that can run a kernel is measured; *regret* is the time of the "
        "chosen method divided by that of the fastest one. Second table: the same filters in "
        "other libraries. *floor* is our time divided by the least possible time (copying the "
        "image once, or the multiplications); *error* is the largest difference from float64, "
        "divided by `max|input| * sum|kernel|`; then follow the times of the other libraries "
        "divided by ours, and the targets.",
        (("filters.py",),),
        ("numpy", "scipy", "numba", "opencv-python-headless", "diplib", "SimpleITK", "scikit-image"),
    ),
    "planning": Section(
        "Planning",
        "What planning adds to a filter: on a new shape, for a small file, and in a call that is repeated.",
        (("planning.py",),),
        ("numpy", "numba"),
    ),
    "bank": Section(
        "Filter banks",
        "Several kernels on one volume: one call of a filter bank compared with one call per "
        "kernel (first *ratio*), and with another library (second *ratio*). *passes*: how many "
        "are run, of how many that the kernels need separately.",
        (("bank.py",),),
        ("numpy", "scipy", "PyWavelets"),
    ),
    "masks": Section(
        "Masks and missing values",
        "Time of a filter with a mask divided by the time without one (*ratio*), and normalised "
        "convolution in other libraries.",
        (("masks.py",),),
        ("numpy", "scipy", "astropy", "diplib"),
    ),
    "volumes": Section(
        "Volumes larger than memory",
        "Filtering from one chunked file to another within a memory limit, compared with copying "
        "the file, filtering in memory, and dask-image on the same chunks.",
        (("volumes.py",),),
        ("numpy", "zarr", "dask", "dask-image"),
    ),
    "layers": Section(
        "Layers",
        "Layers of `separable.nn` compared with the same convolutions written by hand (*plain*; "
        "*layer/plain* below 1 means that the layer is faster) and with the dense convolution "
        "(*dense/layer* above 1 means that the layer is faster). *mult.* is the number of "
        "multiplications of the dense convolution divided by that of the layer.",
        (("layers.py",), ("layers.py", "--backward")),
        ("torch",),
    ),
}  # fmt: skip

INTRODUCTION = """# Benchmarks

Written by `make bench`, without manual changes. All libraries of a table take turns in one run, round after round, so that
a machine that slows down slows all of them; times are medians. Compare only within a table, and ignore differences below a
tenth.
"""


def section_text(name: str, section: Section) -> str:
    """Run a benchmark, show its output, and return its section of the page.

    Raises
    ------
    SystemExit
        If it fails.
    """
    parts = [f"## {section.title}", section.text, where(section.packages)]
    for script, *arguments in section.runs:
        command = " ".join(("python", f"benchmarks/{script}", *arguments))
        print(f"\n$ {command}", flush=True)
        lines = []
        with subprocess.Popen(
            [sys.executable, str(HERE / script), *arguments],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "100"},
        ) as running:  # fmt: skip
            assert running.stdout is not None
            for line in running.stdout:
                print(line, end="", flush=True)
                lines.append(line.rstrip())
        if running.returncode:
            raise SystemExit(f"{command} failed: the section `{name}` stays as it was")
        output = "\n".join(lines).strip("\n")
        parts.append(f"```text\n$ {command}\n{output}\n```")
    return "\n\n".join(parts)


def where(packages: tuple[str, ...]) -> str:
    """Return a line with the date, the machine and the versions."""
    versions = [f"separable {sep.__version__}", f"Python {platform.pythonversion()}"]
    versions += [version(package) for package in packages]
    today = datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()
    load = os.getloadavg()[0]
    return (
        f"*{today}, {processor_name()}, {os.cpu_count()} processors, {get_num_threads()} threads, load "
        f"{load:.1f} before it began. {', '.join(versions)}.*"
    )


def version(package: str) -> str:
    """Return the name and version of a package, or that it is not installed."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} not installed"


def written(page: str, found: dict[str, str]) -> str:
    """Return the page with these sections replaced."""
    known = dict(re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- end -->", page, flags=re.DOTALL))
    known |= found
    parts = [f"<!-- {n} -->\n{known[n]}\n<!-- end -->" for n in SECTIONS if n in known]
    return "\n\n".join([INTRODUCTION.rstrip(), *parts]) + "\n"


def main() -> None:
    """Run the requested benchmarks and write the page after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="|".join(SECTIONS))
    names = parser.parse_args().names or list(SECTIONS)
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]}; there are {', '.join(SECTIONS)}")
    for name in names:
        found = {name: section_text(name, SECTIONS[name])}
        before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        PAGE.write_text(written(before, found), encoding="utf-8")


if __name__ == "__main__":
    main()
