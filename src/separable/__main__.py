"""The command `separable`, also run as ``python -m separable``."""

from __future__ import annotations

import os
import sys
import warnings

__all__ = ["main"]

ENDED_BY_SIGNAL, INTERRUPTED = 128, 130


def main() -> None:
    """Run the command line and exit with its status."""
    if sys.argv[1:] == ["--version"]:  # printed before the rest is imported
        from separable import __version__

        print(f"separable {__version__}")
        return
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        from separable.cli import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # before any work began
        code = INTERRUPTED
    if code > ENDED_BY_SIGNAL:  # threads may still be working on the cancelled task
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _show_warning(message: Warning | str, *_: object) -> None:
    """Print a warning as one line, without the line of source code that raised it."""
    print(f"Warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
