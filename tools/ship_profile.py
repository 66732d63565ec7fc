"""Measure the profiles in the package anew, or derive one from published figures.

    python tools/ship_profile.py avx512_amd_zen4        # AVX-512, on AMD Zen 4
    NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=+avx,+avx2,+f16c,+fma python tools/ship_profile.py avx2
    SEPARABLE_VECTOR_BITS=128 NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=+avx,+avx2,+f16c,+fma \
        python tools/ship_profile.py neon

The profile of Intel's AVX-512 is derived from that of AMD Zen 4, each time that one is measured.
The computer must be quiet: everything is measured several times, and the shortest times count. Measure the
profiles one after the other, on one computer in one session.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from separable import calibrate
from separable.engine.compile_ahead import warmup
from separable.machine import Machine, Primitives, vector_bits

DATA = Path(calibrate.__file__).parent / "data"
TITLES = {
    "avx512_amd_zen4": "AMD Zen 4, AVX-512",
    "avx512_intel": "Intel, AVX-512",
    "avx2": "AVX2",
    "neon": "vectors of 128 bits",
}
BITS = {"avx2": 256, "neon": 128}
NOTES = {
    "avx2": "Measured on AMD Zen 4 with the compiled engine limited to AVX2.",
    "neon": "Measured on AMD Zen 4 with the compiled engine limited to vectors of 128 bits, in place of NEON.",
    "avx512_intel": (
        "Derived, not measured: the rates of AMD Zen 4, adjusted by the primitives of an Intel Emerald Rapids "
        "server (116 GFLOP/s of multiply-adds per thread, 77 with an addition beside each; copies of 31 to 45 GB/s "
        "past the caches, 18 to 23 through them, read and written). Primitives that were not published are those of AMD Zen 4."
    ),
}  # fmt: skip
# Seconds per multiply-add (two operations), and per byte copied (read and written) by one of two threads.
INTEL = {
    "fma": 2 / 116e9,
    "folded_fma": 2 / 77e9,
    "copy": 2 * 2 / 20.5e9,
    "stream_copy": 2 * 2 / 38e9,
}


def measured(name: str, rounds: int) -> Machine:
    """Measure this computer."""
    wanted = BITS.get(name, 512)
    if vector_bits() != wanted:
        raise SystemExit(f"{name} needs vectors of {wanted} bits; here they have {vector_bits()}")
    warmup()
    return calibrate.measure(rounds=rounds)


def derived(base: Machine) -> Machine:
    """Derive the rates of an Intel processor from those of an AMD processor and published primitives."""
    here = replace(base.primitives, **INTEL)
    rounded = Primitives.from_dict(here.to_dict())
    found = base.adjusted(rounded)
    rates = {
        m: {d: {k: float(f"{v:.4g}") for k, v in r.items()} for d, r in t.items()}
        for m, t in found.rates.items()
    }
    return replace(found, rates=rates, processor="Intel Emerald Rapids")


def main() -> None:
    """Write one profile."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile", choices=("avx512_amd_zen4", "avx2", "neon"))
    parser.add_argument("--rounds", type=int, default=4)
    chosen = parser.parse_args()
    made = measured(chosen.profile, chosen.rounds)
    write(chosen.profile, made, "measured")
    if chosen.profile == "avx512_amd_zen4":
        # From the file: its rates are rounded.
        saved = json.loads((DATA / f"{chosen.profile}.json").read_text())
        write("avx512_intel", derived(Machine.from_dict(saved)), "derived")


def write(name: str, profile: Machine, how: str) -> None:
    """Write a profile, named by the processor and the date."""
    threads = f"{profile.threads} thread{'s' if profile.threads > 1 else ''}"
    title = f"{TITLES[name]}, {threads}, {how} {time.strftime('%Y-%m-%d')}"
    replace(profile, name=title, notes=NOTES.get(name, "")).save(DATA / f"{name}.json")
    print(f"{title}: written to {DATA / name}.json")


if __name__ == "__main__":
    main()
