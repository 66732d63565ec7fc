"""Profiles of Hypothesis, and what all tests share."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Workers beside each other with as many threads each as there are processors wait for each other
# most of the time (60 times longer was seen): one thread for what reads this when it is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell ignores SIGINT for what it starts in the background, and children inherit that: tests send it to commands.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Compiled code is kept from one run to the next, and shared by the workers: its folder is named by the sources.
os.environ.setdefault("SEPARABLE_CACHE_DIR", str(Path(__file__).parents[1] / ".test-cache"))

# So is the bytecode of the sources: the tests start hundreds of processes, and each would compile them anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Compilers and file systems make first examples slow: no deadline on one example.
settings.register_profile(
    "quick", deadline=None, max_examples=40, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
settings.register_profile(
    "long", deadline=None, max_examples=10_000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("quick")


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No test reads or writes the user's cache: a shipped machine profile counts, as it is, not this computer."""
    from separable import machine

    folder = tmp_path_factory.mktemp("cache")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    profile = machine.nearest(
        machine.shipped_profiles(), machine.vector_bits(), "", machine.Primitives()
    )
    machine.record_primitives(profile.primitives)
    return folder


@pytest.fixture(autouse=True, scope="session")
def no_disk_is_waited_for() -> Iterator[None]:
    """Nothing is brought to the disk: no test cuts the power, and thousands of files are written.

    A descriptor that is not open is an error as before. Programs that tests start do flush.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            os, "fsync", lambda file: os.fstat(getattr(file, "fileno", lambda: file)()) and None
        )
        yield


@pytest.fixture(autouse=True)
def seeded() -> None:
    """No test depends on the random numbers that others have drawn before."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


# Modules whose tests share a set-up that takes up to half a minute.
FIRST = ("test_scipy_tests", "test_lessons", "test_published", "test_example_conversion")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with long set-ups: a worker steals the last tests of another one, so that these stay together."""
    order = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(FIRST)))


def pytest_collection_finish() -> None:
    """Leave what is imported and collected out of the collections of garbage to come: it stays to the end."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let everything be freed at the end: libraries complain of objects that are left."""
    gc.unfreeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-snapshots",
        action="store_true",
        help="write the printed texts anew; read the diff",
    )
