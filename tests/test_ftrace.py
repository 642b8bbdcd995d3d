"""One line of kernel trace text: every shape of prefix and payload that producers print, and lines that are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mm._fast.sim.ftrace import EventName, LineKind, LineProblem, PrefixShape, parse_line
from mm._fast.sim.trace_ops import TraceCompactStatus, TraceFlag

PAYLOAD = b"page=0000000097695907 pfn=0x29de order=0 migratetype=1 gfp_flags=GFP_HIGHUSER_MOVABLE|__GFP_COMP"
FLAGS = TraceFlag.TRACE_CONTEXT_KNOWN
SOFT, HARD, NMI = TraceFlag.TRACE_IN_SOFTIRQ, TraceFlag.TRACE_IN_HARDIRQ, TraceFlag.TRACE_IN_NMI


def event(line):
    found = parse_line(line)
    assert found["kind"] == LineKind.LINE_EVENT, found
    return found


@pytest.mark.parametrize("prefix, comm, pid, cpu, time_ns, shape", [
    # ftrace `trace`, flags of five, four characters
    (b"              sh-130     [000] .....     6.623081: mm_page_alloc: ", b"sh", 130, 0, 6623081000, 1),
    (b"              sh-130     [012] d..1   889.213383: mm_page_alloc: ", b"sh", 130, 12, 889213383000, 1),
    (b"           <...>-22275   [006] ....   889.213383: mm_page_alloc: ", b"<...>", 22275, 6, 889213383000, 1),
    # record-tgid, known and unknown
    (b"              sh-130     (    130) [001] d..2.     6.623081: mm_page_alloc: ", b"sh", 130, 1, 6623081000, 1),
    (b"          <idle>-0       (-------) [001] d.h2.     6.623081: mm_page_alloc: ", b"<idle>", 0, 1, 6623081000, 1),
    # very old ftrace, and trace-cmd report without the column
    (b"  gnome-terminal-1567  [000]  4415.246466: mm_page_alloc: ", b"gnome-terminal", 1567, 0, 4415246466000, 2),
    (b"              sh-118   [000]     8.880510: mm_page_alloc:        ", b"sh", 118, 0, 8880510000, 2),
    # trace-cmd report, stripped; with nanoseconds; latency format
    (b"make-16810 [004] .....  2319.000857: mm_page_alloc:        ", b"make", 16810, 4, 2319000857000, 1),
    (b"            make-16810 [004]  2319.000857123: mm_page_alloc:        ", b"make", 16810, 4, 2319000857123, 2),
    (b"          <idle>-0       0d.h1. 106467.859747: mm_page_alloc:        ", b"<idle>", 0, 0, 106467859747000, 4),
    # perf script: tid, pid/tid, sampling period, no padding
    (b"            perf   256 [000]    27.510491:                    kmem:mm_page_alloc: ", b"perf", 256, 0,
     27510491000, 3),
    (b"perf  6429/6430 [003]    22.498450:             kmem:mm_page_alloc: ", b"perf", 6430, 3, 22498450000, 3),
    (b"perf  6429 [003]    22.498450:          1 kmem:mm_page_alloc: ", b"perf", 6429, 3, 22498450000, 3),
    # names with everything a name may have
    (b"    my app: [x]-9-4242    [003] .....     1.000001: mm_page_alloc: ", b"my app: [x]-9", 4242, 3, 1000001000, 1),
    (b" Web Content [2]  4242 [003]     1.000001: kmem:mm_page_alloc: ", b"Web Content [2]", 4242, 3, 1000001000, 3),
])
def test_prefixes(prefix, comm, pid, cpu, time_ns, shape):
    found = event(prefix + PAYLOAD)
    assert (found["comm"], found["pid"], found["cpu"], found["time_ns"]) == (comm, pid, cpu, time_ns)
    assert found["shape"] == PrefixShape(shape)
    assert (found["pfn"], found["order"], found["migratetype"]) == (0x29de, 0, 1)
    assert found["gfp"] == b"GFP_HIGHUSER_MOVABLE|__GFP_COMP"


def test_a_name_that_looks_like_a_prefix_does_not_deceive():
    found = event(b" x-1 [9] 7.0: b:-130     [002] .....     6.623081: mm_page_alloc: " + PAYLOAD)
    assert (found["comm"], found["pid"], found["cpu"]) == (b"x-1 [9] 7.0: b:", 130, 2)


@pytest.mark.parametrize("letter, context", [(b".", 0), (b"s", SOFT), (b"h", HARD), (b"H", SOFT | HARD), (b"z", NMI),
                                             (b"Z", NMI | HARD)])
def test_context(letter, context):
    line = b"              sh-130     [000] d." + letter + b"1.     6.623081: mm_page_alloc: " + PAYLOAD
    assert event(line)["context"] == FLAGS | context


def test_context_is_unknown_without_the_column():
    assert event(b"              sh-118   [000]     8.880510: mm_page_alloc: " + PAYLOAD)["context"] == 0


def test_a_clock_that_counts():
    found = event(b"              sh-130     [000] .....  123456789012: mm_page_alloc: " + PAYLOAD)
    assert found["time_ns"] == 123456789012 and found["clock"] == 1


def test_function_graph_comment():
    found = event(b" 3)               |  /* mm_page_alloc: " + PAYLOAD + b" */")
    assert (found["cpu"], found["pfn"], found["clock"]) == (3, 0x29de, 2)
    found = event(b"  106.000123 |   3)    sh-130    |               |  /* mm_page_alloc: " + PAYLOAD + b" */")
    assert (found["cpu"], found["time_ns"], found["clock"]) == (3, 106000123000, 0)


PREFIX = b"              sh-130     [000] .....     6.623081: "


@pytest.mark.parametrize("payload, name, fields", [
    (b"mm_page_alloc: page=0x176a17 pfn=1534487 order=0 migratetype=0 gfp_flags=GFP_KERNEL", "EV_ALLOC",
     {"pfn": 1534487}),                                                     # decimal before 5.14
    (b"mm_page_alloc: page=0xffffea00001347a7 pfn=0x1347a0 order=2 nr_free=3650 migratetype=0 gfp_flags=0x140cca",
     "EV_ALLOC", {"pfn": 0x1347a0, "order": 2, "gfp": b"0x140cca"}),        # a vendor's field, 6.10's mask
    (b"mm_page_alloc: page=0000000000000000 pfn=0x0 order=9 migratetype=1 gfp_flags=GFP_TRANSHUGE", "EV_ALLOC",
     {"pfn": 0, "order": 9}),
    (b"mm_page_alloc: page=(nil) pfn=18446744073709551615 order=0 migratetype=1 gfp_flags=none", "EV_ALLOC",
     {"pfn": 0}),
    (b"mm_page_free: page=00000000811be535 pfn=0xbf36 order=1", "EV_FREE", {"pfn": 0xbf36, "order": 1}),
    (b"mm_page_free_direct: page=ffffea0000000000 pfn=48950 order=1", "EV_FREE", {"pfn": 48950, "order": 1}),
    (b"mm_page_free_batched: page=0000000012 pfn=0xbf37 order=0", "EV_FREE_BATCHED", {"pfn": 0xbf37}),
    (b"mm_page_free_batched: page=0000000012 pfn=48951 order=0 cold=1", "EV_FREE_BATCHED", {"pfn": 48951}),
    (b"mm_pagevec_free: page=0000000012 pfn=48951 order=0 cold=0", "EV_FREE_BATCHED", {"pfn": 48951}),
    (b"mm_page_alloc_zone_locked: page=0012 pfn=0xf0c1 order=0 migratetype=1 percpu_refill=1", "EV_ZONE_LOCKED",
     {"pfn": 0xf0c1, "migratetype": 1, "percpu_refill": 1}),
    (b"mm_page_alloc_zone_locked: page=0012 pfn=61633 order=0 migratetype=1 cpu=2 percpu_refill=0", "EV_ZONE_LOCKED",
     {"pfn": 61633, "percpu_refill": 0, "cpu": 0}),
    (b"mm_page_pcpu_drain: page=00000000bf2089f0 pfn=0xce00 order=9 migratetype=1", "EV_PCPU_DRAIN",
     {"pfn": 0xce00, "order": 9}),
    (b"mm_page_alloc_extfrag: page=00 pfn=0x15600 alloc_order=2 fallback_order=9 pageblock_order=9 "
     b"alloc_migratetype=0 fallback_migratetype=1 fragmenting=0 change_ownership=1", "EV_EXTFRAG",
     {"pfn": 0x15600, "order": 2, "fallback_order": 9, "pageblock_order": 9, "migratetype": 0,
      "fallback_migratetype": 1, "change_ownership": 1}),
    (b"mm_vmscan_kswapd_wake: nid=1 order=3", "EV_KSWAPD_WAKE", {"nid": 1, "order": 3}),
    (b"mm_vmscan_kswapd_wake: nid=1 zid=2 order=3", "EV_KSWAPD_WAKE", {"nid": 1, "order": 3}),
    (b"mm_vmscan_kswapd_sleep: nid=0", "EV_KSWAPD_SLEEP", {"nid": 0}),
    (b"mm_vmscan_direct_reclaim_begin: order=0 may_writepage=1 gfp_flags=GFP_KERNEL classzone_idx=2",
     "EV_DIRECT_RECLAIM_BEGIN", {"gfp": b"GFP_KERNEL"}),
    (b"mm_vmscan_direct_reclaim_end: nr_reclaimed=33", "EV_DIRECT_RECLAIM_END", {"nr": 33}),
    (b"mm_compaction_begin: zone_start=0x1000 migrate_pfn=0x1200 free_pfn=0x1fe00 zone_end=0x1ffdd, mode=sync",
     "EV_COMPACTION_BEGIN", {"pfn": 0x1200, "mode_sync": True}),
    (b"mm_compaction_begin: zone_start=4096 migrate_start=4608 free_start=9 zone_end=10, mode=async",
     "EV_COMPACTION_BEGIN", {"pfn": 4608, "mode_sync": False}),
    (b"mm_compaction_end: zone_start=0x1000 migrate_pfn=0x1da00 free_pfn=0x1da00 zone_end=0x1ffdd, mode=sync "
     b"status=partial_skipped", "EV_COMPACTION_END",
     {"pfn": 0x1da00, "status": TraceCompactStatus.COMPACT_STATUS_PARTIAL_SKIPPED}),
])
def test_payloads(payload, name, fields):
    found = event(PREFIX + payload)
    assert found["name"] == EventName[name]
    assert {key: found[key] for key in fields} == fields


def test_carriage_return_is_no_part_of_the_last_value():
    assert event(PREFIX + b"mm_page_free: page=00 pfn=0x10 order=0\r")["order"] == 0


@pytest.mark.parametrize("payload, problem", [
    (b"mm_page_alloc: page=00 order=0 migratetype=0 gfp_flags=none", "MISSING_KEY"),
    (b"mm_page_free: page=00 pfn=0x10", "MISSING_KEY"),
    (b"mm_page_free: page=00 pfn=0xzz order=0", "BAD_NUMBER"),
    (b"mm_page_free: page=00 pfn= order=0", "BAD_NUMBER"),
    (b"mm_page_free: page=00 pfn=0x10 order=-1", "BAD_NUMBER"),
    (b"mm_page_free: page=00 pfn=99999999999999999999 order=0", "BAD_NUMBER"),
    (b"mm_page_free: page=00 pfn=0x11112222333344445 order=0", "BAD_NUMBER"),
    (b"mm_page_free: page=00 pfn=0xfffffffe order=0", "PFN_RANGE"),
    (b"mm_page_free: page=00 pfn=0x0 order=21", "ORDER_RANGE"),
    (b"mm_page_free: page=00 pfn=0x11 order=1", "UNALIGNED"),
    (b"mm_page_free: page=00 pfn=0x10 order=99999999999", "FIELD_RANGE"),
    (b"mm_page_alloc: page=00 pfn=0x10 order=0 migratetype=256 gfp_flags=none", "FIELD_RANGE"),
    (b"mm_page_alloc_extfrag: page=0 pfn=0x15600 alloc_order=2 fallback_order=16 alloc_migratetype=0 "
     b"fallback_migratetype=1", "FIELD_RANGE"),
    (b"mm_vmscan_kswapd_sleep: nid=40000", "FIELD_RANGE"),
])
def test_malformed_payloads(payload, problem):
    found = parse_line(PREFIX + payload)
    assert (found["kind"], found["problem"]) == (LineKind.LINE_MALFORMED, LineProblem["PROBLEM_" + problem])


def test_a_cpu_beyond_the_column_is_malformed():
    found = parse_line(b"              sh-130     [65535] .....     6.623081: mm_page_free: page=0 pfn=1 order=0")
    assert found["problem"] == LineProblem.PROBLEM_CPU_RANGE


@pytest.mark.parametrize("line, cpu, nr", [
    (b"CPU:3 [LOST 123 EVENTS]", 3, 123),
    (b"CPU:12 [EVENTS DROPPED]", 12, 0),
    (b"CPU 3 [77 EVENTS DROPPED]", 3, 77),
    (b"LOST 11 events!", 65535, 11),
])
def test_loss_markers(line, cpu, nr):
    found = parse_line(line)
    assert (found["kind"], found["cpu"], found["nr"]) == (LineKind.LINE_LOST, cpu, nr)


@pytest.mark.parametrize("line, kind", [
    (b"", "BLANK"), (b"   \t", "BLANK"), (b"\r", "BLANK"),
    (b"# tracer: nop", "HEADER"), (b"cpus=8", "HEADER"), (b"##### CPU 2 buffer started ####", "HEADER"),
    (b" => __alloc_pages+0x1b0/0x320", "STACK"),
    (b"              sh-130     [000] .....     6.623081: <stack trace>", "UNPARSED"),
    (b"        ffffffff81234567 __alloc_pages+0x1b0 ([kernel.kallsyms])", "STACK"),
    (b"CPU:3 is online", "UNPARSED"), (b"CPU:3 [LOST many EVENTS]", "UNPARSED"), (b"plain words", "UNPARSED"),
    (b"3711.661 a.out/73827 exceptions:page_fault_user(address: 0x57060420, ip: 4195786)", "UNPARSED"),
    (b" 0)   1.234 us    |  __alloc_pages();", "UNPARSED"),
])
def test_lines_that_are_no_events(line, kind):
    assert parse_line(line)["kind"] == LineKind["LINE_" + kind]


@pytest.mark.parametrize("line, name", [
    (PREFIX + b"sched_switch: prev_comm=mm_page_free: pfn=0x1 order=0", b"sched_switch"),
    (PREFIX + b"mm_page_alloc2: pfn=0x1 order=0", b"mm_page_alloc2"),
    (b"            perf   256 [000]    27.510491:  kmem:kmalloc: call_site=1", b"kmalloc"),
    (PREFIX + b"tracing_mark_write: anything", b"tracing_mark_write"),
])
def test_other_events_are_named(line, name):
    found = parse_line(line)
    assert (found["kind"], found["event"]) == (LineKind.LINE_UNKNOWN, name)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_line(line):
    assert parse_line(line)["kind"] in LineKind


@given(st.data())
def test_a_damaged_line_is_never_read_beyond_its_end(data):
    line = bytearray(PREFIX + b"mm_page_alloc: " + PAYLOAD)
    for _ in range(data.draw(st.integers(1, 6))):
        line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.sampled_from(b"0 :=-[]().,xs/*\n\r\0\xff"))
    cut = bytes(line[:data.draw(st.integers(0, len(line)))])
    assert parse_line(cut)["kind"] in LineKind
