"""Text of a kernel trace to the columns of a native one, a buffer at a time.

Linux: none; the lines are read by ftrace.pyx, their meaning is page_events.pyx.  Modelled: lines, counts, the window
of rows that can still change, columns.  Invariants: rows leave in the order of the text; nothing but `feed` and
`take` moves.  Cost: about 0.2 us a line; memory is the window, the string tables and 8 bytes a page frame named.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport INT64_MIN, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memmove, memset

import numpy as np

from mm._fast.sim.ftrace cimport (LINE_EVENT, LINE_UNKNOWN, LINE_MALFORMED, LINE_LOST, LINE_UNPARSED, NR_LINE_KINDS,
                                  NR_EVENT_NAMES, NR_LINE_PROBLEMS, FtraceEvent, ftrace_parse_line)
from mm._fast.sim.page_events cimport (ROW_DROPPED, MAX_LINE_BYTES, NR_CPUS, NR_NOTED_LINES, NR_SHAPES,
                                       MAX_GFP_STRINGS, MAX_COMMS, MAX_EVENT_NAMES, CONVERT_TABLE_FULL, TraceRow,
                                       ConvertCpu, NotedLine, ConvertState, convert_event, convert_gap)
from mm._fast.sim.held_pages cimport CHUNK_PAGES, held_pages_free, held_pages_init
from mm._fast.sim.str_table cimport STR_NONE, StrTable, str_intern, str_table_free, str_table_init
from mm._fast.sim.trace_ops cimport TRACE_FREE

from mm._fast.sim.ftrace import EventName, LineKind, LineProblem, PrefixShape


cdef class TextConverter:
    """Reads text, hands out columns.

    Parameters
    ----------
    batch_rows : int
        Rows that one `take` hands out, about.
    window_rows : int
        Rows that are held back because a later line can still change them.
    max_pages : int
        Page frames that may be named; 8 bytes each are used.
    keep_tasks : bool
        Whether pid and comm are kept.
    """

    cdef ConvertState s

    def __cinit__(self, uint64_t batch_rows=1 << 18, uint64_t window_rows=1 << 16, uint64_t max_pages=1 << 28,
                  bint keep_tasks=True):
        cdef ConvertState *s = &self.s
        if not (1 <= batch_rows <= 1 << 24 and window_rows <= 1 << 24 and 1 <= max_pages <= 1 << 32):
            raise ValueError(f"batch_rows {batch_rows}, window_rows {window_rows}, max_pages {max_pages}: expected 1 "
                             "to 2**24, 0 to 2**24 and 1 to 2**32")
        memset(s, 0, sizeof(ConvertState))
        s.keep_tasks = keep_tasks
        s.window = window_rows
        s.full_rows = batch_rows + window_rows
        s.max_rows = s.full_rows + 64
        s.max_free_handles = s.max_rows
        s.rows = <TraceRow *>malloc(s.max_rows * sizeof(TraceRow))
        s.free_handles = <uint32_t *>malloc(s.max_free_handles * sizeof(uint32_t))
        s.cpus = <ConvertCpu *>calloc(NR_CPUS, sizeof(ConvertCpu))
        s.name_counts = <uint64_t *>calloc(MAX_EVENT_NAMES, sizeof(uint64_t))
        if (s.rows == NULL or s.free_handles == NULL or s.cpus == NULL or s.name_counts == NULL
                or not held_pages_init(&s.pages, (max_pages + CHUNK_PAGES - 1) // CHUNK_PAGES)
                or not str_table_init(&s.gfps, MAX_GFP_STRINGS) or not str_table_init(&s.comms, MAX_COMMS)
                or not str_table_init(&s.names, MAX_EVENT_NAMES)):
            raise MemoryError("the tables of a trace conversion")
        # Id 0 is the empty string: no mask, no command.
        str_intern(&s.gfps, b"", 0)
        str_intern(&s.comms, b"", 0)

    def __dealloc__(self):
        free(self.s.rows)
        free(self.s.free_handles)
        free(self.s.cpus)
        free(self.s.name_counts)
        held_pages_free(&self.s.pages)
        str_table_free(&self.s.gfps)
        str_table_free(&self.s.comms)
        str_table_free(&self.s.names)

    def feed(self, const unsigned char[::1] text not None, Py_ssize_t start=0, bint final=False):
        """Reads lines from text[start:] until it is consumed or `full`.

        Parameters
        ----------
        text : buffer of bytes
        start : int
        final : bool
            The text ends here: a last line without newline is one.

        Returns
        -------
        int
            Where reading stopped: the start of the first line not read.  An incomplete line is for the next call.

        Raises
        ------
        MemoryError
        ValueError
            If the trace names more page frames than `max_pages`.
        """
        cdef Py_ssize_t size = text.shape[0]
        if not 0 <= start <= size:
            raise ValueError(f"start {start}: expected 0 to {size}")
        if start == size:
            return start
        with nogil:
            start = feed_lines(&self.s, <const char *>&text[0], start, size, final)
        if self.s.error == CONVERT_TABLE_FULL:
            raise ValueError(f"line {self.s.line}: the trace names page frames in more than {self.s.pages.max_chunks} "
                             f"groups of {CHUNK_PAGES}; is it a trace of one machine?  raise max_pages if so")
        if self.s.error:
            raise MemoryError(f"line {self.s.line} of a trace conversion")
        return start

    def skip_line(self):
        """Counts a line that the caller dropped."""
        self.s.line += 1

    @property
    def nr_lines(self):
        """Lines read or skipped."""
        return self.s.line

    @property
    def full(self):
        """Whether `take` is due before `feed` reads on."""
        return self.s.nr_rows >= self.s.full_rows

    @property
    def nr_handles(self):
        """Handles ever used: they are 0 to nr_handles - 1."""
        return self.s.nr_handles

    @property
    def first_time(self):
        """The recorder's time of the first event, from which `time_ns` counts; None before it."""
        return self.s.first_time if self.s.has_time else None

    def take(self, bint final=False):
        """The rows that can no longer change, all of them if `final`.

        Returns
        -------
        dict of ndarray
            The columns of the trace by name, and `gfp_id` (uint32) and `comm_id` (int32) in place of gfp and comm.
        """
        cdef ConvertState *s = &self.s
        cdef uint64_t n = s.nr_rows if final else s.nr_rows - min(s.window, s.nr_rows)
        cdef uint64_t kept = 0
        cdef uint64_t i
        for i in range(n):
            kept += s.rows[i].op != ROW_DROPPED
        columns = {"time_ns": np.empty(kept, np.int64), "cpu": np.empty(kept, np.uint16)}
        columns |= {name: np.empty(kept, np.uint8) for name in ("op", "order", "migratetype", "cause")}
        columns |= {name: np.empty(kept, np.uint32) for name in ("gfp_id", "handle", "pfn", "flags")}
        columns |= {"node": np.empty(kept, np.int16), "pid": np.empty(kept, np.int32),
                    "comm_id": np.empty(kept, np.int32)}
        take_times(s, n, columns["time_ns"], columns["cpu"], columns["node"], columns["pid"], columns["comm_id"])
        take_bytes(s, n, columns["op"], columns["order"], columns["migratetype"], columns["cause"])
        take_words(s, n, columns["gfp_id"], columns["handle"], columns["pfn"], columns["flags"])
        if not retire_rows(s, n):
            raise MemoryError("the list of free handles")
        return columns

    def gfp_strings(self, uint32_t start=0):
        """The printed gfp masks with ids from `start` on, as bytes."""
        return strings(&self.s.gfps, start)

    def comms(self, uint32_t start=0):
        """The command names with ids from `start` on, as bytes."""
        return strings(&self.s.comms, start)

    def counts(self):
        """Everything counted so far.

        Returns
        -------
        dict
            `lines`, `kinds`, `events`, `problems`, `shapes` by name, `unknown_events` by name (bytes), `malformed`
            (first lines by number), `cpus` by number, and the members of ConvertCounts.
        """
        cdef ConvertState *s = &self.s
        cdef int i
        s.counts.held_pages_at_end = s.pages.nr_held
        result = {"lines": s.line}
        result["kinds"] = {LineKind(i).name: s.kinds[i] for i in range(<int>NR_LINE_KINDS)}
        result["events"] = {EventName(i).name: s.events[i] for i in range(<int>NR_EVENT_NAMES)}
        result["problems"] = {LineProblem(i).name: s.problems[i] for i in range(<int>NR_LINE_PROBLEMS) if s.problems[i]}
        result["shapes"] = {PrefixShape(i).name: s.shapes[i] for i in range(NR_SHAPES) if s.shapes[i]}
        names = strings(&s.names, 0)
        result["unknown_events"] = {names[i]: s.name_counts[i] for i in range(<int>s.names.nr)}
        result["malformed"] = [(s.noted[i].line, EventName(s.noted[i].name).name, LineProblem(s.noted[i].problem).name)
                               for i in range(<int>s.nr_noted)]
        result["cpus"] = {i: {"events": s.cpus[i].events, "lost": s.cpus[i].lost, "gaps": s.cpus[i].gaps}
                          for i in range(NR_CPUS) if s.cpus[i].events or s.cpus[i].gaps}
        return result | s.counts


cdef Py_ssize_t feed_lines(ConvertState *s, const char *text, Py_ssize_t at, Py_ssize_t size,
                           bint final) noexcept nogil:
    cdef const char *newline
    cdef Py_ssize_t end
    while at < size and s.nr_rows < s.full_rows and not s.error:
        newline = <const char *>memchr(text + at, c'\n', size - at)
        if newline == NULL:
            if not final:
                break
            end = size
        else:
            end = newline - text
        s.line += 1
        if end - at > MAX_LINE_BYTES:
            s.kinds[<uint32_t>LINE_UNPARSED] += 1
        else:
            feed_line(s, text + at, text + end)
        at = end + 1 if end < size else end
    return at


cdef void feed_line(ConvertState *s, const char *line, const char *end) noexcept nogil:
    cdef FtraceEvent ev
    cdef uint32_t kind = ftrace_parse_line(line, end, &ev)
    cdef uint32_t name
    s.kinds[kind] += 1
    if kind == LINE_EVENT:
        s.shapes[ev.shape] += 1
        s.events[ev.name] += 1
        convert_event(s, &ev)
    elif kind == LINE_LOST:
        convert_gap(s, &ev)
    elif kind == LINE_MALFORMED:
        s.problems[ev.problem] += 1
        if s.nr_noted < NR_NOTED_LINES:
            s.noted[s.nr_noted] = NotedLine(s.line, ev.name, ev.problem)
            s.nr_noted += 1
    elif kind == LINE_UNKNOWN:
        name = str_intern(&s.names, ev.event, ev.event_len)
        if name == STR_NONE:
            s.counts.names_dropped += 1
        else:
            s.name_counts[name] += 1


cdef void take_times(ConvertState *s, uint64_t n, int64_t[::1] time_ns, uint16_t[::1] cpu, int16_t[::1] node,
                     int32_t[::1] pid, int32_t[::1] comm) noexcept nogil:
    cdef uint64_t i, at = 0
    cdef const TraceRow *row
    for i in range(n):
        row = s.rows + i
        if row.op != ROW_DROPPED:
            # A gap before the first event, or whose CPU was never seen again.
            time_ns[at] = 0
            if row.time_ns != INT64_MIN:
                time_ns[at] = <int64_t>(<uint64_t>row.time_ns - <uint64_t>s.first_time)
            cpu[at] = row.cpu
            node[at] = row.node
            pid[at] = row.pid
            comm[at] = <int32_t>row.comm
            at += 1


cdef void take_bytes(ConvertState *s, uint64_t n, uint8_t[::1] op, uint8_t[::1] order, uint8_t[::1] migratetype,
                     uint8_t[::1] cause) noexcept nogil:
    cdef uint64_t i, at = 0
    cdef const TraceRow *row
    for i in range(n):
        row = s.rows + i
        if row.op != ROW_DROPPED:
            op[at] = row.op
            order[at] = row.order
            migratetype[at] = row.migratetype
            cause[at] = row.cause
            at += 1


cdef void take_words(ConvertState *s, uint64_t n, uint32_t[::1] gfp, uint32_t[::1] handle, uint32_t[::1] pfn,
                     uint32_t[::1] flags) noexcept nogil:
    cdef uint64_t i, at = 0
    cdef const TraceRow *row
    for i in range(n):
        row = s.rows + i
        if row.op != ROW_DROPPED:
            gfp[at] = row.gfp
            handle[at] = row.handle
            pfn[at] = row.pfn
            flags[at] = row.flags
            at += 1


cdef bint retire_rows(ConvertState *s, uint64_t n) noexcept nogil:
    """Removes the first n rows; the handles that they end may be used again.  False if memory is short."""
    cdef uint64_t i
    cdef uint32_t *handles
    if s.nr_free_handles + n > s.max_free_handles:
        handles = <uint32_t *>realloc(s.free_handles, 2 * (s.nr_free_handles + n) * sizeof(uint32_t))
        if handles == NULL:
            return False
        s.free_handles = handles
        s.max_free_handles = 2 * (s.nr_free_handles + n)
    for i in range(n):
        if s.rows[i].op == TRACE_FREE:
            s.free_handles[s.nr_free_handles] = s.rows[i].handle
            s.nr_free_handles += 1
    memmove(s.rows, s.rows + n, (s.nr_rows - n) * sizeof(TraceRow))
    s.nr_rows -= n
    s.first_row += n
    return True


cdef list strings(const StrTable *t, uint32_t start):
    return [PyBytes_FromStringAndSize(t.arena + t.start[i], t.start[i + 1] - t.start[i]) for i in range(start, t.nr)]
