"""record: replay a trace on a machine and leave a run.

Linux has nothing alike.  The run gets the digests of trace and start state, the losses the recorder named, what was
recorded and what inferred, and the headline figures; open loop, as the replay keeps recorded frees.
Cost: beside the replay one pass over the trace for its digest; for the figures that compare modes two more replays on
copies of the start state, by default of short traces only.
"""

import hashlib

import numpy as np

from mm._fast.sim import trace_ops
from mm.sim import replay as _replay
from mm.sim.run.sampler import PROGRESS
from mm.sim.run.writer import RunWriter

# Up to this many rows the figures of all modes are measured unless the caller decides.
HEADLINE_ROWS = 2_000_000
# Releases that need no --as-kernel.
OWN_KERNEL = ("6.1.", "6.1-")
STATE_ARRAYS = ("page", "pageblock_flags", "zones", "pageset", "nodes", "vm_event", "zonelists", "node_distance",
                "cpu_node", "current", "g")


def record(machine, trace, path, mode="free", guided_until_ns=None, seed=0, progress=None, overwrite=False,
           headlines=None, max_samples=1000):
    """Replay a trace and write the run.

    Parameters
    ----------
    machine : mm.Machine
        In the start state; in the end state afterwards.
    trace : mm.Trace
    path : path-like or None
        Folder of the run; None: a temporary one that `Run.save` keeps.
    mode, guided_until_ns, progress
        See `mm.sim.replay.replay`.
    seed : int
        Written down; a replay draws nothing.
    overwrite : bool
        Replace a run that is there.
    headlines : bool, optional
        Measure the figures that this replay alone does not give (without inferences, one step at a time) on copies of
        the start state; default: for traces of up to 2 million rows.
    max_samples : int
        Bound of samples kept.

    Returns
    -------
    Run
    """
    details = {"trace": _describe_trace(trace), "start_state": {"sha256": state_digest(machine)}, "seed": seed}
    release = trace.metadata.get("kernel_release")
    if release and not (release + ".").startswith(OWN_KERNEL):
        details["as_kernel"] = "6.1"
    if headlines is None:
        headlines = len(trace) <= HEADLINE_ROWS
    measured = _replay.headlines(machine, trace) if headlines else {}
    with RunWriter(path, machine, overwrite=overwrite, interval_ns=1, max_samples=max_samples) as writer:
        writer.sampler.sample(machine, _first_time(trace), **dict.fromkeys(PROGRESS, 0))
        result = _replay.replay(machine, trace, mode, guided_until_ns, keep_results=False, sampler=writer.sampler,
                                progress=progress, on_extfrag=writer.add_extfrag)
        settings = {"replay mode": mode} | ({} if guided_until_ns is None else {"guided until (ns)": guided_until_ns})
        return writer.finish(
            "open loop", _figures(result, measured, details["trace"].pop("failed_allocs")), settings=settings,
            losses=dict(trace.metadata.get("losses", {})), recorded=[_op_name(op) for op in trace.op_counts()],
            inferred={name: result.counts[name] for name in _replay.INFERRED if result.counts[name]},
            counts={name: count for name, count in result.counts.items() if count},
            notes=[note for note in (result.why, *trace.metadata.get("notes", [])) if note], **details)


def watch(machine, trace, mode="free", guided_until_ns=None, infer=None, progress=None, max_samples=400):
    """Replay a trace, keep every result, and attach a temporary run, so that the Replay can be tabled and drawn.

    Parameters are those of `mm.sim.replay.replay`; nothing is digested and no other figure is measured.
    """
    with RunWriter(None, machine, interval_ns=1, max_samples=max_samples) as writer:
        writer.sampler.sample(machine, _first_time(trace), **dict.fromkeys(PROGRESS, 0))
        result = _replay.replay(machine, trace, mode, guided_until_ns, infer, sampler=writer.sampler, progress=progress,
                                on_extfrag=writer.add_extfrag)
        result.run = writer.finish("open loop", _figures(result, {}, None), settings={"replay mode": mode},
                                   counts={name: count for name, count in result.counts.items() if count},
                                   notes=[result.why] if result.why else [])
    return result


def state_digest(machine):
    """SHA-256 over the arrays that are the state of a machine, in hexadecimal."""
    machine.fold_counters()
    digest = hashlib.sha256()
    for name in STATE_ARRAYS:
        digest.update(np.ascontiguousarray(getattr(machine, name)).view(np.uint8))
    return digest.hexdigest()


def _op_name(op):
    return op.removeprefix("TRACE_").lower()


def _first_time(trace):
    return int(trace.batch(0).time_ns[0]) if len(trace) else 0


def _describe_trace(trace):
    """Digest of all rows whatever the file's compression, rows, kernel, and the allocations that failed in it."""
    digest, failed = hashlib.sha256(), 0
    for batch in trace:
        for name in trace.columns:
            column = batch[name]
            if column.dtype == object:
                digest.update("\0".join(map(str, column)).encode())
            else:
                digest.update(np.ascontiguousarray(column).view(np.uint8))
        failed += int(((batch.op == trace_ops.TraceOp.TRACE_ALLOC) & (batch.pfn == trace_ops.TRACE_PFN_FAILED)).sum())
    return {"sha256": digest.hexdigest(), "rows": len(trace), "kernel": trace.metadata.get("kernel_release"),
            "failed_allocs": failed}


def _figures(result, measured, recorded_failures):
    """The headline figures of this replay, with those that the other modes gave."""
    counts = result.counts
    figures = {name: measured.get(name) for name in ("pfn_agreement_ratio", "pfn_agreement_plain_ratio",
                                                     "one_step_agreement_ratio")}
    if result.mode == "free":
        figures["pfn_agreement_ratio" if result.inferred else "pfn_agreement_plain_ratio"] = result.pfn_agreement_ratio
    elif not measured:
        figures["one_step_agreement_ratio"] = result.one_step_agreement_ratio
    return figures | {
        "allocations_count": counts["allocs"], "frees_count": counts["frees"], "inferred_pages": result.inferred_pages,
        "failures_count": counts["alloc_failures"], "recorded_failures_count": recorded_failures,
        "skipped_frees_count": counts["unknown_frees"], "lost_events_count": counts["lost_events"]}
