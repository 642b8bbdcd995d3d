"""The firmware map: types, overlaps, BIOS rules, sizes, /proc/iomem, the maps of recorded machines."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm.physical.e820 import (
    E820_TYPE_RAM,
    E820_TYPE_RESERVED,
    NOMERGE,
    E820Entry,
    E820Table,
    e820_from_iomem,
    e820_type,
    memparse,
    parse_iomem,
    pc_memory_map,
)
from mm.physical.memblock import Memblock

MIB, GIB = 1 << 20, 1 << 30
G_SETS = ("G256", "G512", "G1024", "G2n", "G6144", "Gtune")
RANGE = st.tuples(st.integers(0, 40), st.integers(0, 20), st.sampled_from(list(e820_type)))


@given(st.lists(RANGE, min_size=2, max_size=12))
def test_overlaps_go_to_the_higher_type(ranges):
    table = E820Table(ranges)
    table.update_table()
    want = [max((t for a, n, t in ranges if a <= i < a + n), default=0) for i in range(64)]
    have = [max((e.type for e in table.entries if e.addr <= i < e.end), default=0) for i in range(64)]
    assert have == want
    for a, b in itertools.pairwise(table.entries):
        assert a.end <= b.addr and a.size
        assert a.end < b.addr or a.type != b.type or a.type in NOMERGE


def test_soft_reserved_and_legacy_persistent_ranges_are_not_joined():
    for kind, count in ((e820_type.E820_TYPE_PRAM, 2), (e820_type.E820_TYPE_SOFT_RESERVED, 2), (E820_TYPE_RESERVED, 1)):
        table = E820Table([(0, 10, kind), (10, 10, kind)])
        table.update_table()
        assert len(table.entries) == count


def test_single_entry_is_left_alone():
    table = E820Table([(5, 0)])
    table.update_table()
    assert table.entries == [E820Entry(5, 0, E820_TYPE_RAM)]


def test_update_and_remove_touch_one_type_only():
    table = E820Table([(0, 100), (50, 100, "reserved")])
    table.range_update(40, 20, E820_TYPE_RAM, e820_type.E820_TYPE_ACPI)
    assert E820Entry(40, 20, e820_type.E820_TYPE_ACPI) in table.entries
    assert E820Entry(50, 100, E820_TYPE_RESERVED) in table.entries
    table.range_remove(0, 1000, E820_TYPE_RAM)
    assert all(e.type != E820_TYPE_RAM for e in table.entries)
    table.range_remove(0, 1000)
    assert table.entries == []


@pytest.mark.spec("PM-06", missing="a deferred mode of its own; the log of steps that memory does not depend on")
def test_page_zero_and_bios_area_are_no_memory():
    table = E820Table([(0, GIB)])
    table.trim_bios_range()
    memblock = Memblock()
    table.memblock_setup(memblock)
    assert [(r.base, r.end) for r in memblock.memory] == [(0x1000, 0xA0000), (0x100000, GIB)]


def test_only_usable_whole_pages_become_memory_and_soft_reserved_is_reserved():
    table = E820Table([(0x1800, 0x2000), (0x10000, 0x1000, "acpi"), (0x20000, 0x1000, "soft_reserved"),
                       (0x30000, 0x1000, e820_type.E820_TYPE_RESERVED_KERN), (0x40000, 0x1000, 7)])
    memblock = Memblock()
    table.memblock_setup(memblock)
    assert [(r.base, r.end) for r in memblock.memory] == [(0x2000, 0x3000), (0x30000, 0x31000)]
    assert [(r.base, r.end) for r in memblock.reserved] == [(0x20000, 0x21000)]


@pytest.mark.parametrize("text, value", [
    ("16G", 16 * GIB), ("512MiB", 512 * MIB), ("0x1000", 4096), (" 4k ", 4096), ("7", 7), (12, 12),
    ("1.5G", 3 * GIB // 2), ("1T", 1 << 40), ("3P", 3 << 50), ("10B", 10)])
def test_memparse(text, value):
    assert memparse(text) == value


@pytest.mark.parametrize("bad", ["", "G", "-1", -1, 1.5, None, True, "1.3K", "1GG", "0x", "\u0661G", "1e3"])
def test_memparse_refuses(bad):
    with pytest.raises(ValueError, match="size"):
        memparse(bad)


@pytest.mark.parametrize("bad, what", [((1,), "range"), ((0, 1, "cheese"), "cheese"), ((0, 1, 99), "99"),
                                       (((1 << 64) - 1, 2), "64-bit"), (("x", 1), "size")])
def test_bad_entries_are_named(bad, what):
    with pytest.raises(ValueError, match=what):
        E820Table([bad])


# ------------------------------------------------------------------------------------- maps of recorded machines

@pytest.mark.parametrize("name", G_SETS)
def test_pc_map_is_the_recorded_one(name, recording):
    """iomem shows the map after page 0 was taken; what lies under devices it does not show."""
    directory = recording(name)
    recorded = e820_from_iomem((directory / "iomem.txt").read_text())
    table = pc_memory_map(int(name[1:]) * MIB if name[1:].isdigit() else GIB)
    table.trim_bios_range()
    assert table.entries == recorded.entries


@pytest.mark.parametrize("name", G_SETS)
def test_pc_map_is_printed_as_the_firmware_gave_it(name, recording):
    printed = (recording(name) / "dmesg.txt").read_text()
    table = pc_memory_map(int(name[1:]) * MIB if name[1:].isdigit() else GIB)
    for line in table.print_table("BIOS-e820"):
        assert line in printed


@pytest.mark.parametrize("ram, low, high", [("3583M", 3583 * MIB, 0), ("3584M", 3 * GIB, 512 * MIB),
                                            ("1T", 3 * GIB, 1021 * GIB)])
def test_pc_memory_above_three_and_a_half_gib_leaves_a_hole(ram, low, high):
    table = pc_memory_map(memparse(ram))
    usable = [e for e in table.entries if e.type == E820_TYPE_RAM]
    assert usable[1].end + 0x20000 == low
    assert sum(e.size for e in usable if e.addr >= 4 * GIB) == high
    before = list(table.entries)
    table.update_table()
    assert table.entries == sorted(before), "nothing overlaps"


def test_a_pc_has_some_memory():
    with pytest.raises(ValueError, match="at least"):
        pc_memory_map(MIB)


IOMEM = """\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
00100000-3ffdffff : System RAM
  01000000-01e01d31 : Kernel code
40000000-febfffff : PCI Bus 0000:00
  e0000000-efffffff : 0000:00:04.0
fffc0000-ffffffff : Reserved
"""


def test_iomem_tree_and_map():
    resources = parse_iomem(IOMEM)
    assert resources[3] == (0x1000000, 0x1E01D32, 1, "Kernel code")
    assert [e.addr for e in e820_from_iomem(IOMEM).entries] == [0, 0x1000, 0x100000, 0xFFFC0000]


@pytest.mark.parametrize("text, what", [
    ("00000000-00000000 : System RAM\n00000000-00000000 : Reserved\n", "as root"),
    ("nonsense\n", "line 1"), ("00001000-0009fbff\n", "line 1"), ("2000-1000 : System RAM\n", "line 1"),
    ("00000000-00000fff : Reserved\n", "System RAM"), ("", "System RAM")])
def test_bad_iomem_is_named(text, what):
    with pytest.raises(ValueError, match=what):
        e820_from_iomem(text)
