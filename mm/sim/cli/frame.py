"""What the subcommands share: exit statuses, progress on a terminal, argument types, output."""

import argparse
import json
import re
import sys

EXIT_OK, EXIT_SHORT, EXIT_USAGE, EXIT_BUG = range(4)


class UsageError(ValueError):
    """What the caller asked for cannot be done; the message is all there is to say."""


class Parser(argparse.ArgumentParser):
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


def command(commands, name, run, text):
    """A subcommand's parser: `run` takes the parsed arguments and returns the exit status."""
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
    parser.set_defaults(run=run)
    return parser


def positive(text):
    """A number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a positive number")
    return value


def time_ns(text):
    """A time with unit as nanoseconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ns|us|ms|s|)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number with ns, us, ms or s")
    return round(float(match[1]) * {"": 1, "ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}[match[2]])


def print_json(value):
    """A value as indented JSON on stdout."""
    print(json.dumps(value, indent=1, default=str))


def print_facts(facts):
    """Names and values in two columns."""
    width = max(map(len, facts))
    print("\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in facts.items()))
