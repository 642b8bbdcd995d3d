"""The text of /proc and debugfs against what a real kernel printed in the same state."""

import pathlib
import re

import numpy as np
import pytest

import mm
from mm.sim.machine import Machine
from mm.sim.proc import Proc, Sys, thousandths

RECORDINGS = pathlib.Path(__file__).parent / "recordings"

# Recorded a moment before the snapshot: these counters have moved on, the rest must be equal.
MOVED = {"nr_anon_pages", "nr_kernel_stack", "nr_page_table_pages", "nr_slab_reclaimable", "nr_slab_unreclaimable",
         "nr_inactive_anon", "nr_active_anon", "nr_zone_inactive_anon", "nr_zone_active_anon", "nr_mapped", "nr_shmem",
         "nr_file_pages", "pgalloc_dma", "pgalloc_dma32", "pgalloc_normal", "pgfree", "pgfault", "pgreuse"}
# Datasets whose marks were changed by a sysctl between zoneinfo.txt and the snapshot.
WRITTEN_TO = {"X5"}
# Not in a snapshot.
NOT_RECORDED = {"numa_hit", "numa_miss", "numa_foreign", "numa_interleave", "numa_local", "numa_other"}


def datasets_with(name):
    return sorted(path.parent.name for path in RECORDINGS.glob(f"*/*/{name}"))


def folder_of(dataset):
    return next(RECORDINGS.glob(f"*/{dataset}"))


def machine_of(dataset):
    snap = folder_of(dataset) / "snap-before.npz"
    return Machine.from_snapshot(snap if snap.exists() else snap.with_name("snap-boot.npz"))


def text_of(dataset, name):
    return (folder_of(dataset) / name).read_text()


@pytest.mark.spec("PA-19")
@pytest.mark.parametrize("dataset", datasets_with("buddyinfo0.txt"))
@pytest.mark.parametrize("name", ["buddyinfo", "pagetypeinfo"])
def test_free_lists_are_printed_byte_for_byte(dataset, name):
    assert Proc(machine_of(dataset))[name] == text_of(dataset, f"{name}0.txt")


@pytest.mark.spec("PA-19")
@pytest.mark.parametrize("dataset", datasets_with("unusable0.txt"))
def test_unusable_index_is_printed_byte_for_byte(dataset):
    assert Sys(machine_of(dataset))["kernel/debug/extfrag/unusable_index"] == text_of(dataset, "unusable0.txt")


@pytest.mark.spec("PA-19")
@pytest.mark.parametrize("dataset", datasets_with("zoneinfo.txt"))
def test_zoneinfo_differs_only_in_counters_that_moved_on(dataset):
    names = "nr_|numa_|workingset_|pages free|count:" + ("|min |low |high" if dataset in WRITTEN_TO else "")
    moving = re.compile(rf"( +(?:{names}).*?) *[0-9]+")
    have = moving.sub(r"\1", Proc(machine_of(dataset))["zoneinfo"])
    want = moving.sub(r"\1", text_of(dataset, "zoneinfo.txt"))
    assert have.splitlines(keepends=True) == want.splitlines(keepends=True)


@pytest.mark.spec("PA-19")
@pytest.mark.parametrize("dataset", datasets_with("zoneinfo.txt"))
def test_zoneinfo_aligns_numbers_as_linux_does(dataset):
    digits = re.compile(r"[0-9]+$", re.MULTILINE)
    have = digits.sub("#", Proc(machine_of(dataset))["zoneinfo"])
    assert have == digits.sub("#", text_of(dataset, "zoneinfo.txt"))


@pytest.mark.spec("PA-19")
@pytest.mark.parametrize("dataset", datasets_with("vmstat0.txt"))
def test_vmstat_has_linux_lines_in_order_and_values(dataset):
    want = [line.split() for line in text_of(dataset, "vmstat0.txt").splitlines()]
    have = [line.split(" ") for line in Proc(machine_of(dataset))["vmstat"].splitlines()]
    assert [name for name, _ in have] == [name for name, _ in want]
    differing = {name for (name, a), (_, b) in zip(have, want, strict=True) if a != b}
    assert differing <= MOVED | NOT_RECORDED
    assert dict(have)["nr_dirty_threshold"] == dict(want)["nr_dirty_threshold"]


def test_two_nodes_are_printed_one_after_the_other():
    proc = Proc(machine_of("E1"))
    zones = re.findall(r"^Node (\d), zone +(\w+)$", proc["zoneinfo"], re.MULTILINE)
    assert zones == [(node, zone) for node in "01" for zone in ("DMA", "DMA32", "Normal", "Movable", "Device")]
    assert proc["pagetypeinfo"].count("Page block order: 9\n") == 2
    assert [line[:23] for line in proc["buddyinfo"].splitlines()] == [
        "Node 0, zone      DMA  ", "Node 0, zone    DMA32  ", "Node 1, zone    DMA32  "]


@pytest.mark.broken_machine
def test_a_node_without_memory_and_cpus_is_not_printed():
    machine = machine_of("E1")
    machine.nodes["is_online"][1] = machine.nodes["nr_cpus"][1] = 0
    assert "Node 1" not in Proc(machine)["zoneinfo"]


def test_counts_follow_the_machine():
    machine = machine_of("H3")
    before = dict(line.split() for line in Proc(machine)["vmstat"].splitlines())
    pfns = [machine.alloc_pages(mm.GFP_KERNEL) for _ in range(700)]
    after = dict(line.split() for line in Proc(machine)["vmstat"].splitlines())
    assert int(after["pgalloc_dma32"]) - int(before["pgalloc_dma32"]) == 700
    assert int(after["numa_hit"]) - int(before["numa_hit"]) == 700
    for pfn in pfns:
        machine.free_pages(pfn)
    freed = dict(line.split() for line in Proc(machine)["vmstat"].splitlines())
    assert int(freed["pgfree"]) - int(after["pgfree"]) == 700
    machine.verify()


def test_a_list_longer_than_linux_counts_is_capped():
    machine = machine_of("G6144")
    for pfn in machine.alloc_pages_bulk(mm.GFP_HIGHUSER_MOVABLE, 250000).tolist():
        if pfn % 2:
            machine.free_pages(pfn)
    machine.drain_local_pages(0)
    line = next(x for x in Proc(machine)["pagetypeinfo"].splitlines() if "zone   Normal, type      Movable" in x)
    assert machine.zones["nr_free"][2, 0] > 100000
    assert line.startswith("Node    0, zone   Normal, type      Movable >100000 ")


@pytest.mark.broken_machine
def test_gauges_below_zero_are_printed_as_zero():
    machine = machine_of("H3")
    machine.zones["vm_stat"][1, 0] = -5
    machine.nodes["vm_stat"][0, 0] = -7
    text = Proc(machine)["zoneinfo"]
    assert "zone    DMA32\n  pages free     0\n" in text
    assert "      nr_inactive_anon 0\n" in text


@pytest.mark.broken_machine
def test_marks_are_printed_with_the_boost():
    machine = machine_of("H3")
    machine.zones["watermark_boost"][1] = 512
    low = int(machine.zones["watermark"][1, 1])
    assert f"        boost    512\n        min      {int(machine.zones['watermark'][1, 0]) + 512}\n" \
           f"        low      {low + 512}\n" in Proc(machine)["zoneinfo"]


def test_a_node_that_kswapd_gave_up_is_unreclaimable():
    machine = machine_of("H3")
    machine.nodes["kswapd_failures"][0] = 16
    assert "  node_unreclaimable:  1\n" in Proc(machine)["zoneinfo"]


@pytest.mark.spec("PA-19")
@pytest.mark.broken_machine
def test_extfrag_index_is_wide_and_signed_as_by_printf():
    # seq_printf("%2d.%03d ", index / 1000, index % 1000): C truncates toward zero and keeps the sign of the dividend.
    assert thousandths(-1000, 2) == "-1.000"
    assert thousandths(938, 2) == " 0.938"
    assert thousandths(-500, 2) == " 0.-500"
    assert thousandths(-7, 2) == " 0.-07"
    machine = machine_of("J1")
    machine.zones["nr_free"][0] = np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0])
    machine.zones["nr_free"][1] = np.array([1000, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    dma, dma32 = Sys(machine)["kernel/debug/extfrag/extfrag_index"].splitlines()
    assert dma == "Node 0, zone      DMA " + "-1.000 " * 10 + " 0.-500 "
    assert dma32.startswith("Node 0, zone    DMA32 -1.000  0.499 ")
    assert dma32[len("Node 0, zone    DMA32 "):].split()[4] == "0.937"


def test_files_are_a_read_only_mapping():
    proc, sys = Proc(machine_of("H3")), Sys(machine_of("H3"))
    assert list(proc) == ["buddyinfo", "pagetypeinfo", "zoneinfo", "vmstat"]
    assert len(sys) == 2
    assert "buddyinfo" in proc and "meminfo" not in proc
    with pytest.raises(KeyError, match=r"/proc/meminfo: not modelled; there are buddyinfo, pagetypeinfo"):
        proc["meminfo"]
    with pytest.raises(KeyError, match="not modelled"):
        proc[["buddyinfo"]]
    with pytest.raises(TypeError):
        proc["buddyinfo"] = ""
