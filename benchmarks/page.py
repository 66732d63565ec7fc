"""Run benchmarks and put what they print on the page `docs/benchmarks.md`.

    python benchmarks/page.py                  # all of them
    python benchmarks/page.py volumes bank     # these anew, the others stay as they are

Each section keeps the day, the machine and the versions that it was measured with, for they may
differ. A benchmark that fails leaves its section as it was.
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
    """A benchmark's place on the page.

    Attributes
    ----------
    title, text : str
    runs : tuple of tuple of str
        The scripts with their arguments.
    packages : tuple of str
        Whose versions are told.
    """

    title: str
    text: str
    runs: tuple[tuple[str, ...], ...]
    packages: tuple[str, ...]


SECTIONS = {
    "filters": Section(
        "Filters",
        "Every method that can run a kernel, measured: *regret* is the time of the planner's choice over "
        "the best. Then filters beside their peers. *Floor* is the time over that of the least work "
        "the machine must do: to copy the image once, or to do the multiplications.",
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
        "Banks of kernels",
        "Several kernels over one volume: one call of a bank beside as many calls, and beside what "
        "others offer.",
        (("bank.py",),),
        ("numpy", "scipy", "PyWavelets"),
    ),
    "masks": Section(
        "Masks and missing values",
        "What a mask costs beside the same filter without one, and normalised convolution elsewhere.",
        (("masks.py",),),
        ("numpy", "scipy", "astropy", "diplib"),
    ),
    "volumes": Section(
        "Volumes larger than memory",
        "From one chunked file to another under a limit of memory; beside reading and writing it once, "
        "the filter in memory, and dask-image on the same chunks.",
        (("volumes.py",),),
        ("numpy", "zarr", "dask", "dask-image"),
    ),
    "layers": Section(
        "Layers",
        "What a layer of `separable.nn` takes beside the same convolutions written by hand, and beside "
        "the dense one; *mult.* is how many times fewer multiplications it does.",
        (("layers.py",), ("layers.py", "--backward")),
        ("torch",),
    ),
}  # fmt: skip

INTRODUCTION = """# Benchmarks

Written by `make bench`; nothing here is typed in by hand. All contestants of a table run in turn
within one run, round after round, and medians count: a machine that slows down slows all of them.
Compare within a table, and take differences below a tenth for noise.
"""


def section_text(name: str, section: Section) -> str:
    """Run a benchmark, showing what it prints, and return its part of the page.

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
    """Say when, on what machine and with which versions."""
    versions = [f"separable {sep.__version__}", f"Python {platform.pythonversion()}"]
    versions += [version(package) for package in packages]
    today = datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()
    load = os.getloadavg()[0]
    return (
        f"*{today}, {processor_name()}, {os.cpu_count()} processors, {get_num_threads()} threads, load "
        f"{load:.1f} before it began. {', '.join(versions)}.*"
    )


def version(package: str) -> str:
    """Return a package's name and version, or that it is not installed."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} not installed"


def written(page: str, found: dict[str, str]) -> str:
    """Return the page with these sections new and the others as they were."""
    known = dict(re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- end -->", page, flags=re.DOTALL))
    known |= found
    parts = [f"<!-- {n} -->\n{known[n]}\n<!-- end -->" for n in SECTIONS if n in known]
    return "\n\n".join([INTRODUCTION.rstrip(), *parts]) + "\n"


def main() -> None:
    """Run what is asked for; write the page after each."""
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
