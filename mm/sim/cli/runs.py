"""What the commands replay, report and demo share: a replay that leaves a run, and reports of runs."""

import mm


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
