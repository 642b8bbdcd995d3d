"""`mm verify`: recordings of a real kernel against the model."""

import pathlib

from mm.sim.cli.frame import EXIT_OK, EXIT_SHORT, Progress, command, print_json


def add(commands):
    parser = command(commands, "verify", verify_command, "compare the model with recordings of a real kernel")
    parser.add_argument("datasets", nargs="+", type=pathlib.Path, metavar="DATASET",
                        help="folder of a recording, or of several")
    parser.add_argument("--json", action="store_true", help="print a list of rows")
    parser.add_argument("--results", type=pathlib.Path, metavar="DIR", help="leave what the model answered here")


def verify_command(args):
    """A row for each dataset; the status is 1 if one fell short."""
    from mm.sim.verify import verify as judge

    progress = Progress()

    def on_row(row):
        progress.clear()
        if not args.json:
            print(_verify_line(row), flush=True)
        progress("...")

    rows = judge(args.datasets, args.results, on_row)
    progress.clear()
    if args.json:
        print_json(rows)
    else:
        print(_verify_summary(rows))
    return EXIT_SHORT if any(row["status"] == "short" for row in rows) else EXIT_OK


def _verify_line(row):
    share = f"{row['matched']}/{row['total']}" if row["total"] else "-"
    lists = ("lists equal" if row["lists_equal"] else "lists differ") if row["total"] else ""
    return f"{row['dataset']:<12} {row['kind']:<12} {row['status']:<12} {share:>15}  {lists:<12} {row['why']}".rstrip()


def _verify_summary(rows):
    counts = {}
    for row in rows:
        counts[row["status"]] = counts.get(row["status"], 0) + 1
    return f"{len(rows)} datasets: " + ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
