"""Why the allocator has layers: shares of the per-CPU lists and acquisitions of the zone lock on R1."""

import pytest

import mm
from mm.sim.layers import counters

PAIRS = 100_000


@pytest.mark.spec("PA-20", missing="lock waits")
@pytest.mark.parametrize("is_pcp_disabled, locks", [(0, 0), (1, 2 * PAIRS)])
def test_zone_lock_with_and_without_per_cpu_lists(is_pcp_disabled, locks):
    m = mm.Machine("1G", zones=["Normal"], cpus=4)
    m.g["is_pcp_disabled"] = is_pcp_disabled
    m.refresh()
    m.update_current()
    for cpu in range(4):
        m.free_pages(m.alloc_pages(mm.GFP_KERNEL, 0, cpu), 0, cpu)
        start = counters(m)
        for _ in range(PAIRS):
            m.free_pages(m.alloc_pages(mm.GFP_KERNEL, 0, cpu), 0, cpu)
        found = m.layers(start)
        assert (found["allocations"], found["zone_lock"]) == (PAIRS, locks)
        assert found["pcp"] + found["smallest"] + found["fallback"] + found["slow"] == PAIRS
        assert found["pcp"] == (0 if is_pcp_disabled else PAIRS)


@pytest.mark.broken_machine
def test_an_allocation_that_no_counter_knows_is_an_error():
    m = mm.Machine("64M", zones=["Normal"])
    m.zones["numa_event"][2, 0] += 100
    with pytest.raises(mm.VMBug, match="100 allocations"):
        m.layers()
