"""What the kernel's files say of a host, as series; the pictures are what a real machine said."""

import os
import shutil

import pytest
from kernels import CONTAINER, MACHINE, drawn, write_kernel

from tercet.emit.host import Host

PICTURE = """\
system.cpu.logical.cores 2
system.cpu.time user 6978.24
system.cpu.time nice 197.49
system.cpu.time system 940.19
system.cpu.time idle 14700.65
system.cpu.time iowait 18.39
system.cpu.time interrupt 43.68
system.cpu.time steal 2.74
tercet.system.cpu.queue running 2
tercet.system.cpu.queue blocked 1
tercet.system.cpu.load 0.15
tercet.system.pressure.time cpu some 1844.563408
tercet.system.pressure.time cpu full 0
tercet.system.pressure.time memory some 0
tercet.system.pressure.time memory full 0
tercet.system.pressure.time io some 19.727533
tercet.system.pressure.time io full 14.938387
system.memory.usage free 24224915456
system.memory.utilization free 0.958396673743291
system.memory.usage buffers 21565440
system.memory.utilization buffers 0.000853181345518027
system.memory.usage cached 931942400
system.memory.utilization cached 0.0368699118022771
system.memory.usage used 98078720
system.memory.utilization used 0.00388023310891342
system.memory.limit 25276502016
system.memory.linux.available 24866869248
system.paging.usage used 268435456
system.paging.utilization used 0.25
system.paging.usage free 805306368
system.paging.utilization free 0.75
system.paging.operations in 7
system.paging.operations out 9
system.paging.faults major 8455
system.paging.faults minor 154032520
tercet.system.memory.allocation_stalls 7
tercet.system.memory.oom_kills 2
system.network.io eth0 receive 1681154204
system.network.io eth0 transmit 4772996
system.network.packet.count eth0 receive 53375
system.network.packet.count eth0 transmit 33149
system.network.packet.dropped eth0 receive 2
system.network.packet.dropped eth0 transmit 4
system.network.errors eth0 receive 1
system.network.errors eth0 transmit 3
hw.network.bandwidth.limit eth0 125000000
tercet.system.tcp.segments receive 5609265
tercet.system.tcp.segments transmit 5583470
tercet.system.tcp.retransmits 5892
tercet.system.tcp.errors 6
tercet.system.tcp.listen_drops 429
system.disk.io vda read 6291780608
system.disk.io vda write 4640215040
system.disk.operations vda read 261284
system.disk.operations vda write 61150
system.disk.operation_time vda read 158.877
system.disk.operation_time vda write 32.186
system.disk.io_time vda 37.592
tercet.system.disk.queue vda 3
tercet.system.disk.queue_time vda 197.987
hw.errors memory mc0 corrected 11
hw.errors memory mc0 uncorrected 1
hw.errors physical_disk vda io 31
hw.errors logical_disk vda ext4 5
hw.errors cpu cpu0 heat 8"""


@pytest.fixture(autouse=True)
def hundredths(monkeypatch):
    """Count time in hundredths of a second, as Linux does on most machines."""
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_CLK_TCK": 100}[name])


def seen(kernel, clock=None):
    host = Host(kernel) if clock is None else Host(kernel, clock)
    return "\n".join(line for line in drawn(host.readings()).splitlines() if "filesystem" not in line)


def test_a_machine_is_drawn_as_its_kernel_sees_it(tmp_path):
    """Utilisation, saturation and errors of each; no part of a disk, and none that is only memory."""
    assert seen(write_kernel(tmp_path, MACHINE)) == PICTURE


def test_shares_are_those_between_two_readings(tmp_path):
    """Three quarters of the CPUs' time idle, half of the disk's busy, a tenth of the network's speed used."""
    seconds = iter([0.0, 0.0, 0.0, 10.0, 10.0, 10.0])
    kernel = write_kernel(tmp_path, MACHINE)
    host = Host(kernel, lambda: next(seconds))
    list(kernel.remembering(host.readings()))
    write_kernel(
        tmp_path,
        {
            "proc/stat": MACHINE["proc/stat"].replace(
                "cpu  697824 19749 94019 1470065 ", "cpu  698324 19749 94019 1471565 "
            ),
            "proc/diskstats": MACHINE["proc/diskstats"].replace(" 37592 ", " 42592 "),
            "proc/net/dev": MACHINE["proc/net/dev"].replace("1681154204 ", "1806154204 "),
        },
    )
    shares = [
        line
        for line in drawn(host.readings()).splitlines()
        if "cpu.utilization" in line or "disk.utilization" in line or "bandwidth.utilization" in line
    ]
    assert "\n".join(shares) == (
        "system.cpu.utilization user 0.25\n"
        "system.cpu.utilization nice 0\n"
        "system.cpu.utilization system 0\n"
        "system.cpu.utilization idle 0.75\n"
        "system.cpu.utilization iowait 0\n"
        "system.cpu.utilization interrupt 0\n"
        "system.cpu.utilization steal 0\n"
        "hw.network.bandwidth.utilization eth0 receive 0.1\n"
        "hw.network.bandwidth.utilization eth0 transmit 0\n"
        "tercet.system.disk.utilization vda 0.5"
    )


def names(picture):
    return {line.split()[0] for line in picture.splitlines()}


@pytest.mark.parametrize(
    ("changed", "gone"),
    [
        ({"proc/pressure/cpu": None}, {"tercet.system.pressure.time"}),  # before Linux 4.20
        ({"proc/vmstat": "oom_kill 2\n"}, {"tercet.system.memory.oom_kills"}),  # before Linux 4.13
        ({"sys/class/net/eth0/speed": "1000"}, {"hw.network.bandwidth.limit"}),  # a virtual network
        ({"proc/meminfo": "SwapTotal:       1048576"}, {"system.paging.utilization"}),
        ({"proc/net/netstat": None}, {"tercet.system.tcp.listen_drops"}),
        (
            {"proc/net/snmp": "Tcp: "},
            {"tercet.system.tcp.segments", "tercet.system.tcp.retransmits", "tercet.system.tcp.errors"},
        ),
    ],
)
def test_what_a_kernel_does_not_have_is_left_out(changed, gone, tmp_path):
    """And all else stays."""
    less = {"oom_kill 2\n": "", "1000": "-1", "SwapTotal:       1048576": "SwapTotal: 0", "Tcp: ": "Ip: "}
    files = dict(MACHINE)
    for name, part in changed.items():
        if part is None:
            del files[name]
        else:
            files[name] = files[name].replace(part, less[part])
    assert names(PICTURE) - names(seen(write_kernel(tmp_path, files))) == gone


def test_nothing_is_said_where_there_is_no_such_kernel(tmp_path):
    """As on macOS and Windows."""
    assert drawn(Host(write_kernel(tmp_path, {})).readings()) == ""


def test_a_filesystem_is_as_full_as_df_says(tmp_path):
    """Each once, by where it is mounted first; none across a network, which may never answer."""
    kernel = write_kernel(tmp_path, MACHINE)
    lines = [line for line in drawn(Host(kernel).readings()).splitlines() if "system.filesystem" in line]
    size = shutil.disk_usage(tmp_path)
    assert lines[0] == f"system.filesystem.limit /dev/vda / ext4 {size.total}"
    assert [line.split()[0] for line in lines[1:]] == [
        "system.filesystem.usage",
        "system.filesystem.usage",
        "system.filesystem.usage",
        "system.filesystem.utilization",
    ]
    used = float(lines[-1].split()[-1])
    assert used == pytest.approx(size.used / (size.used + size.free), abs=0.01)


def test_a_hundred_virtual_interfaces_are_no_series(tmp_path):
    """What passes a container's interface passes the host's own, too."""
    lines = [f"veth{number}: {' '.join(['1'] * 16)}" for number in range(100)]
    files = {**MACHINE, "proc/net/dev": MACHINE["proc/net/dev"] + "\n".join(lines) + "\n"}
    assert seen(write_kernel(tmp_path, files)) == PICTURE


def test_a_container_says_what_is_its_own_and_what_it_sees(tmp_path):
    """Its root is a filesystem like others."""
    lines = drawn(Host(write_kernel(tmp_path, CONTAINER)).readings())
    assert "system.filesystem.limit overlay / overlay " in lines
