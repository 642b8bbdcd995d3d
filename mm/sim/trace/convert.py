"""Kernel text traces to the native trace: ftrace, trace-cmd report, perf script, plain or compressed.

Linux: the text is that of kernel/trace/trace_output.c.  Lines are read by `_fast/sim/ftrace.pyx`, their meaning is
`_fast/sim/page_events.pyx`.  Modelled: the events of `EVENT_NAMES`.  Not modelled: everything else, which is counted by
name.  Invariants: every line is in exactly one count; the result is there in full or not at all; no path, host or
command line is stored.  Cost: streaming, about 0.7 us a line with decompression and writing; memory does not grow with
the input but for 8 bytes a page frame named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from mm._fast.sim.convert import TextConverter
from mm._fast.sim.ftrace import EventName, LineKind, LineProblem, PrefixShape, parse_line
from mm._fast.sim.trace_ops import TraceLimit
from mm.sim.gfp import gfp_table, parse_gfp_lenient
from mm.sim.trace import TraceWriter, replacing
from mm.sim.trace.format import COMM, TraceError, check_metadata, schema
from mm.sim.trace.text_source import TextSource

# The kernel's names (include/trace/events/).  mm_page_free_direct and mm_pagevec_free count as their successors.
EVENT_NAMES: dict[EventName, str] = {
    EventName.EV_ALLOC: "mm_page_alloc", EventName.EV_FREE: "mm_page_free",
    EventName.EV_FREE_BATCHED: "mm_page_free_batched", EventName.EV_ZONE_LOCKED: "mm_page_alloc_zone_locked",
    EventName.EV_PCPU_DRAIN: "mm_page_pcpu_drain", EventName.EV_EXTFRAG: "mm_page_alloc_extfrag",
    EventName.EV_KSWAPD_WAKE: "mm_vmscan_kswapd_wake", EventName.EV_KSWAPD_SLEEP: "mm_vmscan_kswapd_sleep",
    EventName.EV_DIRECT_RECLAIM_BEGIN: "mm_vmscan_direct_reclaim_begin",
    EventName.EV_DIRECT_RECLAIM_END: "mm_vmscan_direct_reclaim_end",
    EventName.EV_COMPACTION_BEGIN: "mm_compaction_begin", EventName.EV_COMPACTION_END: "mm_compaction_end",
}
_PROBLEMS = {
    LineProblem.PROBLEM_MISSING_KEY: "a key is missing", LineProblem.PROBLEM_BAD_NUMBER: "a value is no number",
    LineProblem.PROBLEM_PFN_RANGE: "pfn beyond 0xfffffffd", LineProblem.PROBLEM_ORDER_RANGE: "order beyond 20",
    LineProblem.PROBLEM_UNALIGNED: "pfn not aligned to its order",
    LineProblem.PROBLEM_FIELD_RANGE: "a field beyond its column", LineProblem.PROBLEM_CPU_RANGE: "cpu beyond 65534",
}
_LINE_KINDS = {
    LineKind.LINE_EVENT: "events", LineKind.LINE_UNKNOWN: "unknown_events", LineKind.LINE_MALFORMED: "malformed",
    LineKind.LINE_LOST: "loss_markers", LineKind.LINE_HEADER: "headers", LineKind.LINE_BLANK: "blank",
    LineKind.LINE_STACK: "stack", LineKind.LINE_UNPARSED: "unparsed",
}
_NAMED_UNKNOWN = 200            # unknown event names kept in metadata, the most frequent
_STRAY_LINES = 256              # how far behind the first line its original is looked for
_SNIFF_BYTES = 1 << 20
_GIVEN_KEYS = {"recorder", "kernel_release", "page_shift", "knobs", "start_state"}


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Attributes
    ----------
    rows : int
        Rows written.
    metadata : dict
        As stored in the trace; `lines`, `events`, `pages` and `losses` are its counts.
    """

    rows: int
    metadata: dict[str, Any]

    def __str__(self) -> str:
        """The counts as text, a line each; what was lost or not understood is always shown."""
        meta = self.metadata
        lines, pages, losses = meta["lines"], meta["pages"], meta["losses"]
        out = [f"{lines['read']} lines, {lines['events']} events, {self.rows} rows",
               f"skipped: {lines['unknown_events']} of other events, {lines['malformed']} malformed, "
               f"{lines['unparsed']} not understood, {lines['stray_copies']} stray copies",
               f"lost: {losses['lost_events']} events in {losses['gaps']} gaps ({losses['gaps_unsized']} of unknown "
               f"size), {losses['overwritten']} overwritten before the first line",
               f"frees: {pages['frees']}, of these {pages['lost_frees']} inferred (recorder lost them), "
               f"{pages['unknown_frees']} of pages allocated unseen"]
        out += [f"  {count} {name}" for name, count in lines["unknown"].items()]
        out += [f"  line {number}: {name}: {problem}" for number, name, problem in lines["malformed_lines"]]
        out += [f"gfp without counterpart in 6.1: {name} ({count})" for name, count in meta["gfp_untranslated"].items()]
        return "\n".join(out + meta["notes"])


def convert(src: str | os.PathLike | BinaryIO, dst: str | os.PathLike, *, kernel: str | None = None,
            compression: str | None = "zstd", anonymize: bool = False, metadata: Mapping[str, Any] | None = None,
            progress: Callable[[int, int | None], object] | None = None, batch_rows: int = 1 << 18,
            window_rows: int = 1 << 16, max_pages: int = 1 << 28) -> Conversion:
    """Converts a kernel text trace.

    Parameters
    ----------
    src : path or binary file
        Text of ftrace (`trace`, `trace_pipe`), `trace-cmd report` or `perf script`; plain, zstd, gzip or xz.
    dst : path
        The native trace; written beside and moved into place at the end, removed on any error.
    kernel : str, optional
        Release that recorded, such as ``"6.1.0-56-amd64"``: which gfp bits a hexadecimal mask has.  Default: what the
        text says (perf does), else 6.1, which the metadata then notes.
    compression : {"zstd", None}
        None makes a larger file that is replayed without a copy.
    anonymize : bool
        Leave out pid and comm.
    metadata : dict, optional
        What the text does not say: recorder, kernel_release, page_shift, knobs, start_state.
    progress : callable, optional
        Called as ``progress(done, total)`` with bytes of `src`; total is None for a stream.
    batch_rows : int
        Rows of a batch, about.
    window_rows : int
        How many rows mm_page_free_batched may follow its mm_page_free by.  The kernel prepares at most a few hundred
        pages at once, but other CPUs' events lie between.
    max_pages : int
        Page frames that the trace may name.

    Returns
    -------
    Conversion

    Raises
    ------
    OSError
    TraceError
        If `src` is no such text, is damaged, or has no page event.
    ValueError
        For arguments out of range.
    """
    given = check_metadata(metadata or {})
    if not set(given) <= _GIVEN_KEYS:
        raise ValueError(f"metadata keys {sorted(set(given) - _GIVEN_KEYS)}: a conversion sets them itself")
    kernel = kernel or given.get("kernel_release")
    with TextSource(src) as source:
        if isinstance(src, (str, os.PathLike)) and os.path.exists(dst) and os.path.samefile(src, dst):
            raise ValueError(f"{source.name}: source and destination are the same file")
        reader = _Reader(source, kernel, anonymize, batch_rows, window_rows, max_pages, progress)
        with replacing(dst) as temporary:
            columns = () if anonymize else ("pid", COMM)
            with TraceWriter(temporary, metadata=given, columns=columns, compression=compression) as writer:
                rows = sum(_write(writer, batch) for batch in reader.batches())
                final = reader.metadata(given)
                writer.close(final)
    return Conversion(rows, final)


def _write(writer: TraceWriter, batch: pa.RecordBatch) -> int:
    if batch.num_rows:
        writer.write_batch(batch)
    return batch.num_rows


class _Reader:
    """Turns chunks of text into batches, and keeps what is known of the text."""

    def __init__(self, source: TextSource, kernel: str | None, anonymize: bool, batch_rows: int, window_rows: int,
                 max_pages: int, progress):
        self.source = source
        self.kernel = kernel
        self.gfp_table = gfp_table(kernel)          # refuses a kernel that is none, before anything is read
        self.anonymize = anonymize
        self.progress = progress
        self.text = TextConverter(batch_rows, window_rows, max_pages, not anonymize)
        self.recorder: dict[str, str] = {}
        self.overwritten = 0
        self.stray = 0
        self.masks = np.empty(0, np.uint32)         # gfp string id -> 6.1 mask
        self.mask_counts = np.zeros(0, np.int64)
        self.untranslated: list[list[str]] = []     # gfp string id -> names without counterpart
        self.comms: list[str] = []

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows, in batches."""
        chunks = self.source.chunks()
        head = b""
        for chunk in chunks:
            head += chunk
            if len(head) >= _SNIFF_BYTES:
                break
        rest = self._sniff(head)
        for chunk in chunks:
            yield from self._feed(rest + chunk, False)
            rest = self.rest
            if self.progress:
                self.progress(self.source.done, self.source.total)
        yield from self._feed(rest, True)
        yield self._batch(self.text.take(True))
        if self.progress:
            self.progress(self.source.done, self.source.total)
        counts = self.text.counts()
        if not counts["kinds"]["LINE_EVENT"]:
            raise TraceError(_no_events(self.source.name, counts))

    def _feed(self, data: bytes, final: bool) -> Iterator[pa.RecordBatch]:
        """Reads the whole lines of data; self.rest is what remains."""
        at = 0
        while True:
            try:
                at = self.text.feed(data, at, final)
            except ValueError as error:
                raise TraceError(f"{self.source.name}: {error}") from None
            if not self.text.full:
                break
            yield self._batch(self.text.take())
        self.rest = data[at:]
        if len(self.rest) > _SNIFF_BYTES:
            raise TraceError(f"{self.source.name}: line {self.text.nr_lines + 1} is longer than {_SNIFF_BYTES} bytes: "
                             "this is no text trace")

    def _batch(self, columns: dict[str, np.ndarray]) -> pa.RecordBatch:
        """Columns of the converter with masks and names in place of their ids."""
        for text in self.text.gfp_strings(len(self.masks)):
            mask, left = parse_gfp_lenient(text.decode("ascii", "replace") or "none", self.kernel)
            self.masks = np.append(self.masks, np.uint32(mask))
            self.untranslated.append(left)
        self.mask_counts = np.append(self.mask_counts, np.zeros(len(self.masks) - len(self.mask_counts), np.int64))
        gfp_id, comm_id = columns.pop("gfp_id"), columns.pop("comm_id")
        self.mask_counts += np.bincount(gfp_id, minlength=len(self.masks))
        columns["gfp"] = self.masks[gfp_id]
        if self.anonymize:
            columns.pop("pid")
        arrays = {name: pa.array(values) for name, values in columns.items()}
        if not self.anonymize:
            self.comms += [name.decode("utf-8", "replace") for name in self.text.comms(len(self.comms))]
            arrays[COMM] = pa.DictionaryArray.from_arrays(pa.array(comm_id), pa.array(self.comms, pa.string()))
        wanted = schema(() if self.anonymize else ("pid", COMM))
        return pa.record_batch([arrays[name] for name in wanted.names], schema=wanted)

    # ---- what the text says of itself

    def _sniff(self, head: bytes) -> bytes:
        """Looks at the first megabyte; returns it without the stray copy of an event."""
        if b"\0" in head[:4096]:
            raise TraceError(f"{self.source.name}: byte {head.index(0)} is 0: this is no text")
        comments = re.findall(rb"^#.*", head[:65536], re.MULTILINE)
        self.recorder["name"] = _recorder(head, comments)
        for line in comments:
            if match := re.match(rb"# entries-in-buffer/entries-written: (\d{1,18})/(\d{1,18})", line):
                self.overwritten = max(0, int(match[2]) - int(match[1]))
            elif match := re.match(rb"# os release : (\d[\w.+~-]{0,63})\s*$", line):
                self._set_kernel(match[1].decode())
            elif match := re.match(rb"# perf version : ([\w.+~-]{1,64})\s*$", line):
                self.recorder["version"] = match[1].decode()
        start, end = _stray_copy(head)
        if end > start:
            self.stray = 1
            self.text.feed(head[:start], 0, True)
            self.text.skip_line()
            return head[end:]
        return head

    def _set_kernel(self, release: str) -> None:
        if self.kernel is None:
            try:
                self.gfp_table = gfp_table(release)
            except ValueError:
                return
            self.kernel = release

    def metadata(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Everything known at the end, for the trace's metadata; what the caller gave wins."""
        counts = self.text.counts()
        kinds = {name: counts["kinds"][kind.name] for kind, name in _LINE_KINDS.items()}
        notes = [] if self.kernel else ["the recording kernel is not known: gfp masks are read with 6.1's bits"]
        clock = "counter" if counts["time_integer"] else "seconds"
        if counts["time_missing"] == kinds["events"]:
            clock = "none"
        elif counts["time_missing"] or counts["time_integer"] not in (0, kinds["events"]):
            notes.append("the text mixes times of different kinds: time_ns does not order its events")
        found = {
            "recorder": self.recorder, "page_shift": 12, "clock": clock, "gfp_table": self.gfp_table.name,
            "gfp_untranslated": self._untranslated(), "anonymized": self.anonymize, "handles": self.text.nr_handles,
            "first_time": self.text.first_time,
            "cpus": {str(cpu) if cpu != TraceLimit.TRACE_CPU_UNKNOWN else "unknown": row
                     for cpu, row in counts["cpus"].items()},
            "events": {name: counts["events"][event.name] for event, name in EVENT_NAMES.items()
                       if counts["events"][event.name]},
            "lines": {"read": counts["lines"], **kinds, "stray_copies": self.stray, "unknown": _unknown(counts),
                      "malformed_lines": [[line, EVENT_NAMES[EventName[event]], _PROBLEMS[LineProblem[problem]]]
                                          for line, event, problem in counts["malformed"]]},
            "losses": {"lost_events": counts["lost_events"], "gaps": counts["gaps"],
                       "gaps_unsized": counts["gaps_unsized"], "overwritten": self.overwritten},
            "pages": {name: counts[name] for name in _PAGE_COUNTS},
            "notes": notes,
        }
        if self.kernel:
            found["kernel_release"] = self.kernel
        return found | dict(given)

    def _untranslated(self) -> dict[str, int]:
        """Events by the gfp bit or name that 6.1 has not."""
        totals: dict[str, int] = {}
        for names, count in zip(self.untranslated, self.mask_counts.tolist(), strict=True):
            for name in names if count else ():
                name = name if re.fullmatch(r"\w{1,40}", name, re.ASCII) else "other"
                totals[name] = totals.get(name, 0) + count
        return totals


_PAGE_COUNTS = (
    "allocs", "failed_allocs", "frees", "batched_frees", "batched_alone", "batched_late", "repeated_frees",
    "lost_frees", "unknown_frees", "unknown_frees_reused", "splits", "order_mismatches", "refills", "drains",
    "extfrags", "time_backwards", "context_known", "gfp_missing", "held_pages_at_end",
)


def _recorder(head: bytes, comments: list[bytes]) -> str:
    """Which program printed the text, by its first event line."""
    if any(line.startswith(b"# tracer:") for line in comments):
        return "ftrace"
    if head.startswith(b"cpus="):
        return "trace-cmd"
    for line in _event_lines(head):
        found = parse_line(line)
        if found["kind"] in (LineKind.LINE_EVENT, LineKind.LINE_UNKNOWN):
            return {PrefixShape.SHAPE_PERF: "perf", PrefixShape.SHAPE_FLAGS: "ftrace",
                    PrefixShape.SHAPE_GRAPH: "ftrace"}.get(found["shape"], "trace-cmd")
    return "unknown"


def _event_lines(head: bytes) -> Iterator[bytes]:
    """The first lines that could be events."""
    lines = (line for line in head[:65536].split(b"\n")[:_STRAY_LINES] if line.strip() and not line.startswith(b"#"))
    yield from lines


def _stray_copy(head: bytes) -> tuple[int, int]:
    """Where the first event line stands if it is a copy of a later one, as `cat trace` prints it; else an empty range.

    It is one if the next event is earlier and the same line comes again soon.
    """
    lines = _event_lines(head)
    first, second = next(lines, None), next(lines, None)
    if second is None:
        return 0, 0
    one, two = parse_line(first), parse_line(second)
    if one["kind"] != LineKind.LINE_EVENT or two["kind"] != LineKind.LINE_EVENT or one["time_ns"] <= two["time_ns"]:
        return 0, 0
    if first not in lines:
        return 0, 0
    start = head.index(first)
    return start, start + len(first) + 1


def _unknown(counts: dict[str, Any]) -> dict[str, int]:
    """Events that are not converted, most frequent first."""
    names = sorted(counts["unknown_events"].items(), key=lambda item: (-item[1], item[0]))
    found = {name.decode("ascii", "replace"): count for name, count in names[:_NAMED_UNKNOWN]}
    others = counts["names_dropped"] + sum(count for _, count in names[_NAMED_UNKNOWN:])
    return found | ({"(other names)": others} if others else {})


def _no_events(name: str, counts: dict[str, Any]) -> str:
    found = ", ".join(_unknown(counts)) or "none"
    kinds = counts["kinds"]
    return (f"{name}: no page event in {counts['lines']} lines ({kinds['LINE_UNPARSED']} not understood, "
            f"{kinds['LINE_MALFORMED']} malformed; other events: {found[:300]}): expected mm_page_alloc, mm_page_free "
            "and their like as ftrace, `trace-cmd report` or `perf script` print them")
