"""What the kernel's files say, where a picture of a whole host would hide it."""

import pytest

from tercet.emit.procfs import parse_disks, parse_interfaces, parse_mounts, parse_process_stat, parse_stat


def test_the_name_of_a_program_may_hold_anything():
    """Spaces and parentheses too."""
    numbers = " ".join(str(number) for number in range(4, 53))
    assert parse_process_stat(f"1666 (a ) R (b) R {numbers}\n") == (20, 22)


def test_a_kernel_that_counts_less_is_read_as_well():
    """Linux 2.6 told no steal; disks had eleven numbers until 4.18."""
    stat = parse_stat("cpu  10 20 30 40\ncpu0 10 20 30 40\nprocs_running 1\nprocs_blocked 0\n", 10)
    assert stat.seconds == {
        "user": 1,
        "nice": 2,
        "system": 3,
        "idle": 4,
        "iowait": 0,
        "interrupt": 0,
        "steal": 0,
    }
    assert parse_disks("8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n")["sda"].queue_time == 0.011


def test_an_interface_may_have_a_colon_in_its_name():
    """An alias has."""
    text = f"head\nhead\n eth0:1: {' '.join(map(str, range(16)))}\n"
    assert parse_interfaces(text)["eth0:1"] == (0, 1, 2, 3, 8, 9, 10, 11)


def test_a_mount_may_have_a_space_in_its_name():
    """The kernel writes it in octal."""
    (mount,) = parse_mounts(
        "28 27 254:0 /a\\040b /mnt/c\\134d rw,relatime shared:1 - ext4 /dev/vda rw,discard\n"
    )
    assert (mount.root, mount.point, mount.kind, mount.device) == ("/a b", "/mnt/c\\d", "ext4", "/dev/vda")


@pytest.mark.parametrize("text", ["", "cpu", "cpu  x y\n", "proc"])
def test_a_text_that_is_no_such_file_is_refused(text):
    """With an error that means it is not there."""
    with pytest.raises((ValueError, LookupError)):
        parse_stat(text, 100)
