"""Programs: the steps of a network one after the other on the same threads, with a barrier after each step.

The caller writes a *head*: addresses and sizes, its words are listed below. The memory
of a run begins with the *counters*, two cache lines for each step: those of its work items, and of the threads inside it.
The first thread that comes copies the records of all steps into the memory of the run and turns offsets into addresses;
then every thread calls every step. A step is complete when its work items are taken and no thread is inside any more,
so a thread that comes late is never waited for.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from separable.engine.compiled.jit import inline, stage
from separable.engine.compiled.sweep_params import invoke, move, set_word, word
from separable.engine.compiled.thread_pool import SPINS, atomic_add, atomic_load, give_way, pause
from separable.engine.compiled.work_items import RANGES_WORD

# Words of the head.
(
    TEMPLATE,
    TEMPLATE_BYTES,
    RELOCATIONS,
    RELOCATION_COUNT,
    STEPS,
    STEP_COUNT,
    RECORDS,
    COUNTERS,
    BASES,
) = range(9)
INSIDE = 8
"""Word of a step's counters that holds the number of threads inside the step."""
COUNTER_BYTES = 128
"""Bytes of the counters of one step."""
STEP_WORDS, RELOCATION_WORDS = 2, 2


@inline
def _wait_until(counters, index, value):
    """Wait until a word that other threads write has a value."""
    looks = 0
    while atomic_load(counters, index) != value:
        pause()
        looks += 1
        if looks > SPINS:
            give_way()


@inline
def _write_records(head):
    """Copy the records of all steps, and add to each offset in them the address that it counts from."""
    records, relocations = word(head, RECORDS), word(head, RELOCATIONS)
    move(records, word(head, TEMPLATE), word(head, TEMPLATE_BYTES))
    for i in range(word(head, RELOCATION_COUNT)):
        place = word(relocations, RELOCATION_WORDS * i)
        base = word(head, BASES + word(relocations, RELOCATION_WORDS * i + 1))
        set_word(records, place, word(records, place) + base)


@stage
def run_program(head, counter, thread):
    """Run all steps of a program as one thread of several; of ``counter`` only the number of ranges is used."""
    counters, records = word(head, COUNTERS), word(head, RECORDS)
    # The first lines of the counters belong to the records.
    if atomic_add(counters, 0, 1) == 0:
        _write_records(head)
        atomic_add(counters, INSIDE, 1)
    _wait_until(counters, INSIDE, 1)
    steps, ranges = word(head, STEPS), word(counter, RANGES_WORD)
    for s in range(word(head, STEP_COUNT)):
        function = word(steps, STEP_WORDS * s)
        record = records + word(steps, STEP_WORDS * s + 1)
        here = counters + COUNTER_BYTES * (s + 1)
        set_word(here, RANGES_WORD, ranges)  # every thread writes the same
        atomic_add(here, INSIDE, 1)
        invoke(function, (record, here, thread))
        # This thread found no work item left. Those that it did not take are complete when their threads have gone;
        # a thread that enters from now on finds none either.
        atomic_add(here, INSIDE, -1)
        _wait_until(here, INSIDE, 0)
