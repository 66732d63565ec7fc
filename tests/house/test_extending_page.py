"""The examples of docs/extending.md: complete, and run in the order of the page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"

# Each example has names of its own; what it registers it must unregister, or a later one notices.
RUNNER = """
import sys
for code in sys.argv[1:]:
    exec(compile(code, "docs/extending.md", "exec"), {"__name__": "__main__"})
"""


def examples(text: str) -> list[str]:
    """Return the blocks of Python, below empty lines so that tracebacks name lines of the page."""
    blocks = re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return ["\n" * text[: b.start(1)].count("\n") + b.group(1) for b in blocks]


def test_every_example_of_the_page_runs(tmp_path: Path) -> None:
    found = examples(PAGE.read_text(encoding="utf-8"))
    assert found
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, *found],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_examples_are_found_with_their_lines() -> None:
    assert examples("a\n```python\nx\ny\n```\nb\n```text\nz\n```\n") == ["\n\nx\ny\n"]
