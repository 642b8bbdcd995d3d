"""Linux 6.1's memory manager: the same structures, the same decisions, the same numbers, without a kernel.

Names are loaded when they are first used, so `import mm` costs next to nothing:

    Machine                 one simulated host
    Trace                   a recorded trace in the native format
    convert                 makes one of kernel text
    Run                     what a replay left in a folder
    AllocationFailed        the simulated kernel has no memory for a request
    BadFree                 a free of a block that is not allocated so
    VMBug                   a broken invariant: a bug of this package
    SnapshotError, TraceError, RunError     a file that cannot be used: which, where and why
    GFP_*, __GFP_*          masks and bits of allocation requests, values of Linux 6.1 on x86-64
    get_include()           folder of mm.h, for C and Cython
    get_library()           path of the library that holds the core's C functions
"""

__version__ = "0.1.0"
__distribution__ = "linux-mm"

_HOMES = {
    "Machine": "mm.sim.machine",
    "Trace": "mm.sim.trace",
    "convert": "mm.sim.trace.convert",
    "Run": "mm.sim.run",
    "SnapshotError": "mm.sim.snapshot",
    "TraceError": "mm.sim.trace.format",
    "RunError": "mm.sim.run",
    "AllocationFailed": "mm.errors",
    "BadFree": "mm.errors",
    "VMBug": "mm.errors",
}


def get_include():
    """Folder of the C headers: `mm.h` and what the `.pxd` files include."""
    import os

    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "include")


def get_library():
    """Path of the shared library with the core's C functions (`mm_alloc_pages` and the others of `mm.h`)."""
    import mm._fast

    return mm._fast.LIBRARY


def _masks():
    from mm.sim.gfp import GFP_EXPORTS

    return GFP_EXPORTS


def _find(name):
    """The public object `name`, or None."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "__all__":
        return [*_HOMES, "get_include", "get_library", *_masks()]
    if name.startswith(("GFP_", "__GFP_")):
        return _masks().get(name)
    return None


def __getattr__(name):
    value = _find(name)
    if value is None:
        raise AttributeError(f"module 'mm' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__getattr__("__all__")})
