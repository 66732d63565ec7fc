"""The page without a server: its scripts find what the library finds, and it opens from disk."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from patient_pages import at_rest, new_page
from scipy import ndimage

import separable as sep
from separable.errors import FileError
from separable.kernels.matrix_parser import parse_matrix

pytest.importorskip("starlette")
pytest.importorskip("PIL")
from separable.explore import network_answers, questions, write_static
from separable.explore.kernel_answers import Chosen, describe
from separable.explore.static_site import MORE, SITE_BYTES
from separable.pages.script_bundle import bundle

SCRIPTS = Path(sys.modules["separable"].__file__ or "").parent / "explore" / "static"
NODE, CHROMIUM = shutil.which("node"), shutil.which("chromium") or shutil.which("chromium-browser")

CALLS = """
import { describe, svd } from "./decompose.js";
import { layer } from "./layer_counts.js";
import { parseMatrix } from "./matrix_text.js";
import { filterPlane, compare, pixel } from "./browser_pictures.js";
const told = (work) => { try { return work(); } catch (error) { return { error: error.message }; } };
const plane = (rows) => ({ height: rows.length, width: rows[0].length, data: Float64Array.from(rows.flat()) });
const CALLS = {
  describe: (values) => describe(values, "kernel"),
  layer, parse: parseMatrix,
  filter: ({ image, kernel, mode, operation }) => [...filterPlane(plane(image), kernel, mode, operation).data],
  svd: (matrix) => svd(matrix).s,
  compare: ({ image, kernel, rank }) => {
    const { pixels, ...found } = compare({ values: kernel, operation: "correlate" }, { planes: [plane(image)], white: 255 }, rank, "reflect");
    return { worst: found.worst, rms: found.rms, bound: found.bound, scale: found.scale };
  },
  pixel: ({ image, kernel, at, operation }) => pixel({ values: kernel, operation }, { planes: [plane(image)], white: 255 }, at, "reflect"),
};
export const answers = (asked) => asked.map(([name, value]) => told(() => CALLS[name](value)));
"""
MAIN = """
import { answers } from "./calls.js";
import { readFileSync } from "node:fs";
console.log(JSON.stringify(answers(JSON.parse(readFileSync(0, "utf8")))));
"""
Call = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module", params=["node", "chromium"])
def call(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Call:
    """Call functions of the scripts, all calls in one process or page."""
    if request.param == "chromium":
        return in_chromium(request.getfixturevalue("browser"))
    if NODE is None:
        pytest.skip("node is not installed")
    folder = tmp_path_factory.mktemp("scripts")
    for script in SCRIPTS.glob("*.js"):
        shutil.copy(script, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "calls.js").write_text(CALLS)
    (folder / "main.js").write_text(MAIN)

    def found(*calls: tuple[str, Any]) -> list[Any]:
        done = subprocess.run(
            [NODE, "main.js"], input=json.dumps(calls), capture_output=True, text=True, cwd=folder,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        values: list[Any] = json.loads(done.stdout)
        return values

    return found


def in_chromium(browser: Any) -> Call:
    def read(name: str) -> str:
        return CALLS if name == "calls.js" else (SCRIPTS / name).read_text()

    program = bundle(["calls.js"], read)

    def found(*calls: tuple[str, Any]) -> list[Any]:
        page = new_page(browser)
        run = f"async (asked) => {{ {program}\nreturn JSON.stringify(M['calls.js'].answers(JSON.parse(asked))); }}"
        values: list[Any] = json.loads(page.evaluate(run, json.dumps(calls)))
        page.close()
        return values

    return found


def dense(name: str) -> np.ndarray:
    kernel = sep.kernels.parse(name, 3 if name.startswith("ball") else None)
    return np.asarray(kernel if isinstance(kernel, np.ndarray) else kernel.dense(), float)


def kernels_to_compare() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {name: dense(name) for name in {**questions.EXAMPLES, **MORE}}
    found |= {
        "integers": np.array([[3, 6, 9], [4, 8, 12], [5, 10, 15]]),
        "negative": np.outer([-2, -4, -2], [1, 0, -1]),
        "zero": np.zeros((3, 4)),
        "one column": np.array([[1.0], [2], [1]]),
        "identity": np.eye(5),
        "cube": np.einsum("z,y,x->zyx", [1, 2, 1], [1, 4, 6], [-1, 0, 1]),
        "cube of floats": np.einsum("z,y,x->zyx", *rng.normal(size=(3, 4))),
        "deep": rng.normal(size=(3, 4, 5)),
    }
    for k in range(40):
        height, width = rng.integers(1, 12, 2)
        rank = rng.integers(1, 5)
        found[f"rank {k}"] = rng.normal(size=(height, rank)) @ rng.normal(size=(rank, width))
    found["large numbers"] = 1e80 * found["rank 0"]
    found["small numbers"] = 1e-80 * found["rank 1"]
    return found


def test_kernels_are_described_as_the_library_describes_them(call: Call) -> None:
    kernels = kernels_to_compare()
    answers = call(*(("describe", k.tolist()) for k in kernels.values()))
    for (name, kernel), found in zip(kernels.items(), answers, strict=True):
        # Whole numbers are integers in the page, as they are for the server.
        integers = bool(np.all(kernel == np.rint(kernel)) and np.abs(kernel).max() < 2**31)
        values = kernel.astype(np.int64) if integers else kernel
        expected = describe(Chosen("kernel", values, "correlate"))
        for key in ("rank", "pattern", "shape", "verdict", "multiplications"):
            assert found[key] == expected[key], (name, key)
        size = np.abs(kernel).max() or 1
        np.testing.assert_allclose(
            np.array(found["spectrum"]) / size, np.array(expected["spectrum"]) / size, atol=1e-6
        )
        np.testing.assert_allclose(found["errors"], expected["errors"], atol=1e-6)
        # Terms with equal coefficients may come in another order, but their sum is the kernel.
        total = np.zeros(kernel.shape)
        for term in found["terms"]:
            total += (
                np.multiply.outer(np.multiply.outer(*term[:2]), term[2])
                if kernel.ndim == 3
                else np.outer(*term)
            )
        if found["rank"] <= len(found["terms"]):
            np.testing.assert_allclose(total / size, kernel / size, atol=1e-6)
        if found["rank"] == 1:
            for mine, theirs in zip(found["terms"][0], expected["terms"][0], strict=True):
                scale = np.abs(theirs).max()
                np.testing.assert_allclose(
                    np.array(mine) / scale, np.array(theirs) / scale, atol=1e-6
                )


def assert_close(found: Any, expected: Any) -> None:
    """Compare nested values, numbers to 1e-9."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_close(found[key], expected[key])
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-9)
    else:
        assert found == expected


TEXTS = (
    "1 2 1; 2 4 2; 1 2 1", "1 2 1\n2 4 2\n1 2 1", "1,2,1\n2,4,2", "[[1, 2, 1], [2, 4, 2]]",
    "[1 2 1; 2 4 2] / 12", "1/16 * [1 2 1\n 2 4 2\n 1 2 1]", "np.array([[1, 2], [3, 4]], dtype=float)",
    "array([1, 2, 1])", "1/9 1/9 1/9", "# comment\n1 2 % more\n3 4", "1 2; 3 4;; 5 6; 7 8",
    "1 2\n3 4\n\n5 6\n7 8", '{"kernel": [[1, 2], [3, 4]], "operation": "convolve"}', "[1, 2, 1]",
    "[1 2 1]", "-1e-3 .5 2.", "# operation: convolve\n1 2 3", "{{1, 2}, {3, 4}}", "[1 2 ...\n 3; 4 5 6]",
    "(1/3) * [1 1 1]", "\ufeff1 2\n3 4\n", "[[1 2 1]\n [2 4 2]]",
)  # fmt: skip
BAD_TEXTS = (
    "", "a b", "1 2\n3", "1 2\n3 x", "1,5 2,5\n3,5 4,5", "[1 2", "[1 2] 3", "[]", "1/0", "[1 2] / 0",
    '{"kernel": 3}', '{"kernel": [[1, "x"]]}', '{"kernel": [[1], [2, 3]]}', "[[1, 2], 3]", "nan 1",
    "[" * 40, "1 2; 3 4;; 5 6",
)  # fmt: skip


def test_numbers_are_read_as_the_library_reads_them(call: Call) -> None:
    for text, found in zip(TEXTS, call(*(("parse", t) for t in TEXTS)), strict=True):
        values, operation = parse_matrix(text)
        assert found["operation"] == operation, text
        assert np.shape(found["values"]) == values.shape, text
        np.testing.assert_allclose(found["values"], values, rtol=1e-15)
    for text, found in zip(BAD_TEXTS, call(*(("parse", t) for t in BAD_TEXTS)), strict=True):
        assert re.search("kernel|row", found["error"]), text
    answers = call(("parse", "1 2\n3 x"), ("parse", "1 2\n3"), ("parse", "1,5 2,5"))
    assert "in row 2, place 2" in answers[0]["error"]
    assert "2 numbers in row 1 and 1 in row 2" in answers[1]["error"]
    assert "write 1.5 for 1,5" in answers[2]["error"]


def test_layers_are_counted_as_the_library_counts_them(call: Call) -> None:
    rng = np.random.default_rng(0)
    layers = [
        {"input": [12, 12], "channels": 3, "filters": 256, "kernel": 5, "multiplier": 1},
        {"input": [15, 15], "channels": 1, "filters": 1, "kernel": 3, "multiplier": 1},
        {"input": [9, 8, 7], "channels": 2, "filters": 4, "kernel": 3, "multiplier": 2},
        {"input": [3, 3], "channels": 2, "filters": 4, "kernel": 5, "multiplier": 2},
        {"input": [5, 5], "channels": 2, "filters": 0, "kernel": 5, "multiplier": 2},
    ]
    layers += [
        {"input": rng.integers(7, 40, rng.integers(1, 4)).tolist(), "channels": int(rng.integers(1, 9)),
         "filters": int(rng.integers(1, 9)), "kernel": int(rng.integers(1, 8)),
         "multiplier": int(rng.integers(1, 9))}
        for _ in range(30)
    ]  # fmt: skip
    asked = [
        {**one, "stride": int(rng.integers(1, 4)), "padding": padding}
        for one in layers
        for padding in ("valid", "same")
    ]
    assert asked[0]["padding"] == "valid"
    asked[0]["stride"] = asked[2]["stride"] = 1
    for one, found in zip(asked, call(*(("layer", a) for a in asked)), strict=True):
        if "error" in found:
            with pytest.raises(ValueError, match=re.escape(found["error"].split("(")[0])):
                network_answers.layer(one)
            continue
        expected = network_answers.layer(one)
        curves, own = expected.pop("curves"), found.pop("curves")
        assert_close(found, expected)
        for name, points in curves.items():
            np.testing.assert_allclose(own[name], points, rtol=1e-12)
    first, third = call(("layer", asked[0]), ("layer", asked[2]))
    assert first["separable"]["multiplications"] == 53_952
    assert third["spatial"] == {"passes": [585, 507], "multiplications": 1_092}


@pytest.mark.parametrize("operation", ["correlate", "convolve"])
def test_pictures_are_filtered_as_scipy_filters_them(call: Call, operation: str) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (13, 9)).astype(float)
    cases = [
        (mode, rng.normal(size=shape))
        for mode in ("reflect", "mirror", "nearest", "wrap", "constant")
        for shape in ((3, 3), (4, 5), (1, 6), (15, 11))
    ]
    calls = [
        (
            "filter",
            {"image": image.tolist(), "kernel": k.tolist(), "mode": mode, "operation": operation},
        )
        for mode, k in cases
    ]
    for (mode, kernel), found in zip(cases, call(*calls), strict=True):
        expected = getattr(ndimage, operation)(image, kernel, mode=mode)
        np.testing.assert_allclose(np.reshape(found, image.shape), expected, atol=1e-9)
    at, kernel = (2, 8), np.outer([1, 2, 1, 3], [-1, 0, 1])
    asked = {"image": image.tolist(), "kernel": kernel.tolist(), "at": at, "operation": operation}
    (found,) = call(("pixel", asked))
    value = getattr(ndimage, operation)(image, kernel, mode="reflect")[at]
    assert found["value"] == pytest.approx(value)
    assert np.dot(found["first"], found["row"]) == pytest.approx(value)


def test_fewer_terms_have_an_error_within_the_bound(call: Call) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 30)).astype(float)
    disk = sep.kernels.disk(3)
    answers = call(*(
        ("compare", {"image": image.tolist(), "kernel": disk.tolist(), "rank": r}) for r in (1, 2, 99)
    ))  # fmt: skip
    part = sep.factorize(disk, rank=1).dense()
    expected = ndimage.correlate(image, part, mode="reflect") - ndimage.correlate(
        image, disk, mode="reflect"
    )
    assert answers[0]["worst"] == pytest.approx(np.abs(expected).max())
    assert 0 < answers[0]["rms"] <= answers[0]["worst"] <= answers[0]["bound"]
    assert answers[1]["worst"] < answers[0]["worst"]
    assert answers[2]["worst"] < 1e-9 * answers[2]["scale"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("site") / "explore"
    command = [sys.executable, "-m", "separable", "explore", "--static", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Open it from disk" in done.stdout
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "exists" in again.stderr
    return folder


def test_a_site_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "half" / "index.html").mkdir(parents=True)
    for folder, reason in (
        ("file", "file exists"),
        ("file/deeper", "not a directory"),
        ("half", "is a directory"),
    ):
        with pytest.raises(FileError, match=f"cannot write .*{reason}"):
            write_static(tmp_path / folder, overwrite=True)
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(FileError, match=r"exists\. Choose another folder"):
        write_static(tmp_path / "half")


def test_the_site_is_small_and_asks_nobody(site: Path) -> None:
    assert [p.name for p in site.iterdir()] == ["index.html"]
    page = site / "index.html"
    assert page.stat().st_size <= SITE_BYTES
    text = page.read_text()
    assert set(re.findall(r"https?://[^\"'<\s`]*", text)) == {"http://www.w3.org/2000/svg"}
    assert "fetch(" not in text
    assert not re.search(r"^import ", text.partition("<script")[2], re.MULTILINE)


@pytest.fixture
def page(browser: Any, site: Path) -> Iterator[Any]:
    """The page, opened from disk; it asks for nothing else."""
    found = new_page(browser, viewport={"width": 1280, "height": 900})
    problems: list[str] = []
    asked: list[str] = []
    found.on("pageerror", lambda error: problems.append(str(error)))
    found.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    found.on("request", lambda r: asked.append(r.url))
    found.goto((site / "index.html").as_uri())
    found.wait_for_selector("#picture-text:has-text('same result')")
    yield found
    assert problems == []
    elsewhere = {
        u.partition("#")[0] for u in asked if not u.startswith(("data:", "blob:", "about:"))
    }
    assert elsewhere == {(site / "index.html").as_uri()}
    found.close()


def test_kernels_and_pixels_from_disk(page: Any) -> None:
    assert page.inner_text("#verdict").startswith("sobel, 3 x 3. Separable")
    assert page.locator("#tab-volumes").count() == 0
    assert "9 dense (6 of its weights are not zero), 6 in 2 passes" in page.inner_text(
        "#count-text"
    )
    assert page.inner_text("#pixel-passes-title") == "3 + 3 products"
    assert page.inner_text("#approximate-caption").endswith("the row: 3 + 3 = 6 products per pixel")
    page.select_option("#example", "disk:7")
    page.wait_for_selector("#verdict:has-text('the sum of 6 products')")
    page.check("[name=source][value=paste]")
    page.fill("#paste", "[1 2 1; 2 4 2; 1 2 1] / 16")
    page.click("[data-source=paste] button.main")
    page.wait_for_selector("#verdict:has-text('typed kernel, 3 x 3. Separable')")
    page.wait_for_selector("#picture-text:has-text('same result')")
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector("#verdict:has-text('typed kernel, 3 x 3. Separable')")


def test_layers_from_disk(page: Any) -> None:
    page.click("#tab-layers")
    page.wait_for_selector("#layer-verdict:has-text('53,952 separable: 22.8 times fewer')")
    assert page.locator("#layer-drawing svg").count() == 8
    assert page.inner_text("#layer-sentence").startswith(
        "Multiplications per output: 75 dense, 3.3 separable: 22.8 times fewer."
    )
    kernels = page.locator("#layer-drawing strong").all_inner_texts()
    assert kernels == [
        *("input", "256 kernels", "output"),
        *("input", "3 kernels", "between", "256 kernels", "output"),
    ]
    page.fill("#layer-multiplier", "25")
    page.dispatch_event("#layer-form", "change")
    page.wait_for_selector("#layer-verdict:has-text('times more')")


def test_a_file_is_read_in_the_browser(page: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "kernel.npy", np.outer([1.0, 2], [3, 4, 5]))
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY nonsense")
    page.check("[name=source][value=file]")
    page.set_input_files("#kernel-file", tmp_path / "kernel.npy")
    page.wait_for_selector("#verdict:has-text('kernel.npy, 2 x 3. Separable')")
    page.set_input_files("#kernel-file", tmp_path / "bad.npy")
    page.wait_for_selector("#kernel-problem:has-text('.npy')")


@pytest.mark.docs
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_the_site(browser: Any, site: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = browser.new_context(
        bypass_csp=True, color_scheme=scheme, viewport={"width": 400, "height": 800}
    )
    found = new_page(context)
    found.goto((site / "index.html").as_uri())
    found.wait_for_selector("#picture-text:has-text('same result')")
    for tab in ("#tab-kernel", "#tab-layers"):
        found.click(tab)
        at_rest(found)
        assert found.evaluate("() => document.documentElement.scrollWidth") <= 400
        violations = axe.run(found).response["violations"]
        serious = [v for v in violations if v["impact"] in ("serious", "critical")]
        assert [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in serious] == []
    context.close()
