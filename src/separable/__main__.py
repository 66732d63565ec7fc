"""The command `separable`, also run as ``python -m separable``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its status."""
    if sys.argv[1:] == ["--version"]:  # answered before the rest is imported
        from separable import __version__

        print(f"separable {__version__}")
        return
    from separable.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
