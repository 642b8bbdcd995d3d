"""Buddy free areas: splitting, handing out, merging; exact counts on the reference machine R1 without pcp."""

import random

import numpy as np
import pytest
from r1_machine import GFP_MOVABLE, HIGHATOMIC, MANAGED, MOVABLE, OF_TYPE, nr_free, on_list, r1, without_pcp

from mm.errors import AllocationFailed

FRESH = [0] * 10 + [256]                # 262144 pages in blocks of 1024
ONE_TAKEN = [1] * 10 + [255]            # one page of an order-10 block: a half, a quarter, ... are left
CHECK_EVERY = 1000
LARGEST_STOCK = 60_000                  # pages held at once by the random check


@pytest.fixture
def m():
    return without_pcp(r1())


@pytest.mark.spec("PA-02")
def test_fresh_zone_has_only_the_largest_movable_blocks(m):
    assert nr_free(m) == FRESH
    assert on_list(m, 10, MOVABLE) == list(range(0, MANAGED, 1024))


@pytest.mark.spec("PA-02")
def test_one_page_splits_one_block_down_to_order_0(m):
    assert m.alloc_pages(GFP_MOVABLE) == 0
    assert nr_free(m) == ONE_TAKEN


@pytest.mark.spec("PA-02")
def test_split_hands_out_low_halves_and_keeps_high_halves(m):
    m.alloc_pages(GFP_MOVABLE)
    assert [on_list(m, order, MOVABLE) for order in range(10)] == [[1 << order] for order in range(10)]


@pytest.mark.spec("PA-02")
def test_pages_are_handed_out_from_the_lowest_address_on(m):
    assert [m.alloc_pages(GFP_MOVABLE) for _ in range(4)] == [0, 1, 2, 3]


@pytest.mark.spec("PA-02")
def test_smallest_block_that_fits_is_split(m):
    m.alloc_pages(GFP_MOVABLE, 3)
    assert m.alloc_pages(GFP_MOVABLE, 2) == 8
    assert on_list(m, 2, MOVABLE) == [12]
    assert nr_free(m)[10] == 255


@pytest.mark.spec("PA-02")
@pytest.mark.parametrize("order", range(11))
def test_block_of_every_order_is_its_own_low_half(m, order):
    assert m.alloc_pages(GFP_MOVABLE, order) == 0
    assert nr_free(m) == [0] * order + [1] * (10 - order) + [255]


@pytest.mark.spec("PA-03")
def test_pages_merge_only_with_their_free_buddy(m):
    pfns = [m.alloc_pages(GFP_MOVABLE) for _ in range(4)]
    m.free_pages(pfns[1])
    m.free_pages(pfns[3])
    assert nr_free(m)[:3] == [2, 0, 1]      # order 2: pages 4 to 7, never handed out
    m.free_pages(pfns[0])
    assert nr_free(m)[:3] == [1, 1, 1]
    m.free_pages(pfns[2])
    assert nr_free(m) == FRESH


@pytest.mark.spec("PA-03")
def test_free_goes_to_the_head(m):
    pfns = [m.alloc_pages(GFP_MOVABLE) for _ in range(16)]
    for pfn in pfns[0], pfns[4], pfns[8]:
        m.free_pages(pfn)
    assert on_list(m, 0, MOVABLE) == [8, 4, 0]


@pytest.mark.spec("PA-03")
def test_free_goes_to_the_tail_where_it_will_likely_merge(m):
    """The buddy one order up is free: page 2 of 0..3 with 0..1 free (buddy_merge_likely)."""
    pfns = [m.alloc_pages(GFP_MOVABLE) for _ in range(16)]
    m.free_pages(pfns[8])
    m.free_pages(pfns[0])
    m.free_pages(pfns[1])
    m.free_pages(pfns[2])
    assert on_list(m, 0, MOVABLE) == [8, 2]


@pytest.mark.spec("PA-03")
def test_pageblocks_merge_across_mergeable_types(m):
    pfns = [m.alloc_pages(GFP_MOVABLE, 9) for _ in range(2)]
    m.pageblock_flags[0] = 0
    for pfn in pfns:
        m.free_pages(pfn, 9)
    assert nr_free(m) == FRESH


@pytest.mark.spec("PA-03")
def test_pageblocks_do_not_merge_with_the_highatomic_reserve(m):
    pfns = [m.alloc_pages(GFP_MOVABLE, 9) for _ in range(2)]
    m.pageblock_flags[0] = HIGHATOMIC
    m.zones["nr_reserved_highatomic"] = 512 * (np.arange(len(m.zones)) == 2)
    m.start()
    for pfn in pfns:
        m.free_pages(pfn, 9)
    assert nr_free(m) == [0] * 9 + [2, 255]


def assert_no_page_is_lost(m, held):
    """Free and held pages make up the zone; no free block could merge with a free buddy of its own order."""
    free = sum(n << order for order, n in enumerate(nr_free(m)))
    assert free + held == MANAGED
    for order in range(10):
        heads = np.flatnonzero(m.buddy == order + 1)
        assert not np.isin(heads ^ (1 << order), heads).any()   # every type here is mergeable


@pytest.mark.parametrize("pairs", [
    100_000, pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.spec("PA-02", "PA-03")])])
def test_random_allocations_and_frees_restore_the_table(m, pairs):
    rng = random.Random(1)
    gfps, blocks, held, nr_allocated = list(OF_TYPE.values()), [], 0, 0
    for step in range(2 * pairs):
        order = rng.randrange(11)
        if nr_allocated < pairs and (not blocks or (held < LARGEST_STOCK and rng.random() < 0.6)):
            try:
                blocks.append((m.alloc_pages(rng.choice(gfps), order), order))
                held += 1 << order
                nr_allocated += 1
            except AllocationFailed:
                pytest.fail(f"step {step}: {MANAGED - held} pages are free")
        elif blocks:
            at = rng.randrange(len(blocks))
            blocks[at], blocks[-1] = blocks[-1], blocks[at]
            pfn, order = blocks.pop()
            m.free_pages(pfn, order)
            held -= 1 << order
        if step % CHECK_EVERY == 0:
            assert_no_page_is_lost(m, held)
    for pfn, order in blocks:
        m.free_pages(pfn, order)
    assert nr_allocated == pairs
    assert nr_free(m) == FRESH
