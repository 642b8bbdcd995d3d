"""`mm convert`: text of tracing tools to a native trace."""

import pathlib
import sys

from mm.sim.cli.frame import EXIT_OK, Progress, command, print_json


def add(commands):
    parser = command(commands, "convert", convert_command, "make a native trace of a recording as text")
    parser.add_argument("source", metavar="SRC",
                        help="text of ftrace, trace-cmd report or perf script, maybe compressed; - is standard input")
    parser.add_argument("target", type=pathlib.Path, metavar="DST", help="trace to write")
    parser.add_argument("--anonymize", action="store_true", help="leave out process names and ids")
    parser.add_argument("--json", action="store_true", help="print what was counted as JSON")


def convert_command(args):
    """Convert a text trace; what was lost, skipped or unknown is counted and printed."""
    from mm.sim.trace.convert import convert as run

    progress = Progress()
    source = sys.stdin.buffer if args.source == "-" else pathlib.Path(args.source)
    done = run(source, args.target, anonymize=args.anonymize, progress=progress.share("converting"))
    progress.clear()
    if args.json:
        print_json({"rows": done.rows, **done.metadata})
    else:
        print(done)
    return EXIT_OK
