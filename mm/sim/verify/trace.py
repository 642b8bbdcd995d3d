"""Judge the model against a recorded trace with both end states.

Free-running from `before`, without ever correcting a prediction from the recording; pages inferred as taken by hidden
bulk allocations are counted, and above MAX_INFERRED_RATIO of the allocations the run counts as failed.
"""

import pathlib
import tempfile
import time

from mm.sim import snapshot as snapshots
from mm.sim.machine import Machine
from mm.sim.replay import replay
from mm.sim.trace import Trace
from mm.sim.trace.convert import convert

TRACE_NAME = "trace.txt.zst"
MAX_INFERRED_RATIO = 0.005
MIN_AGREEMENT_RATIO = 0.999
NOT_MODELLED_EVENTS = {"TRACE_COMPACTION_BEGIN": "compaction", "TRACE_RECLAIM_BEGIN": "reclaim"}


def verify_trace(directory, results=None):
    """Replay a recorded trace; a result row of `mm verify`.

    A trace whose events name mechanisms that the model does not have yet (reclaim, compaction) is run and shown, with
    the status `not_modelled`; one whose snapshots lie outside its recording is `not_judged`.
    """
    directory = pathlib.Path(directory)
    start = time.perf_counter()
    machine = Machine.from_snapshot(directory / "snap-before.npz")
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch) / "trace.arrow"
        convert(directory / TRACE_NAME, path)
        with Trace.open(path) as trace:
            outcome = replay(machine, trace)
            seen = trace.op_counts()
            losses = outcome.counts["lost_events"]
            if results is not None:
                _keep(trace, outcome.pfn, pathlib.Path(results) / directory.name)
    machine.verify()
    differences = snapshots.compare(snapshots.read_snapshot(directory / "snap-after.npz"), machine)
    inferred = outcome.inferred_pages / max(outcome.counts["allocs"], 1)
    row = {"dataset": directory.name, "kind": "trace", "matched": outcome.counts["pfn_equal"],
           "total": outcome.counts["pfn_known"], "lists_equal": not differences,
           "inferred_pages": outcome.inferred_pages, "inferred_ratio": round(inferred, 6)}
    row["status"], row["why"] = _judge(machine, outcome, seen, losses, differences, inferred, directory)
    row["seconds"] = round(time.perf_counter() - start, 3)
    return row


def _keep(trace, pfn, directory):
    """The trace with the model's answers in place of the recorded ones."""
    directory.mkdir(exist_ok=True)
    columns = {name: trace.column(name) for name in trace.columns if name not in ("pfn", "comm")}
    Trace.from_arrays(**columns, pfn=pfn).save(directory / "trace.arrow")


def _judge(machine, outcome, seen, losses, differences, inferred, directory):
    meta = snapshots.read_meta(directory)
    equal, known = outcome.counts["pfn_equal"], outcome.counts["pfn_known"]
    if losses or meta.get("entries") != meta.get("written") or "events" not in meta or not outcome.inferred:
        return "not_judged", "events are missing, or the snapshots lie outside the recording"
    foreign = sorted({what for name, what in NOT_MODELLED_EVENTS.items() if seen.get(name)})
    if equal == known and not differences and inferred <= MAX_INFERRED_RATIO:
        return "ok", ""
    if foreign:
        return "not_modelled", f"the trace contains {' and '.join(foreign)}"
    reasons = [f"{known - equal} of {known} PFNs differ"] if equal < known else []
    if inferred > MAX_INFERRED_RATIO:
        reasons.append(f"{inferred:.2%} of the pages inferred")
    ok = equal >= MIN_AGREEMENT_RATIO * known and inferred <= MAX_INFERRED_RATIO and not differences
    return "ok" if ok else "short", "; ".join(reasons + differences[:3])
