"""Fused networks that have run are saved, copied and given to workers: packed weights stay behind."""

from __future__ import annotations

import copy
import gc
import io
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sent_networks = pytest.importorskip("sent_networks")

from separable.engine.availability import available  # noqa: E402
from separable.nn.fused import fused_modules, spatial_pair  # noqa: E402
from separable.process_cache import ProcessCache  # noqa: E402

pytestmark = pytest.mark.apart

PROGRAM = Path(__file__).with_name("sent_networks.py")


def saved(net: Any) -> Any:
    held = io.BytesIO()
    torch.save(net, held)
    held.seek(0)
    return torch.load(held, weights_only=False)


def pickled(net: Any) -> Any:
    return pickle.loads(pickle.dumps(net))


def test_every_fused_module_is_sent() -> None:
    found = {type(m) for net, _ in sent_networks.networks().values() for m in net.modules()}
    public = (getattr(fused_modules, name) for name in fused_modules.__all__)
    kinds = [value for value in public if isinstance(value, type)] + [spatial_pair.FusedPair]
    assert {kind for kind in kinds if kind is not fused_modules.Fused} <= found


@pytest.mark.parametrize("ways", [(saved, pickled, copy.deepcopy), (copy.copy,)])
def test_copies_outlive_the_network(ways: Any) -> None:
    values, others = sent_networks.ran(), {}
    for name in list(values):
        net, x, expected = values.pop(name)
        assert packed(net) or name in ("layer", "other") or not available()
        for again in ways:
            others[name, again.__name__] = again(net), x, expected
            if again is not copy.copy:  # a shallow copy has the very submodules of the original
                assert not packed(others[name, again.__name__][0])
        del net
    gc.collect()
    with torch.no_grad():
        for which, (other, x, expected) in others.items():
            assert torch.equal(other(x), expected), which


def packed(net: Any) -> list[Any]:
    """All that is kept for this process anywhere in a network."""
    owners = [vars(m) for m in net.modules()]
    owners += [vars(o["forward"]) for o in owners if "forward" in o]  # programs
    kept = [v for owner in owners for v in owner.values() if isinstance(v, ProcessCache)]
    return [record for cache in kept for record in cache.values()]


def test_saved_networks_do_not_grow_by_running() -> None:
    for name, (net, x) in sent_networks.networks().items():
        before = pickle.dumps(net)
        with torch.no_grad():
            net(x[..., :-4])  # a size that fusing has not seen
        assert pickle.dumps(net) == before, name


def test_a_fresh_interpreter_gives_the_same_bits(tmp_path: Path) -> None:
    values = sent_networks.ran()
    torch.save(values, tmp_path / "networks.pt")
    code = (
        "import sys, torch; values = torch.load(sys.argv[1], weights_only=False); "
        "torch.set_num_threads(int(sys.argv[2])); torch.set_grad_enabled(False); "
        "print([n for n, (net, x, y) in values.items() if not torch.equal(net(x), y)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "networks.pt", str(torch.get_num_threads())],
        capture_output=True, text=True, timeout=1000,
    )  # fmt: skip
    assert done.stdout.strip() == "[]", done.stderr[-2000:]


@pytest.fixture(scope="module")
def loaded() -> dict[str, str]:
    """Return what one process found whose loaders started their workers in all ways; it may have crashed."""
    starts = [s for s in ("fork", "spawn") if s in multiprocessing.get_all_start_methods()]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *starts], capture_output=True, text=True, timeout=1000
    )
    found = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    return {start: found.get(start, done.stderr[-2000:]) for start in starts}


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_a_loader_give_the_same_bits(start: str, loaded: dict[str, str]) -> None:
    if start not in loaded:
        pytest.skip(f"this system cannot start processes by {start}")
    assert loaded[start] == "the same"
