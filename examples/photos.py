"""Images of a folder, prepared for a network of timm: resized, cropped, normalised."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn
from training import Data, chance

from separable.errors import FileError
from separable.nn.models import sample_shape

__all__ = ["classified", "image_files", "read_image"]

ENDINGS = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


def classified(
    model: nn.Module, folder: Path, count: int, seed: int, batch: int = 16
) -> tuple[Data, str]:
    """Return images, half of them for the test, and the measure of quality.

    If there are as many folders as the network has outputs, they are its classes (sorted by name)
    and the quality is accuracy; otherwise the targets are the network's own classes.

    Raises
    ------
    FileError
        If there are fewer than two images, or one cannot be read.
    """
    files = image_files(folder, count)
    if len(files) < 2:
        raise FileError(f"`--images` needs two images or more below {folder}; got {len(files)}")
    shape = sample_shape(model)
    settings = getattr(model, "pretrained_cfg", None) or {}
    images = torch.stack([read_image(file, shape, settings) for file, _ in files])
    with torch.inference_mode():
        answers = torch.cat([model.eval()(part) for part in images.split(batch)])
    known = len(_classes(folder)) == answers.shape[1]
    targets = torch.tensor([label for _, label in files]) if known else answers.argmax(1)
    order = torch.randperm(
        len(files), generator=torch.Generator().manual_seed(chance(seed, len(files)))
    )
    train, test = order[: len(order) // 2], order[len(order) // 2 :]
    data = Data((images[train], targets[train]), (images[test], targets[test]))
    return data, "accuracy" if known else "agreement with the original"


def image_files(folder: Path, count: int) -> list[tuple[Path, int]]:
    """Return at most `count` images with their class numbers, evenly spaced among all images.

    Raises
    ------
    FileError
        If the folder does not exist.
    """
    if not folder.is_dir():
        raise FileError(f"`--images` must be a folder of images; got {folder}")
    classes = _classes(folder)
    label = {name: number for number, name in enumerate(classes)}
    found = [
        (path, label.get(path.relative_to(folder).parts[0], 0))
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in ENDINGS and path.is_file()
    ]
    chosen = np.linspace(0, len(found), min(count, len(found)), endpoint=False).astype(int)
    return [found[i] for i in chosen]


def _classes(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def read_image(path: Path, shape: tuple[int, ...], settings: Mapping[str, Any]) -> Tensor:
    """Return an image of a shape ``(channels, y, x)``: its centre, with mean 0 and standard deviation 1.

    Raises
    ------
    FileError
        If the file is not a readable image.
    """
    channels, height, width = shape
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB" if channels == 3 else "L")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as problem:
        raise FileError(f"the image {path} cannot be read ({type(problem).__name__})") from problem
    share = float(settings.get("crop_pct") or 0.875)
    scale = max(height / image.height, width / image.width) / share
    size = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    cut = image.crop((left, top, left + width, top + height))
    pixels = np.asarray(cut, np.float32).reshape(height, width, channels) / 255
    mean = np.asarray(settings.get("mean") or MEAN, np.float32)[:channels]
    deviation = np.asarray(settings.get("std") or DEVIATION, np.float32)[:channels]
    return torch.from_numpy((pixels - mean) / deviation).movedim(2, 0)
