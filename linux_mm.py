"""The entry of the `mm` command: finds out whether `import mm` gives this distribution's package.

The module name `mm` is short, and another distribution or a file in the working directory may bear it.  This module
has a name of its own, so it can still say what is wrong.  It reads the other module's path and never runs it.
"""

import importlib.machinery
import importlib.util
import pathlib
import sys

MARK = '__distribution__ = "linux-mm"'
REMEDY = ("rename that file or take its folder off PYTHONPATH; if the PyPI package `mm` put it there: "
          "pip uninstall mm && pip install --force-reinstall linux-mm")


def foreign_module(spec):
    """Path of the module that an import of `mm` would find, if it is not ours; None if it is.

    Parameters
    ----------
    spec : importlib.machinery.ModuleSpec or None
        What `importlib.util.find_spec("mm")` says.
    """
    if spec is None:
        return "nothing"
    if not spec.origin:
        return next(iter(spec.submodule_search_locations or ["unknown"]))
    origin = pathlib.Path(spec.origin)
    try:
        is_ours = origin.name == "__init__.py" and MARK in origin.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        is_ours = False
    return None if is_ours else spec.origin


def main(argv=None):
    """Run the `mm` command; returns its exit status."""
    other = foreign_module(importlib.util.find_spec("mm"))
    if other is not None:
        print(f"mm: error: `import mm` finds {other}, which is not linux-mm's package; {REMEDY}", file=sys.stderr)
        return 2
    from mm.sim.cli import main as command

    return command(argv)


if __name__ == "__main__":
    sys.exit(main())
