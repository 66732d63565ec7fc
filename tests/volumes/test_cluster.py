"""Many machines: a real cluster of worker processes, of which one is killed half-way."""

from __future__ import annotations

import os
import signal
import socket
import time

import numpy as np
import pytest

import separable as sep
from separable import volumes
from separable.errors import ArgumentError, ArgumentTypeError, ClusterError, FileError
from separable.system import resident_memory
from separable.volumes import cluster, dask_schedule
from separable.volumes.filter_file import Run

distributed = pytest.importorskip("distributed")
zarr = pytest.importorskip("zarr")
da = pytest.importorskip("dask.array")

# The cluster's own threads and sockets end when they like.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SHAPE = (96, 64, 80)
KERNEL = sep.kernels.gaussian(1.5, ndim=3)


@pytest.fixture(scope="module")
def client():
    in_memory(np.zeros((30, 40, 50), np.float32), mode="wrap", threads=1)  # both workers need it
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0",
            silence_logs="CRITICAL",
        ) as local,
        distributed.Client(local, set_as_default=False) as found,
    ):  # fmt: skip
        found.run(__import__, "separable.volumes.cluster")
        yield found


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.zarr"
    image = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    zarr.create_array(str(path), shape=SHAPE, chunks=(24, 32, 40), dtype="float32")[:] = image
    return path, image


def in_memory(image, **options):
    return sep.convolve(image, KERNEL, method="separable", **options)


class Halt(Exception):
    """Exception with which a test ends a run."""


def kill_one(client):
    pid = next(iter(client.run(os.getpid).values()))
    os.kill(pid, signal.SIGKILL)
    return pid


@pytest.mark.parametrize("mode", ["wrap", "reflect"])
def test_a_killed_worker_changes_nothing(client, source, tmp_path, mode):
    path, image = source
    target = tmp_path / "out.zarr"
    client.wait_for_workers(2)  # one may be on its way back
    done, killed = [], []

    def progress(part):
        done.append(part)
        if sum(done) > 0.4 and not killed:
            killed.append(kill_one(client))

    schedule = volumes.filter(path, target, KERNEL, mode=mode, client=client, progress=progress)
    assert killed
    assert schedule.slabs >= 8
    assert sum(done) == pytest.approx(1.0)
    np.testing.assert_array_equal(zarr.open(str(target))[:], in_memory(image, mode=mode))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.zarr", "out.zarr"]


def test_a_mask_travels_by_its_name(client, source, tmp_path):
    path, _ = source
    mask = np.random.default_rng(1).random(SHAPE) > 0.4
    zarr.create_array(str(tmp_path / "mask.zarr"), data=mask, chunks=(50, 20, 80))
    for number, given in enumerate((tmp_path / "mask.zarr", mask)):
        target = tmp_path / f"{number}.zarr"
        volumes.filter(path, target, KERNEL, client=client, mask=given, mode="wrap")
        alone = tmp_path / "alone.zarr"
        volumes.filter(path, alone, KERNEL, mask=mask, mode="wrap", overwrite=True)
        np.testing.assert_array_equal(zarr.open(str(target))[:], zarr.open(str(alone))[:])


@pytest.mark.parametrize("resumed_on", ["the cluster", "one machine"])
def test_an_interrupted_run_resumes_on_a_cluster(client, source, tmp_path, resumed_on):
    path, image = source
    target = tmp_path / "out.zarr"
    done = []

    def halt(part):
        done.append(part)
        if sum(done) > 0.4:
            raise Halt

    with pytest.raises(Halt):
        volumes.filter(path, target, KERNEL, client=client, progress=halt)
    assert not target.exists()
    assert (tmp_path / "out.zarr.partial").exists()
    again = []
    on = client if resumed_on == "the cluster" else None
    with Run(path, target, KERNEL, client=on) as run:
        assert 0 < run.resumed < run.schedule.slabs
        run(again.append)
    assert again[0] == pytest.approx(sum(done))
    np.testing.assert_array_equal(zarr.open(str(target))[:], in_memory(image))


def test_a_run_of_one_machine_resumes_on_a_cluster(client, source, tmp_path):
    path, image = source
    target = tmp_path / "out.zarr"

    def halt(part):
        raise Halt

    limit = resident_memory() * 21 // 20 + (180 << 20)
    with pytest.raises(Halt):
        volumes.filter(path, target, KERNEL, memory=limit, progress=halt)
    volumes.filter(path, target, KERNEL, memory="64GiB", client=client)
    np.testing.assert_array_equal(zarr.open(str(target))[:], in_memory(image))


def test_slabs_are_made_of_whole_chunks_and_few_are_in_flight(
    client, source, tmp_path, monkeypatch
):
    path, _ = source
    flying = []
    submit = client.submit
    monkeypatch.setattr(
        client, "submit", lambda *a, **k: flying.append(k["key"]) or submit(*a, **k)
    )
    with Run(path, tmp_path / "out.zarr", KERNEL, client=client, chunks=(16, 32, 40)) as run:
        (stage,) = run.schedule.stages
        assert all(
            s % c == 0 or s == n for s, c, n in zip(stage.sides, (16, 32, 40), SHAPE, strict=True)
        )
        most = []
        run(lambda part: most.append(len(flying) - len(most)))
    assert max(most) <= 2 * cluster.AHEAD + 2


def test_workers_read_with_the_halo_of_the_slab(source):
    path, image = source
    with volumes.filter_file.open_source(path) as opened:
        made = sep.plan(KERNEL, SHAPE, "float32", mode="wrap", method="separable")
        whole = volumes.halo.block_filter(made)
        block = whole.block((slice(0, 24), slice(32, 64), slice(0, 80)))
        samples = cluster._read(opened, whole, block)
    rows = np.arange(block.starts[0], block.stops[0]) % SHAPE[0]
    cols = np.arange(block.starts[1], block.stops[1]) % SHAPE[1]
    np.testing.assert_array_equal(samples, image[rows][:, cols])


# Errors


def test_a_damaged_chunk_is_reported_and_the_target_stays_partial(client, source, tmp_path):
    path, _ = source
    (path / "c" / "3" / "1" / "1").write_bytes(b"damaged")
    target = tmp_path / "out.zarr"
    with pytest.raises(FileError, match=r"in\.zarr: its chunk c/3/1/1.*truncated or damaged"):
        volumes.filter(path, target, KERNEL, client=client)
    assert not target.exists()


def test_files_that_workers_cannot_see_are_reported(client, source, tmp_path, monkeypatch):
    path, _ = source
    opened = cluster._opened
    monkeypatch.setattr(cluster, "_opened", _elsewhere)
    with pytest.raises(FileError, match=r"all machines must see the files under the same names"):
        volumes.filter(path, tmp_path / "out.zarr", KERNEL, client=client)
    assert opened is not _elsewhere


def _elsewhere(whole, path, reopen):
    from separable.volumes.cluster import _opened

    return _opened(whole, path.with_name("nowhere.zarr"), reopen)


def test_other_targets_than_zarr_are_refused(client, source, tmp_path):
    path, _ = source
    with pytest.raises(FileError, match=r"from several machines.*Write \.zarr"):
        volumes.filter(path, tmp_path / "out.npy", KERNEL, client=client)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.zarr"]


def test_memory_of_the_workers_too_small(client, source, tmp_path):
    path, _ = source
    with pytest.raises(ArgumentError, match=r"`memory` must be at least \d+ MiB for each worker"):
        volumes.filter(path, tmp_path / "out.zarr", KERNEL, client=client, memory="20MiB")


def test_failing_workers_are_reported(client):
    run = cluster._Run.__new__(cluster._Run)
    run.client, run.shape = client, (8,)

    def killed():
        from distributed.scheduler import KilledWorker

        raise KilledWorker("slab", type("W", (), {"address": "tcp://x"})(), 3)

    def missing():
        raise ModuleNotFoundError("No module named 'separable'")

    def other():
        raise RuntimeError("out of\nluck")

    region = (slice(0, 4),)
    for function, text in (
        (killed, r"workers died on the region \[0:4\].*`memory`"),
        (missing, r"workers cannot import.*'separable'"),
        (other, r"failed on the region \[0:4\]: out of luck"),
    ):
        future = client.submit(function, pure=False)
        with client.as_current():
            distributed.wait(future)
        with pytest.raises(ClusterError, match=text):
            run._check(future, region)
    future = client.submit(time.sleep, 1, pure=False)
    future.cancel()
    with pytest.raises(ClusterError, match=r"dropped the region \[0:4\].*cancelled"):
        run._check(future, region)


def test_a_client_of_another_type_is_refused(source, tmp_path):
    path, _ = source
    with pytest.raises(ArgumentTypeError, match=r"`client` must be a distributed\.Client; got str"):
        volumes.filter(path, tmp_path / "out.zarr", KERNEL, client="tcp://localhost:8786")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.zarr"]


def test_a_cluster_that_cannot_be_reached():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"  # taken, and nobody listens there
        with (
            pytest.raises(
                ClusterError, match=rf"cannot reach a Dask scheduler at {address} within 1 s"
            ),
            cluster.connected(address, timeout=1.0),
        ):
            pass


def test_an_address_that_is_none():
    with (
        pytest.raises(ClusterError, match=r"cannot reach a Dask scheduler at nonsense://x"),
        cluster.connected("nonsense://x", timeout=1.0),
    ):
        pass


def test_connected_to_a_scheduler(client, source, tmp_path):
    path, image = source
    with cluster.connected(client.scheduler.address) as own:
        volumes.filter(path, tmp_path / "out.zarr", KERNEL, client=own)
    np.testing.assert_array_equal(zarr.open(str(tmp_path / "out.zarr"))[:], in_memory(image))


def test_a_cluster_without_workers(client, monkeypatch):
    monkeypatch.setattr(cluster, "_threads_of", lambda _: {})
    with pytest.raises(ClusterError, match=r"has no workers.*`dask worker tcp://"):
        cluster._await_workers(client, 0.2)


# Dask arrays on a cluster


@pytest.mark.apart
def test_dask_arrays_travel_in_strips(client, monkeypatch):
    monkeypatch.setattr(dask_schedule, "LARGEST", 1)  # no chunks are joined
    image = np.random.default_rng(1).random((60, 60, 60), dtype=np.float32)
    with client.as_current():
        lazy = da.from_array(image, chunks=(60, 30, 30))
        kernel = np.arange(27.0).reshape(3, 3, 3)
        result = sep.convolve(lazy, kernel, method="direct")  # which nothing is compiled for
        assert any("-strip" in str(key) for key in result.__dask_graph__())
        found = result.compute()
    np.testing.assert_array_equal(found, sep.convolve(image, kernel, method="direct"))
