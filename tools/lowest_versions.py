"""Print the lowest version of every direct dependency, as constraints for pip.

    python tools/lowest_versions.py volumes wavelets demo > lowest.txt
    python -m pip install -c lowest.txt -e ".[volumes,wavelets,demo]"

`make test-oldest` installs these versions, so that the lower bounds in ``pyproject.toml`` are tested.
"""

from __future__ import annotations

import sys
from pathlib import Path

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Dependencies of these versions that, in newer versions, warn about calls that the old ones make.
CONTEMPORARIES = ("pyparsing<3.3",)  # required by Matplotlib

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest(requirements: list[str]) -> dict[str, str]:
    """Return the lowest version of each package, for the requirements that apply to this Python."""
    found = {}
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        for bound in requirement.specifier:
            if bound.operator in (">=", "~=", "=="):
                found[requirement.name] = bound.version
    return found


def main(extras: list[str]) -> int:
    """Print one ``name==version`` per dependency of the package and of the named extras."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    unknown = sorted(set(extras) - set(optional))
    if unknown:
        print(
            f"no such extra: {', '.join(unknown)}; expected some of {', '.join(optional)}",
            file=sys.stderr,
        )
        return 2
    requirements = list(project["dependencies"])
    for extra in extras:
        requirements += optional[extra]
    for name, version in sorted(lowest(requirements).items()):
        print(f"{name}=={version}")
    print("\n".join(CONTEMPORARIES))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
