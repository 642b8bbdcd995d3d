"""The command `mm`: arguments in, library calls, text or JSON out.

Every subcommand is one thin function; what it does lives in the library and is imported when it runs.  Exit status: 0
done, 1 a judgement that fell short (verify, fuzz), 2 the caller's mistake, told in one line, 3 a broken invariant, a
bug of this package.  Results go to stdout, progress to stderr and only to a terminal.
"""

import argparse
import json
import pathlib
import re
import sys

import mm
from mm.errors import VMBug

EXIT_OK, EXIT_SHORT, EXIT_USAGE, EXIT_BUG = range(4)


class UsageError(ValueError):
    """What the caller asked for cannot be done; the message is all there is to say."""


class _Parser(argparse.ArgumentParser):
    """Errors in one line, as every other error of the command."""

    def error(self, message):
        raise UsageError(f"{message} (see {self.prog} --help)")


class Progress:
    """One line on stderr that tells what is going on; silent unless stderr is a terminal."""

    def __init__(self, stream=None):
        self.stream = sys.stderr if stream is None else stream
        self.is_shown = self.stream.isatty()

    def __call__(self, text):
        """Replace the line."""
        if self.is_shown:
            self.stream.write("\r\x1b[K" + text)
            self.stream.flush()

    def share(self, what):
        """A callable (done, total) that shows how far `what` has come; total may be None."""
        def show(done, total):
            self(f"{what} {done / total:4.0%}" if total else f"{what} {done}")
        return show

    def clear(self):
        """Take the line away."""
        self("")


def main(argv=None):
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Without the program name; default: sys.argv.

    Returns
    -------
    int
        Exit status.
    """
    try:
        args = build_parser().parse_args(argv)
        return args.run(args)
    except BrokenPipeError:
        sys.stderr.close()      # the reader of our output has gone: nothing is left to be said
        return EXIT_OK
    except KeyboardInterrupt:
        print("mm: interrupted", file=sys.stderr)
        return 130
    except VMBug as error:
        print(f"mm: bug: {one_line(error)}", file=sys.stderr)
        return EXIT_BUG
    except (OSError, ValueError, MemoryError) as error:
        print(f"mm: error: {one_line(error)}", file=sys.stderr)
        return EXIT_USAGE


def one_line(error):
    """An exception's message without line breaks."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def build_parser():
    """The argument parser; completion and docs/reference.md are derived from it."""
    parser = _Parser(prog="mm", description="Linux 6.1's memory manager without a kernel.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"mm {mm.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for add in (_add_demo, _add_verify, _add_replay, _add_convert, _add_report, _add_fuzz, _add_info, _add_completion):
        add(commands)
    return parser


def _command(commands, name, run, text):
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
    parser.set_defaults(run=run)
    return parser


def _positive(text):
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a positive number")
    return value


def _print_json(value):
    print(json.dumps(value, indent=1, default=str))


def _print_facts(facts):
    width = max(map(len, facts))
    print("\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in facts.items()))


# ---- demo -----------------------------------------------------------------------------------------------------------


def _add_demo(commands):
    parser = _command(commands, "demo", demo_command, "replay the bundled recording of a kernel and write a report")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=pathlib.Path("mm-demo"), metavar="DIR",
                        help="where to write (default: %(default)s)")


def demo_command(args):
    """Convert, replay and judge the recording in the package; leave trace, run and report in a folder."""
    from mm.sim.cli.demo import run_demo

    progress = Progress()
    lines, is_ok = run_demo(args.output, progress.share)
    progress.clear()
    print("\n".join(lines))
    return EXIT_OK if is_ok else EXIT_SHORT


# ---- verify ---------------------------------------------------------------------------------------------------------


def _add_verify(commands):
    parser = _command(commands, "verify", verify_command, "compare the model with recordings of a real kernel")
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
        _print_json(rows)
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


# ---- replay, convert, report ----------------------------------------------------------------------------------------


def _add_replay(commands):
    parser = _command(commands, "replay", replay_command, "run a trace on a machine and store the results")
    parser.add_argument("trace", type=pathlib.Path, metavar="TRACE", help="native trace (see mm convert)")
    parser.add_argument("--snapshot", type=pathlib.Path, required=True, metavar="FILE",
                        help="start state, a snap-before.npz or snap-boot.npz")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--mode", choices=("free", "guided"), default="free",
                        help="free: the model decides all; guided: it takes the recorded blocks where they are free")
    parser.add_argument("--guided-until", type=_time_ns, metavar="T",
                        help="with --mode guided: time in the trace from which the model decides, such as 12.5s; a "
                             "bare number is nanoseconds")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace a run that is there")
    parser.add_argument("--json", action="store_true", help="print the headline figures as JSON")


def replay_command(args):
    """Replay a trace from a snapshot."""
    from mm.sim.cli.runs import replay_trace

    if args.guided_until is not None and args.mode != "guided":
        raise UsageError("--guided-until needs --mode guided")
    progress = Progress()
    run = replay_trace(args.trace, args.snapshot, args.output, mode=args.mode, guided_until_ns=args.guided_until,
                       seed=args.seed, progress=progress.share("replaying"), overwrite=args.overwrite)
    progress.clear()
    if args.json:
        _print_json(run.headline())
    else:
        print(run)
    return EXIT_OK


def _time_ns(text):
    """A time with unit as nanoseconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ns|us|ms|s|)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number with ns, us, ms or s")
    return round(float(match[1]) * {"": 1, "ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}[match[2]])


def _add_convert(commands):
    parser = _command(commands, "convert", convert_command, "make a native trace of a recording as text")
    parser.add_argument("source", metavar="SRC",
                        help="text of ftrace, trace-cmd report or perf script, maybe compressed; - is standard input")
    parser.add_argument("target", type=pathlib.Path, metavar="DST", help="trace to write")
    parser.add_argument("--anonymize", action="store_true", help="leave out process names and ids")
    parser.add_argument("--json", action="store_true", help="print what was counted as JSON")


def convert_command(args):
    """Convert a text trace; what was lost, skipped or unknown is counted and printed."""
    from mm.sim.convert import convert as run

    progress = Progress()
    source = sys.stdin.buffer if args.source == "-" else pathlib.Path(args.source)
    done = run(source, args.target, anonymize=args.anonymize, progress=progress.share("converting"))
    progress.clear()
    if args.json:
        _print_json({"rows": done.rows, **done.metadata})
    else:
        print(done)
    return EXIT_OK


def _add_report(commands):
    parser = _command(commands, "report", report_command, "write one HTML page about runs")
    parser.add_argument("runs", nargs="+", type=pathlib.Path, metavar="RUN", help="folder of a run")
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, metavar="FILE", help="page to write")


def report_command(args):
    """Write a report of one run, or of several side by side."""
    from mm.sim.cli.runs import write_report

    write_report(args.runs, args.output)
    print(args.output)
    return EXIT_OK


# ---- fuzz, info, completion -----------------------------------------------------------------------------------------


def _add_fuzz(commands):
    parser = _command(commands, "fuzz", fuzz_command, "run random operations and audit the whole state again and again")
    parser.add_argument("--seconds", type=_positive, default=10.0, metavar="N", help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=int, metavar="S", help="first seed; with it the same rounds come again")
    parser.add_argument("--rounds", type=int, metavar="N", help="how many rounds at most, one a seed")


def fuzz_command(args):
    """Look for a broken invariant; the status is 1 if one was found."""
    from mm.debug.fuzz import fuzz as run

    progress = Progress()
    result = run(args.seconds, args.seed, args.rounds, on_round=progress)
    progress.clear()
    print(result)
    return EXIT_SHORT if result.failure else EXIT_OK


def _add_info(commands):
    parser = _command(commands, "info", info_command, "print versions, build options and paths")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def info_command(args):
    """What a bug report should contain."""
    from mm.sim.cli.info import collect

    facts = collect()
    if args.json:
        _print_json(facts)
    else:
        _print_facts(facts)
    return EXIT_OK


def _add_completion(commands):
    parser = _command(commands, "completion", completion_command, "print a completion script for a shell")
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def completion_command(args):
    """For example: mm completion bash > ~/.local/share/bash-completion/completions/mm"""
    from mm.sim.cli.completion import script

    print(script(args.shell, build_parser()))
    return EXIT_OK
