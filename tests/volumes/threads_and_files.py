"""Threads that filter files while other threads open and close files of their own.

A program of its own, for a descriptor that is closed twice hits whatever the process has open: run in
an empty folder with the number of seconds; it prints what was seen, and how often, as JSON.
"""

from __future__ import annotations

import collections
import json
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np

import separable as sep
from separable import files, volumes

COUNT = 6
KERNEL = np.ones((3, 3, 3)) / 27
SUFFIXES = (".npy", ".npy", ".npy", ".npy", ".nii", ".tif")


def stress(seconds: float) -> dict[str, int]:
    """Filter files in six threads, and use others in two; count what happens."""
    rng = np.random.default_rng(0)
    inputs = [rng.random((24, 24, 24)).astype("f4") for _ in range(COUNT)]
    wanted = [sep.convolve(x, KERNEL, method="separable") for x in inputs]
    names = [f"{i}{suffix}" for i, suffix in enumerate(SUFFIXES)]
    for name, values in zip(names, inputs, strict=True):
        files.write_image(f"in{name}", values)
    before = {name: Path(f"in{name}").read_bytes() for name in names}
    seen: collections.Counter[str] = collections.Counter()
    end = time.monotonic() + seconds

    def filtering(i: int) -> None:
        name = names[i]
        while True:  # once at least
            try:
                volumes.filter(
                    f"in{name}",
                    f"out{name}",
                    KERNEL,
                    overwrite=True,
                    method="separable",
                    nodata="none",
                )
                same = np.array_equal(files.read_image(f"out{name}")[0], wanted[i])
                seen["right" if same else "wrong"] += 1
            except Exception as error:
                seen[f"{type(error).__name__}: {error}"] += 1
            if time.monotonic() > end:
                return

    def others(i: int) -> None:
        """Keep a file open for a moment, by its descriptor and as a file of Python."""
        path, turn = Path(f"theirs{i}"), 0
        while turn == 0 or time.monotonic() < end:
            turn += 1
            text = f"{i} {turn}".encode()
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            try:
                at = os.fstat(number).st_ino
                os.write(number, text)
                with path.open("rb") as file:
                    time.sleep(0.001)
                    kept = file.read() == text and os.fstat(number).st_ino == at
                seen["kept" if kept and os.path.getsize(path) == len(text) else "lost"] += 1
                os.close(number)
            except OSError as error:
                seen[f"lost: {error}"] += 1

    jobs = [threading.Thread(target=filtering, args=(i,)) for i in range(COUNT)]
    jobs += [threading.Thread(target=others, args=(i,)) for i in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    damaged = [name for name in names if Path(f"in{name}").read_bytes() != before[name]]
    seen.update({"damaged inputs": len(damaged)} if damaged else {})
    return dict(seen)


if __name__ == "__main__":
    print(json.dumps(stress(float(sys.argv[1]))))
