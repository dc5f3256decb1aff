"""What is exported of a host, against what its kernel's own files say at the same time."""

import os
import sys
import time
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tercet.declare.metric import METRICS
from tercet.declare.usage import CONTAINER, HOST, PROCESS, USAGE
from tercet.emit.usage import observe_host, observe_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="The kernel's files are Linux's.")


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def meter(reader):
    return MeterProvider([reader]).get_meter("test")


def exported(reader):
    """The value of each series, by name and attribute values."""
    found = {}
    data = reader.get_metrics_data()
    for scope in data.resource_metrics[0].scope_metrics if data is not None else ():
        for metric in scope.metrics:
            for point in metric.data.data_points:
                found[metric.name, *point.attributes.values()] = point.value
    return found


@pytest.fixture
def host(meter, reader, tmp_path):
    observe_host(meter, "orders", young=0, directory=str(tmp_path / "elected"))
    return exported(reader)


def said(path):
    return Path(path).read_text("ascii")


def test_every_metric_is_declared_once():
    """With a help and a unit, and no histogram among what is read."""
    names = [metric.name for metric in (*METRICS, *USAGE)]
    assert len(names) == len(set(names))
    assert all(metric.help.endswith(".") and metric.unit for metric in USAGE)
    assert {metric.kind for metric in (*PROCESS, *HOST, *CONTAINER)} == {
        "counter",
        "gauge",
        "up_down_counter",
    }


def test_a_process_that_has_just_started_says_nothing_yet(meter, reader, tmp_path):
    """It may end at once, and has no time for it."""
    observe_process(meter)
    observe_host(meter, "orders", directory=str(tmp_path / "elected"))
    assert exported(reader) == {}
    assert not (tmp_path / "elected").exists()


def test_cpu_time_is_what_the_kernel_counts(host):
    """To what has passed between the two looks."""
    ticks = [int(word) / os.sysconf("SC_CLK_TCK") for word in said("/proc/stat").splitlines()[0].split()[1:9]]
    for mode, seconds in zip(("user", "nice", "system", "idle", "iowait"), ticks, strict=False):
        assert host["system.cpu.time", mode] == pytest.approx(seconds, abs=10)
    assert host["system.cpu.logical.cores",] == os.sysconf("SC_NPROCESSORS_ONLN")


def test_memory_is_all_there_is(host):
    """The states add up, and the rest is what the kernel says."""
    total = int(said("/proc/meminfo").split()[1]) * 1024
    assert sum(host["system.memory.usage", state] for state in ("used", "free", "buffers", "cached")) == total
    assert host["system.memory.limit",] == total
    free = int(said("/proc/meminfo").partition("MemFree:")[2].split()[0]) * 1024
    assert host["system.memory.usage", "free"] == pytest.approx(free, rel=0.2)


def test_the_load_is_each_cpus(host):
    """The average over a minute moves slowly."""
    load = os.getloadavg()[0] / os.sysconf("SC_NPROCESSORS_ONLN")
    assert host["tercet.system.cpu.load",] == pytest.approx(load, abs=0.5)


def test_traffic_grows_between_two_looks(host):
    """Each interface lies between what it said before and what it says now."""
    for line in said("/proc/net/dev").splitlines()[2:]:
        name, _, numbers = line.partition(":")
        if ("system.network.io", name.strip(), "receive") in host:
            assert 0 <= host["system.network.io", name.strip(), "receive"] <= int(numbers.split()[0])
            assert 0 <= host["system.network.io", name.strip(), "transmit"] <= int(numbers.split()[8])
    tcp = [line.split() for line in said("/proc/net/snmp").splitlines() if line.startswith("Tcp:")]
    now = dict(zip(*tcp, strict=True))
    assert host["tercet.system.tcp.retransmits",] <= int(now["RetransSegs"])
    assert host["tercet.system.tcp.segments", "receive"] == pytest.approx(int(now["InSegs"]), rel=0.1)


def test_disks_are_what_the_kernel_counts(host):
    """Bytes are sectors of 512, times are milliseconds."""
    for line in said("/proc/diskstats").splitlines():
        _, _, name, *numbers = line.split()
        if ("system.disk.io", name, "read") in host:
            assert host["system.disk.io", name, "read"] <= int(numbers[2]) * 512
            assert host["system.disk.operations", name, "write"] <= int(numbers[4])
            assert host["system.disk.io_time", name] == pytest.approx(int(numbers[9]) / 1000, abs=60)


@pytest.mark.skipif(not os.path.exists("/proc/pressure"), reason="This kernel measures no pressure.")
@pytest.mark.parametrize("resource", ["cpu", "memory", "io"])
def test_pressure_is_in_seconds(host, resource):
    """Of those that the kernel counts in microseconds."""
    some = said(f"/proc/pressure/{resource}").splitlines()[0]
    seconds = int(some.rpartition("total=")[2]) / 1e6
    assert host["tercet.system.pressure.time", resource, "some"] == pytest.approx(seconds, abs=30)


def test_no_series_has_a_key_that_was_not_declared(meter, reader, tmp_path):
    """Each is documented from its declaration."""
    observe_process(meter, young=0)
    observe_host(meter, "orders", young=0, directory=str(tmp_path / "elected"))
    declared = {metric.name: set(metric.attributes) for metric in USAGE}
    for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            assert set(point.attributes) <= declared[metric.name]


def test_shares_come_with_the_second_collection(meter, reader, tmp_path):
    """All modes together are all the time there was."""
    observe_process(meter, young=0)
    observe_host(meter, "orders", young=0, directory=str(tmp_path / "elected"))
    found = exported(reader)
    assert ("system.cpu.utilization", "idle") not in found
    deadline = time.monotonic() + 30
    while ("system.cpu.utilization", "idle") not in found and time.monotonic() < deadline:
        time.sleep(0.05)  # A share of less than a second is of no use.
        found = exported(reader)
    modes = [number for (name, *_), number in found.items() if name == "system.cpu.utilization"]
    assert sum(modes) == pytest.approx(1)
    assert 0 <= found["process.cpu.utilization", "user"] <= 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_one_process_of_a_service_speaks_for_its_host(meter, reader, tmp_path):
    """A second one of the same parent is silent; one of another service is not."""
    directory = str(tmp_path / "elected")
    observe_host(meter, "orders", young=0, directory=directory)
    assert ("system.memory.limit",) in exported(reader)
    child = os.fork()
    if child == 0:
        other = InMemoryMetricReader()
        observe_host(MeterProvider([other]).get_meter("test"), "payments", young=0, directory=directory)
        os._exit(0 if exported(reader) == {} and ("system.memory.limit",) in exported(other) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_file_is_read_once_a_collection(meter, reader, tmp_path, monkeypatch):
    """However many instruments it fills, and however many ask for it."""
    observe_process(meter, young=0)
    observe_host(meter, "orders", young=0, directory=str(tmp_path / "elected"))
    exported(reader)
    opened = []
    monkeypatch.setattr(
        "builtins.open", lambda name, *a, **k: opened.append(name) or open_file(name, *a, **k)
    )
    exported(reader)
    asked_by_both = ("/proc/self/cgroup", "/sys/fs/cgroup/")  # The process and its container have limits.
    of_one = [name for name in opened if not name.startswith(asked_by_both)]
    assert len(of_one) == len(set(of_one)) >= 8
    assert max(opened.count(name) for name in opened) <= 2


open_file = open
