"""Knobs: names, ranges, text, what a write recomputes."""

import numpy as np
import pytest

from mm.physical import page_alloc
from mm.sim.machine import Machine
from mm.sim.sysctl import KNOBS, VM_TABLE, find_knob

NORMAL = 2
SCALARS = [knob for knob in VM_TABLE if knob.nr_values == 1]


@pytest.fixture
def m():
    return Machine("1G", zones=["Normal"], cpus=4)


def limits(m):
    """Everything that the handlers compute."""
    zone = ["watermark", "lowmem_reserve", "pageset_high", "pageset_batch", "watermark_boost"]
    return {"zones": m.zones[zone].copy(), "pageset": m.pageset[["high", "batch"]].copy(), "g": m.g.copy(),
            "nodes": m.nodes.copy()}


def changed(before, after):
    return {name for name in before if (before[name] != after[name]).any()}


def test_the_table_is_complete_and_in_order():
    assert list(KNOBS) == sorted(KNOBS)
    for knob in VM_TABLE:
        assert knob.name.startswith("vm.") and knob.doc and knob.low <= knob.high


@pytest.mark.parametrize("knob", [k for k in VM_TABLE if k.default is not None], ids=lambda k: k.name)
def test_defaults(m, knob):
    assert m.sysctl[knob.name] == knob.default


def test_mapping(m):
    assert set(m.sysctl) == set(KNOBS) and len(m.sysctl) == len(KNOBS)
    assert "vm.min_free_kbytes" in m.sysctl and "vm/min_free_kbytes" in m.sysctl and "vm.nothing" not in m.sysctl
    assert m.sysctl["vm/min_free_kbytes"] == 4096 and m.sysctl.get("vm.nothing", 7) == 7 and 5 not in m.sysctl
    assert dict(m.sysctl)["vm.numa_zonelist_order"] == "Node"
    assert "vm.min_free_kbytes = 4096\n" in repr(m.sysctl)


def test_text_is_what_proc_shows(m):
    assert m.sysctl.text("vm.lowmem_reserve_ratio") == "256\t256\t32\t0\t0\n"
    assert m.sysctl.text("vm.min_free_kbytes") == "4096\n"


def test_unknown_knob_names_the_nearest(m):
    with pytest.raises(ValueError, match=r"vm\.min_free_kbytes"):
        m.sysctl["vm.min_free_kbyte"]
    with pytest.raises(ValueError, match="did you mean"):
        m.sysctl["swappiness"] = 1
    with pytest.raises(ValueError, match="no knob 3"):
        find_knob(3)


@pytest.mark.parametrize("knob", SCALARS, ids=lambda k: k.name)
def test_out_of_range_names_the_range_and_changes_nothing(m, knob):
    before = limits(m)
    for value in (knob.low - 1, knob.high + 1):
        with pytest.raises(ValueError, match=f"{knob.low} to {knob.high}"):
            m.sysctl[knob.name] = value
    for value in ("x", "", None, 1.5, True, [1, 2]):
        with pytest.raises(ValueError, match=knob.name):
            m.sysctl[knob.name] = value
    assert not changed(before, limits(m))


@pytest.mark.parametrize("knob", SCALARS, ids=lambda k: k.name)
def test_a_value_reads_back(m, knob):
    for value in (knob.low, 8, min(knob.high, 3000), np.int64(9), "0x10"):
        m.sysctl[knob.name] = value
        assert m.sysctl[knob.name] == int(str(value), 0)
        m.verify()


def test_writing_what_is_read_changes_no_limit(m):
    before = limits(m)
    for name in m.sysctl:
        if name != "vm.min_free_kbytes":
            m.sysctl[name] = m.sysctl[name]
            m.sysctl[name] = m.sysctl.text(name)
    assert not changed(before, limits(m))


# ------------------------------------------------------------------------------------------------ what a write does

@pytest.mark.spec("PA-08")
def test_min_free_kbytes_is_divided_by_pages_and_remembered(m):
    m.sysctl["vm.min_free_kbytes"] = 65536
    assert m.zones["watermark"][NORMAL].tolist() == [16384, 20480, 24576, 28672]
    assert m.g["user_min_free_kbytes"][0] == 65536
    assert m.pageset["high"][NORMAL, 0] == 20480 // 4
    assert m.g["totalreserve_pages"][0] == 24576
    page_alloc.calculate_min_free_kbytes(m)
    assert m.sysctl["vm.min_free_kbytes"] == 65536, "an automatic value does not replace a larger one of the user"


def test_scale_factor_widens_the_gaps_only_above_a_quarter_of_min(m):
    m.sysctl["vm.watermark_scale_factor"] = 3000
    assert m.zones["watermark"][NORMAL].tolist() == [1024 + i * 78643 for i in range(4)]
    m.sysctl["vm.watermark_scale_factor"] = 1
    assert m.zones["watermark"][NORMAL].tolist() == [1024, 1280, 1536, 1792]


def test_high_fraction(m):
    m.sysctl["vm.percpu_pagelist_high_fraction"] = 8
    assert m.pageset["high"][NORMAL].tolist() == [262144 // 8 // 4] * 4
    with pytest.raises(ValueError, match="at least 8"):
        m.sysctl["vm.percpu_pagelist_high_fraction"] = 7
    assert m.sysctl["vm.percpu_pagelist_high_fraction"] == 8
    m.sysctl["vm.percpu_pagelist_high_fraction"] = 1_000_000
    assert m.pageset["high"][NORMAL, 0] == 4 * 63, "never below four batches"
    m.sysctl["vm.percpu_pagelist_high_fraction"] = 0
    assert m.pageset["high"][NORMAL, 0] == 321


def test_high_fraction_includes_the_boost_and_recomputes_only_on_change(m):
    m.zones["watermark_boost"][NORMAL] = 512
    m.sysctl["vm.percpu_pagelist_high_fraction"] = 0
    assert m.pageset["high"][NORMAL, 0] == 321
    m.sysctl["vm.percpu_pagelist_high_fraction"] = 8
    m.sysctl["vm.percpu_pagelist_high_fraction"] = 0
    assert m.pageset["high"][NORMAL, 0] == (1286 + 512) // 4


@pytest.mark.spec("PA-10")
def test_lowmem_reserve_ratio_takes_some_numbers_text_or_a_tuple():
    m = Machine("8G", zones=["DMA", "DMA32", "Normal"])
    normal = 1048576
    m.sysctl["vm.lowmem_reserve_ratio"] = "64 64 16 0"
    assert m.sysctl["vm.lowmem_reserve_ratio"] == (64, 64, 16, 0, 0)
    assert m.zones["lowmem_reserve"][1, 2] == normal // 64
    m.sysctl["vm.lowmem_reserve_ratio"] = (1, -5)
    assert m.sysctl["vm.lowmem_reserve_ratio"] == (1, 0, 16, 0, 0)
    above = 1044480 + normal
    assert m.zones["lowmem_reserve"][:2].tolist() == [[0, 1044480, above, above, above], [0] * 5]
    assert m.g["totalreserve_pages"][0] == 4096 + m.zones["watermark"][1:3, 2].sum()
    for bad in ((1,) * 6, (), "1 x", ((1 << 31),)):
        with pytest.raises(ValueError, match="lowmem_reserve_ratio"):
            m.sysctl["vm.lowmem_reserve_ratio"] = bad


def test_node_reclaim_ratios(m):
    m.sysctl["vm.min_unmapped_ratio"] = 100
    m.sysctl["vm.min_slab_ratio"] = 0
    assert (m.nodes["min_unmapped_pages"][0], m.nodes["min_slab_pages"][0]) == (262144, 0)
    assert (m.sysctl["vm.min_unmapped_ratio"], m.sysctl["vm.min_slab_ratio"]) == (100, 0)


def test_every_node_reclaim_ratio_reads_back_on_several_zones():
    m = Machine("3G", zones=["DMA", "DMA32", "Normal"], nodes=3)
    for ratio in range(101):
        m.sysctl["vm.min_slab_ratio"] = ratio
        assert m.sysctl["vm.min_slab_ratio"] == ratio


def test_zonelist_order_is_node_whatever_is_written(m):
    before = limits(m)
    for value in ("Node", "n", "Default"):
        m.sysctl["vm.numa_zonelist_order"] = value
    with pytest.raises(ValueError, match="only 'Node'"):
        m.sysctl["vm.numa_zonelist_order"] = "Zone"
    assert m.sysctl["vm.numa_zonelist_order"] == "Node" and not changed(before, limits(m))


def test_requests_see_a_write_at_once(m):
    """More than the whole zone as min mark: nothing can be allocated until it is taken back."""
    m.free_pages(m.alloc_pages(0xcc0))
    m.sysctl["vm.min_free_kbytes"] = 2 << 20
    with pytest.raises(MemoryError):
        m.alloc_pages(0xcc0)
    m.sysctl["vm.min_free_kbytes"] = 4096
    m.free_pages(m.alloc_pages(0xcc0))


def test_ratios_of_a_recorded_machine_are_found(recording):
    """Recorded: 2430 and 12155 pages of 245431, computed when fewer were managed."""
    m = Machine.from_snapshot(recording("G1024") / "snap-boot.npz")
    assert (m.sysctl["vm.min_unmapped_ratio"], m.sysctl["vm.min_slab_ratio"]) == (1, 5)
    assert m.sysctl["vm.min_free_kbytes"] == 45056
