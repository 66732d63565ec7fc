"""Program: the steps of a network for one shape of input, run by one native call."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.nn.fused.kernel_plan import KernelPlan, RunTemplate, kernels
from separable.nn.fused.layer_tiling import up
from separable.nn.fused.program.memory_plan import Lifetime, places

__all__ = ["Buffer", "Place", "Program", "ProgramStep"]

RECORD_ALIGNMENT = 64
MEMORY, SCRATCH, TENSORS = range(3)
"""What offsets in records count from: the values between steps, the threads' scratch memory, the first of the tensors."""
SCRATCH_WORD = 6
MOST_TENSORS = 400
"""Largest number of tensors that a program reads and writes: they are listed in the head, one page."""


@dataclass(eq=False)
class Buffer:
    """Memory of a value.

    Attributes
    ----------
    size : int
        Bytes.
    tensor : int
        Index among the tensors that a call passes, or -1 for values between steps, which a program places itself.
    """

    size: int
    tensor: int = -1


@dataclass(frozen=True)
class Place:
    """An address in a buffer: a number of bytes after its start."""

    buffer: Buffer
    offset: int = 0


@dataclass(frozen=True)
class ProgramStep:
    """One step of a program.

    Attributes
    ----------
    plan : KernelPlan
    constants : mapping of int to int
        Addresses of weights and tables, by the word of the record that holds them.
    reads, writes : mapping of int to Place
        What the step reads and writes, by the word of the record that holds the address.
    """

    plan: KernelPlan
    constants: Mapping[int, int]
    reads: Mapping[int, Place]
    writes: Mapping[int, Place]


class Program(KernelPlan):
    """Steps with their records, memory and threads.

    Parameters
    ----------
    steps : sequence of ProgramStep
    tensors : int
        Number of tensors that a call passes.
    threads : int
        Number of threads that the plans of the steps were made for.
    """

    def __init__(self, steps: Sequence[ProgramStep], tensors: int, threads: int) -> None:
        self._compiled = kernels()
        super().__init__(np.dtype([("head", np.int64, self._compiled.constant("BASES") + 1)]))
        self.steps, self.tensors = tuple(steps), tensors
        self.threads = max((min(threads, s.plan.threads) for s in steps), default=1)
        self.function = self._compiled.address("run_program")
        self.scratch_size = up(max((s.plan.scratch_size for s in steps), default=0), 64)
        offsets, memory_size = self._offsets()
        self._write_template(offsets)
        # The memory of a run: counters, records, values between steps; then the scratch memory of the threads.
        self._counter_bytes = self._compiled.constant("COUNTER_BYTES") * (len(self.steps) + 1)
        self._at_values = up(self._counter_bytes + self._template.nbytes, 128)
        self.shared_size = up(self._at_values + memory_size, 128)

    @property
    def value_bytes(self) -> int:
        """Bytes that hold the values between steps."""
        return self.shared_size - self._at_values

    def _offsets(self) -> tuple[dict[Buffer, int], int]:
        """Place the values between steps."""
        found: dict[Buffer, list[int]] = {}
        for at, step in enumerate(self.steps):
            for place in (*step.reads.values(), *step.writes.values()):
                if place.buffer.tensor < 0:
                    span = found.setdefault(place.buffer, [at, at])
                    span[1] = at
        lifetimes = [Lifetime(buffer.size, *span) for buffer, span in found.items()]
        offsets, size = places(lifetimes)
        return dict(zip(found, offsets, strict=True)), size

    def _write_template(self, offsets: Mapping[Buffer, int]) -> None:
        """Write the records of all steps, with offsets where addresses change from run to run."""
        records, relocations, table, at = [], [], [], 0
        for step in self.steps:
            size = up(step.plan.words.nbytes, RECORD_ALIGNMENT) // 8
            record = np.zeros(size, np.int64)
            # The same scratch memory for a thread in all steps: one that comes late clears its own
            # while others are steps ahead.
            record[: step.plan.words.size] = step.plan.words_with_stride(self.scratch_size)
            for word, address in step.constants.items():
                record[word] = address
            for word, place in (*step.reads.items(), *step.writes.items()):
                inside = place.buffer.tensor < 0
                record[word] = place.offset + (offsets[place.buffer] if inside else 0)
                base = MEMORY if inside else TENSORS + place.buffer.tensor
                relocations.append((at + word, base))
            record[SCRATCH_WORD] = 0
            relocations.append((at + SCRATCH_WORD, SCRATCH))
            table.append((step.plan.function, at * 8))
            records.append(record)
            at += size
        self._template = np.concatenate(records)
        same = {
            "TEMPLATE": self._add_table(self._template),
            "TEMPLATE_BYTES": self._template.nbytes,
            "RELOCATIONS": self._add_table(np.array(relocations, np.int64)),
            "RELOCATION_COUNT": len(relocations),
            "STEPS": self._add_table(np.array(table, np.int64)),
            "STEP_COUNT": len(self.steps),
        }
        self._head = np.zeros(len(same), np.int64)
        for name, value in same.items():
            self._head[self._compiled.constant(name)] = value

    def template(self, constants: tuple[int, ...] = ()) -> RunTemplate:
        """Return the head of all runs on one input and one result."""
        at = len(self._head)
        words = np.zeros(at + 6, np.int64)
        words[:at] = self._head
        inside = (
            self._counter_bytes,
            0,
            self._at_values,
            self.shared_size,
        )  # as `fill` writes them
        relative = tuple((at + i, n) for i, n in enumerate(inside))
        return RunTemplate(words, at + 4, at + 5, relative, self._counter_bytes)

    def fill(self, words: NDArray[np.int64], source: Any, target: int, scratch: int) -> None:
        """Write the head of one run on tensors at the addresses `source`.

        Parameters
        ----------
        words : ndarray of int64
            Memory for the head.
        source : sequence of int
            Addresses of the tensors.
        target : int
            Not used: results are among the tensors.
        scratch : int
            Address of the memory of the run.
        """
        at = len(self._head)
        words[:at] = self._head
        # The words that change from run to run: addresses of records and counters, and what offsets count from.
        words[at : at + 4 + len(source)] = (
            scratch + self._counter_bytes, scratch, scratch + self._at_values,
            scratch + self.shared_size, *source,
        )  # fmt: skip
        ctypes.memset(scratch, 0, self._counter_bytes)
