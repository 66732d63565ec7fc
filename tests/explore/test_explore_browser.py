"""The page in a real browser: what a reader sees, with a mouse, a keyboard and a screen reader."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from patient_pages import at_rest, new_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.docs,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    command = [sys.executable, "-m", "separable", "explore", "--no-browser", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    said = server.stdout.readline()  # it listens by then
    assert said.startswith("Open http://127.0.0.1:")
    yield said.split()[1]
    server.terminate()
    server.communicate(timeout=600)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page with a kernel on it; nothing may have gone wrong on the way."""
    found = new_page(browser, viewport={"width": 1280, "height": 900})
    problems: list[str] = []
    found.on("pageerror", lambda error: problems.append(str(error)))
    found.on("requestfailed", lambda request: problems.append(request.url))
    elsewhere: list[str] = []
    found.on("request", lambda r: elsewhere.append(r.url) if not _ours(r.url, address) else None)
    found.goto(address)
    found.wait_for_selector("#plan tr.chosen")
    yield found
    assert problems == []
    assert elsewhere == []
    found.close()


def _ours(url: str, address: str) -> bool:
    return url.startswith((address, "data:", "blob:"))


def verdict(page: Any, text: str) -> None:
    page.wait_for_selector(f"#verdict:has-text('{text}')")


def choose(page: Any, spec: str) -> None:
    page.fill("#spec", spec)
    page.click("#kernel-form button.main:visible")


def changed(page: Any, name: str, before: str) -> None:
    """Wait until an element has another text."""
    same = "([name, text]) => document.getElementById(name).textContent !== text"
    page.wait_for_function(same, arg=[name, before])


def shade(page: Any, selector: str) -> np.ndarray:
    """The pixels of a canvas, without the CSS around."""
    rgba = page.eval_on_selector(
        selector,
        "c => [c.height, c.width, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]",
    )
    return np.array(rgba[2:]).reshape(rgba[0], rgba[1], 4)


def test_a_kernel_of_the_catalogue_is_factorized(page: Any) -> None:
    verdict(page, "sobel, 3 x 3. Separable: it is exactly")
    kernel = shade(page, "#whole")
    assert kernel.shape[:2] == (144, 144)  # with the numbers in the cells
    assert kernel[52, 4, 2] > kernel[52, 4, 0]  # negative is blue
    assert kernel[52, 140, 0] > kernel[52, 140, 2]  # positive is red
    assert page.is_disabled("#rank")
    assert "6 multiplications" in page.inner_text("#rank-text")
    assert page.inner_text("#count-text").endswith("6 in 2 passes: 1.5 times fewer.")
    choose(page, "disk:7")
    verdict(page, "the sum of 6 products")
    assert shade(page, "#whole").shape[:2] == (15, 15)


ADDED = r"""() => {
  const text = (name) => document.getElementById(name).textContent;
  const found = /add up to (.*)\.$/.exec(text("pixel-dense-text"));
  return found && text("pixel-passes-text").includes(`add up to ${found[1]}.`) && found[1];
}"""


def test_a_pixel_shows_its_products_step_by_step(page: Any) -> None:
    page.wait_for_selector("#pixel-dense td")
    before = page.inner_text("#pixel-dense-text")
    page.click("#exact", position={"x": 60, "y": 90})
    changed(page, "pixel-dense-text", before)
    assert "9 products add up to" in page.inner_text("#pixel-dense-text")
    assert page.locator("#pixel-dense td").count() == 9
    assert page.inner_text("#pixel-passes-title") == "3 + 3 products"
    page.wait_for_function(ADDED)  # the pointer, on its way, shows other pixels
    page.click("#pixel-play")
    page.wait_for_selector("#pixel-dense-text:has-text('9 products: ')")
    total = page.inner_text("#pixel-dense-text").split("9 products: ")[1].rstrip(".")
    assert f"6 products (second pass): {total}. Done." in page.inner_text("#pixel-passes-text")
    before = page.inner_text("#pixel-dense-text")
    page.focus("#exact")
    page.keyboard.press("ArrowDown")
    changed(page, "pixel-dense-text", before)
    choose(page, "disk:7")
    page.wait_for_selector("#pixel-passes-text:has-text('not separable')")
    choose(page, "disk:9")
    page.wait_for_selector("#pixel", state="hidden")


def test_an_address_holds_the_view(page: Any, browser: Any) -> None:
    choose(page, "disk:7")
    verdict(page, "the sum of 6 products")
    page.select_option("#mode", "wrap")
    page.select_option("#picture", "rings")
    page.focus("#rank")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => location.hash.includes('rank=2')")
    other = new_page(browser)
    other.goto(page.url)
    verdict(other, "the sum of 6 products")
    assert other.input_value("#spec") == "disk:7"
    assert other.input_value("#mode") == "wrap"
    assert other.input_value("#picture") == "rings"
    assert other.inner_text("#rank-out") == "2 of 6"
    other.close()
    page.check("[name=source][value=paste]")
    page.fill("#paste", "1 2\n2 4")
    page.click("[data-source=paste] button.main")
    verdict(page, "2 x 2. Separable")
    other = new_page(browser)
    other.goto(page.url)
    verdict(other, "typed kernel, 2 x 2. Separable")
    other.close()


def test_the_slider_adds_terms_and_the_error_shrinks(page: Any) -> None:
    choose(page, "disk:7")
    verdict(page, "the sum of 6 products")
    first = page.inner_text("#rank-text")
    assert first.startswith("One term misses 32 %")
    page.focus("#rank")
    missing = []
    for _ in range(5):
        missing.append(np.abs(shade(page, "#rest")[..., :3].astype(int) - 250).sum())
        page.keyboard.press("ArrowRight")
    assert page.inner_text("#rank-out") == "6 of 6"
    assert page.inner_text("#rank-text").startswith("6 terms are exact")
    assert missing[0] > missing[4] > np.abs(shade(page, "#rest")[..., :3].astype(int) - 250).sum()
    page.wait_for_selector("#picture-text:has-text('same result; the largest output is 36,')")


def test_a_kernel_is_drawn_with_the_keyboard_and_with_the_pointer(page: Any) -> None:
    page.check("[name=source][value=draw]")
    page.fill("#draw-size", "3")
    page.dispatch_event("#draw-size", "change")
    page.click("#board-clear")
    page.focus("#board [data-at='0 0']")
    for key in ("1", "ArrowRight", "2", "ArrowRight", "1"):
        page.keyboard.press(key)
    page.fill("#brush", "4")
    page.click("#board [data-at='1 1']")
    page.click("[data-source=draw] button.main")
    verdict(page, "drawn kernel, 3 x 3. Not separable")
    page.focus("#board [data-at='1 1']")
    page.keyboard.press("Backspace")
    page.click("[data-source=draw] button.main")
    verdict(page, "Separable: it is exactly")


def test_numbers_are_pasted_and_mistakes_are_told(page: Any) -> None:
    page.check("[name=source][value=paste]")
    page.click("[data-source=paste] button.main")
    verdict(page, "typed kernel, 3 x 3. Separable: it is exactly")
    page.fill("#paste", "1 2\n3 x")
    page.click("[data-source=paste] button.main")
    page.wait_for_selector("#kernel-problem:has-text('in row 2, place 2')")
    page.fill("#paste", "1 2\n2 4")
    page.click("[data-source=paste] button.main")
    verdict(page, "2 x 2. Separable: it is exactly")
    assert page.is_hidden("#kernel-problem")


def test_files_are_taken_and_bad_ones_refused(page: Any, tmp_path: Path) -> None:
    good, bad = tmp_path / "kernel.npy", tmp_path / "bad.npy"
    np.save(good, np.outer([1.0, 2], [3, 4, 5]))
    bad.write_bytes(b"\x93NUMPY nonsense")
    page.check("[name=source][value=file]")
    page.set_input_files("#kernel-file", good)
    verdict(page, "kernel.npy, 2 x 3. Separable: it is exactly")
    page.set_input_files("#kernel-file", bad)
    page.wait_for_selector("#kernel-problem:has-text('damaged')")
    page.set_input_files("#image-file", bad)
    page.wait_for_selector("#picture-problem:has-text('damaged')")
    np.save(good, np.random.default_rng(0).random((90, 60)))
    page.set_input_files("#image-file", good)
    page.wait_for_function("() => document.getElementById('exact').width === 60")


def test_the_plan_is_measured(page: Any) -> None:
    page.fill("#shape", "200 200")
    page.click("#measure")
    page.wait_for_selector("#plan th:has-text('measured')")
    page.fill("#shape", "200")
    page.click("#plan-form button[type=submit]")
    page.wait_for_selector("#plan-problem:has-text('2 sizes')")


def test_layers_are_counted_and_networks_too(page: Any) -> None:
    pytest.importorskip("torch")
    page.click("#tab-layers")
    page.wait_for_selector("#layer-verdict:has-text('53,952 separable: 22.8 times fewer')")
    page.fill("#layer-multiplier", "25")
    page.dispatch_event("#layer-form", "change")
    page.wait_for_selector("#layer-verdict:has-text('times more')")
    page.wait_for_selector("#ledger-text:has-text('569 M multiply-adds')")
    assert page.locator("#curve-kernel svg circle").count() > 10


def test_tabs_follow_the_keyboard(page: Any) -> None:
    page.focus("#tab-kernel")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#tab-layers", "aria-selected") == "true"
    assert page.evaluate("() => document.activeElement.id") == "tab-layers"
    page.keyboard.press("End")
    assert page.is_visible("#view-networks")
    assert page.is_hidden("#view-layers")
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#view-kernel")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_shows_everything_in_both_schemes(
    browser: Any, address: str, scheme: str
) -> None:
    found = new_page(browser, viewport={"width": 400, "height": 800}, color_scheme=scheme)
    found.goto(address)
    found.wait_for_selector("#plan tr.chosen")
    for tab in ("#tab-kernel", "#tab-layers", "#tab-volumes", "#tab-networks"):
        found.click(tab)
        assert found.evaluate("() => document.documentElement.scrollWidth") <= 400
    background = found.evaluate("() => getComputedStyle(document.body).backgroundColor")
    levels = [int(v) for v in background[4:-1].split(",")]
    assert (max(levels) < 60) == (scheme == "dark")
    found.click("#theme")
    after = found.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert after != background
    found.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, address: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = browser.new_context(bypass_csp=True, color_scheme=scheme)  # axe is put into the page
    found = new_page(context)
    found.goto(address)
    found.wait_for_selector("#plan tr.chosen")
    for tab in ("#tab-kernel", "#tab-layers", "#tab-volumes", "#tab-networks"):
        found.click(tab)
        at_rest(found)
        violations = axe.run(found).response["violations"]
        serious = [v for v in violations if v["impact"] in ("serious", "critical")]
        told = [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in serious]
        assert told == []
    context.close()


def test_dark_colours_reach_the_canvases_and_every_comparison_has_a_legend(page: Any) -> None:
    light = shade(page, "#whole")[60, 60, :3]  # near a weight of zero: the colour of the paper
    assert light.min() > 200
    page.wait_for_selector("#exact-legend:has-text('blue is negative, red is positive')")
    assert page.inner_text("#exact-legend") == page.inner_text("#approximate-legend")
    assert "black to white" in page.inner_text("#first-legend")
    page.click("#theme")
    assert shade(page, "#whole")[60, 60, :3].max() < 60
    assert np.median(shade(page, "#exact")[..., :3]) < 80
    choose(page, "gaussian:1")
    page.wait_for_selector("#exact-legend:has-text('black to white')")
    rgb = shade(page, "#exact")[..., :3]
    assert np.ptp(rgb, axis=2).max() == 0  # a photograph stays grey


def test_a_weight_is_the_product_of_its_row_and_column(page: Any) -> None:
    page.wait_for_selector("#cell-text:has-text('Row 2, column 1: 2 \u00d7 -1 = -2.')")
    page.hover("#whole", position={"x": 120, "y": 20})
    page.wait_for_selector("#cell-text:has-text('Row 1, column 3: 1 \u00d7 1 = 1.')")
    page.focus("#whole")
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#cell-text").startswith("Row 2, column 3: 2 \u00d7 1 = 2.")


def test_selections_follow_what_is_shown(page: Any, tmp_path: Path) -> None:
    choose(page, "gaussian:3")
    verdict(page, "gaussian:3, 25 x 25")
    assert page.input_value("#example") == "gaussian:3"
    page.select_option("#example", "disk:7")
    verdict(page, "the sum of 6 products")
    assert page.input_value("#spec") == "disk:7"
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).random((40, 30)))
    page.set_input_files("#image-file", tmp_path / "mine.npy")
    page.wait_for_function("() => document.getElementById('exact').width === 30")
    assert page.inner_text("#picture option:checked") == "mine.npy"


def test_the_page_says_that_it_computes(page: Any) -> None:
    """No answer leaves the server before the page has been looked at."""
    waiting: list[Any] | None = []
    page.route(
        "**/api/plan",
        lambda route: route.continue_() if waiting is None else waiting.append(route),
    )
    page.fill("#shape", "300 300")
    page.click("#plan-form button[type=submit]")
    page.wait_for_selector("#computing:has-text('Computing')")
    assert page.get_attribute("#plan", "aria-busy") == "true"
    held, waiting = waiting, None
    for route in held:
        route.continue_()
    page.wait_for_selector("#computing:empty", state="attached")
    assert page.get_attribute("#plan", "aria-busy") is None


def test_larger_kernels_are_compared_and_measured(page: Any) -> None:
    page.wait_for_selector("#sweep-text:has-text('one separable term')")
    assert page.locator("#sweep-counts .key li").all_inner_texts() == [
        "dense, K\u00b2",
        "passes, 2 K",
        "FFT",
    ]
    page.fill("#shape", "64 64")
    page.click("#plan-form button[type=submit]")
    page.wait_for_selector("#sweep-text:has-text('64 x 64')")
    page.click("#sweep-measure")
    page.wait_for_selector("#sweep-times .key li:has-text('passes, measured')")
    assert page.locator("#roofline svg text.value").count() >= 2


def test_a_volume_is_shown_slice_by_slice(page: Any, tmp_path: Path) -> None:
    page.click("#tab-volumes")
    page.wait_for_selector("#volume-text:has-text('359,661,568 multiplications dense, 22,020,096')")
    assert "343 dense, 21 in 3 passes" in page.inner_text("#volume-verdict")
    before = shade(page, "#volume-x")
    page.focus("#slice")
    page.keyboard.press("Home")
    page.wait_for_selector("#slice-out:has-text('1 of 64')")
    page.wait_for_function("() => location.hash.includes('slice=0')")
    assert np.abs(shade(page, "#volume-x").astype(int) - before).max() > 20
    np.save(tmp_path / "stack.npy", np.random.default_rng(0).random((5, 20, 30)).astype("f4"))
    page.set_input_files("#volume-file", tmp_path / "stack.npy")
    page.wait_for_selector("#volume-text:has-text('5 x 20 x 30 = 3,000 voxels')")
    page.click("#volume-measure")
    page.wait_for_selector("#volume-table td:has-text('1,029,000')")
    (tmp_path / "bad.nii").write_bytes(b"nothing")
    page.set_input_files("#volume-file", tmp_path / "bad.nii")
    page.wait_for_selector("#volume-problem:has-text('expected a volume')")


def test_an_audit_is_shown(page: Any) -> None:
    pytest.importorskip("torch")
    page.click("#tab-networks")
    page.click("#audit-run")
    page.wait_for_selector("#audit-text:has-text('3 of 3 convolutions')")
    assert page.locator("#audit-findings li").count() == 3


def test_a_narrow_table_shows_the_time_that_decides(browser: Any, address: str) -> None:
    found = new_page(browser, viewport={"width": 400, "height": 800})
    found.goto(address)
    found.wait_for_selector("#plan tr.chosen")
    box = found.locator("#plan tr.chosen td:nth-child(3)").bounding_box()
    assert box["x"] + box["width"] <= 400
    assert found.inner_text("#plan tr.chosen td:nth-child(3)").split()[-1] in ("s", "ms", "\u00b5s")
    found.close()
