"""Replay of a trace on a machine: batches, progress, results, and the headline figures.

The loops are in `_fast/sim/attach.pyx` and `_fast/sim/replay.pyx` and run without the GIL; here is what goes round them:
which of them a trace needs, in which steps, and what a user asks of the result.
Modes: `free`, the model decides everything; `guided`, the recorded block is taken where it is free and each decision
that the model would have made otherwise is counted.  Open loop: recorded frees are kept.
Cost: memory is one batch and, unless told otherwise, four bytes an event of results.
"""

import dataclasses

import numpy as np

from mm._fast.sim.replay import COLUMNS, Replayer
from mm._fast.sim.trace_ops import TraceOp
from mm.sim.trace.format import TraceError

MODES = ("free", "guided")
MAX_CHUNK_ROWS = 65536
MIN_CHUNK_ROWS = 512
SAMPLES = 400               # wanted along a run; decides the chunk between two samples
EXTFRAG_EVENTS = 1 << 17    # thefts kept from one chunk to the next
HANDLE_NONE = 0xffffffff
SPARE_HANDLES = 1 << 22     # a short part of a long trace may name handles of the whole
END_OF_TIME = (1 << 63) - 1
INFERRED = ("inferred_below_head", "inferred_list_empty", "inferred_refill", "inferred_drain")


@dataclasses.dataclass
class Replay:
    """What a replay gave.

    Attributes
    ----------
    pfn : uint32 ndarray or None
        One result an event: the model's first PFN of an allocation or free, 0xfffffffe for a failed allocation,
        0xffffffff for what has none.
    counts : dict of str to int
        What was counted (ReplayCounts of `_fast/sim/replay.pyx`).
    mode : str
    is_exact : bool
        The start state was recorded in full; only then is a PFN agreement a statement about the model.
    inferred : bool
        Hidden bulk allocations were inferred.
    why : str
        What a reader must know of the figures.
    run : mm.Run or None
        What was sampled along the way.
    """

    pfn: object
    counts: dict
    mode: str
    is_exact: bool
    inferred: bool
    why: str = ""
    run: object = None

    def to_table(self, name="samples"):
        """A table of the run (mm.sim.run); a trace without times has none."""
        return self._watched().to_table(name)

    def report(self, path):
        """Write the HTML report of the run."""
        return self._watched().report(path)

    def _watched(self):
        if self.run is None:
            raise ValueError("this replay was not sampled: its trace has no times; `mm replay` and mm.sim.run.record leave "
                             "a run of any trace")
        return self.run

    @property
    def inferred_pages(self):
        """Pages inferred as taken by bulk allocations that the trace does not show."""
        return sum(self.counts[name] for name in INFERRED)

    @property
    def pfn_agreement_ratio(self):
        """Allocations whose PFN is the recorded one; None if the start state is not exact or nothing was recorded."""
        return _ratio(self.counts["pfn_equal"], self.counts["pfn_known"]) if self.is_exact else None

    @property
    def one_step_agreement_ratio(self):
        """Guided: allocations that the model would have decided as recorded."""
        return _ratio(self.counts["one_step_equal"], self.counts["one_step_total"]) if self.is_exact else None

    def headline(self):
        """The figures that `mm replay --json` prints, as a dict."""
        return {"mode": self.mode, "loop": "open", "pfn_agreement_ratio": self.pfn_agreement_ratio,
                "one_step_agreement_ratio": self.one_step_agreement_ratio, "inferred_pages": self.inferred_pages,
                "alloc_failures": self.counts["alloc_failures"], "lost_events": self.counts["lost_events"],
                "gaps": self.counts["gaps"], "why": self.why}


def has_times(trace):
    """Does the trace say when its events happened?"""
    if len(trace) == 0:
        return False
    last = trace.batch(trace.nr_batches - 1).time_ns
    return bool(last[-1] > trace.batch(0).time_ns[0])


def _ratio(part, whole):
    return part / whole if whole else None


def has_kmem_events(trace):
    """Were refills and drains recorded?  Only then can hidden allocations be told from their absence."""
    return all(any((batch.op == op).any() for batch in trace) for op in (TraceOp.TRACE_REFILL, TraceOp.TRACE_DRAIN))


def replay(machine, trace, mode="free", guided_until_ns=None, infer=None, keep_results=True, sampler=None, progress=None,
           on_extfrag=None):
    """Run a trace on a machine; the machine is in the end state afterwards.

    Parameters
    ----------
    machine : mm.Machine
    trace : mm.Trace
    mode : {"free", "guided"}
    guided_until_ns : int, optional
        With "guided": the trace's time from which the model decides freely.
    infer : bool, optional
        Infer allocations that the trace does not show; default: where refills and drains were recorded.
    keep_results : bool
        Keep a PFN an event; without it memory does not grow with the trace.
    sampler : object, optional
        Its `sample(machine, time_ns)` is called along the way.
    progress : callable, optional
        Called with (rows done, rows in all).
    on_extfrag : callable, optional
        Gets the model's thefts of blocks of other types as they come, a structured array (Replayer.take_extfrag).

    Returns
    -------
    Replay
    """
    if mode not in MODES:
        raise ValueError(f"mode {mode!r}: one of {', '.join(MODES)}")
    if guided_until_ns is not None and mode != "guided":
        raise ValueError("guided_until_ns is for mode 'guided'")
    is_recorded = has_kmem_events(trace)
    infer = is_recorded if infer is None else infer
    replayer = Replayer(machine, mode == "guided", infer,
                        END_OF_TIME if guided_until_ns is None else guided_until_ns,
                        EXTFRAG_EVENTS if on_extfrag else 0)
    total = len(trace)
    pfn = np.full(total, HANDLE_NONE, np.uint32) if keep_results else None
    done = 0
    for columns, is_last in _chunks(trace, sampler):
        n = len(columns["op"])
        replayer.reserve_handles(_nr_handles(columns, done, total))
        if is_recorded or mode == "guided":
            replayer.push(columns, pfn, is_last)
        else:
            replayer.run_plain(columns, pfn[done:done + n] if keep_results else None)
        done += n
        if on_extfrag is not None:
            on_extfrag(replayer.take_extfrag())
        if sampler is not None and n:
            sampler.sample(machine, int(columns["time_ns"][-1]), **_progress(done, replayer.counts))
        if progress is not None:
            progress(done, total)
    machine.check_bug()
    return Replay(pfn, dict(replayer.counts), mode, machine.is_exact_start, infer, _why(machine, infer, is_recorded))


def _progress(done, counts):
    """What has been counted so far, by the names of mm.sim.run.sampler.PROGRESS."""
    return {"events_count": done, "allocations_count": counts["allocs"], "pfn_judged_count": counts["pfn_known"],
            "pfn_equal_count": counts["pfn_equal"], "failures_count": counts["alloc_failures"],
            "inferred_pages": sum(counts[name] for name in INFERRED)}


def _chunks(trace, sampler):
    """(columns, is it the last) by batches of the trace, cut into steps between two samples."""
    rows = MAX_CHUNK_ROWS
    if sampler is not None:
        rows = min(rows, max(MIN_CHUNK_ROWS, len(trace) // SAMPLES))
    nr_batches, nr_rows, seen = trace.nr_batches, len(trace), 0
    for index in range(nr_batches):
        batch = trace.batch(index)
        columns = {name: np.ascontiguousarray(batch[name], dtype) for name, dtype in COLUMNS.items()}
        for start in range(0, len(batch), rows):
            part = {name: column[start:start + rows] for name, column in columns.items()}
            seen += len(part["op"])
            yield part, seen == nr_rows


def _nr_handles(columns, first_row, total):
    """Handles that these rows name, the upper halves of splits included.

    Raises TraceError for a handle beyond what as many rows can need: the table of handles would not fit in memory.
    """
    top = int(columns["handle"].max(initial=0))
    if top != HANDLE_NONE and top <= 2 * total + SPARE_HANDLES and not (columns["op"] == TraceOp.TRACE_SPLIT).any():
        return top + 1
    named = columns["handle"]
    is_split = columns["op"] == TraceOp.TRACE_SPLIT
    named = np.concatenate([named, columns["flags"][is_split]])
    row = np.concatenate([np.arange(len(is_split)), np.flatnonzero(is_split)])
    is_named = named != HANDLE_NONE
    if not is_named.any():
        return 0
    at = int(np.argmax(np.where(is_named, named, 0)))
    if named[at] > 2 * total + SPARE_HANDLES:
        raise TraceError(f"row {first_row + int(row[at])}: handle {named[at]} in a trace of {total} rows; handles are dense, "
                         f"0 to about the number of blocks held at once")
    return int(named[at]) + 1


def _why(machine, infer, is_recorded):
    reasons = []
    if not machine.is_exact_start:
        reasons.append("the start state is not a recorded one: no PFN agreement")
    if not is_recorded:
        reasons.append("the trace has no refills and drains: hidden bulk allocations cannot be inferred")
    elif not infer:
        reasons.append("without inferences")
    calls = machine.op_calls()
    if calls:
        asked = ", ".join(f"{name} {count}" for name, count in calls.items())
        reasons.append(f"answered 'no progress' for lack of a model: {asked}")
    return "; ".join(reasons)


def headlines(machine, trace, progress=None):
    """The figures of a trace from one start state: free with and without inferences, and one step at a time.

    Parameters
    ----------
    machine : mm.Machine
        In the start state; it is not changed.
    trace : mm.Trace

    Returns
    -------
    dict
        `pfn_agreement_ratio` (free, with inferences), `pfn_agreement_plain_ratio` (free, without),
        `one_step_agreement_ratio` (guided), `inferred_pages`, `inferred_ratio` of the allocations, `alloc_failures`,
        `lost_events`, `why`.
    """
    runs = {}
    for name, mode, infer in (("free", "free", None), ("plain", "free", False), ("guided", "guided", None)):
        runs[name] = replay(machine.copy(), trace, mode, infer=infer, keep_results=False, progress=progress)
    return figures(runs["free"], runs["plain"], runs["guided"])


def figures(free, plain, guided):
    """The headline dict of three replays from the same start state."""
    counts = free.counts
    return {"pfn_agreement_ratio": free.pfn_agreement_ratio, "pfn_agreement_plain_ratio": plain.pfn_agreement_ratio,
            "one_step_agreement_ratio": guided.one_step_agreement_ratio, "inferred_pages": free.inferred_pages,
            "inferred_ratio": _ratio(free.inferred_pages, counts["allocs"]), "allocs": counts["allocs"],
            "pfn_known": counts["pfn_known"], "pfn_equal": counts["pfn_equal"],
            "alloc_failures": counts["alloc_failures"], "lost_events": counts["lost_events"], "gaps": counts["gaps"],
            "contradictions": guided.counts["contradictions"], "bad_frees": counts["bad_frees"], "why": free.why}
