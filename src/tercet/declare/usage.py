"""What a process, its host and its container use, where they wait and what fails, as declared metrics.

https://opentelemetry.io/docs/specs/semconv/system/ and its neighbours are the source of names, units and
attributes; what starts with `tercet.` has no name there. Amounts that are not stable there and end in `count`
are named by what is counted: such a name belongs to histograms in Prometheus, and `promtool check metrics`
refuses it.
"""

from tercet.declare.metric import DURATION_BUCKETS, Metric

#: Seconds; from what nobody notices to what stops a service.
PAUSE_BUCKETS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
#: Seconds; waiting that should be none.
WAIT_BUCKETS = (0.001, *DURATION_BUCKETS)


def _counter(name: str, unit: str, about: str, *attributes: str) -> Metric:
    return Metric(name, "counter", unit, about, attributes)


def _gauge(name: str, unit: str, about: str, *attributes: str) -> Metric:
    return Metric(name, "gauge", unit, about, attributes)


def _amount(name: str, unit: str, about: str, *attributes: str) -> Metric:
    """Declare what adds up over processes, where a gauge does not."""
    return Metric(name, "up_down_counter", unit, about, attributes)


def _waits(name: str, about: str, *attributes: str) -> Metric:
    return Metric(name, "histogram", "s", about, attributes, WAIT_BUCKETS)


# The process.
PROCESS_CPU_TIME = _counter("process.cpu.time", "s", "CPU seconds of this process.", "cpu.mode")
PROCESS_CPU_UTILIZATION = _gauge(
    "process.cpu.utilization",
    "1",
    "Share of the CPUs that this process may use, which it did use.",
    "cpu.mode",
)
PROCESS_MEMORY = _amount("process.memory.usage", "By", "Physical memory of this process.")
PROCESS_VIRTUAL = _amount("process.memory.virtual", "By", "Virtual memory of this process.")
PROCESS_THREADS = _amount("process.threads", "{thread}", "Threads of this process.")
PROCESS_FILES = _amount(
    "process.unix.file_descriptors", "{file_descriptor}", "File descriptors that this process has open."
)
PROCESS_FILES_LIMIT = _amount(
    "tercet.process.file_descriptor.limit",
    "{file_descriptor}",
    "File descriptors that this process may have open.",
)
PROCESS_SWITCHES = _counter(
    "process.context_switches",
    "{context_switch}",
    "How often this process gave up a CPU, or had it taken away.",
    "process.context_switch.type",
)
PROCESS_FAULTS = _counter(
    "process.paging.faults",
    "{fault}",
    "Page faults of this process; major ones waited for a disk.",
    "system.paging.fault.type",
)
PROCESS_DISK_IO = _counter(
    "process.disk.io", "By", "Bytes that this process made disks transfer.", "disk.io.direction"
)
PROCESS_UPTIME = _gauge("process.uptime", "s", "Seconds since this process started.")
PROCESS = (
    PROCESS_CPU_TIME,
    PROCESS_CPU_UTILIZATION,
    PROCESS_MEMORY,
    PROCESS_VIRTUAL,
    PROCESS_THREADS,
    PROCESS_FILES,
    PROCESS_FILES_LIMIT,
    PROCESS_SWITCHES,
    PROCESS_FAULTS,
    PROCESS_DISK_IO,
    PROCESS_UPTIME,
)

# The host, each from one process of a service.
CPU_TIME = _counter("system.cpu.time", "s", "Seconds that all CPUs together spent in each mode.", "cpu.mode")
CPU_UTILIZATION = _gauge(
    "system.cpu.utilization", "1", "Share of the time of all CPUs together spent in each mode.", "cpu.mode"
)
CPU_COUNT = _amount("system.cpu.logical.cores", "{cpu}", "CPUs that are online.")
CPU_LOAD = _gauge(
    "tercet.system.cpu.load",
    "{thread}",
    "Threads that ran or waited for a CPU or a disk, for each CPU, on average over the last minute.",
)
CPU_QUEUE = _gauge(
    "tercet.system.cpu.queue",
    "{thread}",
    "Threads at the moment: running includes those that wait for a CPU, blocked wait for a disk.",
    "tercet.thread.state",
)
PRESSURE = _counter(
    "tercet.system.pressure.time",
    "s",
    "Seconds in which some tasks, or all (full), waited for a resource: cpu, memory or io.",
    "tercet.resource",
    "tercet.pressure",
)
HARDWARE_ERRORS = _counter(
    "hw.errors",
    "{error}",
    "Errors that the kernel reports: of memory (EDAC), disks (SCSI) and ext4; and CPUs slowed down by heat.",
    "hw.type",
    "hw.id",
    "error.type",
)
MEMORY = _amount(
    "system.memory.usage",
    "By",
    "Memory of the host; cached is what programs can have.",
    "system.memory.state",
)
MEMORY_UTILIZATION = _gauge(
    "system.memory.utilization", "1", "Share of the memory of the host.", "system.memory.state"
)
MEMORY_LIMIT = _amount("system.memory.limit", "By", "Memory that the host has.")
MEMORY_AVAILABLE = _amount(
    "system.memory.linux.available",
    "By",
    "Memory that programs can have without swapping, as the kernel guesses.",
)
PAGING = _amount("system.paging.usage", "By", "Swap space of the host.", "system.paging.state")
PAGING_UTILIZATION = _gauge(
    "system.paging.utilization", "1", "Share of the swap space of the host.", "system.paging.state"
)
PAGING_OPERATIONS = _counter(
    "system.paging.operations", "{operation}", "Pages swapped in and out.", "system.paging.direction"
)
PAGING_FAULTS = _counter(
    "system.paging.faults",
    "{fault}",
    "Page faults on the host; major ones waited for a disk.",
    "system.paging.fault.type",
)
MEMORY_STALLS = _counter(
    "tercet.system.memory.allocation_stalls",
    "{stall}",
    "How often somebody who wanted memory had to make room for it first.",
)
OOM_KILLS = _counter(
    "tercet.system.memory.oom_kills", "{process}", "Processes killed because there was no memory left."
)
_INTERFACE = ("network.interface.name", "network.io.direction")
NETWORK_IO = _counter("system.network.io", "By", "Bytes over a network interface.", *_INTERFACE)
NETWORK_PACKETS = _counter(
    "system.network.packet.count", "{packet}", "Packets over a network interface.", *_INTERFACE
)
NETWORK_DROPPED = _counter(
    "system.network.packet.dropped", "{packet}", "Packets that a network interface dropped.", *_INTERFACE
)
NETWORK_ERRORS = _counter("system.network.errors", "{error}", "Errors of a network interface.", *_INTERFACE)
NETWORK_LIMIT = _amount(
    "hw.network.bandwidth.limit", "By/s", "Speed of a network interface, where it has one.", "hw.id"
)
NETWORK_UTILIZATION = _gauge(
    "hw.network.bandwidth.utilization",
    "1",
    "Share of the speed of a network interface.",
    "hw.id",
    "network.io.direction",
)
TCP_SEGMENTS = _counter(
    "tercet.system.tcp.segments",
    "{segment}",
    "TCP segments, without those sent again.",
    "network.io.direction",
)
TCP_RETRANSMITS = _counter("tercet.system.tcp.retransmits", "{segment}", "TCP segments that were sent again.")
TCP_REFUSED = _counter(
    "tercet.system.tcp.listen_drops",
    "{connection}",
    "Connections dropped at a listening socket, mostly for its queue was full.",
)
TCP_ERRORS = _counter("tercet.system.tcp.errors", "{segment}", "TCP segments that arrived damaged.")
_DISK = ("system.device", "disk.io.direction")
DISK_IO = _counter("system.disk.io", "By", "Bytes from and to a disk.", *_DISK)
DISK_OPERATIONS = _counter("system.disk.operations", "{operation}", "Operations of a disk.", *_DISK)
DISK_OPERATION_TIME = _counter(
    "system.disk.operation_time", "s", "Seconds that the operations of a disk took, added up.", *_DISK
)
DISK_IO_TIME = _counter("system.disk.io_time", "s", "Seconds in which a disk was busy.", "system.device")
DISK_UTILIZATION = _gauge(
    "tercet.system.disk.utilization", "1", "Share of the time in which a disk was busy.", "system.device"
)
DISK_QUEUE = _gauge(
    "tercet.system.disk.queue", "{operation}", "Operations of a disk at the moment.", "system.device"
)
DISK_QUEUE_TIME = _counter(
    "tercet.system.disk.queue_time",
    "s",
    "Seconds that operations of a disk waited and ran, added up; its rate is the average queue.",
    "system.device",
)
_FILESYSTEM = ("system.device", "system.filesystem.mountpoint", "system.filesystem.type")
FILESYSTEM = _amount(
    "system.filesystem.usage", "By", "Space of a filesystem.", *_FILESYSTEM, "system.filesystem.state"
)
FILESYSTEM_UTILIZATION = _gauge(
    "system.filesystem.utilization",
    "1",
    "Share of a filesystem's space in use, of what users can use.",
    *_FILESYSTEM,
)
FILESYSTEM_LIMIT = _amount("system.filesystem.limit", "By", "Space that a filesystem has.", *_FILESYSTEM)
HOST = (
    CPU_TIME,
    CPU_UTILIZATION,
    CPU_COUNT,
    CPU_LOAD,
    CPU_QUEUE,
    PRESSURE,
    HARDWARE_ERRORS,
    MEMORY,
    MEMORY_UTILIZATION,
    MEMORY_LIMIT,
    MEMORY_AVAILABLE,
    PAGING,
    PAGING_UTILIZATION,
    PAGING_OPERATIONS,
    PAGING_FAULTS,
    MEMORY_STALLS,
    OOM_KILLS,
    NETWORK_IO,
    NETWORK_PACKETS,
    NETWORK_DROPPED,
    NETWORK_ERRORS,
    NETWORK_LIMIT,
    NETWORK_UTILIZATION,
    TCP_SEGMENTS,
    TCP_RETRANSMITS,
    TCP_REFUSED,
    TCP_ERRORS,
    DISK_IO,
    DISK_OPERATIONS,
    DISK_OPERATION_TIME,
    DISK_IO_TIME,
    DISK_UTILIZATION,
    DISK_QUEUE,
    DISK_QUEUE_TIME,
    FILESYSTEM,
    FILESYSTEM_UTILIZATION,
    FILESYSTEM_LIMIT,
)

# The container, which is what the control groups around the process say, from the same process as the host.
CONTAINER_CPU_TIME = _counter("container.cpu.time", "s", "CPU seconds of the container.", "cpu.mode")
CONTAINER_CPU = _gauge("container.cpu.usage", "{cpu}", "CPUs that the container used.")
CONTAINER_CPU_LIMIT = _amount("tercet.container.cpu.limit", "{cpu}", "CPUs that the container may use.")
CONTAINER_CPU_UTILIZATION = _gauge(
    "tercet.container.cpu.utilization", "1", "Share of the CPUs that the container may use, which it did use."
)
CONTAINER_PERIODS = _counter(
    "tercet.container.cpu.periods",
    "{period}",
    "Periods in which the container ran and its CPU quota counted.",
)
CONTAINER_THROTTLED = _counter(
    "tercet.container.cpu.throttled_periods",
    "{period}",
    "Periods in which the container's CPU quota was used up.",
)
CONTAINER_THROTTLED_TIME = _counter(
    "tercet.container.cpu.throttled_time", "s", "Seconds that the container waited for its next CPU quota."
)
CONTAINER_MEMORY = _amount("container.memory.usage", "By", "Memory of the container, with its page cache.")
CONTAINER_WORKING_SET = _amount(
    "container.memory.working_set", "By", "Memory of the container that cannot be given up easily."
)
CONTAINER_AVAILABLE = _amount(
    "container.memory.available", "By", "Memory between the working set of the container and its limit."
)
CONTAINER_MEMORY_LIMIT = _amount("tercet.container.memory.limit", "By", "Memory that the container may use.")
CONTAINER_MEMORY_UTILIZATION = _gauge(
    "tercet.container.memory.utilization", "1", "Working set of the container as a share of its limit."
)
CONTAINER_MEMORY_EVENTS = _counter(
    "tercet.container.memory.events",
    "{event}",
    "How often the container met a limit (high, max), found no memory (oom), or lost a process (oom_kill).",
    "tercet.event",
)
CONTAINER_PRESSURE = _counter(
    "tercet.container.pressure.time",
    "s",
    "Seconds in which some tasks of the container, or all (full), waited for a resource: cpu, memory or io.",
    "tercet.resource",
    "tercet.pressure",
)
CONTAINER = (
    CONTAINER_CPU_TIME,
    CONTAINER_CPU,
    CONTAINER_CPU_LIMIT,
    CONTAINER_CPU_UTILIZATION,
    CONTAINER_PERIODS,
    CONTAINER_THROTTLED,
    CONTAINER_THROTTLED_TIME,
    CONTAINER_MEMORY,
    CONTAINER_WORKING_SET,
    CONTAINER_AVAILABLE,
    CONTAINER_MEMORY_LIMIT,
    CONTAINER_MEMORY_UTILIZATION,
    CONTAINER_MEMORY_EVENTS,
    CONTAINER_PRESSURE,
)

# The runtime: why a request is slow although nothing is short.
GC_COLLECTIONS = _counter(
    "cpython.gc.collections", "{collection}", "Runs of the garbage collector.", "cpython.gc.generation"
)
GC_COLLECTED = _counter(
    "cpython.gc.collected_objects",
    "{object}",
    "Objects that the garbage collector freed.",
    "cpython.gc.generation",
)
GC_UNCOLLECTABLE = _counter(
    "cpython.gc.uncollectable_objects",
    "{object}",
    "Objects that the garbage collector could not free.",
    "cpython.gc.generation",
)
GC_PAUSE = Metric(
    "tercet.gc.pause",
    "histogram",
    "s",
    "Seconds in which the garbage collector held up all threads.",
    ("cpython.gc.generation",),
    PAUSE_BUCKETS,
)
LOOP_LAG = _waits("tercet.event_loop.lag", "How much later than asked an event loop ran a callback.")
LOCK_WAIT = _waits(
    "tercet.lock.wait_time", "Waiting for an observed lock, where there was any.", "tercet.lock.name"
)
_THREADS = "tercet.thread_pool.name"
THREADS_LIMIT = _amount("tercet.thread_pool.limit", "{thread}", "Threads that a pool may have.", _THREADS)
THREADS_USED = _amount("tercet.thread_pool.used", "{thread}", "Threads of a pool that are at work.", _THREADS)
THREADS_WAITING = _amount(
    "tercet.thread_pool.waiting", "{task}", "Tasks that wait for a thread of a pool.", _THREADS
)
THREADS_WAIT = _waits("tercet.thread_pool.wait_time", "Waiting for a thread of a pool.", _THREADS)
QUEUE_LENGTH = _amount("tercet.queue.length", "{item}", "Items in an observed queue.", "tercet.queue.name")
QUEUE_LIMIT = _amount(
    "tercet.queue.limit", "{item}", "Items that an observed queue may hold.", "tercet.queue.name"
)
QUEUE_AGE = _gauge(
    "tercet.queue.age", "s", "How long the oldest item of an observed queue has waited.", "tercet.queue.name"
)
RUNTIME = (
    GC_COLLECTIONS,
    GC_COLLECTED,
    GC_UNCOLLECTABLE,
    GC_PAUSE,
    LOOP_LAG,
    LOCK_WAIT,
    THREADS_LIMIT,
    THREADS_USED,
    THREADS_WAITING,
    THREADS_WAIT,
    QUEUE_LENGTH,
    QUEUE_LIMIT,
    QUEUE_AGE,
)

# Connection pools, https://opentelemetry.io/docs/specs/semconv/db/database-metrics/#connection-pools
_POOL = "db.client.connection.pool.name"
POOL_CONNECTIONS = _amount(
    "db.client.connections",
    "{connection}",
    "Connections of a pool, idle and used.",
    _POOL,
    "db.client.connection.state",
)
POOL_MAX = _amount("db.client.connection.max", "{connection}", "Connections that a pool may have.", _POOL)
POOL_PENDING = _amount(
    "db.client.connection.pending_requests",
    "{request}",
    "Requests that wait for a connection of a pool.",
    _POOL,
)
POOL_TIMEOUTS = _counter(
    "db.client.connection.timeouts", "{timeout}", "Requests that got no connection of a pool in time.", _POOL
)
POOL_WAIT = _waits("db.client.connection.wait_time", "Time to get a connection of a pool.", _POOL)
HTTP_CONNECTIONS = _amount(
    "http.client.open_connections",
    "{connection}",
    "Connections of HTTP clients, idle and active.",
    "server.address",
    "server.port",
    "http.connection.state",
)
HTTP_PENDING = _amount(
    "tercet.http.client.pending_requests",
    "{request}",
    "Requests that wait for a connection of an HTTP client's pool.",
    "server.address",
    "server.port",
)
HTTP_TIMEOUTS = _counter(
    "tercet.http.client.connection.timeouts",
    "{timeout}",
    "Requests that got no connection of an HTTP client's pool in time.",
    "server.address",
    "server.port",
)
HTTP_WAIT = _waits(
    "tercet.http.client.connection.wait_time",
    "Waiting for a place in an HTTP client's pool.",
    "server.address",
    "server.port",
)
POOLS = (POOL_CONNECTIONS, POOL_MAX, POOL_PENDING, POOL_TIMEOUTS)
HTTP_POOLS = (HTTP_CONNECTIONS, HTTP_PENDING, HTTP_TIMEOUTS)
USAGE = (*PROCESS, *HOST, *CONTAINER, *RUNTIME, *POOLS, POOL_WAIT, *HTTP_POOLS, HTTP_WAIT)
