"""What a bug report should contain: versions, how the core was built, where things are."""

import importlib.metadata
import platform

import mm
from mm.sim.cli.frame import EXIT_OK, command, print_facts, print_json

DEPENDENCIES = ("numpy", "pyarrow", "zstandard", "numba")


def add(commands):
    parser = command(commands, "info", info_command, "print versions, build options and paths")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def info_command(args):
    """What a bug report should contain."""
    facts = collect()
    if args.json:
        print_json(facts)
    else:
        print_facts(facts)
    return EXIT_OK


def collect():
    """A dict of facts in printing order.

    Returns
    -------
    dict of str to str
    """
    from mm._fast.machine_core import MachineCore

    facts = {"version": mm.__version__, "kernel": "Linux 6.1.192, x86-64", "python": platform.python_version(),
             "platform": platform.platform(terse=True)}
    for name in DEPENDENCIES:
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            facts[name] = "not installed"
    facts["invariant checks"] = "per page (MM_DEBUG_VM=1)" if MachineCore.is_debug_vm else "at the boundary"
    facts["canary"] = "this build is broken on purpose (MM_CANARY=1)" if MachineCore.is_canary else "no"
    facts["package"] = str(mm.__file__)
    facts["library"] = mm.get_library()
    facts["headers"] = mm.get_include()
    facts |= name_conflict()
    return facts


def name_conflict():
    """A warning if the unrelated distribution `mm` is installed: both write to the same folder."""
    try:
        other = importlib.metadata.distribution("mm")
    except importlib.metadata.PackageNotFoundError:
        return {}
    return {"warning": f"the unrelated distribution mm {other.version} is installed in {other.locate_file('')} and may "
                       "overwrite this package: pip uninstall mm && pip install --force-reinstall linux-mm"}
