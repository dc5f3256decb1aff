"""The limits around a process, and what is used of them."""

import os

import pytest
from kernels import CONTAINER, MACHINE, drawn, write_kernel

from tercet.emit.cgroup import Cgroups

OLD = """\
container.cpu.time user 12
container.cpu.time system 3
tercet.container.cpu.limit 1.5
tercet.container.cpu.periods 100
tercet.container.cpu.throttled_periods 7
tercet.container.cpu.throttled_time 2.5
container.memory.usage 60792832
container.memory.working_set 31342592
tercet.container.memory.limit 200000000
container.memory.available 168657408
tercet.container.memory.utilization 0.15671296
tercet.container.memory.events max 5
tercet.container.memory.events oom_kill 3"""
NEW = """\
container.cpu.time user 160
container.cpu.time system 36.96327
tercet.container.cpu.limit 0.5
tercet.container.cpu.periods 143
tercet.container.cpu.throttled_periods 137
tercet.container.cpu.throttled_time 7.103089
container.memory.usage 400000000
container.memory.working_set 300000000
tercet.container.memory.limit 536870912
container.memory.available 236870912
tercet.container.memory.utilization 0.558793544769287
tercet.container.memory.events high 4
tercet.container.memory.events max 35
tercet.container.memory.events oom 1
tercet.container.memory.events oom_kill 1
tercet.container.pressure.time cpu some 1844.563408
tercet.container.pressure.time cpu full 0
tercet.container.pressure.time memory some 19.727533
tercet.container.pressure.time memory full 14.938387"""


@pytest.fixture(autouse=True)
def hundredths(monkeypatch):
    """Count time in hundredths of a second, as Linux does on most machines."""
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_CLK_TCK": 100}[name])


@pytest.mark.parametrize(
    ("files", "picture"), [(MACHINE, OLD), (CONTAINER, NEW)], ids=["version 1", "version 2"]
)
def test_groups_are_drawn_with_their_tightest_limits(files, picture, tmp_path):
    """Also where an outer group has the tighter one: then it is that group's use which counts."""
    assert drawn(Cgroups(write_kernel(tmp_path, files)).readings()) == picture


@pytest.mark.parametrize(("files", "cpus"), [(MACHINE, 1.5), (CONTAINER, 0.5)])
def test_the_cpus_that_may_be_used_are_the_quota(files, cpus, tmp_path):
    """In CPUs, whole or not."""
    assert Cgroups(write_kernel(tmp_path, files)).cpu_limit() == cpus


def test_use_is_a_share_of_the_quota(tmp_path):
    """Four seconds of CPU in ten, of the half one that is allowed."""
    seconds = iter([0.0, 10.0])
    kernel = write_kernel(tmp_path, CONTAINER)
    cgroups = Cgroups(kernel, lambda: next(seconds))
    list(kernel.remembering(cgroups.readings()))
    later = CONTAINER["sys/fs/cgroup/cpu.stat"].replace("user_usec 160", "user_usec 164")
    write_kernel(tmp_path, {"sys/fs/cgroup/cpu.stat": later})
    lines = drawn(cgroups.readings()).splitlines()
    assert "container.cpu.usage 0.4" in lines
    assert "tercet.container.cpu.utilization 0.8" in lines


NESTED = {
    "proc/meminfo": MACHINE["proc/meminfo"],
    "proc/self/cgroup": "0::/kubepods/pod1/box\n",
    "proc/self/mountinfo": "33 1 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n",
    "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
    "sys/fs/cgroup/cpu.stat": "usage_usec 9\n",
    "sys/fs/cgroup/kubepods/cpu.max": "max 100000\n",
    "sys/fs/cgroup/kubepods/memory.max": "max\n",
    "sys/fs/cgroup/kubepods/pod1/cpu.max": "200000 100000\n",
    "sys/fs/cgroup/kubepods/pod1/memory.max": "1000\n",
    "sys/fs/cgroup/kubepods/pod1/memory.current": "500\n",
    "sys/fs/cgroup/kubepods/pod1/memory.stat": "inactive_file 100\n",
    "sys/fs/cgroup/kubepods/pod1/memory.events": "max 2\n",
    "sys/fs/cgroup/kubepods/pod1/box/cgroup.type": "domain\n",
    "sys/fs/cgroup/kubepods/pod1/box/cpu.max": "300000 100000\n",
    "sys/fs/cgroup/kubepods/pod1/box/memory.max": "2000\n",
}


def test_the_tightest_limit_of_all_levels_counts(tmp_path):
    """A pod may allow less than its container says."""
    kernel = write_kernel(tmp_path, NESTED)
    assert Cgroups(kernel).cpu_limit() == 2.0
    assert drawn(Cgroups(kernel).readings()) == (
        "container.memory.usage 500\n"
        "container.memory.working_set 400\n"
        "tercet.container.memory.limit 1000\n"
        "container.memory.available 600\n"
        "tercet.container.memory.utilization 0.4\n"
        "tercet.container.memory.events max 2"
    )


def test_a_group_without_limits_is_told_without_shares(tmp_path):
    """What it uses is known all the same."""
    files = {**CONTAINER, "sys/fs/cgroup/cpu.max": "max 100000\n", "sys/fs/cgroup/memory.max": "max\n"}
    lines = drawn(Cgroups(write_kernel(tmp_path, files)).readings())
    assert "container.memory.usage 400000000" in lines
    assert "container.cpu.time user 160" in lines
    assert not any(word in lines for word in ("limit", "available", "utilization", "throttled"))


def outermost(files):
    """Put the process into the outermost groups of its host."""
    at_top = {
        name: text for name, text in files.items() if "/jobs/" not in name and "cgroup.type" not in name
    }
    unlimited = {"sys/fs/cgroup/cpu.max": "max 100000\n", "sys/fs/cgroup/memory.max": "max\n"}
    return at_top | unlimited | {"proc/self/cgroup": "4:memory:/\n2:cpuacct:/\n1:cpu:/\n0::/\n"}


@pytest.mark.parametrize("files", [MACHINE, CONTAINER], ids=["version 1", "version 2"])
def test_a_host_is_no_container(files, tmp_path):
    """What it uses is said of the host."""
    assert drawn(Cgroups(write_kernel(tmp_path, outermost(files))).readings()) == ""


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": "22 27 0:21 / /proc rw - proc proc rw\n"},
        {"proc/self/cgroup": "what nobody expects", "proc/self/mountinfo": ""},
    ],
    ids=["no files", "no mount", "no sense"],
)
def test_nothing_is_said_without_groups(files, tmp_path):
    """As on other systems, or in a sandbox."""
    assert drawn(Cgroups(write_kernel(tmp_path, files)).readings()) == ""


def test_a_group_that_is_mounted_as_the_outermost_is_found(tmp_path):
    """In a container of version 1, a process is named from outside, and its files are where it looks."""
    files = {
        "proc/meminfo": MACHINE["proc/meminfo"],
        "proc/self/cgroup": "4:memory:/docker/abc\n",
        "proc/self/mountinfo": "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
    } | {
        name.replace("/jobs/one", ""): text
        for name, text in MACHINE.items()
        if name.startswith("sys/fs/cgroup/memory/jobs/one")
    }
    assert "tercet.container.memory.limit 200000000" in drawn(
        Cgroups(write_kernel(tmp_path, files)).readings()
    )
