"""Reports as single files: whole, safe, drawn in a browser without a network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sep
from separable.pages import stand_alone

pytest.importorskip("starlette")
from separable.explore import kernel_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def separable(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "separable", "report", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


def test_a_report_is_one_file_without_anything_to_load(tmp_path: Path) -> None:
    np.save(tmp_path / "psf.npy", np.outer([1, 2, 1], [1, 2, 3]))
    done = separable("psf.npy", "-o", "psf.html", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Wrote psf.html: ")
    text = (tmp_path / "psf.html").read_text()
    assert set(re.findall(r"https?://[^\"'<\s]*", text)) == {"http://www.w3.org/2000/svg"}
    assert "import " not in text.partition("<script")[2]
    assert "Separable: it is exactly" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("disk:3", "-o", "r.txt"), "a report is an HTML file. Name it r.html"),
        (("disk:3", "-o", "there/r.html"), "there is no such folder"),
        (("disc:3", "-o", "r.html"), "Did you mean `disk`?"),
        (("nothing.npy", "-o", "r.html"), "nothing.npy"),
        (("nan.npy", "-o", "r.html"), "finite|NaN"),
        (("large.npy", "-o", "r.html"), "cannot report on large.npy: .* 255 per side"),
        (("complex.npy", "-o", "r.html"), "cannot report on complex.npy: .* real numbers"),
        (("disk:3", "-o", "old.html"), "old.html exists"),
    ],
)
def test_what_cannot_be_reported(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    np.save(tmp_path / "nan.npy", np.array([[np.nan, 1]]))
    np.save(tmp_path / "complex.npy", np.array([[1j, 1]]))
    np.save(tmp_path / "large.npy", np.ones((300, 3)))
    (tmp_path / "old.html").write_text("mine")
    before = {p.name for p in tmp_path.iterdir()}
    done = separable(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert re.search(message, done.stderr)
    assert "Traceback" not in done.stderr
    assert {p.name for p in tmp_path.iterdir()} == before
    assert (tmp_path / "old.html").read_text() == "mine"


def test_names_from_outside_are_escaped() -> None:
    page = kernel_report("</script><script>alert(1)</script>", np.ones((3, 3)))
    assert "<script>alert" not in page
    assert "<script>" not in stand_alone("<b>", "", {"a": "</script>"}, ("ledger_report.js",))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def opened(browser: Any, tmp_path: Path, text: str) -> Any:
    """A page from the disk, without a network; nothing may go wrong."""
    (tmp_path / "report.html").write_text(text)
    context = browser.new_context(offline=True)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_selector("svg")
    assert problems == []
    return page


def test_a_kernel_report_is_drawn_and_its_slider_works(browser: Any, tmp_path: Path) -> None:
    page = opened(browser, tmp_path, kernel_report("disk", sep.kernels.disk(7)))
    assert page.inner_text("#rank-text").startswith("One term misses 32 %")
    page.focus("#rank")
    page.keyboard.press("End")
    assert page.inner_text("#rank-text").startswith("6 terms are exact")
    assert page.locator("#plan tr.chosen").count() == 1


def test_a_conversion_report_is_drawn(browser: Any, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3), torch.nn.Conv2d(16, 16, 3))
    _, report = sep.nn.convert(net, budget=0.5, input_shape=(1, 8, 16, 16))
    page = opened(browser, tmp_path, report.to_html())
    assert "this conversion" in page.inner_text("#share-text")
    page.focus("#share")
    page.keyboard.press("End")
    assert "this conversion" not in page.inner_text("#share-text")
    assert page.locator("tbody tr").count() == 2


def test_a_ledger_report_is_drawn(browser: Any, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(
        torch.nn.Conv2d(8, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3)
    )
    found = sep.nn.ledger(net, (1, 8, 16, 16)).what_if("ocyx -> oc,cyx")
    page = opened(browser, tmp_path, found.to_html())
    bars = page.locator("#layers rect").count()
    assert bars == 4  # two layers, each as it is and separated
    page.select_option("#count", "bytes")
    assert page.locator("#layers rect").count() > 2
    assert page.locator("tbody tr").count() == len(found.layers)
