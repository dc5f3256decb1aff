"""What kernels say: a virtual machine with control groups of version 1, and a container with version 2."""

from tercet.emit.kernel import Kernel

# Linux 6.18 on a virtual machine with two CPUs; long files are cut to the lines that somebody reads.
MACHINE = {
    "proc/stat": """\
cpu  697824 19749 94019 1470065 1839 0 4368 274 0 0
cpu0 290219 10710 41745 797901 255 0 1992 137 0 0
cpu1 407604 9039 52274 672163 1583 0 2375 136 0 0
intr 10065346 0 0 0 25 1 1 15
ctxt 19382284
btime 1795576298
processes 293759
procs_running 2
procs_blocked 1
softirq 8286305 0 720620 4 5269748 296844 0 5 709402 4710 1284972
""",
    "proc/loadavg": "0.30 0.35 0.65 2/84 1654\n",
    "proc/meminfo": """\
MemTotal:       24684084 kB
MemFree:        23657144 kB
MemAvailable:   24284052 kB
Buffers:           21060 kB
Cached:           574132 kB
SwapCached:            0 kB
SwapTotal:       1048576 kB
SwapFree:         786432 kB
Slab:             369528 kB
SReclaimable:     335968 kB
HugePages_Total:       0
DirectMap1G:    25165824 kB
""",
    "proc/vmstat": """\
nr_free_pages 997185
pgpgin 6144317
pgpgout 4531460
pswpin 7
pswpout 9
allocstall_dma 0
allocstall_normal 3
allocstall_movable 4
pgfault 154040975
pgmajfault 8455
oom_kill 2
""",
    "proc/pressure/cpu": """\
some avg10=0.26 avg60=0.60 avg300=2.60 total=1844563408
full avg10=0.00 avg60=0.00 avg300=0.00 total=0
""",
    "proc/pressure/memory": """\
some avg10=0.00 avg60=0.00 avg300=0.00 total=0
full avg10=0.00 avg60=0.00 avg300=0.00 total=0
""",
    "proc/pressure/io": """\
some avg10=0.03 avg60=0.12 avg300=0.04 total=19727533
full avg10=0.03 avg60=0.12 avg300=0.03 total=14938387
""",
    "proc/net/dev": """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 4209774931 5556592    0    0    0     0          0         0 4209774931 5556592    0    0    0     0       0          0
  ifb0:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
  eth0: 1681154204   53375    1    2    0     0          0         0  4772996   33149    3    4    0     0       0          0
""",  # noqa: E501 - as it is
    "proc/net/snmp": """\
Ip: Forwarding DefaultTTL InReceives
Ip: 2 64 5609751
Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors
Tcp: 1 200 120000 -1 88006 51668 35876 4502 0 5609265 5583470 5892 6 40051 0
""",  # noqa: E501 - as it is
    "proc/net/netstat": """\
TcpExt: SyncookiesSent TW ListenOverflows ListenDrops TCPHPHits
TcpExt: 0 48465 428 429 2084762
IpExt: InNoRoutes InOctets
IpExt: 0 5890162641
""",
    "proc/diskstats": """\
   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
 254       0 vda 261284 36454 12288634 158877 61150 237823 9062920 32186 3 37592 197987 82727 9 2705792 6203 7265 720
 254       1 vda1 1000 0 8000 10 0 0 0 0 0 5 10 0 0 0 0 0 0
 253       0 zram0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
""",  # noqa: E501 - as it is
    "sys/block/vda/device/ioerr_cnt": "0x1f\n",
    "sys/block/loop0/size": "0\n",
    "sys/block/zram0/size": "0\n",
    "sys/fs/ext4/vda/errors_count": "5\n",
    "sys/fs/ext4/features/batched_discard": "supported\n",
    "sys/devices/system/edac/mc/mc0/ce_count": "11\n",
    "sys/devices/system/edac/mc/mc0/ue_count": "1\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "8\n",
    "sys/class/net/eth0/speed": "1000\n",
    "proc/self/cgroup": """\
9:name=systemd:/
4:memory:/jobs/one
2:cpuacct:/jobs/one
1:cpu:/jobs/one
0::/
""",
    "proc/self/mountinfo": """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
28 27 254:0 /var /mnt/with\\040space rw,relatime - ext4 /dev/vda rw,discard
29 26 0:26 / /net rw,relatime - nfs4 server:/export rw
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
""",
    # The outermost groups.
    "sys/fs/cgroup/cpu/release_agent": "\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/memory/release_agent": "\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    # A group with limits, in which the process's own has wider ones.
    "sys/fs/cgroup/cpu/jobs/cpu.cfs_quota_us": "150000\n",
    "sys/fs/cgroup/cpu/jobs/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu/jobs/cpu.stat": "nr_periods 100\nnr_throttled 7\nthrottled_time 2500000000\n",
    "sys/fs/cgroup/cpuacct/jobs/cpuacct.stat": "user 1200\nsystem 300\n",
    "sys/fs/cgroup/cpu/jobs/one/cpu.cfs_quota_us": "400000\n",
    "sys/fs/cgroup/cpu/jobs/one/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/memory/jobs/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/jobs/one/memory.limit_in_bytes": "200000000\n",
    "sys/fs/cgroup/memory/jobs/one/memory.usage_in_bytes": "60792832\n",
    "sys/fs/cgroup/memory/jobs/one/memory.failcnt": "5\n",
    "sys/fs/cgroup/memory/jobs/one/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    "sys/fs/cgroup/memory/jobs/one/memory.stat": """\
cache 35930112
rss 1859584
inactive_file 1
hierarchical_memory_limit 200000000
total_cache 35930112
total_inactive_file 29450240
""",
}

# A container of Kubernetes, whose own group is the outermost in sight; as the kernel's documents have it.
CONTAINER = {
    "proc/meminfo": MACHINE["proc/meminfo"],
    "proc/self/cgroup": "0::/\n",
    "proc/self/mountinfo": """\
1 0 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/a
33 1 0:28 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate
""",
    "sys/fs/cgroup/cgroup.type": "domain\n",
    "sys/fs/cgroup/cpu.max": "50000 100000\n",
    "sys/fs/cgroup/cpu.stat": """\
usage_usec 196963270
user_usec 160000000
system_usec 36963270
nr_periods 143
nr_throttled 137
throttled_usec 7103089
nr_bursts 0
burst_usec 0
""",
    "sys/fs/cgroup/memory.max": "536870912\n",
    "sys/fs/cgroup/memory.current": "400000000\n",
    "sys/fs/cgroup/memory.stat": "anon 250000000\nfile 140000000\ninactive_file 100000000\n",
    "sys/fs/cgroup/memory.events": "low 0\nhigh 4\nmax 35\noom 1\noom_kill 1\noom_group_kill 0\n",
    "sys/fs/cgroup/cpu.pressure": MACHINE["proc/pressure/cpu"],
    "sys/fs/cgroup/memory.pressure": MACHINE["proc/pressure/io"],
}


def write_kernel(folder, files):
    """Write files below a folder, and return the kernel that they make up."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Kernel(str(folder))


def drawn(readings):
    """Draw readings as a picture: a line for each series."""
    return "\n".join(
        " ".join([metric.name, *map(str, values), f"{number:.15g}"]) for metric, values, number in readings
    )
