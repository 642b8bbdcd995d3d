"""`mm replay` and `mm report`: a replay that leaves a run, and reports of runs."""

import pathlib

import mm
from mm.sim.cli.frame import EXIT_OK, Progress, UsageError, command, print_json, time_ns


def add(commands):
    _add_replay(commands)
    _add_report(commands)


def _add_replay(commands):
    parser = command(commands, "replay", replay_command, "run a trace on a machine and store the results")
    parser.add_argument("trace", type=pathlib.Path, metavar="TRACE", help="native trace (see mm convert)")
    parser.add_argument("--snapshot", type=pathlib.Path, required=True, metavar="FILE",
                        help="start state, a snap-before.npz or snap-boot.npz")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--mode", choices=("free", "guided"), default="free",
                        help="free: the model decides all; guided: it takes the recorded blocks where they are free")
    parser.add_argument("--guided-until", type=time_ns, metavar="T",
                        help="with --mode guided: time in the trace from which the model decides, such as 12.5s; a "
                             "bare number is nanoseconds")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace a run that is there")
    parser.add_argument("--json", action="store_true", help="print the headline figures as JSON")


def replay_command(args):
    """Replay a trace from a snapshot."""
    if args.guided_until is not None and args.mode != "guided":
        raise UsageError("--guided-until needs --mode guided")
    progress = Progress()
    run = replay_trace(args.trace, args.snapshot, args.output, mode=args.mode, guided_until_ns=args.guided_until,
                       seed=args.seed, progress=progress.share("replaying"), overwrite=args.overwrite)
    progress.clear()
    if args.json:
        print_json(run.headline())
    else:
        print(run)
    return EXIT_OK


def _add_report(commands):
    parser = command(commands, "report", report_command, "write one HTML page about runs")
    parser.add_argument("runs", nargs="+", type=pathlib.Path, metavar="RUN", help="folder of a run")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, metavar="FILE", help="page to write")


def report_command(args):
    """Write a report of one run, or of several side by side."""
    write_report(args.runs, args.output)
    print(args.output)
    return EXIT_OK


def replay_trace(path, snapshot, output, mode="free", guided_until_ns=None, seed=0, progress=None,
                 overwrite=False):
    """Replay a trace file from a snapshot and leave the run in a folder.

    Returns
    -------
    mm.sim.run.Run
    """
    from mm.sim.run import record

    machine = mm.Machine.from_snapshot(snapshot)
    with mm.Trace.open(path) as trace:
        return record(machine, trace, output, mode=mode, guided_until_ns=guided_until_ns, seed=seed, progress=progress,
                      overwrite=overwrite)


def write_report(runs, path):
    """One HTML page about runs."""
    from mm.sim.report import write_report as write

    write(runs, path)
