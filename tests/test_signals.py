"""A signal that arrives in a finalizer, where Python drops the exception, still ends the command."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from separable.cli.signals import TerminatedError, ending_on_signals

ENDS = [(signal.SIGTERM, TerminatedError), (signal.SIGINT, KeyboardInterrupt)]


class Finalizer:
    """An object whose finalizer is running when a signal arrives."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)
        time.sleep(0)  # the handler runs here


def _waiting(number: signal.Signals) -> None:
    with ending_on_signals():
        Finalizer(number)
        while True:  # until the signal
            time.sleep(0.05)


@pytest.mark.parametrize(("number", "error"), ENDS)
def test_it_ends_the_block(number: signal.Signals, error: type[BaseException]) -> None:
    before = signal.getsignal(signal.SIGTERM), sys.unraisablehook
    with pytest.raises(error):
        _waiting(number)
    assert (signal.getsignal(signal.SIGTERM), sys.unraisablehook) == before
    time.sleep(0.05)  # nothing arrives afterwards


def test_other_errors_of_finalizers_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda problem: shown.append(problem.exc_value))

    class Broken:
        def __del__(self) -> None:
            raise ValueError("broken")

    with ending_on_signals():
        Broken()
    assert [str(e) for e in shown] == ["broken"]


ENDS_IN_A_FINALIZER = """
import signal, sys, time
number = int(sys.argv.pop())
from separable.plan import Plan
class Finalizer:
    def __del__(self):
        signal.raise_signal(number)
        time.sleep(0)
def call(self, *arguments, **options):
    Finalizer()
    while True:  # until the signal
        time.sleep(0.05)
Plan.__call__ = call
from separable.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [(signal.SIGINT, 130, "Error: interrupted; nothing was written\n"), (signal.SIGTERM, 143, "")],
)
def test_it_ends_a_command(tmp_path: Path, number: signal.Signals, code: int, message: str) -> None:
    np.save(tmp_path / "in.npy", np.ones((50, 50), np.float32))
    arguments = ["filter", "in.npy", "out.npy", "-k", "box:3", str(int(number))]
    ended = subprocess.run(
        [sys.executable, "-c", ENDS_IN_A_FINALIZER, *arguments],
        cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", message)
    assert [p.name for p in tmp_path.iterdir()] == ["in.npy"]
