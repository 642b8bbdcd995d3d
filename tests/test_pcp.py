"""Per-CPU page lists: sizes, refills, drains, and that CPUs do not share; on R1 (batch 63, high 321)."""

import pytest
from r1_machine import (
    GFP_KERNEL,
    GFP_MOVABLE,
    HIGHATOMIC,
    MEMALLOC,
    MOVABLE,
    NORMAL,
    block_type,
    changed,
    event,
    free_pages,
    full,
    give,
    is_granted,
    nr_free,
    r1,
    with_pcp,
    without_pcp,
)

from mm._fast.state import zone_flags
from mm.errors import AllocationFailed
from mm.sim.machine import Machine

MIB = 1 << 20
BATCH, HIGH = 63, 321                   # zone_batchsize(262144); low mark 1286 / 4 CPUs
LARGEST_DRAIN = HIGH - BATCH


def pcp(m, field, cpu=0, zone=NORMAL):
    return int(m.pageset[field][zone, cpu])


def with_empty_pcp_and_owned_pages(n):
    """R1 with `n` allocated single pages, the pcp lists empty and never used."""
    m = without_pcp(r1())
    pfns = [m.alloc_pages(GFP_MOVABLE) for _ in range(n)]
    return with_pcp(m), pfns


def drains(m, pfns, order=0):
    """[(frees since the last drain, pages drained)] while freeing."""
    found, since = [], 0
    for pfn in pfns:
        before = event(m, "PCP_DRAIN_PAGES")
        m.free_pages(pfn, order)
        since += 1
        drained = event(m, "PCP_DRAIN_PAGES") - before
        if drained:
            found.append((since, drained))
            since = 0
    return found


@pytest.mark.spec("PA-04")
def test_batch_and_high_of_one_zone():
    m = r1()
    assert [(pcp(m, "batch", cpu), pcp(m, "high", cpu)) for cpu in range(4)] == [(BATCH, HIGH)] * 4


@pytest.mark.spec("PA-04")
@pytest.mark.parametrize("zone, batch, high", [(0, 1, 4), (1, 63, 310), (2, 63, 312)])
def test_batch_and_high_of_three_zones(zone, batch, high):
    """Machine R2: low marks 2486 (DMA32) and 2496 (Normal) over 8 CPUs; DMA has 4 * batch."""
    m = Machine(memory_map=[(MIB, (8 << 30) - MIB)], zones=["DMA", "DMA32", "Normal"], cpus=8)
    assert (pcp(m, "batch", 0, zone), pcp(m, "high", 0, zone)) == (batch, high)


@pytest.mark.spec("PA-04")
@pytest.mark.parametrize("fraction, high", [(8, 8192), (100, 655)])
def test_high_of_a_fraction(fraction, high):
    """262144 / fraction / 4 CPUs."""
    m = r1()
    m.sysctl["vm.percpu_pagelist_high_fraction"] = fraction
    assert pcp(m, "high") == high


@pytest.mark.spec("PA-04")
def test_one_page_refills_a_batch():
    m = r1()
    before = free_pages(m)
    m.alloc_pages(GFP_MOVABLE)
    assert before - free_pages(m) == BATCH
    assert pcp(m, "count") == BATCH - 1
    assert nr_free(m) == [1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 255]


@pytest.mark.spec("PA-04")
@pytest.mark.parametrize("order, blocks", [(0, 63), (1, 31), (2, 15), (3, 7), (9, 2)])
def test_refill_is_the_batch_shifted_by_order(order, blocks):
    m = r1()
    m.alloc_pages(GFP_MOVABLE, order)
    assert event(m, "PCP_REFILL_PAGES") == blocks << order


@pytest.mark.spec("PA-04")
@pytest.mark.parametrize("order", [4, 5, 6, 7, 8, 10])
def test_other_orders_never_use_the_lists(order):
    m = r1()
    at_boot = event(m, "BUDDY_FREE")            # boot hands its blocks to buddy
    pfn = m.alloc_pages(GFP_MOVABLE, order)
    m.free_pages(pfn, order)
    assert m.pcp_lists() == {}
    assert (event(m, "PCP_REFILL"), event(m, "BUDDY_ALLOC"), event(m, "BUDDY_FREE") - at_boot) == (0, 1, 1)


@pytest.mark.spec("PA-04")
def test_refill_keeps_the_order_of_addresses():
    m = r1()
    assert [m.alloc_pages(GFP_MOVABLE) for _ in range(BATCH + 1)] == list(range(BATCH + 1))


@pytest.mark.spec("PA-04")
def test_last_page_freed_is_the_next_handed_out():
    m, pfns = with_empty_pcp_and_owned_pages(10)
    give(m, [pfns[3], pfns[7]])
    assert [m.alloc_pages(GFP_MOVABLE) for _ in range(2)] == [pfns[7], pfns[3]]


@pytest.mark.spec("PA-04")
def test_drains_double_up_to_high_less_batch():
    """63, 126, 252, then 258 = 321 - 63; each begins when the count is at 321 again."""
    m, pfns = with_empty_pcp_and_owned_pages(1400)
    assert drains(m, pfns) == [(321, 63), (63, 126), (126, 252), (252, 258), (258, 258), (258, 258)]


@pytest.mark.spec("PA-04")
def test_400_frees_drain_twice():
    m, pfns = with_empty_pcp_and_owned_pages(400)
    assert drains(m, pfns) == [(321, 63), (63, 126)]
    assert pcp(m, "free_factor") == 2
    assert pcp(m, "count") == 400 - 63 - 126


@pytest.mark.spec("PA-04")
def test_drain_takes_the_pages_freed_first():
    m, pfns = with_empty_pcp_and_owned_pages(HIGH)
    give(m, pfns)
    assert m.pcp_lists()[0, NORMAL, 0, MOVABLE].tolist() == pfns[:BATCH - 1:-1]


@pytest.mark.spec("PA-04")
@pytest.mark.parametrize("factor, after", [(3, 1), (2, 1), (1, 0), (0, 0)])
def test_allocation_halves_the_free_factor(factor, after):
    m, pfns = with_empty_pcp_and_owned_pages(1)
    give(m, pfns)
    m.pageset["free_factor"][NORMAL, 0] = factor
    m.alloc_pages(GFP_MOVABLE)
    assert pcp(m, "free_factor") == after


@pytest.mark.spec("PA-04")
def test_zone_under_reclaim_drains_at_four_batches():
    """min(4 * 63, 321) = 252; 63 pages go."""
    m, pfns = with_empty_pcp_and_owned_pages(252)
    m.zones["flags"][NORMAL] |= int(zone_flags.ZONE_RECLAIM_ACTIVE)
    changed(m)
    assert drains(m, pfns) == [(252, 63)]


@pytest.mark.spec("PA-04")
@pytest.mark.parametrize("order, left", [(1, 0), (3, 0), (0, 11)])
def test_high_order_free_while_draining_empties_the_lists(order, left):
    m, pfns = with_empty_pcp_and_owned_pages(10)
    without_pcp(m)
    block = m.alloc_pages(GFP_MOVABLE, order)
    with_pcp(m)
    give(m, pfns)
    m.pageset["free_factor"][NORMAL, 0] = 1
    m.free_pages(block, order)
    assert pcp(m, "count") == left
    assert event(m, "PCP_DRAIN_WHOLE") == (left == 0)


@pytest.mark.spec("PA-04")
def test_page_of_the_highatomic_reserve_waits_on_the_movable_list():
    m, (pfn,) = with_empty_pcp_and_owned_pages(1)
    without_pcp(m)
    m.alloc_pages(GFP_MOVABLE, 9)               # the block's other half
    m.pageblock_flags[pfn // 512] = HIGHATOMIC
    m.zones["nr_reserved_highatomic"][NORMAL] = 512
    rest = [other for other in range(pfn + 1, pfn + 512) if m.buddy[other]]
    for other in rest:                          # nothing free may stay on the old type's lists
        order = int(m.buddy[other]) - 1
        assert m.alloc_pages(GFP_MOVABLE, order) == other
    m.start()
    with_pcp(m)
    m.free_pages(pfn)
    assert block_type(m, pfn) == HIGHATOMIC
    assert m.pcp_lists()[0, NORMAL, 0, MOVABLE].tolist() == [pfn]


@pytest.mark.spec("PA-04")
def test_high_of_zero_lets_every_free_through():
    m, pfns = with_empty_pcp_and_owned_pages(5)
    m.zones["pageset_high"][NORMAL] = 0
    m.pageset["high"][NORMAL] = 0
    changed(m)
    give(m, pfns)
    assert m.pcp_lists() == {}


@pytest.mark.spec("PA-04")
def test_pages_freed_on_one_cpu_are_not_seen_by_another():
    m = with_pcp(full())
    m.free_pages(0, cpu=1)
    with pytest.raises(AllocationFailed):
        m.alloc_pages(GFP_MOVABLE | MEMALLOC, cpu=0)
    m.drain_local_pages(1)
    assert m.alloc_pages(GFP_MOVABLE | MEMALLOC, cpu=0) == 0


@pytest.mark.spec("PA-04")
def test_drain_empties_the_lists_of_its_cpu_only():
    m = r1()
    for cpu in 0, 1:
        m.alloc_pages(GFP_MOVABLE, cpu=cpu)
    m.drain_local_pages(1)
    assert (pcp(m, "count", 0), pcp(m, "count", 1)) == (BATCH - 1, 0)


@pytest.mark.spec("PA-04")
def test_pages_are_counted_by_size():
    m = r1()
    pfn = m.alloc_pages(GFP_KERNEL, 3)
    m.free_pages(pfn, 3)
    assert is_granted(m, GFP_KERNEL)
    assert m.proc["vmstat"].count("pgalloc_normal 9\n") == 1
    assert m.proc["vmstat"].count("pgfree 8\n") == 1
