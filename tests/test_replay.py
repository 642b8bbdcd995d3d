"""Replay: the loops behind `mm replay`, on small traces made by hand and on the bundled recording."""

import numpy as np
import pytest
from conftest import RECORDINGS

import mm
from mm._fast.vm_event_item import zone_event_item
from mm.sim.replay import figures, headlines, replay
from mm.sim.run import record
from mm.sim.trace.convert import convert
from mm.sim.trace.format import TraceError

ALLOC, FREE, BULK, SPLIT, GAP = 0, 1, 2, 6, 255
FAILED, UNKNOWN = 0xFFFFFFFE, 0xFFFFFFFF


def machine(size="64M", cpus=2):
    return mm.Machine(size, zones=["Normal"], cpus=cpus)


def trace(rows, **columns):
    """A trace of (op, order, handle) rows."""
    op, order, handle = (np.array(column) for column in zip(*rows, strict=True))
    gfp = columns.pop("gfp", mm.GFP_KERNEL)
    return mm.Trace.from_arrays(op.astype(np.uint8), order.astype(np.uint8), np.full(len(rows), gfp, np.uint32),
                                handle.astype(np.uint32), **columns)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The bundled workload: (machine in its start state, trace)."""
    path = tmp_path_factory.mktemp("replay") / "H3.trace"
    convert(RECORDINGS / "H3" / "trace.txt.zst", path)
    return mm.Machine.from_snapshot(RECORDINGS / "H3" / "snap-before.npz"), mm.Trace.open(path)


class TestPlainTraces:
    def test_results_are_those_of_single_calls(self):
        m, twin = machine(), machine()
        r = m.replay(trace([(ALLOC, 0, 0), (ALLOC, 3, 1), (FREE, 0, 0), (ALLOC, 0, 2), (FREE, 3, 1)]))
        first = twin.alloc_pages(mm.GFP_KERNEL)
        block = twin.alloc_pages(mm.GFP_KERNEL, 3)
        twin.free_pages(first)
        again = twin.alloc_pages(mm.GFP_KERNEL)
        twin.free_pages(block, 3)
        assert r.pfn.tolist() == [first, block, first, again, block]
        assert (m.page == twin.page).all()

    def test_a_failed_allocation_is_marked_and_its_free_skipped(self):
        m = machine("8M")
        r = m.replay(trace([(ALLOC, 10, 0), (ALLOC, 10, 1), (FREE, 10, 1)], gfp=mm.GFP_NOWAIT))
        assert r.pfn[1] == FAILED
        assert (r.counts["alloc_failures"], r.counts["refused_frees"]) == (1, 1)

    def test_no_agreement_without_a_recorded_start_state(self):
        r = machine().replay(trace([(ALLOC, 0, 0)], pfn=np.array([77], np.uint32)))
        assert r.pfn_agreement_ratio is None
        assert "start state" in r.why

    def test_the_same_trace_gives_the_same_bytes(self):
        rng = np.random.default_rng(5)
        rows = [(ALLOC, int(o), i) for i, o in enumerate(rng.choice([0, 1, 2, 3, 9], 2000, p=[.9, .04, .03, .02, .01]))]
        a, b = machine(), machine()
        assert (a.replay(trace(rows)).pfn == b.replay(trace(rows)).pfn).all()
        assert (a.page == b.page).all()

    def test_a_split_block_is_freed_in_halves(self):
        flags = np.array([0, 1, 0, 0], np.uint32)
        m = machine()
        before = int(m.zones["nr_free"][2][10])
        r = m.replay(trace([(ALLOC, 10, 0), (SPLIT, 9, 0), (FREE, 9, 0), (FREE, 9, 1)], flags=flags))
        assert r.counts["splits"] == 1
        assert r.pfn[3] == r.pfn[2] + 512
        m.drain_local_pages(0)
        assert int(m.zones["nr_free"][2][10]) == before

    def test_rows_out_of_range_are_counted_and_change_nothing(self):
        m = machine()
        twin = m.copy()
        r = m.replay(trace([(ALLOC, 0, 0), (ALLOC, 12, 1)], cpu=np.array([900, 0], np.uint16)))
        assert r.counts["bad_rows"] == 2
        assert (m.page == twin.page).all()

    def test_a_hostile_handle_is_refused_with_its_row(self):
        with pytest.raises(TraceError, match="row 1: handle 4294967040"):
            machine().replay(trace([(ALLOC, 0, 0), (ALLOC, 0, 0xFFFFFF00)]))

    def test_free_of_a_free_page_is_skipped(self):
        r = machine().replay(trace([(FREE, 0, 0)], pfn=np.array([100], np.uint32)))
        assert r.counts["bad_frees"] == 1

    def test_modes_are_checked(self):
        with pytest.raises(ValueError, match="free, guided"):
            machine().replay(trace([(ALLOC, 0, 0)]), mode="fast")
        with pytest.raises(ValueError, match="guided"):
            machine().replay(trace([(ALLOC, 0, 0)]), guided_until_ns=5)

    def test_progress_reaches_the_end(self):
        seen = []
        machine().replay(trace([(ALLOC, 0, 0), (FREE, 0, 0)]), progress=lambda done, total: seen.append((done, total)))
        assert seen[-1] == (2, 2)

    def test_gaps_are_counted_with_their_losses(self):
        r = machine().replay(trace([(ALLOC, 0, 0), (GAP, 0, UNKNOWN)], pfn=np.array([UNKNOWN, 12], np.uint32)))
        assert (r.counts["gaps"], r.counts["lost_events"]) == (1, 12)


class TestGuided:
    def test_the_recorded_block_is_taken_where_it_is_free(self):
        m = machine()
        r = m.replay(trace([(ALLOC, 0, 0), (ALLOC, 2, 1)], pfn=np.array([5000, 6000], np.uint32)), mode="guided")
        assert r.pfn.tolist() == [5000, 6000]
        assert r.counts["one_step_equal"] == 0
        m.verify()

    def test_a_recorded_failure_leaves_the_state_as_it_was(self):
        m = machine()
        m.replay(trace([(ALLOC, 0, 0)]))
        free = m.free_lists()
        r = m.replay(trace([(ALLOC, 5, 0)], pfn=np.array([FAILED], np.uint32)), mode="guided")
        assert (r.pfn[0], r.counts["contradictions"]) == (FAILED, 1)
        assert {k: v.tolist() for k, v in m.free_lists().items()} == {k: v.tolist() for k, v in free.items()}

    def test_a_block_still_held_changes_hands(self):
        m = machine()
        held = m.alloc_pages(mm.GFP_KERNEL)
        r = m.replay(trace([(ALLOC, 0, 0)], pfn=np.array([held], np.uint32)), mode="guided")
        assert (r.pfn[0], r.counts["lost_frees"]) == (held, 1)
        m.verify()

    def test_an_impossible_block_does_not_break_the_run(self):
        m = machine()
        r = m.replay(trace([(ALLOC, 0, 0), (ALLOC, 3, 1)], pfn=np.array([0x7FFFFFF0, 5], np.uint32)), mode="guided")
        assert r.counts["contradictions"] == 2
        m.verify()

    def test_guided_until_warms_up(self):
        rows = [(ALLOC, 0, 0), (ALLOC, 0, 1)]
        r = machine().replay(trace(rows, pfn=np.array([5000, 5001], np.uint32), time_ns=np.array([0, 10])), mode="guided",
                             guided_until_ns=5)
        assert r.pfn[0] == 5000 and r.pfn[1] != 5001


class TestRecordedWorkload:
    def test_every_page_frame_is_the_recorded_one(self, recorded):
        start, t = recorded
        r = start.copy().replay(t)
        assert r.pfn_agreement_ratio == 1.0
        assert 0 < r.inferred_pages <= 0.005 * r.counts["allocs"]

    def test_headlines_leave_the_start_state_alone(self, recorded):
        start, t = recorded
        before = start.page.copy()
        h = headlines(start, t)
        assert (start.page == before).all()
        assert h["pfn_agreement_ratio"] == 1.0
        assert h["pfn_agreement_plain_ratio"] < 0.95     # hidden bulk allocations matter
        assert 0.999 < h["one_step_agreement_ratio"] < 1

    def test_chunks_do_not_change_the_result(self, recorded):
        start, t = recorded

        class Often:
            def sample(self, machine, time_ns, **progress):
                pass

        whole, parts = start.copy(), start.copy()
        a = replay(whole, t)
        b = replay(parts, t, sampler=Often())
        assert (a.pfn == b.pfn).all()
        assert (whole.page == parts.page).all()

    def test_a_run_can_be_tabled_and_drawn(self, recorded, tmp_path):
        start, t = recorded
        r = start.copy().replay(t)
        assert r.to_table().num_rows > 100
        r.report(tmp_path / "out.html")
        assert (tmp_path / "out.html").stat().st_size > 10000

    def test_results_may_be_dropped(self, recorded):
        start, t = recorded
        r = replay(start.copy(), t, keep_results=False)
        assert r.pfn is None and r.counts["pfn_equal"] == r.counts["pfn_known"]

    def test_figures_of_three_replays(self, recorded):
        start, t = recorded
        free = replay(start.copy(), t)
        assert figures(free, free, free)["pfn_equal"] == free.counts["pfn_equal"]


def test_thefts_are_recorded_as_the_counters_count_them(tmp_path):
    """A zone whose unmovable blocks run out takes from movable ones; every theft becomes an event of the run."""
    n = 3000
    m = mm.Machine("16M", zones=["Normal"])
    gfp = np.where(np.arange(n) % 3 == 0, mm.GFP_KERNEL, mm.GFP_HIGHUSER_MOVABLE).astype(np.uint32)
    trace = mm.Trace.from_arrays(np.zeros(n, np.uint8), np.arange(n) % 2, gfp, np.arange(n, dtype=np.uint32),
                                 time_ns=np.arange(n) * 1000)
    run = record(m, trace, tmp_path / "run")
    events = run.to_table("extfrag").to_pydict()
    counted = m.zones["event"].sum(axis=0)
    assert len(events["pfn"]) == counted[int(zone_event_item.EXTFRAG)] > 2
    assert sum(events["fragmenting"]) == counted[int(zone_event_item.EXTFRAG_FRAGMENTING)]
    assert sum(events["change_ownership"]) == counted[int(zone_event_item.EXTFRAG_CLAIM)]
    assert events["time_ns"] == sorted(events["time_ns"]) and events["time_ns"][0] % 1000 == 0
    assert set(zip(events["alloc_migratetype"], events["fallback_migratetype"], strict=True)) == {(0, 1), (1, 0)}
