"""Number of processors that a process may use: limits of control groups, from their files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import separable as sep
from separable import system

MOUNT = "36 25 0:31 {root} {at} rw,nosuid shared:9 - {kind} cgroup {options}"
V2 = MOUNT.format(root="/", at="/sys/fs/cgroup", kind="cgroup2", options="rw,nsdelegate")
V1 = MOUNT.format(
    root="/", at="/sys/fs/cgroup/cpu,cpuacct", kind="cgroup", options="rw,cpu,cpuacct"
)
MEMORY = MOUNT.format(root="/", at="/sys/fs/cgroup/memory", kind="cgroup", options="rw,memory")
DISK = "28 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw"

CASES = {
    "no groups": ({}, None),
    "version 2, no limit": (
        {"proc/self/cgroup": "0::/", "proc/self/mountinfo": V2, "sys/fs/cgroup/cpu.max": "max 100000"},
        None,
    ),
    "version 2, its own limit": (
        {"proc/self/cgroup": "0::/", "proc/self/mountinfo": f"{DISK}\n{V2}",
         "sys/fs/cgroup/cpu.max": "250000 100000"},
        2.5,
    ),
    "version 2, less than one": (
        {"proc/self/cgroup": "0::/job", "proc/self/mountinfo": V2,
         "sys/fs/cgroup/job/cpu.max": "20000 100000"},
        0.2,
    ),
    "version 2, the limit of a group above": (
        {"proc/self/cgroup": "0::/a/b/c", "proc/self/mountinfo": V2,
         "sys/fs/cgroup/a/b/c/cpu.max": "max 100000", "sys/fs/cgroup/a/b/cpu.max": "800000 100000",
         "sys/fs/cgroup/a/cpu.max": "300000 100000", "sys/fs/cgroup/b/cpu.max": "1000 100000"},
        3.0,
    ),
    "version 2, a container that sees the path outside": (
        {"proc/self/cgroup": "0::/docker/abc", "proc/self/mountinfo": V2.replace(" / /sys", " /docker/abc /sys"),
         "sys/fs/cgroup/cpu.max": "150000 100000"},
        1.5,
    ),
    "version 2, a path outside of the namespace": (
        {"proc/self/cgroup": "0::/../other", "proc/self/mountinfo": V2,
         "sys/fs/cgroup/cpu.max": "400000 100000"},
        4.0,
    ),
    "version 1": (
        {"proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/x\n1:name=systemd:/y",
         "proc/self/mountinfo": f"{MEMORY}\n{V1}",
         "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "600000",
         "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "200000"},
        3.0,
    ),
    "version 1, no limit": (
        {"proc/self/cgroup": "3:cpu,cpuacct:/", "proc/self/mountinfo": V1,
         "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
         "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000"},
        None,
    ),
    "version 1, a container that sees the path outside": (
        {"proc/self/cgroup": "3:cpu,cpuacct:/docker/abc\n0::/", "proc/self/mountinfo": V1,
         "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
         "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000"},
        None,
    ),
    "version 1 in a container": (
        {"proc/self/cgroup": "3:cpu,cpuacct:/docker/abc",
         "proc/self/mountinfo": V1.replace(" / /sys", " /docker/abc /sys"),
         "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "150000",
         "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000"},
        1.5,
    ),
    "both versions, the lower limit counts": (
        {"proc/self/cgroup": "3:cpu:/\n0::/", "proc/self/mountinfo": f"{V1}\n{V2.replace('cgroup rw', 'cgroup/unified rw')}",
         "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "500000",
         "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
         "sys/fs/cgroup/unified/cpu.max": "200000 100000"},
        2.0,
    ),
    "lines of another form": (
        {"proc/self/cgroup": "\nx\n0::/", "proc/self/mountinfo": f"\nx\n - \na - b\n{V2}",
         "sys/fs/cgroup/cpu.max": "700000 100000"},
        7.0,
    ),
    "nonsense": (
        {"proc/self/cgroup": "0::/", "proc/self/mountinfo": V2, "sys/fs/cgroup/cpu.max": "1000 0"},
        None,
    ),
    "empty": (
        {"proc/self/cgroup": "0::/", "proc/self/mountinfo": V2, "sys/fs/cgroup/cpu.max": ""},
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_limit_of_control_groups(case: str, tmp_path: Path) -> None:
    files, expected = CASES[case]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert system.processor_limit(tmp_path) == expected


@pytest.mark.parametrize(
    ("limit", "affinity", "expected"),
    [(None, 8, 8), (2.0, 8, 2), (2.1, 8, 3), (0.2, 8, 1), (16.0, 8, 8), (1.5, 1, 1)],
)
def test_the_limit_is_the_default_number_of_threads(
    limit: float | None, affinity: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEPARABLE_NUM_THREADS", raising=False)
    monkeypatch.setattr(system.processors, "processor_limit", lambda: limit)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    assert system.available_processors() == expected
    assert sep.get_num_threads() == expected
    monkeypatch.setenv("SEPARABLE_NUM_THREADS", "5")  # who says a number is obeyed
    assert sep.get_num_threads() == 5
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: affinity)
    assert system.available_processors() == expected
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert system.available_processors() == 1
