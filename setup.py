"""Build of the compiled core.

All modules under mm/_fast are translated by Cython one by one and linked into one library, mm._fast._core, so that
functions that cross a module are plain C calls; mm/_fast/__init__.py teaches the import system where they are.
Cython directives stand here and nowhere else.

Environment: MM_DEBUG_VM=1 builds the invariant checks in; MM_CANARY=1 breaks one merge rule on purpose (the fuzz
command must find such a build).
"""

import os
import pathlib
import sys

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = pathlib.Path(__file__).parent
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "embedsignature": True,
    "freethreading_compatible": False,
}
CFLAGS = ["-O3", "-fno-tree-slp-vectorize", "-ffunction-sections", "-fdata-sections", "-Wno-unused-function",
          "-Wno-unreachable-code"]


def macros():
    """Preprocessor symbols of this build."""
    names = [("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")]
    return names + [(name, "1") for name in ("MM_DEBUG_VM", "MM_CANARY") if os.environ.get(name) == "1"]


def core_extension():
    """One Extension of the C files that Cython makes of every module."""
    modules = [
        Extension(".".join(path.relative_to(ROOT).with_suffix("").parts), [str(path.relative_to(ROOT))])
        for path in sorted((ROOT / "mm" / "_fast").rglob("*.pyx"))
    ]
    translated = cythonize(modules, compiler_directives=DIRECTIVES, build_dir="build/cython", include_path=[str(ROOT)],
                           nthreads=0 if sys.platform == "darwin" else os.cpu_count() or 1)
    return Extension("mm._fast._core", [source for module in translated for source in module.sources],
                     include_dirs=["mm/_fast", numpy.get_include()], define_macros=macros(), extra_compile_args=CFLAGS)


setup(ext_modules=[core_extension()])
