"""Memory that is kept for nothing: never more than its bound, never more than the machine can spare."""

import pytest

from tercet.demo.hoard import MOST_BYTES, STEP_BYTES, Hoard, _free_bytes

PLENTY = 64 * 2**30


def test_a_hoard_grows_up_to_its_bound_and_gives_all_of_it_back():
    """However many orders come."""
    hoard = Hoard(lambda: PLENTY)
    sizes = []
    for _ in range(20):
        hoard.grow()
        sizes.append(hoard.size)
    hoard.release()

    assert (sizes[0], sizes[-1], hoard.size) == (STEP_BYTES, MOST_BYTES, 0)


@pytest.mark.parametrize(
    ("free", "kept"), [(15 * STEP_BYTES, 0), (16 * STEP_BYTES, STEP_BYTES), (None, STEP_BYTES)]
)
def test_others_need_memory_more(free, kept):
    """A step is a sixteenth of what is free, at most; where nobody knows, the bound alone counts."""
    hoard = Hoard(lambda: free)
    hoard.grow()

    assert hoard.size == kept


def test_what_is_free_is_what_host_and_container_both_have(tmp_path):
    """Read from the kernel's files, where there are any."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 4096 kB\nMemAvailable: 2048 kB\n")
    host_alone = _free_bytes(str(tmp_path))
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/\n")
    (tmp_path / "proc" / "self" / "mountinfo").write_text(
        "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    )
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    for name, text in {
        "memory.max": "1048576",
        "memory.current": "524288",
        "memory.stat": "inactive_file 0\n",
        "memory.events": "max 0\n",
    }.items():
        (group / name).write_text(text)

    assert (host_alone, _free_bytes(str(tmp_path))) == (2048 * 1024, 524288)
    assert _free_bytes(str(tmp_path / "elsewhere")) is None
