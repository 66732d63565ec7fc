"""The page's server: what it answers, what it refuses, what it survives."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sep

pytest.importorskip("starlette")
from PIL import Image
from scipy import ndimage
from starlette.testclient import TestClient

from separable.explore import bodies, create_app
from separable.explore.limits import IMAGE_SIDE, KERNEL_ELEMENTS, STORE_BYTES, UPLOAD_BYTES
from separable.explore.uploads import Store


@pytest.fixture(scope="module")
def page() -> Iterator[TestClient]:
    with client(create_app()) as found:
        yield found


JSON = {"content-type": "application/json"}


def client(app: Any) -> TestClient:
    """A browser that has the page open."""
    return TestClient(app, headers={"origin": "http://testserver"})


def send(page: TestClient, kind: str, content: bytes) -> Any:
    """Upload a file as the page does."""
    return page.post(f"/api/upload/{kind}", files={"file": ("file", content)})


def ask(page: TestClient, name: str, question: dict[str, Any], status: int = 200) -> dict[str, Any]:
    answer = page.post(f"/api/{name}", json=question)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def pixels(address: str) -> np.ndarray:
    import base64

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


def test_the_page_and_its_parts_come_from_the_package(page: TestClient) -> None:
    text = page.get("/").text
    assert "Is this kernel a column times a row?" in text
    assert "http://" not in text
    assert "https://" not in text
    for name in ("app.js", "page.css", "charts.js", "icon.svg"):
        part = page.get(f"/static/{name}")
        assert part.status_code == 200
        assert "https://" not in part.text
    answer = page.get("/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    for outside in ("/static/../app.py", "/static/%2e%2e%2fapp.py", "/static/app.py", "/nothing"):
        assert page.get(outside).status_code == 404


def test_a_kernel_is_described_by_what_the_library_finds(page: TestClient) -> None:
    found = ask(page, "kernel", {"spec": "disk:5"})
    disk = sep.kernels.disk(5)
    spectral = sep.spectrum(disk, "yx -> y,x")
    assert found["rank"] == spectral.rank == 4
    np.testing.assert_allclose(found["errors"], spectral.errors[:5], atol=1e-15)
    total = sum(np.outer(*term) for term in found["terms"])
    np.testing.assert_allclose(total, disk, atol=1e-12)
    counts = {"dense": disk.size, "nonzero": int(disk.sum()), "passes": [22, 44, 66, 88],
              "sentence": "multiplications per output: 121 dense (81 of its weights are not zero), 88 in 8 passes: 1.4 times fewer"}  # fmt: skip
    assert found["multiplications"] == counts
    assert "the sum of 4 products" in found["verdict"]
    one = ask(page, "kernel", {"values": [[3, 6, 9], [4, 8, 12], [5, 10, 15]]})
    assert one["terms"] == [[[3, 4, 5], [1, 2, 3]]]
    assert one["verdict"].startswith("Separable: it is exactly")
    assert ask(page, "kernel", {"spec": "gaussian:1", "ndim": 3})["letters"] == ["z", "y", "x"]
    assert ask(page, "kernel", {"values": [1, 2, 1]})["verdict"].startswith(
        "The kernel has one axis"
    )
    assert (
        ask(page, "kernel", {"values": [[0, 0], [0, 0]]})["verdict"]
        == "The kernel is zero everywhere."
    )


def test_a_picture_is_filtered_exactly_and_with_a_bound_on_the_error(page: TestClient) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 50), dtype=np.uint8)
    upload = send(page, "image", png(image)).json()
    np.testing.assert_array_equal(pixels(upload["preview"]), image)
    disk = sep.kernels.disk(3) / sep.kernels.disk(3).sum()
    question = {"kernel": {"values": disk.tolist()}, "image": {"upload": upload["upload"]}}
    found = ask(page, "filter", {**question, "rank": 1, "mode": "wrap"})
    exact = ndimage.correlate(image.astype(float), disk, mode="wrap")
    assert (found["exact"]["low"], found["exact"]["signed"]) == (0, False)
    assert found["exact"]["high"] == pytest.approx(255)
    np.testing.assert_allclose(pixels(found["exact"]["png"]), exact, atol=1.01)
    assert 0 < found["rms"] <= found["worst"] <= found["bound"]
    rank = ask(page, "kernel", {"values": disk.tolist()})["rank"]
    whole = ask(page, "filter", {**question, "rank": rank})
    assert whole["bound"] == 0
    assert (
        whole["worst"] < 1e-5 * whole["scale"]
    )  # two passes of float32 beside all weights at once
    colour = ask(page, "filter", {**question, "image": "rings", "rank": 99})
    assert colour["rank"] == rank


def test_a_plan_is_that_of_the_library(page: TestClient) -> None:
    question = {"kernel": {"spec": "disk:7"}, "shape": [64, 64], "dtype": "float32"}
    found = ask(page, "plan", {**question, "measure": True})
    made = sep.plan(sep.kernels.disk(7), (64, 64), "float32", operation="correlate")
    assert [r["name"] for r in found["rows"]] == [c.name for c in made.candidates]
    (chosen,) = (r["name"] for r in found["rows"] if r["chosen"])
    assert chosen == made.chosen.name
    assert found["measured"][chosen] > 0
    slow = ask(page, "plan", {**question, "shape": [8192, 8192], "measure": True})
    assert slow["measured"] == {}
    assert slow["note"].startswith("Not measured")


def test_a_layer_is_counted_as_in_the_worked_figures(page: TestClient) -> None:
    layer = {"input": [12, 12], "channels": 3, "filters": 256, "kernel": 5, "multiplier": 1}
    found = ask(page, "layer", layer)
    assert found["dense"]["multiplications"] == 1_228_800
    assert found["separable"]["multiplications"] == 53_952
    assert found["break_even"] == pytest.approx(22.8, abs=0.05)
    three = ask(page, "layer", {**layer, "input": [2000, 2000], "filters": 3})
    curve = dict(map(tuple, three["curves"]["kernel"]))
    assert curve[32] == pytest.approx(0.33431, abs=5e-6)
    wrong = ask(page, "layer", {**layer, "filters": 0}, 400)
    assert wrong["error"] == "`filters` must be a whole number, 1 .. 16384; got 0"


@pytest.mark.apart
def test_networks_are_counted_and_reports_read(page: TestClient) -> None:
    pytest.importorskip("torch")
    found = ask(page, "ledger", {"network": "mobilenet_v1"})
    assert found["total"]["macs"] == pytest.approx(569e6, rel=0.005)
    assert (
        "there is no network `nonsense`"
        in ask(page, "ledger", {"network": "nonsense"}, 400)["error"]
    )
    import torch

    net = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3), torch.nn.Conv2d(16, 16, 3))
    _, report = sep.nn.convert(net, budget=0.5, input_shape=(1, 8, 16, 16))
    sent = send(page, "report", json.dumps(report.to_dict())).json()
    assert sent["multiplications"] == report.multiplications
    assert [r["pattern"] for r in sent["rows"]] == [x.pattern for x in report.layers]
    assert sent["curve"][-1][1] == pytest.approx(report.tradeoff[-1, 1])


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


BOMB = (  # 3.6 GB of zeros, the beginning of them
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(bytes(1 << 22)))
)
HEADER = b"\x93NUMPY\x01\x00"


def claiming(shape: str, dtype: str = "'<f8'") -> bytes:
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return HEADER + struct.pack("<H", len(text)) + text


BAD_KERNELS = {
    "large": (npy(np.ones((1000, 1000))), "at most 65,536 are accepted"),
    "nan": (npy(np.array([[1, np.nan]])), "holds NaN or infinity"),
    "objects": (npy(np.array([{}, 1], dtype=object)), "Python objects"),
    "claims": (claiming("(100000, 100000)"), "10,000,000,000 elements"),
    "short": (claiming("(100, 100)"), "truncated"),
    "nonsense header": (HEADER + b"\xff\xff{", "damaged"),
    "negative": (claiming("(-5, 3)"), "(damaged|empty|truncated|axes)"),
    "code": (claiming("(3,), 'x': __import__('os')"), "damaged"),
    "words": (b"a b c", "got 'a' in row 1, place 1"),
    "ragged": (b"1 2\n3", "2 numbers in row 1 and 1 in row 2"),
    "empty": (b"", "got none"),
    "long": (npy(np.ones((300, 2))), "255 per side"),
    "complex": (npy(np.array([[1j]])), "real numbers"),
    "four axes": (npy(np.ones((2, 2, 2, 2))), "one to three axes"),
    "huge": (npy(np.array([[1e200, 1]])), "beyond 1e100"),
}
BAD_IMAGES = {
    "large": (png(np.zeros((8000, 6000), np.uint8)), "6000 x 8000 pixels; at most 40 million"),
    "bomb": (BOMB, "more than 40 million pixels"),
    "no picture": (b"GIF nonsense", "expected a picture"),
    "cut short": (png(np.zeros((64, 64), np.uint8))[:60], "expected a picture"),
    "nan": (npy(np.array([[1, np.nan]])), "NaN or infinity"),
    "one axis": (npy(np.ones(5)), r"shape \(y, x\)"),
    "empty": (npy(np.ones((0, 5))), "empty"),
    "script": (b"<svg onload=alert(1)>", "expected a picture"),
}


@pytest.mark.parametrize("name", BAD_KERNELS)
def test_a_bad_kernel_is_refused_with_its_reason(page: TestClient, name: str) -> None:
    content, message = BAD_KERNELS[name]
    answer = send(page, "kernel", content)
    assert answer.status_code == 400
    import re

    assert re.search(message, answer.json()["error"])


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_picture_is_refused_with_its_reason(page: TestClient, name: str) -> None:
    content, message = BAD_IMAGES[name]
    answer = send(page, "image", content)
    assert answer.status_code == 400
    import re

    assert re.search(message, answer.json()["error"])


@pytest.mark.parametrize("spec", ["sobel", "gaussian:1", "disk:2", "1 2 3 4; 2 4 6 8"])
@pytest.mark.parametrize("mode", ["reflect", "wrap", "constant"])
def test_a_pixel_is_the_sum_of_its_products(page: TestClient, spec: str, mode: str) -> None:
    picture = ndimage.gaussian_filter(np.random.default_rng(0).random((20, 30)) * 255, 1)
    upload = send(page, "image", npy(picture.astype(np.float32))).json()["upload"]
    kernel = sep.kernels.parse(spec)
    dense = kernel if isinstance(kernel, np.ndarray) else kernel.dense()
    expected = ndimage.correlate(
        picture.astype(np.float32).astype(float), dense.astype(float), mode=mode
    )
    for y, x in ((0, 0), (19, 29), (7, 11)):
        question = {
            "kernel": {"spec": spec},
            "image": {"upload": upload},
            "mode": mode,
            "y": y,
            "x": x,
        }
        found = ask(page, "pixel", question)
        assert found["value"] == pytest.approx(expected[y, x], abs=1e-9)
        total = np.sum(np.multiply(found["samples"], found["weights"]))
        assert total == pytest.approx(expected[y, x], abs=1e-9)
        assert ("column" in found) is (spec != "disk:2")
        if "column" in found:
            assert np.dot(found["first"], found["row"]) == pytest.approx(expected[y, x], abs=1e-9)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"kernel": {"spec": "disk:9"}}, "at most 15 samples; this one is 19x19"),
        ({"kernel": {"spec": "ball:2"}}, "kernels with two axes"),
        ({"kernel": {"spec": "sobel"}, "y": 384}, "lies outside the picture"),
        ({"kernel": {"spec": "sobel"}, "x": "1"}, "`x` must be a whole number"),
    ],
)
def test_pixels_that_cannot_be_shown(
    page: TestClient, question: dict[str, Any], message: str
) -> None:
    assert message in ask(page, "pixel", {"image": "rings", **question}, 400)["error"]


def test_numbers_may_be_pasted_as_in_matlab_and_numpy(page: TestClient) -> None:
    for text in ("[1 2 1; 2 4 2; 1 2 1]", "np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]])"):
        found = ask(page, "kernel", {"text": text})
        assert found["shape"] == [3, 3]
        assert found["rank"] == 1
    assert "row 2, place 1" in ask(page, "kernel", {"text": "1 2\nx 3"}, 400)["error"]
    assert ask(page, "kernel", {"spec": "1 2 1; 2 4 2"})["shape"] == [2, 3]


def test_too_large_uploads_are_not_read(page: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "DRAIN_SECONDS", 0.05)
    answer = send(page, "image", b"x" * (UPLOAD_BYTES + 1))
    assert answer.status_code == 413
    assert "at most 32 MiB" in answer.json()["error"]

    def parts() -> Any:  # of a length that is not said before
        for _ in range(40):
            yield b"x" * (1 << 20)

    kind = {"content-type": "multipart/form-data; boundary=b"}
    answer = page.post("/api/upload/image", content=parts(), headers=kind)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("name", "question", "message"),
    [
        ("kernel", {"spec": "disc:3"}, "Did you mean `disk`"),
        ("kernel", {"spec": "gaussian:1e9"}, "sigma"),
        ("kernel", {"values": [[1, 2], [3]]}, "same length"),
        ("kernel", {"values": "abc"}, "real numbers"),
        ("kernel", {"upload": "gone"}, "Upload it again"),
        ("kernel", {}, "spec, text, values or upload"),
        ("filter", {"kernel": {"spec": "ball:2"}, "image": "rings"}, "two axes"),
        ("filter", {"kernel": {"spec": "box:3"}, "image": "nothing"}, "there is no picture"),
        ("filter", {"kernel": {"spec": "box:3"}, "image": "rings", "mode": "rap"}, "wrap"),
        ("plan", {"kernel": {"spec": "box:3"}, "shape": [9], "dtype": "float32"}, "2 sizes"),
        (
            "plan",
            {"kernel": {"spec": "box:3"}, "shape": "a b", "dtype": "float32"},
            "whole numbers",
        ),
        ("plan", {"kernel": {"spec": "box:3"}, "shape": [9, 9], "dtype": "O"}, "`dtype`"),
    ],
)
def test_questions_that_cannot_be_answered(
    page: TestClient, name: str, question: dict[str, Any], message: str
) -> None:
    assert message in ask(page, name, question, 400)["error"]


def test_a_body_that_is_not_a_request_is_refused(page: TestClient) -> None:
    for content in (b"", b"[1]", b"{", b"[" * 100_000, b"\xff\xfe"):
        answer = page.post("/api/kernel", content=content, headers=JSON)
        assert answer.status_code == 400, content[:10]
        assert "error" in answer.json()


def test_another_site_cannot_call_it_by_a_name_of_its_own(page: TestClient) -> None:
    assert page.get("/", headers={"host": "evil.example"}).status_code == 400


def test_a_token_guards_every_address() -> None:
    guarded = client(create_app(token="s3cret", hosts=["*"]))
    for path in ("/", "/static/app.js", "/api/start"):
        assert guarded.get(path).status_code == 403
        assert guarded.get(path, params={"token": "wrong"}).status_code == 403
    assert guarded.get("/", params={"token": "s3cret"}).status_code == 200
    assert guarded.get("/api/start").status_code == 200  # the cookie remembers
    assert guarded.post("/api/kernel", json={"spec": "sobel"}).status_code == 200


def test_uploads_are_kept_in_bounded_memory() -> None:
    store = Store(max_bytes=1000)
    first = store.put(np.zeros(100, np.uint8))
    for _ in range(10):
        store.put(np.zeros(300, np.uint8))
        assert store.nbytes <= 1000
    with pytest.raises(ValueError, match="Upload it again"):
        store.get(first)


def test_large_pictures_are_made_smaller(page: TestClient) -> None:
    large = np.tile(np.arange(256, dtype=np.uint8), (1500, 10))
    found = send(page, "image", png(large)).json()
    assert max(found["shape"][:2]) <= IMAGE_SIDE
    assert "scaled down 3 times" in found["note"]


def test_many_bad_uploads_leave_the_server_alive_and_small(tmp_path: Path) -> None:
    """In a process of its own, whose memory is its alone."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_explore_app import BAD_IMAGES, BAD_KERNELS, client, npy, png, send
import numpy as np
from starlette.testclient import TestClient
from separable.explore import create_app
from separable.system import peak_memory
page = client(create_app())
send(page, "kernel", npy(np.ones((3, 3))))
send(page, "image", png(np.zeros((64, 64), np.uint8)))
before = peak_memory()
bad = [("kernel", c) for c, _ in BAD_KERNELS.values()] + [("image", c) for c, _ in BAD_IMAGES.values()]
bad += [("image", b"x" * (33 << 20))]
for turn in range(2 * len(bad)):
    kind, content = bad[turn % len(bad)]
    assert send(page, kind, content).status_code in (400, 413)
assert page.post("/api/kernel", json={{"spec": "sobel"}}).status_code == 200
print((peak_memory() - before) / 2**20)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 200  # MiB; the uploads themselves are held once by the client
    assert STORE_BYTES <= 128 << 20
    assert KERNEL_ELEMENTS < 10**6
