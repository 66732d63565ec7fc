"""The first level of the documentation's navigation, and quantities that stay in one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
CONFIGURATION = (DOCS / "conf.py").read_text(encoding="utf-8")


def test_the_first_level_has_what_people_come_for() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = re.search(r"```\{toctree\}\n:hidden:\n\n(.*?)```", index, re.DOTALL)
    shown = re.search(r'"header_links_before_dropdown": (\d+)', CONFIGURATION)
    assert listed
    assert shown
    pages = [re.sub(r".*<(.*)>", r"\1", line) for line in listed[1].split("\n")]
    first = pages[: int(shown[1])]
    assert first[0] == "installation"
    assert {"networks", "conversion", "fused", "volumes", "files"} <= set(first)


@pytest.mark.parametrize("text", ["1 %", "4.2 M", "37 G", "34.1 GB/s", "3 ms", "16 MiB", "4 s."])
def test_a_number_and_its_unit_are_one_word(text: str) -> None:
    assert _quantity().sub("\\1_\\2", text) == text.replace(" ", "_")


@pytest.mark.parametrize("text", ["2 steps", "3 Methods", "1 Gaussian", "4 kernels", "M = 1 and"])
def test_words_are_no_units(text: str) -> None:
    assert not _quantity().search(text)


def _quantity() -> re.Pattern[str]:
    found = re.search(r'QUANTITY = re\.compile\(r"(.*)"\)', CONFIGURATION)
    assert found
    return re.compile(found[1])
