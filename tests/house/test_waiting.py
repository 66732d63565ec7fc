"""Tests wait for a condition and not for a time, and none of their limits fails on a busy machine.

The text of the tests is read, with that of the programs that they start. What a line needs all the same it
says in `ALLOWED`, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
# Seconds of a sleep between two looks at a condition, or between two steps of a program that is interrupted.
SHORT = 0.05
PATIENT = 300
NUMBER = r"(\d[\d_]*(?:\.\d+)?)"

ALLOWED: dict[tuple[str, str], str] = {
    ("compiled/test_compiled_threads.py", "time.sleep(0.1)"): (
        "the processor time of threads that sleep is counted meanwhile, again and again until it is none"
    ),
    ("explore/test_explore_guards.py", "time.sleep(0.5)"): (
        "looks twice until the processor time of a server no longer grows"
    ),
    ("values/test_process_cache.py", "time.sleep(0.2)"): (
        "longer than a fork takes to begin; the fork is right in any case"
    ),
    ("nn/test_layer_times.py", "random.uniform("): "of a generator with a seed",
    ("volumes/test_cluster.py", "timeout=1.0"): "nobody is there to answer",
    ("volumes/test_cluster.py", "getsockname()[1]"): "it is kept, and nobody listens there",
}


SLEEP = rf"\b(?:time|asyncio)\.sleep\({NUMBER}\)"
SLEEP_OF_A_PAGE = r"\bwait_for_timeout\("
LIMIT = rf"\b(?:timeout ?= ?|join\(|wait\(|monotonic\(\) \+ ){NUMBER}\b"
CLOCK = rf"assert [^\n]*\b(?:monotonic|perf_counter|process_time|time\.time)\(\)[^\n]*< *{NUMBER}"
UNSEEDED = (
    r"\bdefault_rng\(\)|\brandom\.Random\(\)"
    r"|\bnp\.random\.(?:rand|randn|randint|random|normal|uniform|choice|shuffle)\("
    r"|(?<!np\.)\brandom\.(?:randint|choice|shuffle|uniform|gauss)\("
)
SHARED = r"gettempdir\(|\bmktemp\(\)|[\"']/tmp/|--port[\"', ]+[1-9]\d*|getsockname\(\)\[1\]"
INHERITED = r"\bru_maxrss\b"


def sources() -> Iterator[tuple[str, str]]:
    """Yield the name below `tests` and the text of every module, but for this one."""
    for path in sorted(TESTS.rglob("*.py")):
        if path != Path(__file__):
            yield path.relative_to(TESTS).as_posix(), path.read_text(encoding="utf-8")


def found(pattern: str, below: float = 0.0, above: float = 0.0) -> list[str]:
    """Return where a pattern matches and is not allowed, with a number below or above a limit if one is given."""
    wrong = []
    for name, text in sources():
        for match in re.finditer(pattern, text):
            number = float(match[1].replace("_", "")) if below or above else 0.0
            if (below and not 0 < number < below) or (above and number <= above):
                continue
            if (name, match[0]) not in ALLOWED:
                wrong.append(f"{name}: {match[0]}")
    return wrong


def test_no_sleep_stands_for_a_condition() -> None:
    """A step that takes longer than the sleep, which a busy machine makes likely, fails the test."""
    assert not found(SLEEP, above=SHORT), "wait for an event, or look every few milliseconds"
    assert not found(SLEEP_OF_A_PAGE), "`wait_for_selector`, or `patient_pages.at_rest`"


def test_limits_of_waiting_are_generous() -> None:
    """They only end a test that hangs: minutes, where seconds are usual."""
    assert not found(LIMIT, below=PATIENT), f"wait for {PATIENT} seconds at least"


def test_no_time_is_compared_with_a_short_limit() -> None:
    """The processor time of this thread alone is: `cpu_limit`."""
    assert not found(CLOCK, below=PATIENT), "use `cpu_limit`"


def test_random_numbers_are_seeded() -> None:
    """A test that fails once in a hundred runs is a test that nobody believes."""
    assert not found(UNSEEDED), "draw from `np.random.default_rng(0)`"


def test_names_and_ports_are_not_shared() -> None:
    """Two runs beside each other, and what others have left, must not meet."""
    assert not found(SHARED), "use `tmp_path`, and port 0"


def test_peaks_of_memory_are_those_of_the_process() -> None:
    """A child inherits `ru_maxrss` of the process that started it, so that nothing seems to be added to it."""
    wrong = [
        name
        for name, text in sources()
        for match in re.finditer(INHERITED, text)
        if text[: match.start()].count('"""') % 2  # within the text of a program
    ]
    assert not wrong, "use `separable.system.peak_memory`"


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (SLEEP, "time.sleep(0.3)"),
        (SLEEP, "await asyncio.sleep(60)"),
        (SLEEP_OF_A_PAGE, "page.wait_for_timeout(100)"),
        (LIMIT, "process.communicate(timeout=30)"),
        (LIMIT, "go_on.wait(60)"),
        (LIMIT, "worker.join(60)"),
        (LIMIT, "end = time.monotonic() + 120"),
        (CLOCK, "assert time.process_time() - start < 0.5  # each"),
        (CLOCK, "assert time.monotonic() - start < 100"),
        (UNSEEDED, "np.random.default_rng()"),
        (UNSEEDED, "np.random.rand(3)"),
        (UNSEEDED, "random.shuffle(order)"),
        (SHARED, '"--port", "8765"'),
        (SHARED, 'Path("/tmp/out.npy")'),
        (INHERITED, "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss"),
    ],
)
def test_the_patterns_find_what_they_are_for(pattern: str, text: str) -> None:
    assert re.search(pattern, text)


@pytest.mark.parametrize("case", list(ALLOWED))
def test_what_is_allowed_is_still_there(case: tuple[str, str]) -> None:
    name, text = case
    assert text in (TESTS / name).read_text(encoding="utf-8")
