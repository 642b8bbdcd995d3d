"""`mm demo`: the recording that comes with the package, converted, replayed, judged, reported.

The recording is ftrace text of a workload on a real Linux 6.1 with two CPUs, and the state of every free list before
and after (docs/recordings.md).
"""

import pathlib

import mm
from mm.sim.cli.runs import replay_trace, write_report
from mm.sim.convert import convert
from mm.sim.verify import verify_one

RECORDING = pathlib.Path(mm.__file__).parent / "sim" / "demo"


def run_demo(output, share):
    """Leave trace, run and report in a folder.

    Parameters
    ----------
    output : path
        Folder, made if needed.
    share : callable
        share(what) gives a callable (done, total) that shows progress.

    Returns
    -------
    tuple of list of str and bool
        What to print, and whether the model agreed with the recording in every page, list and counter.
    """
    output = pathlib.Path(output)
    output.mkdir(parents=True, exist_ok=True)
    trace, run, page = output / "demo.trace", output / "run", output / "report.html"
    snapshot = RECORDING / "snap-before.npz"
    conversion = convert(RECORDING / "trace.txt.zst", trace, progress=share("converting"))
    replay_trace(trace, snapshot, run, progress=share("replaying"), overwrite=True)
    write_report([run], page)
    share("judging")(0, None)
    row = verify_one(RECORDING)
    again = f"mm replay {trace} --snapshot {snapshot} -o {output / 'again'}"
    return [
        "A workload on a real Linux 6.1 with two CPUs, replayed from its first event to its last without correction:",
        f"  {conversion.metadata['lines']['events']} kernel events, {row['seconds']} s to convert, replay and compare",
        f"  {row['matched']} of {row['total']} allocations got the page frame that the kernel gave",
        f"  free lists, per-cpu lists and counters at the end: {'equal' if row['lists_equal'] else 'different'}",
        *([f"  {row['why']}"] if row["why"] else []),
        "", f"report  {page}", f"run     {run}", f"again   {again}",
    ], row["status"] == "ok"
