"""Worker processes of the page: started on demand, killed when their client is gone."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import separable
from separable.borders import Border
from separable.errors import SeparableError
from separable.system import group_of_its_own

__all__ = ["EndedError", "FailedError", "Job", "Workers"]

# Import modules from the same folders as the server, but never from the current folder.
COMMAND = "import sys; sys.path[:] = {path!r}; from separable.explore.worker import main; main()"


class EndedError(Exception):
    """A computation was ended because its client is gone."""


class FailedError(Exception):
    """A worker met a bug of the program; the text is its traceback."""


class MistakeError(SeparableError):
    """A question that cannot be answered; the message is shown on the page."""


class Job:
    """One question to a worker.

    Parameters
    ----------
    name : str
    asked : bytes
        A question as JSON, or an uploaded file.
    arrays : dict of str to ndarray, optional
        Uploaded arrays that the question names.
    key : str
        Cache key of the answer if it never changes; else empty.
    mode : Border, optional
        Border mode that the question names.
    """

    def __init__(
        self,
        name: str,
        asked: bytes,
        arrays: dict[str, Any] | None = None,
        key: str = "",
        mode: Border | None = None,
    ) -> None:
        self.key = key
        self.question = (name, asked, arrays or {}, mode)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self.ended = False

    def begin(self, process: subprocess.Popen[bytes]) -> None:
        """Record the process that runs the job.

        Raises
        ------
        EndedError
            If the job was ended before.
        """
        with self._lock:
            if self.ended:
                raise EndedError
            self._process = process

    def finish(self) -> None:
        """Record that the job has run: the process may run another job from now on."""
        with self._lock:
            self._process = None

    def end(self) -> None:
        """End the job, also in the middle of a computation."""
        with self._lock:
            self.ended = True
            if self._process is not None:
                self._process.kill()


class Workers:
    """Pool of worker processes, idle or working on one question each."""

    def __init__(self) -> None:
        self._idle: list[subprocess.Popen[bytes]] = []
        self._all: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._closing = weakref.finalize(self, _close, self._all)

    def run(self, job: Job) -> Any:
        """Run a job; block until it is done or ended.

        Raises
        ------
        MistakeError
            If the question cannot be answered.
        EndedError
            If `Job.end` was called.
        FailedError
            If the worker met a bug of the program, or died.
        """
        process = self._take()
        try:
            job.begin(process)
            status, reply = _exchange(process, job)
            job.finish()
        except BaseException:
            self._drop(process)
            if not self._closing.alive:
                raise EndedError from None
            raise
        with self._lock:
            self._idle.append(process)
        if status == "mistake":
            raise MistakeError(reply)
        if status == "failed":
            raise FailedError(reply)
        return reply

    def close(self) -> None:
        """End all processes."""
        self._closing()

    def _take(self) -> subprocess.Popen[bytes]:
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                if process.poll() is None:
                    return process
                self._all.discard(process)
            process = _started()
            self._all.add(process)
            return process

    def _drop(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._all.discard(process)
        _end(process)


def _started() -> subprocess.Popen[bytes]:
    here = str(Path(separable.__file__).resolve().parent.parent)
    path = [here, *(p for p in sys.path if p)]
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(path=path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **group_of_its_own(),  # Ctrl-C is for the server alone
    )


def _exchange(process: subprocess.Popen[bytes], job: Job) -> tuple[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        pickle.dump(job.question, process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
        process.stdin.flush()
        status, reply = pickle.load(process.stdout)
    except (OSError, EOFError, pickle.UnpicklingError) as problem:
        if job.ended:
            raise EndedError from None
        raise FailedError(f"a worker died: exit status {process.poll()}") from problem
    return status, reply


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:  # a question that was not sent completely
                continue
    process.wait()


def _close(processes: set[subprocess.Popen[bytes]]) -> None:
    for process in list(processes):
        _end(process)
    processes.clear()
