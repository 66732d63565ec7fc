"""Converting trained networks: the script, its data, its fine-tuning, and the measured page."""

from __future__ import annotations

import json
import re
import types
from dataclasses import replace
from pathlib import Path

import cases
import conversion
import convnets
import numpy as np
import photos
import pictures
import pytest
import tables
import torch
import training
from finetune import finetune
from PIL import Image
from tables import Row
from torch import nn

from separable.errors import FileError
from separable.nn import convert, ledger

pytestmark = pytest.mark.docs

PAGE = Path(__file__).parents[2] / "docs" / "conversion.md"


def test_a_quick_run_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, numbers = tmp_path / "page.md", tmp_path / "a.json"
    page.write_text(f"Before.\n{tables.BEGIN}\nold\n{tables.END}\nAfter.\n")
    asked = ["--quick", "--seeds", "2", "--processes", "2", "--case", "vgg-digits"]
    asked += ["--json", str(numbers), "--markdown", str(page)]
    assert conversion.main(asked) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert max(map(len, printed.out.splitlines())) <= 80
    assert "VGG, digits (accuracy)" in printed.out

    rows = [Row(**r) for r in json.loads(numbers.read_text())["results"]]
    kept = tables.METHODS[:3]
    assert [(r.seed, r.method) for r in rows] == [
        (seed, method) for seed in (0, 1) for method in ("dense", *kept, "from scratch")
    ]
    dense = rows[0]
    for row in rows:
        assert 0 <= row.quality <= 1
        assert row.seconds >= 0
        assert row.multiplications <= 1.002 * row.budget * dense.multiplications
    text = page.read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("\nAfter.\n")
    assert "old" not in text
    assert tables.markdown(rows, {"vgg-digits": "VGG, digits (accuracy)"}) in text


def test_what_was_kept_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Volumes, quickly; then the same from the folder, where nothing can be trained."""
    asked = ["--quick", "--seeds", "1", "--case", "unet-volumes", "--checkpoint", str(tmp_path)]
    assert conversion.main(asked) == 0
    printed = capsys.readouterr().out
    assert "U-Net of volumes, tumours (Dice)" in printed
    monkeypatch.setattr(conversion.training, "train", None)
    assert conversion.main([*asked, "--processes", "2"]) == 0
    assert capsys.readouterr().out == printed
    with pytest.raises(TypeError, match="not callable"):  # another seed has to be trained
        conversion.main([*asked, "--first-seed", "1"])
    (kept,) = tmp_path.glob("*-quick.json")
    kept.write_text("{}")
    assert conversion.main(asked) == 2
    assert "holds no results of `conversion.py`; delete it" in capsys.readouterr().err


# Points of accuracy lost at a quarter of the multiplications, measured over seeds 0 to 5: mean and standard
# deviation. One image of the test is 0.17 points.
LOST = {"data-aware": (0.0276, 0.0143), "fine-tuned": (0.0156, 0.0034)}
SEEDS = (0, 1, 2)


def in_double(data: training.Data) -> training.Data:
    """The same samples in float64, in which a training ends alike on every processor."""
    parts = ((x.double(), y) for x, y in (data.train, data.test))
    return training.Data(*parts)


def test_trained_networks_keep_their_answers_at_a_quarter_of_the_cost() -> None:
    """The aim of the page in little, as a mean over seeds: no labels, 4x fewer multiplications."""
    case = replace(cases.CASES["vgg-digits"], width=12, steps=120, batch=32)
    small = replace(case, budgets=(0.25,), calibration=96, tuning=40)
    lost: dict[str, list[float]] = {name: [] for name in ("plain SVD", *LOST)}
    torch.set_default_dtype(torch.float64)
    try:
        for seed in SEEDS:
            data = in_double(pictures.digits(seed))
            run = conversion.Run(case.training({}), "dense", seed, case.steps)
            _, model = training.train(run, data, conversion.Ranks(), lambda steps, loss: None)
            before = {name: value.clone() for name, value in model.state_dict().items()}
            dense = conversion._judged(case, "dense", 1.0, model, data, seed, 0.0)
            assert dense.quality > 0.95
            for row in conversion.compare(small, model, data, seed):
                assert row.multiplications <= 0.251 * dense.multiplications
                lost[row.method].append(dense.quality - row.quality)
            assert all(torch.equal(v, before[name]) for name, v in model.state_dict().items())
    finally:
        torch.set_default_dtype(torch.float32)
    means = {name: float(np.mean(values)) for name, values in lost.items()}
    for name, (mean, deviation) in LOST.items():
        assert means[name] <= mean + 3 * deviation / len(SEEDS) ** 0.5, (name, lost)
    assert means["fine-tuned"] < means["data-aware"] < means["plain SVD"]


def test_finetuning_brings_the_outputs_back_and_leaves_the_original() -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(
        nn.Conv2d(2, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 4, 3), nn.Flatten()
    ).eval()
    images = torch.randn(40, 2, 7, 7)
    model, _ = convert(teacher, rank=1, repeats=0)
    kept = {name: value.clone() for name, value in teacher.state_dict().items()}
    means = model[1].running_mean.clone()
    seen: list[float] = []

    def missed() -> float:
        with torch.no_grad():
            return nn.functional.mse_loss(model(images), teacher(images)).item()

    before = missed()
    last = finetune(
        model, teacher, images, steps=80, batch=64, rate=1e-2, show=lambda n, x: seen.append(x)
    )
    assert missed() < 0.5 * before
    assert seen[0] == pytest.approx(before)  # one batch holds all 40
    assert (len(seen), seen[-1]) == (80, last)
    assert torch.equal(model[1].running_mean, means)
    assert all(torch.equal(value, kept[name]) for name, value in teacher.state_dict().items())
    again, _ = convert(teacher, rank=1, repeats=0)
    assert finetune(again, teacher, images, steps=80, rate=1e-2) == last


def test_no_pixel_of_the_test_is_in_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture whose pixels are their own addresses, cut without averaging."""
    image = np.arange(256 * 320, dtype=np.float64).reshape(256, 320)
    monkeypatch.setattr(pictures, "_grey", lambda name: image)
    monkeypatch.setattr(pictures, "PICTURES", ("one",))
    monkeypatch.setattr(pictures, "_cut", lambda regions, count, rng: regions)
    for seed in (0, 1):
        data = pictures.patches(seed)
        train, test = (set(part[0].flatten().tolist()) for part in (data.train, data.test))
        assert not train & test
        assert (len(train), len(test)) == (14 * 64 * 64, 6 * 64 * 64)  # of 4 x 5 tiles


def test_patches_are_means_of_the_picture() -> None:
    """Every patch is somewhere in a region, halved by averaging."""
    regions = np.random.default_rng(0).random((3, pictures.TILE, pictures.TILE))
    cut = pictures._cut(regions, 5, np.random.default_rng(1))
    side = pictures.SIDE
    spots = range(pictures.TILE - 2 * side + 1)
    halved = np.stack([
        region[y : y + 2 * side, x : x + 2 * side].reshape(side, 2, side, 2).mean((1, 3)).ravel()
        for region in regions for y in spots for x in spots
    ])  # fmt: skip
    for patch in cut.reshape(5, -1):
        assert np.abs(halved - patch).max(1).min() < 1e-12


# The networks of digits and of patches of pictures are built alike.
BUILT = ("resnet-digits", "vgg-digits", "unet-volumes")


@pytest.mark.parametrize("name", BUILT)
def test_the_widest_separable_network_of_a_budget(name: str) -> None:
    case = cases.CASES[name]
    shape = (1, 8, 8, 8) if name == "unet-volumes" else (1, 16, 16)
    limit = case.budgets[0] * cases.multiplications(case.network(case.width, True), shape)
    width = case.widest(shape, limit)
    assert cases.multiplications(case.network(width, False), shape) <= limit
    assert cases.multiplications(case.network(width + case.grain, False), shape) > limit


def test_multiplications_are_those_of_the_trained_network() -> None:
    """Norms in training take more, for their sums; a network in either mode counts the same."""
    model = cases.CASES["vgg-digits"].network(4, True)
    found = cases.multiplications(model.train(), (1, 16, 16))
    assert found == ledger(model.eval(), (1, 1, 16, 16)).total.multiplications
    assert found < ledger(model.train(), (1, 1, 16, 16)).total.multiplications


def test_separable_networks_have_only_separable_layers() -> None:
    for kind in (convnets.VGG, convnets.ResNet):
        wide = [m for m in kind(10, dense=False).modules() if isinstance(m, nn.Conv2d)]
        assert all(m.in_channels == 1 or m.groups > 1 or m.kernel_size == (1, 1) for m in wide)


# ---------------------------------------------------------------- any network of timm


class Colours(nn.Module):
    """A stand-in for a network of timm."""

    pretrained_cfg = {"input_size": (3, 16, 16), "crop_pct": 1.0, "mean": (0.5,) * 3, "std": (0.5,) * 3}  # fmt: skip  # noqa: RUF012

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3), nn.ReLU())
        self.head = nn.Linear(24, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean((2, 3)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of eight images of many sizes."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("ants", "bees")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for n in range(8):
            pixels = rng.integers(0, 100, (20 + n, 40 - n, 3)) + 100 * label
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / name / f"{n}.png")
    return tmp_path / "images"


@pytest.mark.parametrize(("classes", "quality"), [(2, "accuracy"), (5, "agreement")])
def test_a_network_of_timm(
    folder: Path,
    classes: int,
    quality: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = []

    def create_model(name: str, pretrained: bool = False) -> Colours:
        made.append((name, pretrained))
        torch.manual_seed(0)
        return Colours(classes)

    timm = types.SimpleNamespace(
        create_model=create_model,
        is_model=lambda n: n == "colours",
        list_models=lambda: ["colours"],
    )
    monkeypatch.setitem(conversion.sys.modules, "timm", timm)
    asked = ["--timm", "colours", "--images", str(folder), "--budget", "0.3", "--seeds", "2"]
    assert conversion.main(asked) == 0
    assert made == [("colours", True)]
    printed = capsys.readouterr()
    assert f"colours ({quality}" in printed.out
    assert (
        "dense: 1.000 ± 0.000 (2 seeds)" in printed.out
        if classes == 5
        else "dense: 0." in printed.out
    )


def test_images_become_what_the_network_wants(folder: Path) -> None:
    settings = {"crop_pct": 1.0, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    grey = folder / "grey.png"
    Image.new("L", (40, 20), 255).save(grey)
    image = photos.read_image(grey, (3, 16, 16), settings)
    assert image.shape == (3, 16, 16)
    assert torch.all(image == 1)
    assert photos.read_image(grey, (1, 8, 12), settings).shape == (1, 8, 12)
    labels = [label for _, label in photos.image_files(folder, 6)]
    assert labels.count(0) in (3, 4)
    assert len(labels) == 6


# ---------------------------------------------------------------- refusals


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    bad = {
        ("--json", str(tmp_path)): "`--json` must name a file in a folder that exists",
        ("--markdown", str(tmp_path / "no" / "a.md")): "`--markdown` must name a file in a folder",
        ("--timm", "resnet18"): "`--timm NAME` and `--images FOLDER` go together",
        ("--images", str(tmp_path)): "`--timm NAME` and `--images FOLDER` go together",
        ("--timm", "a", "--images", "b", "--case", "vgg-digits"): "`--case` names a network of",
    }
    for arguments, message in bad.items():
        assert conversion.main(["--quick", *arguments]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert message in told.err
    with pytest.raises(FileError, match=re.escape("`--images` must be a folder of images")):
        photos.image_files(tmp_path / "nowhere", 2)
    with pytest.raises(FileError, match=r"needs two images or more below .*; got 1"):
        photos.classified(Colours(2), tmp_path, 9, 0)
    with pytest.raises(FileError, match=r"broken\.png cannot be read \(UnidentifiedImageError\)"):
        photos.read_image(tmp_path / "broken.png", (3, 8, 8), {})
    (tmp_path / "page.md").write_text("no marks")
    with pytest.raises(FileError, match="has no lines `<!-- measured -->`"):
        tables.write_markdown(tmp_path / "page.md", [], {})


# ---------------------------------------------------------------- the page


def test_the_page_says_how_it_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    """The command on the page is one that the script takes; its seeds are those that are told."""
    page = PAGE.read_text(encoding="utf-8")
    line = next(x for x in page.splitlines() if "conversion.py --first-seed" in x)
    asked = conversion._options().parse_args(line.split("conversion.py ")[1].split())
    assert asked.markdown == Path("docs/conversion.md")
    assert f"seeds {asked.first_seed}, {asked.first_seed + 1} and {asked.first_seed + 2}" in page
    with pytest.raises(SystemExit):
        conversion._options().parse_args(["--first-seed", "-1"])
    assert "expected a whole number; got '-1'" in capsys.readouterr().err


def test_the_costs_on_the_page() -> None:
    """The page still gives the correct costs of dense networks and budgets."""
    text = PAGE.read_text(encoding="utf-8").split(tables.BEGIN, 1)[1].split(tables.END, 1)[0]
    savings: dict[tuple[str, float], str] = {}
    for name, case in cases.CASES.items():
        kind = name.split("-", 1)[0]
        shape = (1, 24, 24, 24) if name == "unet-volumes" else (1, 16, 16)
        model = case.network(case.width, True)
        dense = cases.multiplications(model, shape)
        part = text.split(f"### {case.title} ({case.quality})", 1)[1].split("###", 1)[0]
        size = sum(p.numel() for p in model.parameters())
        assert f"with {dense:,} multiplications, {size:,} parameters" in part
        lines = [line.split("|")[1:-1] for line in part.splitlines() if line.startswith("| ")][2:]
        assert len(lines) == len(case.budgets)
        for budget, line in zip(case.budgets, lines, strict=True):
            cost = int(line[0].replace(",", ""))
            assert 0.95 * budget * dense < cost <= 1.002 * budget * dense
            assert float(line[1]) == pytest.approx(dense / cost, abs=0.006)
            if (kind, budget) not in savings:  # built alike for all data
                widest = case.network(case.widest(shape, budget * dense), False)
                saving = dense / cases.multiplications(widest, shape)
                savings[kind, budget] = f"(÷ {saving:.2f})"
            assert savings[kind, budget] in line[-1]
