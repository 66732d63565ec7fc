"""A program that sends values which have run to other processes; started by the tests."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sent_values

Results = list[Any]


def by_pool(start: str) -> Callable[[Any], Results]:
    def send(chosen: Any) -> Results:
        with multiprocessing.get_context(start).Pool(1) as pool:
            return [pool.apply(case.value, (case.image,)) for case in chosen]

    return send


def by_joblib(chosen: Any) -> Results:
    import joblib

    jobs = (joblib.delayed(case.value)(case.image) for case in chosen)
    return list(joblib.Parallel(n_jobs=2, backend="loky")(jobs))


def by_dask(chosen: Any) -> Results:
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=True, dashboard_address=":0",
            silence_logs="CRITICAL",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):  # fmt: skip
        futures = [client.submit(case.value, case.image) for case in chosen]
        return list(client.gather(futures))


def by_cloudpickle(chosen: Any) -> Results:
    import cloudpickle

    calls = [lambda case=case: case.value(case.image) for case in chosen]
    code = (
        "import pickle, sys; calls = pickle.load(sys.stdin.buffer); "
        "sys.stdout.buffer.write(pickle.dumps([call() for call in calls]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=cloudpickle.dumps(calls), capture_output=True,
        cwd=Path(__file__).parent, check=True,
    )  # fmt: skip
    return list(pickle.loads(done.stdout))


WAYS = {
    "fork": by_pool("fork"),
    "spawn": by_pool("spawn"),
    "forkserver": by_pool("forkserver"),
    "loky": by_joblib,
    "dask": by_dask,
    "cloudpickle": by_cloudpickle,
}


def main(*ways: str) -> None:
    """Print, way by way, the names of the values whose results differ elsewhere, or "the same"."""
    warnings.simplefilter("ignore")
    if ways[0] == "load":
        wrong = sent_values.different(pickle.loads(Path(ways[1]).read_bytes()))
        print(", ".join(wrong) or "the same")
        return
    chosen = sent_values.some()
    for way in ways:
        pairs = zip(chosen, WAYS[way](chosen), strict=True)
        wrong = [c.name for c, r in pairs if np.asarray(r).tobytes() != c.expected]
        print(way, ", ".join(wrong) or "the same", sep=": ", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
