"""`mm demo`: the recording that comes with the package, converted, replayed, judged, reported.

The recording is ftrace text of a workload on a real Linux 6.1 with two CPUs, and the state of every free list before
and after (docs/recordings.md).
"""

import pathlib

import mm
from mm.sim.cli.frame import EXIT_OK, EXIT_SHORT, Progress, command
from mm.sim.cli.replay import replay_trace, write_report

RECORDING = pathlib.Path(mm.__file__).parent / "sim" / "demo"


def add(commands):
    parser = command(commands, "demo", demo_command, "replay the bundled recording of a kernel and write a report")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=pathlib.Path("mm-demo"), metavar="DIR",
                        help="where to write (default: %(default)s)")


def demo_command(args):
    """Convert, replay and judge the recording in the package; leave trace, run and report in a folder."""
    progress = Progress()
    lines, is_ok = run_demo(args.output, progress.share)
    progress.clear()
    print("\n".join(lines))
    return EXIT_OK if is_ok else EXIT_SHORT


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
    from mm.sim.trace.convert import convert
    from mm.sim.verify import verify_one

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
