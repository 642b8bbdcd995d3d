"""The command `mm`: arguments in, library calls, text or JSON out.

Every subcommand is one thin function; what it does lives in the library and is imported when it runs.  Exit status: 0
done, 1 a judgement that fell short (verify, fuzz), 2 the caller's mistake, told in one line, 3 a broken invariant, a
bug of this package.  Results go to stdout, progress to stderr and only to a terminal.
"""

import importlib
import sys

import mm
from mm.errors import VMBug
from mm.sim.cli.frame import EXIT_BUG, EXIT_OK, EXIT_USAGE, Parser

# Modules of this package, each with a function add(commands), in the order of `mm --help`.
FAMILIES = ("demo", "verify", "convert", "replay", "fuzz", "info", "completion")


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
    parser = Parser(prog="mm", description="Linux 6.1's memory manager without a kernel.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"mm {mm.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for family in FAMILIES:
        importlib.import_module(f"mm.sim.cli.{family}").add(commands)
    return parser
