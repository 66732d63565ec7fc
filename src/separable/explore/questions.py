"""Questions of the page by name, answered in a worker process."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from numpy.typing import NDArray

from separable.borders import Border, Mode
from separable.explore import (
    curve_answers,
    kernel_answers,
    network_answers,
    picture_answers,
    pixel_answers,
    plan_answers,
    stack_answers,
)
from separable.explore.limits import InputError
from separable.explore.uploads import decode_image, decode_kernel
from separable.kernels import registered_kernels

__all__ = ["LASTING", "QUESTIONS", "UPLOADS", "Uploads", "answer", "names_of_uploads"]

Array = NDArray[Any]
Answer = dict[str, Any]

EXAMPLES = {
    "gaussian:2": "Gaussian, sigma 2",
    "sobel": "Sobel",
    "box:5": "Box, 5 x 5",
    "laplacian_of_gaussian:2": "Laplacian of Gaussian",
    "disk:7": "Disk of radius 7",
    "gabor:8,theta=45deg": "Gabor at 45 degrees",
    "motion:15,angle=30deg": "Motion blur at 30 degrees",
    "difference_of_gaussians:1,2": "Difference of Gaussians",
    "ball:3": "Ball of radius 3, three axes",
}
LASTING = frozenset(
    ("start", "ledger", "tradeoff", "audit")
)  # questions whose answers never change


@dataclasses.dataclass(frozen=True)
class Uploads:
    """Uploaded arrays that one question names."""

    arrays: Mapping[str, Array]

    def get(self, name: str) -> Array:
        """Return an array.

        Raises
        ------
        InputError
            If the upload was dropped.
        """
        if name not in self.arrays:
            raise InputError("that upload is no longer stored. Upload it again")
        return self.arrays[name]


def names_of_uploads(asked: Mapping[str, Any]) -> list[str]:
    """Return the names of the uploads that a question uses."""
    parts = (asked, asked.get("kernel"), asked.get("image"), asked.get("volume"))
    return [str(p["upload"]) for p in parts if isinstance(p, dict) and "upload" in p]


def answer(
    name: str, asked: bytes, arrays: Mapping[str, Array], mode: Border | None = None
) -> Answer:
    """Answer a question, or decode an upload.

    Parameters
    ----------
    name : str
        Key of `QUESTIONS` or `UPLOADS`.
    asked : bytes
        JSON object of a question, or content of an uploaded file.
    arrays : mapping
        Uploaded arrays that the question names.
    mode : Border, optional
        Border mode that the question names, as the server knows it.

    Raises
    ------
    SeparableError
        If the question cannot be answered; the message is shown on the page.
    """
    if name in UPLOADS:
        return UPLOADS[name](asked)
    question = json.loads(asked)
    if mode is not None:
        question["mode"] = mode
    return QUESTIONS[name](question, Uploads(arrays))


def _start(asked: Answer, uploads: Uploads) -> Answer:
    return {
        "kernels": {k.name: k.description for k in registered_kernels()},
        "examples": EXAMPLES,
        "pictures": picture_answers.SAMPLES,
        "volumes": stack_answers.VOLUMES,
        "volume_kernels": stack_answers.VOLUME_KERNELS,
        "networks": network_answers.network_names(),
        "tradeoffs": {name: name for name in network_answers.TRADEOFFS},
        "audits": network_answers.AUDITS,
    }


def _kernel(asked: Answer, uploads: Uploads) -> Answer:
    return kernel_answers.describe(kernel_answers.choose(asked, uploads))


def _filter(asked: Answer, uploads: Uploads) -> Answer:
    chosen = kernel_answers.choose(asked.get("kernel"), uploads)
    rank = _whole(asked, "rank", 1)
    return picture_answers.compare(chosen, _image(asked, uploads), rank, _mode(asked))


def _pixel(asked: Answer, uploads: Uploads) -> Answer:
    chosen = kernel_answers.choose(asked.get("kernel"), uploads)
    at = _whole(asked, "y", 0), _whole(asked, "x", 0)
    return pixel_answers.pixel(chosen, _image(asked, uploads), at, _mode(asked))


def _image(asked: Answer, uploads: Uploads) -> Array:
    """Return the picture that a question names."""
    name = asked.get("image")
    if isinstance(name, dict):
        return uploads.get(str(name.get("upload")))
    return picture_answers.sample(str(name))


def _whole(asked: Answer, name: str, default: int) -> int:
    value = asked.get(name, default)
    if not isinstance(value, int):
        raise InputError(f"`{name}` must be a whole number; got {value!r}")
    return value


def _mode(asked: Answer) -> Mode:
    """Return the border mode that a question names."""
    mode = asked.get("mode", "reflect")
    return mode if isinstance(mode, Border) else str(mode)


def _volume(asked: Answer, uploads: Uploads) -> Answer:
    chosen = kernel_answers.choose(asked.get("kernel"), uploads)
    return stack_answers.slices(chosen, _stack(asked, uploads), asked.get("slice"), _mode(asked))


def _volume_times(asked: Answer, uploads: Uploads) -> Answer:
    chosen = kernel_answers.choose(asked.get("kernel"), uploads)
    return stack_answers.volume_times(chosen, _stack(asked, uploads), _mode(asked))


def _stack(asked: Answer, uploads: Uploads) -> Array:
    """Return the volume that a question names."""
    name = asked.get("volume")
    if isinstance(name, dict):
        return uploads.get(str(name.get("upload")))
    return stack_answers.sample_volume(str(name))


def _plan(asked: Answer, uploads: Uploads) -> Answer:
    chosen = kernel_answers.choose(asked.get("kernel"), uploads)
    return plan_answers.plan_rows(
        chosen, asked.get("shape", ()), asked.get("dtype"), _mode(asked),
        asked.get("tol"), measure=bool(asked.get("measure")),
    )  # fmt: skip


def _without_uploads(work: Callable[[Answer], Answer], asked: Answer, uploads: Uploads) -> Answer:
    return work(asked)


def _take_kernel(content: bytes) -> Answer:
    return {"array": decode_kernel(content)}


def _take_image(content: bytes) -> Answer:
    image, note = decode_image(content)
    return {"array": image, "shape": list(image.shape), "note": note,
            "preview": picture_answers.preview(image)}  # fmt: skip


def _take_volume(content: bytes) -> Answer:
    volume, note = stack_answers.decode_volume(content)
    return {"array": volume, "shape": list(volume.shape), "note": note}


def _network(work: Callable[[str], Answer]) -> Callable[[Answer], Answer]:
    return lambda asked: work(str(asked.get("network")))


QUESTIONS: dict[str, Callable[[Answer, Uploads], Answer]] = {
    "start": _start,
    "kernel": _kernel,
    "filter": _filter,
    "pixel": _pixel,
    "plan": _plan,
    "volume": _volume,
    "volume_times": _volume_times,
    "sweep": partial(_without_uploads, curve_answers.sweep),
    "layer": partial(_without_uploads, network_answers.layer),
    "ledger": partial(_without_uploads, _network(network_answers.ledger_rows)),
    "tradeoff": partial(_without_uploads, _network(network_answers.tradeoff)),
    "audit": partial(_without_uploads, _network(network_answers.audited)),
}
UPLOADS: dict[str, Callable[[bytes], Answer]] = {
    "upload kernel": _take_kernel,
    "upload image": _take_image,
    "upload report": network_answers.report_of,
    "upload audit": network_answers.audit_of,
    "upload volume": _take_volume,
}
