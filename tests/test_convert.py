"""Text to trace: handles, frees announced twice, losses, formats, and input that is none."""

import gzip
import io
import lzma
import os
import pathlib

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from mm._fast.sim.convert import TextConverter
from mm._fast.sim.trace_ops import (
    TRACE_HANDLE_NONE,
    TRACE_PFN_FAILED,
    TRACE_PFN_UNKNOWN,
    TraceCause,
    TraceCompactStatus,
    TraceField,
    TraceFlag,
    TraceOp,
)
from models import text_trace

from mm.sim.trace import Trace
from mm.sim.trace.convert import convert
from mm.sim.trace.format import TraceError

# The first 20,000 events of the file `trace` of Debian's 6.1.192 under a mixed load; line 13 is the stray copy.
RECORDING = pathlib.Path(__file__).parent / "recordings" / "linux-6.1.192-ftrace.txt.zst"
ALLOC, FREE, SPLIT, GAP = TraceOp.TRACE_ALLOC, TraceOp.TRACE_FREE, TraceOp.TRACE_SPLIT, TraceOp.TRACE_GAP
LOST, UNKNOWN, BATCHED = TraceFlag.TRACE_SYNTHESISED, TraceFlag.FREE_UNKNOWN_PAGE, TraceFlag.FREE_BATCHED
NONE = TRACE_HANDLE_NONE
OPS = {ALLOC: "alloc", FREE: "free", SPLIT: "split", GAP: "gap", TraceOp.TRACE_REFILL: "refill",
       TraceOp.TRACE_DRAIN: "drain", TraceOp.TRACE_EXTFRAG: "extfrag", TraceOp.TRACE_RECLAIM_BEGIN: "reclaim begin",
       TraceOp.TRACE_RECLAIM_END: "reclaim end", TraceOp.TRACE_COMPACTION_BEGIN: "compaction begin",
       TraceOp.TRACE_COMPACTION_END: "compaction end"}


class Text:
    """Builds a trace text; every event is one microsecond after the one before."""

    def __init__(self):
        self.lines, self.micros = [], 1_000_000

    def event(self, name, payload, cpu=0, task="sh-1", flags="....."):
        self.micros += 1
        comm, pid = task.rsplit("-", 1)
        self.lines.append(f"{comm:>16}-{pid:<7} [{cpu:03}] {flags} {self.micros // 10**6:5}.{self.micros % 10**6:06}: "
                          f"{name}: {payload}")
        return self

    def alloc(self, pfn, order=0, gfp="GFP_KERNEL", migratetype=0, **at):
        return self.event("mm_page_alloc", f"page=00 pfn={pfn:#x} order={order} migratetype={migratetype} "
                          f"gfp_flags={gfp}", **at)

    def free(self, pfn, order=0, **at):
        return self.event("mm_page_free", f"page=00 pfn={pfn:#x} order={order}", **at)

    def batched(self, pfn, **at):
        return self.event("mm_page_free_batched", f"page=00 pfn={pfn:#x} order=0", **at)

    def line(self, line):
        self.lines.append(line)
        return self

    def bytes(self):
        return "\n".join(self.lines).encode() + b"\n"

    def convert(self, tmp_path, **options):
        return converted(self.bytes(), tmp_path, **options)


def converted(data, tmp_path, **options):
    """The trace and the report of a text."""
    report = convert(io.BytesIO(data), tmp_path / "out.trace", **options)
    trace = Trace.open(tmp_path / "out.trace")
    trace.validate()
    assert len(trace) == report.rows == trace.metadata["rows"] and trace.metadata["complete"]
    lines = report.metadata["lines"]
    assert lines["read"] == sum(lines[kind] for kind in ("events", "unknown_events", "malformed", "loss_markers",
                                                         "headers", "blank", "stack", "unparsed", "stray_copies"))
    return trace, report.metadata


def rows(trace, *names):
    return list(zip(*(trace.column(name).tolist() for name in names), strict=True))


# ---- handles

def test_a_handle_lasts_from_allocation_to_free(tmp_path):
    trace, meta = Text().alloc(10).alloc(12, 2).free(10).free(12, 2).convert(tmp_path)
    assert rows(trace, "op", "pfn", "order", "handle") == [(ALLOC, 10, 0, 0), (ALLOC, 12, 2, 1), (FREE, 10, 0, 0),
                                                           (FREE, 12, 2, 1)]
    assert meta["pages"]["allocs"] == meta["pages"]["frees"] == 2 and meta["handles"] == 2


def test_a_handle_is_used_again_only_when_its_free_can_no_longer_move(tmp_path):
    text = Text()
    for i in range(100):
        text.alloc(i + 1).free(i + 1)
    _, meta = text.convert(tmp_path, batch_rows=10, window_rows=20)
    assert meta["handles"] < 30
    _, meta = text.convert(tmp_path)
    assert meta["handles"] == 100


def test_failed_allocations_hold_nothing(tmp_path):
    trace, meta = Text().alloc(0, 9, "GFP_TRANSHUGE", 1).alloc(8).convert(tmp_path)
    assert rows(trace, "op", "pfn", "order", "handle") == [(ALLOC, TRACE_PFN_FAILED, 9, NONE), (ALLOC, 8, 0, 0)]
    assert meta["pages"]["failed_allocs"] == 1


def test_a_lost_free_is_put_before_the_allocation_that_proves_it(tmp_path):
    trace, meta = Text().alloc(10).alloc(10).convert(tmp_path)
    assert rows(trace, "op", "pfn", "handle", "flags") == [(ALLOC, 10, 0, 8), (FREE, 10, 0, LOST), (ALLOC, 10, 1, 8)]
    assert meta["pages"]["lost_frees"] == 1
    assert trace.column("pid").tolist() == [1, -1, 1]


@pytest.mark.parametrize("first, second, lost", [((8, 3), (10, 0), [(8, 3)]), ((10, 0), (8, 3), [(10, 0)]),
                                                 ((8, 1), (12, 2), []), ((0x400, 9), (0x5ff, 0), [(0x400, 9)])])
def test_overlapping_blocks_are_lost(tmp_path, first, second, lost):
    trace, _ = Text().alloc(*first).alloc(*second).convert(tmp_path)
    assert [(pfn, order) for op, pfn, order in rows(trace, "op", "pfn", "order") if op == FREE] == lost


def test_a_free_of_a_page_allocated_unseen_has_its_own_handle(tmp_path):
    trace, meta = Text().alloc(9).free(10).free(9).free(9).convert(tmp_path)
    assert rows(trace, "op", "pfn", "handle", "flags") == [
        (ALLOC, 9, 0, 8), (FREE, 10, 1, 8 | UNKNOWN), (FREE, 9, 0, 8), (FREE, 9, 2, 8 | UNKNOWN)]
    assert (meta["pages"]["unknown_frees"], meta["pages"]["unknown_frees_reused"]) == (2, 1)


def test_a_free_of_a_part_splits_the_block(tmp_path):
    trace, meta = Text().alloc(8, 2).free(11).free(8, 1).free(10).convert(tmp_path)
    assert rows(trace, "op", "pfn", "order", "handle") == [
        (ALLOC, 8, 2, 0), (SPLIT, 10, 1, 0), (SPLIT, 11, 0, 1), (FREE, 11, 0, 2), (FREE, 8, 1, 0), (FREE, 10, 0, 1)]
    assert trace.column("flags").tolist()[1:3] == [1, 2]        # a split's flags: the upper half's handle
    assert meta["pages"]["splits"] == 2 and meta["pages"]["unknown_frees"] == 0


def test_a_free_of_more_than_was_allocated_is_counted(tmp_path):
    trace, meta = Text().alloc(8).alloc(9).free(8, 1).convert(tmp_path)
    assert rows(trace, "op", "pfn", "order", "handle") == [(ALLOC, 8, 0, 0), (ALLOC, 9, 0, 1), (FREE, 9, 0, 1),
                                                           (FREE, 8, 1, 0)]
    assert (meta["pages"]["order_mismatches"], meta["pages"]["lost_frees"]) == (1, 1)


# ---- frees that two events announce

def test_two_events_are_one_free_where_the_page_is_inserted(tmp_path):
    text = Text().alloc(1).alloc(2).free(1).free(2).alloc(3, flags="..s1.").batched(1, cpu=1).batched(2)
    trace, meta = text.convert(tmp_path)
    assert rows(trace, "op", "pfn", "handle") == [(ALLOC, 1, 0), (ALLOC, 2, 1), (ALLOC, 3, 2), (FREE, 1, 0),
                                                  (FREE, 2, 1)]
    assert trace.column("flags").tolist() == [8, 8, 9, 8 | BATCHED, 8 | BATCHED]
    assert trace.column("time_ns").tolist() == [0, 1000, 4000, 5000, 6000] and trace.column("cpu")[3] == 1
    assert meta["pages"]["batched_frees"] == 2 and meta["events"]["mm_page_free"] == 2


def test_a_batched_free_of_an_unseen_page_stays_unknown(tmp_path):
    trace, _ = Text().free(5).batched(5).convert(tmp_path)
    assert rows(trace, "op", "pfn", "flags") == [(FREE, 5, 8 | BATCHED | UNKNOWN)]


def test_a_batched_free_takes_its_order_from_the_first_event(tmp_path):
    trace, _ = Text().alloc(8, 2).free(8, 2).batched(8).convert(tmp_path)      # folios, since 6.10
    assert rows(trace, "op", "order") == [(ALLOC, 2), (FREE, 2)]


def test_a_batched_event_alone_is_a_free(tmp_path):
    trace, meta = Text().alloc(7).batched(7).alloc(7).convert(tmp_path)
    assert rows(trace, "op", "handle") == [(ALLOC, 0), (FREE, 0), (ALLOC, 1)]
    assert (meta["pages"]["batched_alone"], meta["pages"]["lost_frees"]) == (1, 0)


def test_before_4_15_the_batched_event_comes_first(tmp_path):
    trace, meta = Text().alloc(7).batched(7).free(7).alloc(7).batched(7, cpu=1).free(8).free(7, cpu=1).convert(tmp_path)
    assert rows(trace, "op", "pfn") == [(ALLOC, 7), (FREE, 7), (ALLOC, 7), (FREE, 7), (FREE, 8)]
    assert meta["pages"]["repeated_frees"] == 2


def test_pages_allocated_between_are_not_paired(tmp_path):
    trace, meta = Text().alloc(7).free(7).alloc(7).batched(7).convert(tmp_path)
    assert rows(trace, "op", "handle") == [(ALLOC, 0), (FREE, 0), (ALLOC, 1), (FREE, 1)]
    assert meta["pages"]["batched_frees"] == 0


def test_a_batched_event_beyond_the_window_is_dropped(tmp_path):
    text = Text().alloc(7).free(7)
    for i in range(20):
        text.alloc(100 + i)
    text.batched(7)
    for batch_rows in (1, 100):
        trace, meta = text.convert(tmp_path, window_rows=20, batch_rows=batch_rows)
        assert rows(trace, "op")[1] == (FREE,) and len(trace) == 22 and meta["pages"]["batched_late"] == 1
        trace, meta = text.convert(tmp_path, window_rows=21, batch_rows=batch_rows)
        assert rows(trace, "op")[-1] == (FREE,) and len(trace) == 22 and meta["pages"]["batched_late"] == 0


def test_beyond_the_window_and_a_gap_it_belongs_to_a_free_that_was_lost(tmp_path):
    text = Text().alloc(7).free(7).line("CPU:0 [LOST 50 EVENTS]")
    for i in range(20):
        text.alloc(100 + i)
    trace, meta = text.batched(7).convert(tmp_path, window_rows=8)
    assert rows(trace, "op", "flags")[-1] == (FREE, 8 | BATCHED | UNKNOWN)
    assert meta["pages"]["batched_late"] == 0


# ---- losses

def test_a_gap_ends_at_the_next_event_of_its_cpu(tmp_path):
    text = Text().line("CPU:1 [LOST 5 EVENTS]").alloc(1).line("CPU:1 [LOST 300 EVENTS]").alloc(2).alloc(3, cpu=1)
    trace, meta = text.line("CPU:7 [EVENTS DROPPED]").convert(tmp_path)
    assert rows(trace, "op", "cpu", "pfn", "time_ns") == [
        (GAP, 1, 5, 0), (ALLOC, 0, 1, 0), (GAP, 1, 300, 2000), (ALLOC, 0, 2, 1000), (ALLOC, 1, 3, 2000),
        (GAP, 7, TRACE_PFN_UNKNOWN, 2000)]
    assert meta["losses"] == {"lost_events": 305, "gaps": 3, "gaps_unsized": 1, "overwritten": 0}
    assert meta["cpus"]["1"] == {"events": 1, "lost": 305, "gaps": 2}
    assert rows(trace, "handle", "flags", "gfp")[0] == (NONE, 0, 0)


def test_perf_does_not_say_which_cpu_lost(tmp_path):
    text = b"perf 6 [003]  22.498450:  kmem:mm_page_free: page=0x1 pfn=1 order=0\nLOST 11 events!\n"
    trace, meta = converted(text, tmp_path)
    assert rows(trace, "op", "cpu", "pfn") == [(FREE, 3, 1), (GAP, 65535, 11)] and meta["cpus"]["unknown"]["lost"] == 11


def test_events_overwritten_before_the_first_line_are_told(tmp_path):
    head = b"# tracer: nop\n#\n# entries-in-buffer/entries-written: 17302/199781   #P:1\n"
    _, meta = converted(head + Text().alloc(1).bytes(), tmp_path)
    assert meta["losses"]["overwritten"] == 182479 and meta["recorder"] == {"name": "ftrace"}


# ---- the other events

def test_refill_drain_and_extfrag(tmp_path):
    text = Text().event("mm_page_alloc_zone_locked", "page=0 pfn=0x10 order=1 migratetype=2 percpu_refill=1")
    text.event("mm_page_alloc_zone_locked", "page=0 pfn=0x20 order=4 migratetype=0 percpu_refill=0")
    text.event("mm_page_pcpu_drain", "page=0 pfn=0x10 order=1 migratetype=2")
    text.event("mm_page_alloc_extfrag", "page=0 pfn=0x15600 alloc_order=2 fallback_order=8 pageblock_order=9 "
               "alloc_migratetype=0 fallback_migratetype=1 fragmenting=1 change_ownership=1")
    trace, _ = text.convert(tmp_path)
    refill, direct, drain, extfrag = rows(trace, "op", "pfn", "order", "migratetype", "flags", "handle")
    assert refill == (TraceOp.TRACE_REFILL, 0x10, 1, 2, 8 | TraceFlag.REFILL_PERCPU, NONE)
    assert direct == (TraceOp.TRACE_REFILL, 0x20, 4, 0, 8, NONE)
    assert drain == (TraceOp.TRACE_DRAIN, 0x10, 1, 2, 8, NONE)
    assert extfrag[:4] == (TraceOp.TRACE_EXTFRAG, 0x15600, 2, 0)

    def field(name):
        return extfrag[4] >> TraceField[f"EXTFRAG_{name}_SHIFT"] & TraceField.TRACE_FIELD_MASK
    assert [field(name) for name in ("FALLBACK_ORDER", "ALLOC_MIGRATETYPE", "FALLBACK_MIGRATETYPE",
                                     "PAGEBLOCK_ORDER")] == [8, 0, 1, 9]
    assert extfrag[4] & TraceFlag.EXTFRAG_CHANGE_OWNERSHIP


def test_reclaim_and_compaction_say_why_pages_are_freed(tmp_path):
    text = Text().event("mm_vmscan_kswapd_wake", "nid=1 order=3", task="kswapd1-38")
    text.free(1, task="kswapd1-38").free(2, task="kswapd1-38", flags="..s1.").free(3, task="kcompactd0-28")
    text.event("mm_vmscan_kswapd_sleep", "nid=1", task="kswapd1-38")
    text.event("mm_vmscan_direct_reclaim_begin", "order=2 gfp_flags=GFP_KERNEL", task="cc-7").free(4, task="cc-7")
    text.free(5, task="sh-1").event("mm_vmscan_direct_reclaim_end", "nr_reclaimed=32", task="cc-7").free(6, task="cc-7")
    text.event("mm_compaction_begin", "zone_start=0x1 migrate_pfn=0x12 free_pfn=0x3 zone_end=0x4, mode=sync",
               task="cc-7").free(7, task="cc-7")
    text.event("mm_compaction_end", "zone_start=0x1 migrate_pfn=0x13 free_pfn=0x3 zone_end=0x4, mode=async "
               "status=contended", task="cc-7").free(8, task="cc-7").free(9, task="kswapd-3")
    trace, _ = text.convert(tmp_path)
    causes = {pfn: cause for op, pfn, cause in rows(trace, "op", "pfn", "cause") if op == FREE}
    assert causes == {1: TraceCause.CAUSE_KSWAPD, 2: 0, 3: TraceCause.CAUSE_COMPACTION,
                      4: TraceCause.CAUSE_DIRECT_RECLAIM, 5: 0, 6: 0, 7: TraceCause.CAUSE_COMPACTION, 8: 0, 9: 0}
    others = [row for row in rows(trace, "op", "order", "node", "pfn", "gfp", "flags") if row[0] != FREE]
    contended = TraceCompactStatus.COMPACT_STATUS_CONTENDED << TraceField.COMPACTION_STATUS_SHIFT
    assert others == [
        (TraceOp.TRACE_RECLAIM_BEGIN, 3, 1, TRACE_PFN_UNKNOWN, 0, 8 | TraceFlag.RECLAIM_KSWAPD),
        (TraceOp.TRACE_RECLAIM_END, 0, 1, TRACE_PFN_UNKNOWN, 0, 8 | TraceFlag.RECLAIM_KSWAPD),
        (TraceOp.TRACE_RECLAIM_BEGIN, 2, -1, TRACE_PFN_UNKNOWN, 0xcc0, 8),
        (TraceOp.TRACE_RECLAIM_END, 0, -1, 32, 0, 8),
        (TraceOp.TRACE_COMPACTION_BEGIN, 0, -1, 0x12, 0, 8 | TraceFlag.COMPACTION_SYNC),
        (TraceOp.TRACE_COMPACTION_END, 0, -1, 0x13, 0, 8 | contended)]


# ---- gfp, tasks, metadata

def test_gfp_masks_are_translated_and_what_6_1_has_not_is_reported(tmp_path):
    text = Text().alloc(1, gfp="GFP_KERNEL|__GFP_ZERO").alloc(2, gfp="0x820").alloc(3, gfp="GFP_KERNEL|__GFP_COLD")
    text.alloc(4, gfp="GFP_KERNEL|__GFP_COLD").alloc(5, gfp="/home/me")
    trace, meta = text.convert(tmp_path, kernel="6.8.0-40-generic")
    assert trace.column("gfp").tolist() == [0xdc0, 0xa20, 0xcc0, 0xcc0, 0]
    assert meta["gfp_untranslated"] == {"__GFP_COLD": 2, "other": 1}
    assert (meta["gfp_table"], meta["kernel_release"], meta["notes"]) == ("6.3", "6.8.0-40-generic", [])
    assert "home" not in repr(Trace.open(tmp_path / "out.trace").metadata)


def test_without_a_kernel_the_assumption_is_noted(tmp_path):
    _, meta = Text().alloc(1).convert(tmp_path)
    assert meta["gfp_table"] == "6.1" and "not known" in meta["notes"][0] and "kernel_release" not in meta


def test_perf_says_its_kernel_but_not_its_host(tmp_path):
    head = b"# ========\n# hostname : secret\n# os release : 5.10.0-8-amd64\n# perf version : 5.10.46\n# cmdline : x\n"
    body = b"perf 6 [003]  22.498450:  kmem:mm_page_alloc: page=0x1 pfn=1 order=0 migratetype=0 gfp_flags=0xcc0\n"
    _, meta = converted(head + body, tmp_path)
    assert meta["kernel_release"] == "5.10.0-8-amd64" and meta["recorder"] == {"name": "perf", "version": "5.10.46"}
    assert b"secret" not in (tmp_path / "out.trace").read_bytes()


def test_tasks_are_kept_or_left_out(tmp_path):
    text = Text().alloc(1, task="my app-77").alloc(2, task="sh-1")
    trace, meta = text.convert(tmp_path)
    assert rows(trace, "pid", "comm") == [(77, "my app"), (1, "sh")] and not meta["anonymized"]
    trace, meta = text.convert(tmp_path, anonymize=True)
    assert not {"pid", "comm"} & set(trace.columns) and meta["anonymized"]
    assert b"my app" not in (tmp_path / "out.trace").read_bytes()


def test_given_metadata_is_stored(tmp_path):
    given = {"knobs": {"vm.min_free_kbytes": 65536}, "start_state": {"name": "boot.npz", "sha256": "00"}}
    _, meta = Text().alloc(1).convert(tmp_path, metadata={**given, "kernel_release": "6.1.0"})
    assert {key: meta[key] for key in given} == given and meta["kernel_release"] == "6.1.0" and meta["notes"] == []
    with pytest.raises(ValueError, match="lines"):
        Text().alloc(1).convert(tmp_path, metadata={"lines": {}})


def test_every_line_is_counted(tmp_path):
    text = Text().line("# a comment").line("").line(" => f+0x1").line("what is this").alloc(1)
    text.event("kmalloc", "call_site=f").event("sched_switch", "prev_comm=x").event("kmalloc", "call_site=g")
    text.event("mm_page_free", "page=0 pfn=0x1").event("mm_page_free", "page=0 pfn=0x3 order=1")
    _, meta = text.convert(tmp_path)
    lines = meta["lines"]
    assert lines["unknown"] == {"kmalloc": 2, "sched_switch": 1} and lines["read"] == 10
    assert lines["malformed_lines"] == [[9, "mm_page_free", "a key is missing"],
                                        [10, "mm_page_free", "pfn not aligned to its order"]]
    assert [lines[name] for name in ("headers", "blank", "stack", "unparsed", "events")] == [1] * 5
    assert lines["malformed"] == 2


def test_the_report_shows_what_was_lost(tmp_path):
    text = Text().line("CPU:0 [LOST 5 EVENTS]").alloc(1).alloc(1).event("kmalloc", "x=1")
    (tmp_path / "in").write_bytes(text.bytes())
    report = str(convert(tmp_path / "in", tmp_path / "out.trace"))
    assert "4 lines, 2 events, 4 rows" in report and "lost: 5 events in 1 gaps" in report and "1 kmalloc" in report
    assert "1 inferred" in report


def test_clocks(tmp_path):
    counter = b"              sh-1       [000] .....     %d: mm_page_free: page=0 pfn=0x1 order=0\n"
    trace, meta = converted(counter % 500 + counter % 700, tmp_path)
    assert trace.column("time_ns").tolist() == [0, 200] and (meta["clock"], meta["first_time"]) == ("counter", 500)
    _, meta = converted(counter % 500 + Text().free(9).bytes(), tmp_path)
    assert any("times of different kinds" in note for note in meta["notes"])
    trace, meta = converted(b" 0)               |  /* mm_page_free: page=0 pfn=0x1 order=0 */\n", tmp_path)
    assert meta["clock"] == "none" and trace.column("time_ns").tolist() == [0]


# ---- the stray first line of `cat trace`

def test_a_stray_copy_of_a_later_event_is_dropped(tmp_path):
    text = Text()
    for i in range(30):
        text.alloc(i + 1)
    lines = text.bytes().split(b"\n")
    head = b"# tracer: nop\n#\n"
    clean, meta = converted(head + b"\n".join(lines), tmp_path)
    assert meta["lines"]["stray_copies"] == 0
    data = head + b"\n".join([lines[20], *lines, b"              sh-1 [000] ..... 1.1: mm_page_free: pfn=1"])
    trace, meta = converted(data, tmp_path)
    assert meta["lines"]["stray_copies"] == 1 and meta["lines"]["malformed_lines"][0][0] == 35
    assert rows(trace, *clean.columns) == rows(clean, *clean.columns)


def test_an_event_out_of_order_without_original_is_kept(tmp_path):
    text = Text().alloc(1).alloc(2).alloc(3)
    lines = text.bytes().rstrip(b"\n").split(b"\n")
    trace, meta = converted(b"\n".join([lines[2], lines[0], lines[1]]), tmp_path)
    assert meta["lines"]["stray_copies"] == 0 and trace.column("time_ns").tolist() == [0, -2000, -1000]
    assert meta["pages"]["time_backwards"] == 1


# ---- against the twin

def same_as_twin(text, tmp_path, **options):
    """The trace's rows are the twin's; handles differ in number only."""
    trace, _ = converted(text, tmp_path, **options)
    expected = text_trace.convert(text)
    assert len(trace) == len(expected)
    live = {}
    columns = rows(trace, "op", "pfn", "order", "cpu", "handle", "flags")
    for number, (row, (op, pfn, order, cpu, handle, flags)) in enumerate(zip(expected, columns, strict=True)):
        kind = "" if op != FREE else "lost" if flags & LOST else "unknown" if flags & UNKNOWN else ""
        assert (row.op, row.cpu, row.kind) == (OPS[TraceOp(op)], cpu, kind), number
        if row.op in ("alloc", "free", "split", "refill", "drain"):
            assert (row.order, row.pfn) == (order, 0 if pfn == TRACE_PFN_FAILED else pfn), number
        if row.op == "alloc" and row.handle >= 0:
            assert live.setdefault(handle, row.handle) == row.handle, number
        elif row.op == "split":
            assert live[handle] == row.handle
            live[flags] = row.upper
        elif row.op == "free" and kind != "unknown":
            assert live.pop(handle) == row.handle, number


@pytest.mark.parametrize("options", [{}, {"batch_rows": 500, "window_rows": 2000, "compression": None}])
def test_the_recording_is_the_twins(tmp_path, options):
    text = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(RECORDING.read_bytes())).read()
    lines = text.split(b"\n")
    same_as_twin(b"\n".join(lines[:12] + lines[13:]), tmp_path, **options)


EVENTS = st.tuples(st.sampled_from(["alloc", "alloc", "free", "free", "batched", "gap"]), st.integers(0, 31),
                   st.integers(0, 3), st.integers(0, 1))


@settings(max_examples=120, deadline=None)
@given(st.lists(EVENTS, max_size=60), st.integers(1, 8))
def test_any_sequence_is_the_twins(tmp_path_factory, events, batch_rows):
    text = Text()
    for name, pfn, order, cpu in [("alloc", 1, 0, 0), *events]:
        pfn = pfn >> order << order
        if name == "alloc":
            text.alloc(pfn, order, cpu=cpu)
        elif name == "free":
            text.event("mm_vmscan_kswapd_sleep", "nid=0", cpu=cpu)     # parts it from a batched event right before
            text.free(pfn, order, cpu=cpu)
        elif name == "batched":
            text.batched(pfn, cpu=cpu)
        else:
            text.line(f"CPU:{cpu} [LOST 3 EVENTS]")
    same_as_twin(text.bytes(), tmp_path_factory.mktemp("x"), batch_rows=batch_rows)


def test_counts_of_the_recording(tmp_path):
    """Numbers of events are those of `grep -c`; a trace without losses has every free announced and none inferred."""
    seen = []
    report = convert(RECORDING, tmp_path / "out.trace", progress=lambda done, total: seen.append((done, total)),
                     kernel="6.1.192")
    meta = report.metadata
    assert meta["events"] == {"mm_page_alloc": 10006, "mm_page_free": 2869, "mm_page_free_batched": 2446,
                              "mm_page_alloc_zone_locked": 4678}
    assert meta["lines"]["stray_copies"] == 1 and meta["lines"]["headers"] == 12 and meta["lines"]["read"] == 20012
    pages = meta["pages"]
    assert pages["frees"] == 2869 and pages["batched_frees"] == 2446
    assert pages["lost_frees"] == pages["batched_alone"] == pages["batched_late"] == pages["order_mismatches"] == 0
    assert seen[-1] == (RECORDING.stat().st_size,) * 2
    trace = Trace.open(tmp_path / "out.trace")
    trace.validate()
    assert (tmp_path / "out.trace").stat().st_size < 24 * len(trace)
    assert np.all(np.diff(trace.column("time_ns")) >= 0)


# ---- streaming and containers

def test_batches_and_chunks_do_not_change_the_result(tmp_path):
    text = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(RECORDING.read_bytes())).read()[:400_000]
    text = b"\n".join(text.split(b"\n")[13:])
    one, _ = converted(text, tmp_path)
    expected = rows(one, *(name for name in one.columns if name != "handle"))
    for chunk in (7, 1000, 1 << 16):
        machine = TextConverter(64, 4096)
        rest, parts = b"", []
        for at in range(0, len(text), chunk):
            rest += text[at:at + chunk]
            done = 0
            while True:
                done = machine.feed(rest, done, at + chunk >= len(text))
                if not machine.full:
                    break
                parts.append(machine.take())
            rest = rest[done:]
        parts.append(machine.take(True))
        found = [np.concatenate([part[name] for part in parts]).tolist()
                 for name in one.columns if name not in ("handle", "gfp", "comm")]
        assert list(zip(*found, strict=True)) == [row[:5] + row[6:-1] for row in expected]


def containers(data):
    yield "plain", data
    yield "gzip", gzip.compress(data)
    yield "xz", lzma.compress(data)
    yield "zstd", zstandard.ZstdCompressor().compress(data)
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    yield "zstd --long=28", zstandard.ZstdCompressor(compression_params=parameters).compress(data)
    middle = data.index(b"\n", len(data) // 2) - 5
    for name, pack in (("gzip", gzip.compress), ("zstd", zstandard.ZstdCompressor().compress), ("xz", lzma.compress)):
        yield name + " in two parts", pack(data[:middle]) + pack(data[middle:])


@pytest.mark.parametrize("name, packed", containers(Text().alloc(1).alloc(2).free(1).bytes() * 50),
                         ids=lambda value: value if isinstance(value, str) else "")
def test_containers_are_told_by_content(tmp_path, name, packed):
    (tmp_path / "in.txt").write_bytes(packed)
    assert convert(tmp_path / "in.txt", tmp_path / "out.trace").metadata["lines"]["read"] == 150


@pytest.mark.parametrize("name", ["gzip", "xz", "zstd"])
def test_a_cut_or_damaged_container_is_an_error_and_leaves_nothing(tmp_path, name):
    data = dict(containers(os.urandom(1000).hex().encode() + b"\n" + Text().alloc(1).alloc(2).bytes() * 500))[name]
    (tmp_path / "out.trace").write_bytes(b"the old one")
    with pytest.raises(TraceError, match="ends early"):
        convert(io.BytesIO(data[:-20]), tmp_path / "out.trace")
    middle = len(data) // 2
    with pytest.raises(TraceError, match=r"damaged|ends early"):
        convert(io.BytesIO(data[:middle] + bytes(255 - byte for byte in data[middle:])), tmp_path / "out.trace")
    assert os.listdir(tmp_path) == ["out.trace"] and (tmp_path / "out.trace").read_bytes() == b"the old one"


def test_a_bomb_is_read_in_bounded_steps(tmp_path):
    bomb = zstandard.ZstdCompressor(level=19).compress(Text().alloc(1).bytes() + bytes(50_000_000))
    with pytest.raises(TraceError, match=r"longer than|byte"):
        convert(io.BytesIO(bomb), tmp_path / "out.trace")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("data, message", [
    (b"", "no page event in 0 lines"),
    (b"hello\n" * 10, "no page event in 10 lines .10 not understood"),
    (b"# tracer: nop\n#\n", "no page event in 2 lines"),
    (Text().event("kmalloc", "x=1").bytes(), "other events: kmalloc"),
    (b"\x17\x08\x44tracing7\0", "trace-cmd report"), (b"PERFILE2abc", "perf script"), (b"ARROW1\0\0", "Trace.open"),
    (b"BZh91AY", "bzip2"), (b"text\0text", "byte 4 is 0"), (b"x" * 3_000_000, "longer than"),
])
def test_what_is_no_trace_text(tmp_path, data, message):
    with pytest.raises(TraceError, match=message):
        convert(io.BytesIO(data), tmp_path / "out.trace")
    assert os.listdir(tmp_path) == []


def test_an_interrupt_leaves_nothing(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        convert(RECORDING, tmp_path / "out.trace", progress=stop)
    assert os.listdir(tmp_path) == []


def test_source_and_destination_may_not_be_one(tmp_path):
    (tmp_path / "a").write_bytes(Text().alloc(1).bytes())
    with pytest.raises(ValueError, match="same file"):
        convert(tmp_path / "a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == Text().alloc(1).bytes()


def test_arguments_out_of_range(tmp_path):
    for options in ({"batch_rows": 0}, {"window_rows": 1 << 25}, {"max_pages": 0}, {"kernel": "linux"},
                    {"compression": "lz4"}):
        with pytest.raises((ValueError, OverflowError)):
            Text().alloc(1).convert(tmp_path, **options)


def test_a_trace_that_names_too_many_pages_is_refused(tmp_path):
    text = Text()
    for i in range(10):
        text.alloc(1024 * i + 1)
    with pytest.raises(TraceError, match=r"line 5: .* more than 4 groups of 512"):
        text.convert(tmp_path, max_pages=2048)
    assert os.listdir(tmp_path) == []


def test_huge_blocks_full_of_held_pages_make_more_rows_than_a_batch(tmp_path):
    text = Text()
    for i in range(600):
        text.alloc(1024 + i)
    trace, meta = text.alloc(1024, 10).convert(tmp_path, batch_rows=1, window_rows=1)
    assert meta["pages"]["lost_frees"] == 600 and len(trace) == 1201


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_text_never_crashes(tmp_path_factory, data):
    text = Text().alloc(8, 3).free(9).batched(9).line("CPU:0 [LOST 4 EVENTS]").alloc(8).free(8, 3)
    text = bytearray(text.bytes() * 2)
    for _ in range(data.draw(st.integers(1, 20))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from(b"0189 :=-[](),xsf/*\n\r\xff"))
    path = tmp_path_factory.mktemp("x")
    try:
        converted(bytes(text), path)
    except TraceError:
        assert os.listdir(path) == []
