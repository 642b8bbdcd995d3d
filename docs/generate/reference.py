"""docs/reference.md: command line, counters, knobs, trace operations, gfp masks and errors, from the code."""

import argparse
import inspect

HEADING = """# Reference

Made by docs/generate from the code; do not edit.
"""


def page(root):
    """The text of the page."""
    parts = [HEADING, *command_line(), *public_names(), *gfp(), *counters(), *knobs(), *trace()]
    return "\n".join(parts).rstrip() + "\n"


def table(*rows):
    """A Markdown table; the first row is its head."""
    lines = ["| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return [lines[0], "| " + " | ".join("---" for _ in rows[0]) + " |", *lines[1:], ""]


def command_line():
    """Every command with its arguments."""
    from mm.sim.cli import build_parser
    from mm.sim.cli.completion import commands_of, help_of

    parser = build_parser()
    out = ["## The command `mm`", "",
           "Exit status: 0 done, 1 a judgement fell short, 2 the caller's mistake, 3 a bug of this package.", ""]
    for name, sub in commands_of(parser).items():
        usage = " ".join(argparse_usage(sub).split())
        out += [f"### mm {name}", "", help_of(parser, name) + ".", "", "```", usage, "```", ""]
        rows = [(f"`{'`, `'.join(action.option_strings) or action.metavar or action.dest}`",
                 (action.help or "") % {"default": action.default, "prog": sub.prog}) for action in sub._actions]
        out += table(("argument", "meaning"), *rows)
    return out


def argparse_usage(parser):
    """The usage line, of the same width everywhere."""
    formatter = argparse.HelpFormatter(parser.prog, width=1000)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    return formatter.format_help()


def public_names():
    """The names of `mm` beside the masks."""
    import mm

    rows = [(f"`mm.{name}`", first_line(getattr(mm, name))) for name in (*mm._HOMES, "get_include", "get_library")]
    return ["## Python names", "", *table(("name", "is"), *rows)]


def first_line(thing):
    """The summary line of a docstring."""
    return (inspect.getdoc(thing) or "").strip().split("\n")[0]


def gfp():
    """Masks and bits."""
    from mm.sim.gfp import GFP_EXPORTS

    rows = [(f"`mm.{name}`", f"{value:#x}") for name, value in GFP_EXPORTS.items()]
    return ["## gfp masks", "", "Values of Linux 6.1 on x86-64.", "", *table(("name", "value"), *rows)]


def counters():
    """Every enum of vm_event_item."""
    from mm._fast import vm_event_item

    out = ["## Counters", ""]
    titles = {"zone_stat_item": "Gauges of a zone", "node_stat_item": "Gauges of a node",
              "numa_stat_item": "NUMA events of a zone", "vm_event_item": "Events of a CPU",
              "zone_event_item": "What the model counts beside Linux, of a zone"}
    for name, title in titles.items():
        items = sorted(getattr(vm_event_item, name), key=int)[:-1]
        out += [f"### {title}", "", ", ".join(f"`{item.name.lower()}`" for item in items) + ".", ""]
    return out


def knobs():
    """The sysctls."""
    from mm.sim.sysctl import KNOBS

    rows = [(f"`{knob.name}`", f"{knob.low} to {knob.high}" if knob.nr_values else "text",
             "from the size of memory" if knob.default is None else knob.default, knob.doc) for knob in KNOBS.values()]
    return ["## Knobs", "", "Read and written as `m.sysctl[name]`.", "",
            *table(("sysctl", "range", "default", "meaning"), *rows)]


def trace():
    """Operations of the native trace and the causes of frees."""
    from mm._fast.sim import trace_ops

    out = ["## Trace operations", ""]
    for name, title in (("TraceOp", "Column `op`"), ("TraceCause", "Column `cause`"), ("TraceFlag", "Column `flags`")):
        rows = [(f"`{item.name}`", hex(item) if name == "TraceFlag" else int(item))
                for item in getattr(trace_ops, name)]
        out += [f"### {title}", "", *table(("name", "value"), *rows)]
    return out
