"""The checks of the page allocator's sheet on its reference machines; figures are the sheet's unless a comment says why not."""

import numpy as np
import pytest

import mm
from mm._fast.state import pageflags, task_flags
from mm._fast.vm_event_item import numa_stat_item, vm_event_item

NORMAL = 2              # zone number on a machine of one node
UNMOVABLE, MOVABLE, RECLAIMABLE, HIGHATOMIC = range(4)
BLOCK = 512


def r1(pcp=True, size="1G", cpus=4):
    m = mm.Machine(size, zones=["Normal"], cpus=cpus)
    if not pcp:
        m.g["is_pcp_disabled"] = 1
        m.refresh()
        m.update_current()
    return m


def nr_free(m, zone=NORMAL):
    return m.zones["nr_free"][zone].tolist()


def exhaust(m, gfp):
    """Allocate every page; the marks are 0."""
    n = int(m.zones["managed_pages"][NORMAL])
    assert len(m.alloc_pages_bulk(gfp, n - 1)) == n - 1
    m.alloc_pages(gfp)
    assert not m.free_lists() and not m.pcp_lists()


def set_free(m, pages, zone=NORMAL):
    """Let the watermark tests see this many free pages."""
    m.zones["vm_stat"][zone, 0] = pages


class TestGfp:
    @pytest.mark.spec("PA-01", missing="CMA, which the reference configuration has not")
    @pytest.mark.parametrize("gfp, zone", [(mm.GFP_KERNEL, 2), (mm.GFP_DMA, 0), (mm.GFP_DMA32, 1), (mm.GFP_HIGHUSER, 2)])
    def test_the_mask_chooses_the_highest_zone(self, gfp, zone):
        m = mm.Machine(memory_map=[(1 << 20, (8 << 30) - (1 << 20))], zones=["DMA", "DMA32", "Normal"], cpus=2)
        pfn = m.alloc_pages(gfp)
        assert int(m.page["flags"][pfn] >> 16 & 0xFF) == zone

    @pytest.mark.spec("PA-01", missing="CMA, which the reference configuration has not")
    @pytest.mark.parametrize("gfp, order, zone, mt, flags", [
        (mm.GFP_ATOMIC, 0, 2, UNMOVABLE, "KSWAPD MIN_RESERVE NON_BLOCK"),
        (mm.GFP_ATOMIC, 2, 2, UNMOVABLE, "KSWAPD MIN_RESERVE NON_BLOCK HIGHATOMIC"),
        (mm.GFP_KERNEL, 0, 2, UNMOVABLE, "KSWAPD CPUSET"),
        (mm.GFP_NOWAIT, 0, 2, UNMOVABLE, "KSWAPD NON_BLOCK CPUSET"),
        (mm.GFP_NOIO, 0, 2, UNMOVABLE, "KSWAPD CPUSET"), (mm.GFP_NOFS, 0, 2, UNMOVABLE, "KSWAPD CPUSET"),
        (mm.GFP_USER, 0, 2, UNMOVABLE, "KSWAPD CPUSET"), (mm.GFP_HIGHUSER, 0, 2, UNMOVABLE, "KSWAPD CPUSET"),
        (mm.GFP_HIGHUSER_MOVABLE, 0, 3, MOVABLE, "KSWAPD CPUSET"),
        (mm.GFP_TRANSHUGE_LIGHT, 9, 3, MOVABLE, "CPUSET"), (mm.GFP_TRANSHUGE, 9, 3, MOVABLE, "CPUSET")])
    def test_composite_masks_decode(self, gfp, order, zone, mt, flags):
        decoded = r1().decode_gfp(gfp, order)
        assert (int(decoded.zone), int(decoded.migratetype)) == (zone, mt)
        assert {name.removeprefix("ALLOC_") for name in decoded.alloc_flags} == set(flags.split())

    @pytest.mark.spec("PA-01", missing="CMA, which the reference configuration has not")
    def test_scopes_take_rights_from_a_mask(self):
        m = mm.Machine(memory_map=[(1 << 20, (8 << 30) - (1 << 20))], zones=["DMA", "DMA32", "Normal", "Movable"],
                       kernelcore="4G")
        task = m.task()
        assert m.dump_page(m.alloc_pages(mm.GFP_HIGHUSER_MOVABLE)).zone == "Movable"
        with task.scope(task_flags.PF_MEMALLOC_PIN):
            assert m.dump_page(m.alloc_pages(mm.GFP_HIGHUSER_MOVABLE)).zone == "Normal"
        task.flags = task_flags.PF_RT
        assert "ALLOC_MIN_RESERVE" in m.decode_gfp(mm.GFP_KERNEL).alloc_flags

    @pytest.mark.spec("PA-01", missing="CMA, which the reference configuration has not")
    @pytest.mark.parametrize("gfp, mt", [(mm.GFP_KERNEL, UNMOVABLE), (mm.GFP_HIGHUSER_MOVABLE, MOVABLE),
                                         (mm.GFP_KERNEL | 0x10, RECLAIMABLE)])
    def test_the_mask_chooses_the_type(self, gfp, mt):
        m = r1()
        m.alloc_pages(gfp)
        assert [key[3] for key in m.pcp_lists()] == [mt]


class TestBuddy:
    @pytest.mark.spec("PA-02")
    def test_a_fresh_zone_is_whole(self):
        m = r1(pcp=False)
        assert nr_free(m) == [0] * 10 + [256]
        assert [key[3] for key in m.free_lists()] == [MOVABLE]

    @pytest.mark.spec("PA-02")
    def test_a_split_leaves_one_block_an_order_and_gives_the_lowest_page(self):
        m = r1(pcp=False)
        assert m.alloc_pages(mm.GFP_HIGHUSER_MOVABLE) == 0
        assert nr_free(m) == [1] * 10 + [255]

    @pytest.mark.spec("PA-02", "PA-03")
    def test_pairs_merge_when_both_are_free(self):
        m = r1(pcp=False)
        pages = [m.alloc_pages(mm.GFP_HIGHUSER_MOVABLE) for _ in range(4)]
        assert pages == [0, 1, 2, 3]
        m.free_pages(1)
        m.free_pages(3)
        assert nr_free(m)[:2] == [2, 0]
        m.free_pages(0)
        assert nr_free(m)[:2] == [1, 1]
        m.free_pages(2)
        assert nr_free(m) == [0] * 10 + [256]

    @pytest.mark.spec("PA-03")
    def test_random_allocations_all_freed_restore_the_table(self):
        m, rng, live = r1(pcp=False, size="64M"), np.random.default_rng(3), []
        for step in range(20_000):
            if live and rng.random() < 0.5:
                m.free_pages(*live.pop(int(rng.integers(len(live)))))
            else:
                order = int(rng.integers(11))
                try:
                    live.append((m.alloc_pages(mm.GFP_HIGHUSER_MOVABLE | 0x2000 & ~0x400, order), order))
                except mm.AllocationFailed:
                    continue
            if step % 1000 == 0:
                held = sum(1 << order for _, order in live)
                assert sum(n << o for o, n in enumerate(nr_free(m))) + held == 16384
                m.verify()
        for pfn, order in live:
            m.free_pages(pfn, order)
        assert nr_free(m) == [0] * 10 + [16]


class TestPcp:
    @pytest.mark.spec("PA-04")
    def test_first_allocation_refills_a_batch(self):
        m = r1()
        free = int(m.zones["vm_stat"][NORMAL, 0] + m.pageset["vm_stat_diff"][NORMAL, :, 0].sum())
        m.alloc_pages(mm.GFP_HIGHUSER_MOVABLE)
        now = int(m.zones["vm_stat"][NORMAL, 0] + m.pageset["vm_stat_diff"][NORMAL, :, 0].sum())
        assert free - now == 63
        assert int(m.pageset["count"][NORMAL, 0]) == 62
        assert nr_free(m) == [1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 255]

    @pytest.mark.spec("PA-04")
    def test_drains_double_until_they_leave_a_batch(self):
        m = r1()
        assert (int(m.pageset["high"][NORMAL, 0]), int(m.pageset["batch"][NORMAL, 0])) == (321, 63)
        pages = m.alloc_pages_bulk(mm.GFP_HIGHUSER_MOVABLE, 2000, cpu=1).tolist()
        counts, frees = [], []
        for i, pfn in enumerate(pages):
            before = int(m.pageset["count"][NORMAL, 0])
            m.free_pages(pfn, 0, 0)
            drained = before + 1 - int(m.pageset["count"][NORMAL, 0])
            if drained:
                counts.append(drained)
                frees.append(i + 1)
        assert counts[:5] == [63, 126, 252, 258, 258]
        assert np.diff(frees)[:3].tolist() == [63, 126, 252]
        assert frees[0] == 321

    @pytest.mark.spec("PA-04")
    def test_pages_of_one_cpu_are_not_seen_by_another(self):
        m = r1()
        pfn = m.alloc_pages(mm.GFP_KERNEL, cpu=0)
        m.free_pages(pfn, 0, 1)
        assert int(m.pageset["count"][NORMAL, 1]) == 1
        assert m.alloc_pages(mm.GFP_KERNEL, cpu=0) != pfn
        m.drain_local_pages(1)
        assert int(m.pageset["count"][NORMAL, 1]) == 0


class TestFallback:
    @pytest.mark.spec("PA-05", "PA-06")
    def test_a_big_block_changes_its_pageblocks_without_boost(self):
        m = r1(pcp=False)
        m.alloc_pages(mm.GFP_KERNEL)
        types = np.bincount(m.pageblock_flags & 7, minlength=2)
        assert types[:2].tolist() == [2, 510]
        assert int(m.zones["watermark_boost"][NORMAL]) == 0

    def pageblock(self, free, lru):
        """R1 whose only free pages are `free` single ones of a movable pageblock with `lru` LRU pages in it."""
        m = r1(pcp=False)
        m.zones["watermark"][NORMAL] = 0
        m.zones["lowmem_reserve"][NORMAL] = 0
        m.refresh()
        exhaust(m, mm.GFP_HIGHUSER_MOVABLE)
        start = 10 * BLOCK
        for pfn in range(start, start + 2 * free, 2):
            m.free_pages(pfn % BLOCK + start if pfn < start + BLOCK else pfn - BLOCK + 1)
        used = [pfn for pfn in range(start, start + BLOCK) if int(m.page["refcount"][pfn])]
        m.page["flags"][used[:lru]] |= int(pageflags["PG_lru"])
        m.zones["watermark"][NORMAL] = (0, 0, 1548, 1548)
        return m, start // BLOCK

    @pytest.mark.spec("PA-06")
    @pytest.mark.parametrize("free, lru, converts", [(300, 100, True), (100, 400, False)])
    def test_a_pageblock_converts_when_half_is_free_or_alike(self, free, lru, converts):
        m, block = self.pageblock(free, lru)
        m.alloc_pages(mm.GFP_ATOMIC)
        assert (int(m.pageblock_flags[block]) & 7 == UNMOVABLE) is converts
        assert {key[3] for key in m.free_lists()} == {UNMOVABLE}
        assert int(m.zones["watermark_boost"][NORMAL]) == 512

    @pytest.mark.spec("PA-05")
    def test_a_movable_request_takes_the_smallest_foreign_block(self):
        m = r1(pcp=False)
        m.zones["watermark"][NORMAL] = 0
        m.refresh()
        exhaust(m, mm.GFP_KERNEL)
        for pfn in (*range(800, 804), *range(1600, 1608)):
            m.free_pages(pfn)
        assert m.alloc_pages(mm.GFP_HIGHUSER_MOVABLE) == 800
        assert int(m.pageblock_flags[800 // BLOCK]) & 7 == UNMOVABLE


class TestHighAtomic:
    @pytest.mark.spec("PA-07", missing="giving the reserve back under pressure: needs direct reclaim")
    def test_the_reserve_grows_by_pageblocks_to_its_cap(self):
        m = r1(pcp=False)
        seen = []
        for _ in range(4000):
            set_free(m, 1200)       # below the low mark: the second pass, which has the right to reserve
            try:
                m.alloc_pages(mm.GFP_ATOMIC, 1)
            except mm.AllocationFailed:
                break
            reserved = int(m.zones["nr_reserved_highatomic"][NORMAL])
            if reserved not in seen:
                seen.append(reserved)
        assert seen == [512, 1024, 1536, 2048, 2560, 3072, 3584]


class TestWatermarks:
    @pytest.mark.spec("PA-08")
    @pytest.mark.parametrize("gfp, refused", [(mm.GFP_KERNEL | 0x10000, 1024), (mm.GFP_ATOMIC, 384)])
    def test_grants_begin_one_page_above_the_mark(self, gfp, refused):
        m = r1()
        m.alloc_pages(gfp)
        set_free(m, refused)
        with pytest.raises(mm.AllocationFailed):
            m.alloc_pages(gfp)
        set_free(m, refused + 1)
        m.alloc_pages(gfp)

    @pytest.mark.spec("PA-09", missing="kswapd, which takes the boost back")
    def test_the_boost_climbs_by_pageblocks_to_its_cap(self):
        m, boosts = r1(pcp=False), []
        m.zones["watermark"][NORMAL, 0:2] = 0
        m.refresh()
        exhaust(m, mm.GFP_HIGHUSER_MOVABLE)
        for i in range(6):
            m.free_pages(int((20 + 3 * i) * BLOCK))
            m.zones["flags"][NORMAL] = 0
            m.zones["watermark"][NORMAL, 0:2] = -4000      # the boost must not stop the next theft
            m.refresh()
            m.alloc_pages(mm.GFP_ATOMIC)
            boosts.append(int(m.zones["watermark_boost"][NORMAL]))
        assert boosts == [512, 1024, 1536, 2048, 2322, 2322]

    @pytest.mark.spec("PA-10")
    def test_a_lower_zone_keeps_its_reserve_from_higher_requests(self):
        m = mm.Machine(memory_map=[(1 << 20, (8 << 30) - (1 << 20))], zones=["DMA", "DMA32", "Normal"], cpus=8)
        set_free(m, 0, 2)
        set_free(m, 0, 0)
        set_free(m, 5538, 1)        # min 1442 + reserve 4096
        with pytest.raises(mm.AllocationFailed):
            m.alloc_pages(mm.GFP_KERNEL | 0x10000)
        m.alloc_pages(mm.GFP_DMA32)
        set_free(m, 5539, 1)
        assert int(m.page["flags"][m.alloc_pages(mm.GFP_KERNEL | 0x10000)] >> 16 & 0xFF) == 1


class TestRequests:
    @pytest.mark.spec("PA-12", missing="dirty spread and node_reclaim: nobody answers these calls yet")
    def test_numa_statistics_of_a_full_node(self):
        m = mm.Machine("2G", nodes=2, cpus=8, zones=["Normal"])
        set_free(m, 0, NORMAL)
        pfn = m.alloc_pages(mm.GFP_KERNEL, cpu=0)
        m.fold_counters()
        count = {item: m.zones["numa_event"][:, int(numa_stat_item[item])] for item in ("NUMA_MISS", "NUMA_FOREIGN",
                                                                                        "NUMA_OTHER")}
        assert pfn >= 1 << 18
        assert (int(count["NUMA_MISS"][7]), int(count["NUMA_FOREIGN"][2]), int(count["NUMA_OTHER"][7])) == (1, 1, 1)

    @pytest.mark.spec("PA-17", missing="contiguous ranges that need migration")
    def test_bulk_of_100_pages_makes_two_refills(self):
        m = r1()
        free = int(m.zones["vm_stat"][NORMAL, 0] + m.pageset["vm_stat_diff"][NORMAL, :, 0].sum())
        assert len(m.alloc_pages_bulk(mm.GFP_KERNEL, 100)) == 100
        m.fold_counters()
        now = int(m.zones["vm_stat"][NORMAL, 0] + m.pageset["vm_stat_diff"][NORMAL, :, 0].sum())
        assert free - now == 126
        assert int(m.vm_event[0, int(vm_event_item["PGALLOC_NORMAL"])]) == 100

    @pytest.mark.spec("PA-17", missing="contiguous ranges that need migration")
    def test_an_exact_allocation_gives_the_rest_back(self):
        m = r1(pcp=False)
        pfn = m.alloc_pages_exact(5 * 4096, mm.GFP_HIGHUSER_MOVABLE)
        assert pfn == 0
        assert nr_free(m)[:3] == [1, 1, 0]      # 3 pages of an order-3 block returned
        assert m.mem_map["refcount"][:8].tolist() == [1] * 5 + [0] * 3

    def test_columns_of_mem_map_cannot_be_written(self):
        m = r1(size="64M")
        with pytest.raises(ValueError, match="read-only"):
            m.mem_map["refcount"][0] = 7
        m.alloc_pages(mm.GFP_KERNEL)
        assert m.mem_map["refcount"].sum() == 1

    @pytest.mark.spec("PA-14", "PA-15", "PA-16", missing="reclaim, compaction and the OOM killer themselves")
    def test_calls_that_nobody_answers_are_counted(self):
        m = r1()
        set_free(m, 0)
        with pytest.raises(mm.AllocationFailed):
            m.alloc_pages(mm.GFP_KERNEL)
        calls = m.op_calls()
        assert calls["try_to_free_pages"] >= 1 and calls["out_of_memory"] == 1
        with pytest.raises(mm.AllocationFailed):
            m.alloc_pages(mm.GFP_NOWAIT)
        assert m.op_calls()["try_to_free_pages"] == calls["try_to_free_pages"]
        assert m.op_calls()["wakeup_kswapd"] > calls["wakeup_kswapd"]

    @pytest.mark.spec("PA-18", missing="policies of address ranges")
    def test_an_interleave_policy_alternates(self):
        m = mm.Machine("2G", nodes=2, cpus=8, zones=["Normal"])
        m.current["mpol_mode"][0], m.current["mpol_nodes"][0] = 3, 0b11     # MPOL_INTERLEAVE
        m.update_current()
        nodes = [m.alloc_pages(mm.GFP_KERNEL) >> 18 for _ in range(10)]
        assert nodes in ([0, 1] * 5, [1, 0] * 5)
        assert int(m.zones["numa_event"][:, int(numa_stat_item["NUMA_INTERLEAVE"])].sum()) == 10
