"""The USE method as panels: for each resource what is used, what is waited for and what fails."""

from collections.abc import Iterator

from tercet.declare import usage
from tercet.declare.metric import Metric
from tercet.declare.names import label_name
from tercet.generate import names
from tercet.generate.chosen import ENVIRONMENT, JOB, flow, grown, quantile, value
from tercet.generate.panels import Panel, Query, graph, legend_of
from tercet.generate.promql import equal, one_of, ratio, select, summed

_EACH = (names.JOB, names.INSTANCE)
_HOST, _CONTAINER, _PROCESS = "host {{instance}}", "container {{instance}}", "process {{instance}}"
_SHARE = "percentunit"


def usage_panels() -> Iterator[Panel]:
    """Show use, saturation and errors side by side, a line for each resource."""
    yield from _cpu()
    yield from _memory()
    yield from _disk()
    yield from _network()
    yield from _pools()
    yield from _processes()


def _cpu() -> Iterator[Panel]:
    idle = value(usage.CPU_UTILIZATION, one_of(label_name("cpu.mode"), ("idle", "iowait")))
    yield _used(
        "CPU used",
        "Share of the CPUs that each may use: the process of its affinity and quota, the container of its "
        "limit.",
        Query(expression=summed(value(usage.PROCESS_CPU_UTILIZATION), *_EACH), legend=_PROCESS),
        Query(expression=_highest(usage.CONTAINER_CPU_UTILIZATION), legend=_CONTAINER),
        Query(expression=f"1 - {summed(idle, *_EACH)}", legend=_HOST),
    )
    throttled, periods = (
        summed(flow(metric), *_EACH) for metric in (usage.CONTAINER_THROTTLED, usage.CONTAINER_PERIODS)
    )
    yield _waited(
        "CPU waited for",
        "Share of the time in which tasks waited for a CPU, or in which the container's quota was used up; "
        "and threads that want to run for each CPU: above 100 % some wait.",
        *_pressure("cpu"),
        Query(expression=ratio(throttled, periods), legend="container throttled {{instance}}"),
        Query(expression=_highest(usage.CPU_LOAD), legend="host load {{instance}}"),
    )
    yield _failed(
        "CPU errors",
        "How often the kernel says that a CPU was slowed down by heat.",
        *_hardware("cpu"),
    )


def _memory() -> Iterator[Panel]:
    free, limit = (summed(value(metric), *_EACH) for metric in (usage.MEMORY_AVAILABLE, usage.MEMORY_LIMIT))
    yield _used(
        "Memory used",
        "Share that programs cannot have any more: of the container's limit, and of the host's memory.",
        Query(expression=_highest(usage.CONTAINER_MEMORY_UTILIZATION), legend=_CONTAINER),
        Query(expression=f"1 - {free} / {limit}", legend=_HOST),
    )
    swapped = value(usage.PAGING_UTILIZATION, equal(label_name("system.paging.state"), "used"))
    yield _waited(
        "Memory waited for",
        "Share of the time in which tasks waited for memory, and of the swap space in use; on the right, "
        "pages swapped and waits for free memory a second.",
        *_pressure("memory"),
        Query(expression=summed(swapped, *_EACH), legend="host swap {{instance}}"),
        Query(
            expression=summed(flow(usage.PAGING_OPERATIONS), *_EACH),
            legend="host swapping {{instance}}",
            unit="ops",
        ),
        Query(
            expression=summed(flow(usage.MEMORY_STALLS), *_EACH),
            legend="host stalls {{instance}}",
            unit="ops",
        ),
    )
    lost = one_of(label_name("tercet.event"), ("oom", "oom_kill"))
    yield _failed(
        "Out of memory",
        "Processes that the kernel killed for memory, and errors of the memory itself.",
        Query(expression=summed(grown(usage.OOM_KILLS), *_EACH), legend="host kills {{instance}}"),
        Query(
            expression=summed(grown(usage.CONTAINER_MEMORY_EVENTS, lost), *_EACH, label_name("tercet.event")),
            legend="container {{tercet_event}} {{instance}}",
        ),
        *_hardware("memory"),
    )


def _disk() -> Iterator[Panel]:
    device, mountpoint = label_name("system.device"), label_name("system.filesystem.mountpoint")
    yield _used(
        "Disk used",
        "Share of the time in which a disk was busy, and of the space of each filesystem.",
        Query(
            expression=_highest(usage.DISK_UTILIZATION, device), legend="{{system_device}} busy {{instance}}"
        ),
        Query(
            expression=_highest(usage.FILESYSTEM_UTILIZATION, mountpoint),
            legend="{{system_filesystem_mountpoint}} full {{instance}}",
        ),
    )
    yield _waited(
        "Disk waited for",
        "Share of the time in which tasks waited for a disk; on the right, operations of a disk on average.",
        *_pressure("io"),
        Query(
            expression=summed(flow(usage.DISK_QUEUE_TIME), *_EACH, device),
            legend="{{system_device}} queue {{instance}}",
            unit="short",
        ),
    )
    yield _failed(
        "Disk errors",
        "Errors of disks and filesystems that the kernel knows.",
        *_hardware("physical_disk", "logical_disk"),
    )


def _network() -> Iterator[Panel]:
    direction = label_name("network.io.direction")
    yield _used(
        "Network used",
        "Share of the speed of each interface that has one; on the right, bytes a second.",
        Query(
            expression=_highest(usage.NETWORK_UTILIZATION, label_name("hw.id"), direction),
            legend="{{hw_id}} {{network_io_direction}} {{instance}}",
        ),
        Query(
            expression=summed(flow(usage.NETWORK_IO), *_EACH, direction),
            legend="{{network_io_direction}} {{instance}}",
            unit="binBps",
        ),
    )
    again, sent = (
        summed(flow(usage.TCP_RETRANSMITS), *_EACH),
        summed(flow(usage.TCP_SEGMENTS, equal(direction, "transmit")), *_EACH),
    )
    yield _waited(
        "Network waited for",
        "Share of TCP segments that were sent again; on the right, packets and connections dropped a second.",
        Query(expression=ratio(again, sent), legend="sent again {{instance}}"),
        Query(
            expression=summed(flow(usage.NETWORK_DROPPED), *_EACH),
            legend="dropped packets {{instance}}",
            unit="pps",
        ),
        Query(
            expression=summed(flow(usage.TCP_REFUSED), *_EACH),
            legend="dropped connections {{instance}}",
            unit="cps",
        ),
    )
    yield _failed(
        "Network errors",
        "Errors of interfaces, and TCP segments that arrived damaged.",
        Query(expression=summed(grown(usage.NETWORK_ERRORS), *_EACH), legend="interfaces {{instance}}"),
        Query(expression=summed(grown(usage.TCP_ERRORS), *_EACH), legend="TCP {{instance}}"),
    )


def _pools() -> Iterator[Panel]:
    pool, threads, queue = (
        label_name(key)
        for key in ("db.client.connection.pool.name", "tercet.thread_pool.name", "tercet.queue.name")
    )
    used = equal(label_name("db.client.connection.state"), "used")
    yield _used(
        "Pools used",
        "Share of what may be open at once: threads of pools, connections to databases, places in queues, "
        "files.",
        Query(
            expression=_of(summed(value(usage.THREADS_USED), *_EACH, threads), usage.THREADS_LIMIT, threads),
            legend="threads {{tercet_thread_pool_name}} {{instance}}",
        ),
        Query(
            expression=_of(summed(value(usage.POOL_CONNECTIONS, used), *_EACH, pool), usage.POOL_MAX, pool),
            legend="connections {{db_client_connection_pool_name}} {{instance}}",
        ),
        Query(
            expression=_of(summed(value(usage.QUEUE_LENGTH), *_EACH, queue), usage.QUEUE_LIMIT, queue),
            legend="queue {{tercet_queue_name}} {{instance}}",
        ),
        Query(
            expression=_of(summed(value(usage.PROCESS_FILES), *_EACH), usage.PROCESS_FILES_LIMIT),
            legend="files {{instance}}",
        ),
    )
    yield graph(
        "What requests wait for",
        "What one in a hundred waits at least: for the event loop, garbage collection, threads, "
        "connections and locks.",
        "s",
        *(_p99(what, metric, *by) for what, metric, by in _WAITS),
        Query(expression=_highest(usage.QUEUE_AGE, queue), legend="oldest in {{tercet_queue_name}}"),
    )
    yield graph(
        "Not had in time",
        "Requests that got no connection before their patience ended, a second.",
        "reqps",
        _given_up("database", usage.POOL_TIMEOUTS, usage.POOL_MAX, pool),
        _given_up("HTTP", usage.HTTP_TIMEOUTS, usage.HTTP_CONNECTIONS, label_name("server.address")),
    )


def _given_up(what: str, timeouts: Metric, there: Metric, by: str) -> Query:
    """Show who waited in vain: nobody where there are connections and no timeout yet."""
    labels = (names.JOB, by)
    in_vain = summed(flow(timeouts), *labels)
    return Query(
        expression=f"{in_vain}\nor on ({', '.join(labels)}) 0 * {summed(value(there), *labels)}",
        legend=f"{what} {legend_of(by)}",
    )


_WAITS: tuple[tuple[str, Metric, tuple[str, ...]], ...] = (
    ("event loop", usage.LOOP_LAG, ()),
    ("garbage collection", usage.GC_PAUSE, ()),
    ("thread", usage.THREADS_WAIT, ("tercet.thread_pool.name",)),
    ("connection", usage.POOL_WAIT, ("db.client.connection.pool.name",)),
    ("connection to", usage.HTTP_WAIT, ("server.address",)),
    ("lock", usage.LOCK_WAIT, ("tercet.lock.name",)),
)
_WAITING: tuple[tuple[str, Metric, str], ...] = (
    ("for a thread of", usage.THREADS_WAITING, "tercet.thread_pool.name"),
    ("for a connection of", usage.POOL_PENDING, "db.client.connection.pool.name"),
    ("for a connection to", usage.HTTP_PENDING, "server.address"),
    ("in queue", usage.QUEUE_LENGTH, "tercet.queue.name"),
)


def _processes() -> Iterator[Panel]:
    yield graph(
        "Memory of processes",
        "Physical memory of each process; a line that only rises is a leak.",
        "bytes",
        Query(expression=summed(value(usage.PROCESS_MEMORY), *_EACH), legend=_PROCESS),
    )
    yield graph(
        "What waits right now",
        "Work that is there and has not begun, by what it waits for.",
        "short",
        *(
            Query(
                expression=summed(value(metric), names.JOB, label_name(key)),
                legend=f"{what} {legend_of(label_name(key))}",
            )
            for what, metric, key in _WAITING
        ),
    )
    reporting = select(names.TARGET_INFO, JOB, ENVIRONMENT)
    yield graph(
        "Processes",
        "How many report, by version. Fewer than there should be: some ended, or cannot be reached.",
        "short",
        Query(
            expression=f"count by ({names.JOB}, {names.VERSION}) ({reporting})",
            legend=legend_of(names.JOB, names.VERSION),
        ),
    )


def _used(title: str, description: str, *queries: Query) -> Panel:
    return graph(title, description, _SHARE, *queries, most=1)


def _waited(title: str, description: str, *queries: Query) -> Panel:
    return graph(title, description, _SHARE, *queries, most=0.1)


def _failed(title: str, description: str, *queries: Query) -> Panel:
    return graph(title, f"{description} 0 is what it should be.", "short", *queries, most=1)


def _highest(metric: Metric, *by: str) -> str:
    return f"max by ({', '.join((*_EACH, *by))}) ({value(metric)})"


def _of(used: str, limit: Metric, *by: str) -> str:
    return f"{used} / ({summed(value(limit), *_EACH, *by)} > 0)"


def _pressure(resource: str) -> Iterator[Query]:
    some = equal(label_name("tercet.resource"), resource), equal(label_name("tercet.pressure"), "some")
    for metric, legend in ((usage.PRESSURE, _HOST), (usage.CONTAINER_PRESSURE, _CONTAINER)):
        yield Query(expression=summed(flow(metric, *some), *_EACH), legend=legend)


def _hardware(*kinds: str) -> Iterator[Query]:
    """Count errors of hardware: none where a host is measured and knows of none."""
    kind = label_name("hw.type")
    errors = summed(grown(usage.HARDWARE_ERRORS, one_of(kind, kinds)), *_EACH, kind)
    none_known = f"0 * {summed(value(usage.CPU_COUNT), *_EACH)}"
    yield Query(
        expression=f"{errors}\nor on ({', '.join(_EACH)}) {none_known}",
        legend="hardware {{hw_type}} {{instance}}",
    )


def _p99(what: str, metric: Metric, *keys: str) -> Query:
    by = tuple(map(label_name, keys))
    legend = f"{what} {legend_of(*by)}".strip()
    return Query(expression=quantile("0.99", metric, (names.JOB, *by)), legend=legend, exemplars=True)
