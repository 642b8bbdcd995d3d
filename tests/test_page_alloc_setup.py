"""Watermarks, reserves, per-CPU limits and thresholds: the specification's figures, and requests that meet them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm.errors import AllocationFailed
from mm.physical.page_alloc import (
    MAX_NR_ZONES,
    set_recommended_min_free_kbytes,
    setup_min_slab_ratio,
    setup_min_unmapped_ratio,
    zone_batchsize,
)
from mm.physical.vmstat import (
    calculate_normal_threshold,
    calculate_pressure_threshold,
    refresh_zone_stat_thresholds,
    set_pgdat_percpu_threshold,
)
from mm.sim.machine import Machine

MIB, GIB = 1 << 20, 1 << 30
GFP_KERNEL, GFP_ATOMIC, GFP_DMA32 = 0xCC0, 0xA20, 0xCC4
GFP_HIGHUSER_MOVABLE, GFP_UNMOVABLE_NOWAIT = 0x100CCA, 0x800
DMA, DMA32, NORMAL = 0, 1, 2


def r1(**kwargs):
    """One node, one zone Normal of 262144 managed pages, 4 CPUs."""
    return Machine("1G", zones=["Normal"], cpus=4, **kwargs)


def r2(**kwargs):
    """DMA 3840, DMA32 1044480, Normal 1048576 managed pages, 8 CPUs."""
    return Machine(memory_map=[(MIB, 8 * GIB - MIB)], zones=["DMA", "DMA32", "Normal"], cpus=8, **kwargs)


def marks(m, nr):
    return m.zones["watermark"][nr].tolist()


def without_pcp(m):
    """No per-CPU lists and no per-CPU part of counters: watermark tests see every page."""
    m.g["is_pcp_disabled"] = 1
    m.pageset["stat_threshold"] = 0
    m.refresh()
    m.update_current()
    return m


def nr_free(m, nr):
    m.fold_counters()
    return int(m.zones["vm_stat"][nr, 0] + m.pageset["vm_stat_diff"][nr, :, 0].sum())


def allocate_all(m, gfp, orders=(10, 4, 0)):
    """Allocate until the machine refuses, large blocks first."""
    for order in orders:
        while True:
            try:
                m.alloc_pages(gfp, order)
            except AllocationFailed:
                break


# ---------------------------------------------------------------------------------------------- figures of PA-08

@pytest.mark.spec("PA-08")
@pytest.mark.parametrize("thp, kbytes, want", [
    (False, 4096, [1024, 1286, 1548, 1810]), (True, 22528, [5632, 7040, 8448, 9856])])
def test_marks_of_one_zone(thp, kbytes, want):
    m = r1(thp=thp)
    assert m.sysctl["vm.min_free_kbytes"] == kbytes
    assert marks(m, NORMAL) == want


@pytest.mark.spec("PA-08")
@pytest.mark.parametrize("thp, kbytes, want", [
    (False, 11584, [[5, 8, 11], [1442, 2486, 3530], [1448, 2496, 3544]]),
    (True, 67584, [[30, 37, 44], [8416, 10520, 12624], [8449, 10561, 12673]])])
def test_marks_of_three_zones(thp, kbytes, want):
    m = r2(thp=thp)
    assert m.sysctl["vm.min_free_kbytes"] == kbytes
    assert [marks(m, nr)[:3] for nr in (DMA, DMA32, NORMAL)] == want


@pytest.mark.spec("PA-08")
@pytest.mark.parametrize("size, kbytes", [("16M", 512), ("64M", 1024), ("256M", 2048), ("4G", 8192), ("16G", 16384)])
def test_min_free_kbytes_by_size(size, kbytes):
    assert Machine(size, zones=["DMA", "DMA32", "Normal"]).sysctl["vm.min_free_kbytes"] == kbytes


def test_min_free_kbytes_has_a_floor_and_a_ceiling():
    """128 KiB below 1 MiB of memory; the ceiling needs 4 TiB and is tested on its formula's input."""
    assert Machine(512 << 10, zones=["Normal"]).sysctl["vm.min_free_kbytes"] == 128


@pytest.mark.spec("PA-08")
def test_scale_factor_moves_the_low_mark():
    m = r1()
    m.sysctl["vm.watermark_scale_factor"] = 100
    assert marks(m, NORMAL)[1] == 3645


def test_huge_pages_are_off_below_512_mib():
    assert Machine("511M", zones=["Normal"], thp=True).sysctl["vm.min_free_kbytes"] == 2893
    assert Machine("512M", zones=["Normal"], thp=True).sysctl["vm.min_free_kbytes"] == 22528


def test_khugepaged_asks_for_at_most_five_percent_and_only_raises():
    """5632 pages a zone; three zones on 1 GiB ask for 16896, a twentieth of what is above the high marks is less."""
    plain, m = (Machine("1G", zones=["DMA", "DMA32", "Normal"], nodes=2, thp=thp) for thp in (False, True))
    above_high = 262144 - sum(marks(plain, nr)[2] for nr in (0, 1, 6))
    assert m.sysctl["vm.min_free_kbytes"] == above_high // 20 * 4
    m.sysctl["vm.min_free_kbytes"] = 100_000
    set_recommended_min_free_kbytes(m)
    assert m.sysctl["vm.min_free_kbytes"] == 100_000
    set_recommended_min_free_kbytes(m, is_thp_enabled=False)
    assert m.sysctl["vm.min_free_kbytes"] == 100_000, "a user's larger value holds"
    m.refresh()


# ------------------------------------------------------------------------------------- requests that meet the marks

@pytest.mark.spec("PA-08")
@pytest.mark.parametrize("gfp, left", [(GFP_KERNEL, 1024), (GFP_ATOMIC, 384)])
def test_refusal_at_the_min_mark(gfp, left):
    """Refused at free = mark, so the last success leaves exactly the mark; atomic: half, and a quarter of that less."""
    m = without_pcp(r1())
    allocate_all(m, gfp)
    assert nr_free(m, NORMAL) == left


@pytest.mark.spec("PA-08")
def test_oom_victims_leave_half_of_the_min_mark():
    m = without_pcp(r1())
    m.current["flags"][0] = 0x40
    m.update_current()
    allocate_all(m, GFP_KERNEL, orders=(10, 0))
    assert nr_free(m, NORMAL) == 512


@pytest.mark.spec("PA-10")
def test_lowmem_reserve_keeps_lower_zones():
    m = without_pcp(r2())
    allocate_all(m, GFP_KERNEL)
    assert [nr_free(m, nr) for nr in (DMA, DMA32, NORMAL)] == [3840, 1442 + 4096, 1448]
    allocate_all(m, GFP_DMA32)
    assert nr_free(m, DMA32) == 1442


# ------------------------------------------------------------------------------------------------- boost, PA-09

@pytest.mark.spec("PA-09", missing="kswapd clearing the boost")
def test_boost_climbs_by_a_pageblock_to_its_cap():
    """Half of every pageblock is free as one order-8 block; each unmovable order-8 request steals one."""
    m = without_pcp(r1())
    m.current["flags"][0] = 0x1                             # PF_MEMALLOC: no watermark, to get the last blocks too
    m.update_current()
    heads = [m.alloc_pages(GFP_HIGHUSER_MOVABLE, 9) for _ in range(512)]
    m.current["flags"][0] = 0
    m.update_current()
    for pfn in heads:
        m.split_page(pfn, 9)
        for i in range(256):
            m.free_pages(pfn + i)
    assert m.zones["nr_free"][NORMAL].tolist() == [0] * 8 + [512, 0, 0]
    boosts = []
    for _ in range(6):
        m.alloc_pages(GFP_UNMOVABLE_NOWAIT, 8)
        boosts.append(int(m.zones["watermark_boost"][NORMAL]))
    assert boosts == [512, 1024, 1536, 2048, 2322, 2322]
    m.sysctl["vm.min_free_kbytes"] = 4096
    assert m.zones["watermark_boost"][NORMAL] == 0, "new marks end a boost"
    m.sysctl["vm.watermark_boost_factor"] = 0
    m.alloc_pages(GFP_UNMOVABLE_NOWAIT, 8)
    assert m.zones["watermark_boost"][NORMAL] == 0


# ------------------------------------------------------------------------------------- lowmem_reserve, totalreserve

@pytest.mark.spec("PA-10")
def test_reserves_of_three_zones():
    m = r2()
    assert m.zones["lowmem_reserve"][:3].tolist() == [[0, 4080, 8176, 8176, 8176], [0, 0, 4096, 4096, 4096], [0] * 5]


@pytest.mark.spec("PA-10")
def test_totalreserve_is_reserve_and_high_mark_at_most_the_zone():
    m = r2()
    assert m.g["totalreserve_pages"][0] == m.nodes["totalreserve_pages"][0] == 3840 + (4096 + 3530) + 3544


def test_reserves_count_zones_of_the_own_node_only():
    m = Machine("10G", zones=["DMA", "DMA32", "Normal"], nodes=2)
    upper = m.zones["managed_pages"].reshape(-1, MAX_NR_ZONES)
    assert m.zones["lowmem_reserve"][DMA32, NORMAL] == upper[0, NORMAL] // 256
    assert m.zones["lowmem_reserve"][MAX_NR_ZONES + NORMAL].tolist() == [0] * 5


# ------------------------------------------------------------------------------------------- pcp limits, thresholds

def test_per_cpu_limits():
    m = r1()
    assert (m.pageset["batch"][NORMAL].tolist(), m.pageset["high"][NORMAL].tolist()) == ([63] * 4, [321] * 4)
    m = r2()
    assert m.pageset["batch"][:3, 0].tolist() == [1, 63, 63]
    assert m.pageset["high"][:3, 7].tolist() == [4, 310, 312]


@pytest.mark.parametrize("managed, batch", [(3840, 0), (8192, 1), (16384, 3), (48343, 15), (112759, 31), (241591, 63),
                                            (1 << 30, 63), (0, 0)])
def test_batch_is_a_power_of_two_less_one(managed, batch):
    """0 stands for 1 in use.  3840 to 241591: zones of the recorded machines."""
    assert zone_batchsize(managed) == batch


def test_nodes_without_cpus_share_their_lists_among_all_cpus():
    m = Machine(zones=["Normal"], nodes=["1G", "1G"], cpus=[0, 0, 0, 0])
    assert m.pageset["high"][NORMAL, 0] == m.pageset["high"][MAX_NR_ZONES + NORMAL, 0]


@pytest.mark.parametrize("cpus, managed, threshold", [
    (1, 241591, 8), (2, 241529, 16), (1, 3840, 2), (2, 3840, 4), (2, 113500, 12), (1, 757962, 12), (4, 262144, 30),
    (4096, 1 << 28, 125)])
def test_normal_threshold(cpus, managed, threshold):
    """One and two CPUs: recorded; others by the formula of the specification."""
    m = Machine("64M", zones=["Normal"])
    m.zones["managed_pages"][NORMAL] = managed
    assert calculate_normal_threshold(m, NORMAL, cpus) == threshold
    m.zones["managed_pages"][NORMAL] = 16384


@given(st.integers(0, 1 << 20), st.integers(0, 1 << 20))
def test_pressure_threshold_is_between_1_and_125(low, distance):
    m = PRESSURE_MACHINE
    m.zones["watermark"][NORMAL] = [low, low + distance, 0, 0]
    assert calculate_pressure_threshold(m, NORMAL) == min(125, max(1, distance // 3))


PRESSURE_MACHINE = Machine("16M", zones=["Normal"], cpus=3)


def test_drift_mark_is_set_where_drift_could_hide_a_breach_and_stays():
    """Recorded: 2 CPUs, DMA of 3840 pages: high 21 + 2 x 4 = 29, also after the marks rose."""
    m = Machine("16M", zones=["Normal"], cpus=8)
    assert marks(m, NORMAL)[:3] == [128, 160, 192]
    assert m.pageset["stat_threshold"][NORMAL, 0] == 8 and m.zones["percpu_drift_mark"][NORMAL] == 192 + 64
    m.sysctl["vm.min_free_kbytes"] = 8192
    refresh_zone_stat_thresholds(m)
    assert m.zones["percpu_drift_mark"][NORMAL] == 256
    set_pgdat_percpu_threshold(m, 0, calculate_pressure_threshold)
    assert m.pageset["stat_threshold"][NORMAL, 0] == min(125, 512 // 8)


def test_node_reclaim_limits_are_percentages_rounded_by_zone():
    m = r2()
    assert m.nodes["min_unmapped_pages"][0] == 38 + 10444 + 10485
    assert m.nodes["min_slab_pages"][0] == 192 + 52224 + 52428
    setup_min_unmapped_ratio(m, 0)
    setup_min_slab_ratio(m, 100)
    assert m.nodes["min_unmapped_pages"][0] == 0
    assert m.nodes["min_slab_pages"][0] == 3840 + 1044480 + 1048576
