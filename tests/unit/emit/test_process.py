"""What a process uses, against what its kernel's files say."""

import os
import resource
import sys
import threading
import time
from pathlib import Path

import pytest
from kernels import write_kernel

from tercet.emit.cgroup import Cgroups
from tercet.emit.kernel import Kernel
from tercet.emit.process import Process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="The kernel's files are Linux's.")


def read(process):
    """The value of each series, by name and attributes."""
    readings = process._kernel.remembering(process.readings())
    return {(metric.name, *values): number for metric, values, number in readings}


@pytest.fixture
def process():
    kernel = Kernel()
    return Process(kernel, Cgroups(kernel))


def status(name):
    """What /proc/self/status says, which the reader under test does not read."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))


def test_memory_is_what_the_kernel_says(process):
    """To some pages, for they come and go."""
    found = read(process)
    assert found["process.memory.usage",] == pytest.approx(status("VmRSS") * 1024, rel=0.05)
    assert found["process.memory.virtual",] == pytest.approx(status("VmSize") * 1024, rel=0.05)


def test_cpu_time_is_between_two_looks_at_the_clock(process):
    """Both modes together."""
    before = time.process_time()
    found = read(process)
    spent = found["process.cpu.time", "user"] + found["process.cpu.time", "system"]
    assert before - 0.02 <= spent <= time.process_time() + 0.02


def test_threads_and_files_are_counted_when_they_are_there(process):
    """One more of each is one more."""
    before = read(process)
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait)
    thread.start()
    with open(os.devnull, encoding="ascii"):
        after = read(process)
    leave.set()
    thread.join()
    assert after["process.threads",] == before["process.threads",] + 1
    assert after["process.unix.file_descriptors",] == before["process.unix.file_descriptors",] + 1
    assert before["process.unix.file_descriptors",] == len(os.listdir("/proc/self/fd")) - 1
    assert after["tercet.process.file_descriptor.limit",] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_files_are_counted_where_the_kernel_does_not(tmp_path, process):
    """Before Linux 6.2, one by one; and elsewhere, where such systems show them."""
    (tmp_path / "proc/self/fd").mkdir(parents=True)
    kernel = write_kernel(tmp_path, {"proc/self/fd/0": "", "proc/self/fd/1": "", "proc/self/fd/2": ""})
    size = os.stat(tmp_path / "proc/self/fd").st_size
    assert Process(kernel, Cgroups(kernel))._count_files() in (size, 2)
    nowhere = Kernel(str(tmp_path / "none"))
    assert Process(nowhere, Cgroups(nowhere))._count_files() == len(os.listdir("/dev/fd")) - 1


def test_switches_and_faults_go_up(process):
    """Each wait gives up a CPU, each new page is a fault."""
    before = read(process)
    time.sleep(0.001)
    pages = bytearray(1 << 22)
    after = read(process)
    switches, faults = ("process.context_switches", "voluntary"), ("process.paging.faults", "minor")
    assert after[switches] > before[switches]
    assert after[faults] > before[faults]
    assert len(pages) == 1 << 22


def test_uptime_is_since_the_process_started(process):
    """By the clock that its start is told in."""
    ticks = int(Path("/proc/self/stat").read_text("ascii").rpartition(")")[2].split()[19])
    expected = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    assert read(process)["process.uptime",] == pytest.approx(expected, abs=1)


def test_the_quota_of_a_container_is_the_denominator(tmp_path):
    """Who may use half a CPU, and does, uses all of it."""
    files = {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": "33 1 0:28 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
        "sys/fs/cgroup/cpu.max": "50000 100000\n",
    }
    seconds = iter([0.0, 100.0])
    kernel = write_kernel(tmp_path, files)
    process = Process(kernel, Cgroups(kernel), lambda: next(seconds))
    first = read(process)
    second = read(process)
    for mode in ("user", "system"):
        spent = second["process.cpu.time", mode] - first["process.cpu.time", mode]
        assert second["process.cpu.utilization", mode] == pytest.approx(spent / 100 / 0.5)
    assert ("process.cpu.utilization", "user") not in first


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_is_a_process_of_its_own(process):
    """It starts with no time used and no share of any."""
    while (before := read(process))["process.cpu.time", "user"] < 1:
        sum(range(10**6))
    child = os.fork()
    if child == 0:
        found = read(process)
        used, by_parent = found["process.cpu.time", "user"], before["process.cpu.time", "user"]
        is_new = used < by_parent and found["process.uptime",] < 60
        os._exit(0 if is_new and ("process.cpu.utilization", "user") not in found else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_without_the_kernels_files_python_says_what_it_knows(tmp_path):
    """Time, switches, faults and open files, as on macOS."""
    nowhere = Kernel(str(tmp_path))
    assert {name for name, *_ in read(Process(nowhere, Cgroups(nowhere)))} == {
        "process.cpu.time",
        "process.context_switches",
        "process.paging.faults",
        "process.unix.file_descriptors",
        "tercet.process.file_descriptor.limit",
    }


def test_without_resource_the_rest_goes_on(tmp_path, monkeypatch):
    """As on Windows."""
    monkeypatch.setattr("tercet.emit.process.resource", None)
    nowhere = Kernel(str(tmp_path))
    found = read(Process(nowhere, Cgroups(nowhere)))
    assert found["process.cpu.time", "user"] == pytest.approx(os.times().user, abs=1)
    assert ("process.context_switches", "voluntary") not in found
