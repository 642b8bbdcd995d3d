"""Runs: what a replay leaves in a folder, how it is sampled, written, read.

    Run             a finished run; Run.open(path)
    RunWriter       writes one
    record          replays a trace and writes one
    watch           replays a trace, keeps its results, and attaches a temporary one
    RunError        a folder that is no whole run
"""

from mm.sim.run.folder import FIGURES, Run, RunError
from mm.sim.run.record import record, watch
from mm.sim.run.writer import RunWriter

__all__ = ["FIGURES", "Run", "RunError", "RunWriter", "record", "watch"]
