"""Build of the compiled core.

All modules under mm/_fast are translated by Cython one by one and linked into one library, mm._fast._core, so that
functions that cross a module are plain C calls; mm/_fast/__init__.py teaches the import system where they are.  The
objects with the C functions of core.pxd also go into mm/lib/libmm.a, for programs without Python.
Cython directives stand here and nowhere else.

Environment: MM_DEBUG_VM=1 builds the invariant checks in; MM_CANARY=1 breaks one merge rule on purpose (the fuzz
command must find such a build).
"""

import os
import pathlib
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

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
LIBRARY = pathlib.PurePath("mm", "lib", "libmm.a")


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
                     include_dirs=["mm/include", numpy.get_include()], define_macros=macros(),
                     extra_compile_args=CFLAGS)


class BuildCore(build_ext):
    """Compiles only what changed, on all CPUs, and archives the functions for C beside the Python module."""

    def build_extension(self, ext):
        """Objects, the Python module, libmm.a."""
        self.build_temp += "".join("-" + name for name, value in ext.define_macros if value == "1")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(lambda source: self.compile_one(ext, source), ext.sources))
        for_c = [name for name, source in zip(objects, ext.sources, strict=True) if is_for_c(source)]
        ext.sources, ext.extra_objects, ext.depends = [], objects, objects
        super().build_extension(ext)
        self.compiler.create_static_lib(for_c, "mm", output_dir=str(pathlib.Path(self.build_lib, LIBRARY).parent))

    def compile_one(self, ext, source):
        """The object of a C file, compiled if it is older than the file, a header or this script."""
        target = self.compiler.object_filenames([source], output_dir=self.build_temp)[0]
        inputs = [source, __file__, *(ROOT / "mm" / "include").glob("*.h")]
        if not os.path.exists(target) or os.path.getmtime(target) < max(map(os.path.getmtime, inputs)):
            self.compiler.compile([source], self.build_temp, ext.define_macros, ext.include_dirs,
                                  extra_postargs=ext.extra_compile_args)
        return target

    def copy_extensions_to_source(self):
        """A build in place has libmm.a in place too."""
        super().copy_extensions_to_source()
        (ROOT / LIBRARY).parent.mkdir(exist_ok=True)
        shutil.copy(pathlib.Path(self.build_lib, LIBRARY), ROOT / LIBRARY)


def is_for_c(source):
    """Does the module of this C file define functions that core.pxd declares?"""
    module = pathlib.Path(source).relative_to("build/cython").with_suffix(".pyx")
    return "cdef public" in (ROOT / module).read_text()


(ROOT / "build").mkdir(exist_ok=True)
setup(ext_modules=[core_extension()], cmdclass={"build_ext": BuildCore}, options={"egg_info": {"egg_base": "build"}})
