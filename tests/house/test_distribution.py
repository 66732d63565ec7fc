"""The distribution: one name everywhere, complete metadata, links that lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import separable as sep
from separable.distribution import NAME, VERSION, install_command

ROOT = Path(__file__).parents[2]
TEXTS = [
    *(p for p in (ROOT / "src").rglob("*") if p.suffix in (".py", ".js", ".html", ".yaml")),
    *(p for p in (ROOT / "docs").rglob("*") if p.suffix in (".md", ".rst", ".py", ".html") and "_build" not in p.parts),
    *(ROOT / "examples").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md",
]  # fmt: skip


@pytest.fixture(scope="module")
def project() -> dict:
    tomllib = pytest.importorskip("tomllib")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_no_text_installs_the_package_of_another_project() -> None:
    """`separable` on the package index is another project."""
    extras = "torch|convert|volumes|wavelets|napari|explore|demo|all|examples"
    wrong = re.compile(
        rf"""pip install[^\n]*?["' ]separable(?!-convolution)\b|\bseparable\[({extras})"""
    )
    for path in TEXTS:
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not wrong.search(line), f"{path}: {line}"


def test_install_commands_name_extras_that_exist(project: dict) -> None:
    extras = set(project["project"]["optional-dependencies"])
    assert "wavelets" in extras
    assert "examples" not in extras
    asked = set()
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        asked |= {
            e for group in re.findall(rf"{NAME}\[([a-z,]+)\]", text) for e in group.split(",")
        }
        asked |= set(re.findall(r"install_command\(['\"]([a-z]+)['\"]\)", text))
    assert {"torch", "volumes", "wavelets"} <= asked
    assert asked <= extras
    every = next(r for r in project["project"]["optional-dependencies"]["all"])
    assert set(re.findall(r"\w+", every.partition("[")[2])) == extras - {"all", "napari"}


def test_name_and_version_are_single(project: dict) -> None:
    assert project["project"]["name"] == NAME
    assert sep.__version__ == VERSION
    assert install_command("torch") == f'pip install "{NAME}[torch]"'
    for requirements in project["project"]["optional-dependencies"].values():
        assert not any(re.match(r"separable\b(?!-convolution)", r) for r in requirements)
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {VERSION}\n" in citation


def test_classifiers_name_the_python_versions(project: dict) -> None:
    classifiers = project["project"]["classifiers"]
    lowest = project["project"]["requires-python"].removeprefix(">=3.")
    for minor in range(int(lowest), 14):
        assert f"Programming Language :: Python :: 3.{minor}" in classifiers
    for system in ("POSIX :: Linux", "MacOS", "Microsoft :: Windows"):
        assert f"Operating System :: {system}" in classifiers


def test_the_readme_of_the_package_index_has_no_link_into_the_project(project: dict) -> None:
    """Relative links and pictures lead nowhere on the page of a package index."""
    settings = project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = (ROOT / settings["fragments"][0]["path"]).read_text(encoding="utf-8")
    assert re.search(r"\]\((?!https?://|#)", text), (
        "the README has no relative link: drop the rules"
    )
    for rule in settings["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    assert not re.search(r"\]\((?!https?://|#)", text)
    assert install_command() in text


def test_the_lowest_versions_are_constraints_for_pip(project: dict) -> None:
    pytest.importorskip("packaging")
    tool = [sys.executable, str(ROOT / "tools" / "lowest_versions.py")]
    done = subprocess.run([*tool, "volumes"], capture_output=True, text=True, check=True)
    lowest = dict(re.split("==|<", line) for line in done.stdout.splitlines())
    names = {re.split(r"[>=\[;]", r)[0] for r in project["project"]["dependencies"]}
    assert names <= set(lowest)
    assert lowest["numba"] == "0.62"
    assert "h5py" in lowest
    wrong = subprocess.run([*tool, "nonsense"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("no such extra: nonsense; expected some of torch,")
