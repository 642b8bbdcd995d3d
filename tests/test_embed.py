"""The core from other compiled code: a Cython module, numba, ctypes."""

import ctypes
import os
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import mm

MODULE = """
    # cython: language_level=3
    from libc.stdint cimport uint32_t, uint64_t, uintptr_t
    from mm._fast.capi cimport mm_alloc_pages, mm_free_pages
    from mm._fast.state cimport MMState, PFN_NONE, page_hot

    def alloc_many(machine, uint32_t gfp, uint32_t n):
        cdef MMState *s = <MMState *><uintptr_t>machine.address
        cdef uint32_t i
        cdef uint64_t total = 0
        pfns = []
        for i in range(n):
            pfns.append(mm_alloc_pages(s, gfp, 0, -1, 0))
        return pfns

    def refcount(machine, uint32_t pfn):
        return (<MMState *><uintptr_t>machine.address).page[pfn].refcount

    def free(machine, uint32_t pfn):
        mm_free_pages(<MMState *><uintptr_t>machine.address, pfn, 0, 0)
"""
SETUP = """
    import mm
    from Cython.Build import cythonize
    from setuptools import Extension, setup

    module = Extension("their_simulator", ["their_simulator.pyx"], include_dirs=[mm.get_include()])
    setup(ext_modules=cythonize([module], include_path=[{parent!r}]))
"""


@pytest.fixture(scope="module")
def their_simulator(tmp_path_factory):
    """A module of somebody else that cimports ours, built with the usual tools."""
    pytest.importorskip("Cython")
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "their_simulator.pyx").write_text(textwrap.dedent(MODULE))
    (folder / "setup.py").write_text(textwrap.dedent(SETUP.format(parent=str(pathlib.Path(mm.__file__).parents[1]))))
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(mm.__file__).parents[1])}
    built = subprocess.run([sys.executable, "setup.py", "build_ext", "--inplace"], cwd=folder, env=environment,
                           capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    sys.path.insert(0, str(folder))
    try:
        yield __import__("their_simulator")
    finally:
        sys.path.remove(str(folder))


@pytest.fixture
def pair(recording):
    """Two equal machines."""
    return [mm.Machine.from_snapshot(recording("A1") / "snap-before.npz") for _ in range(2)]


def test_cimport_from_another_package(their_simulator, pair):
    first, second = pair
    pfns = their_simulator.alloc_many(first, mm.GFP_HIGHUSER_MOVABLE, 500)
    assert pfns == [second.alloc_pages(mm.GFP_HIGHUSER_MOVABLE) for _ in range(500)]
    assert their_simulator.refcount(first, pfns[0]) == 1
    their_simulator.free(first, pfns[0])
    assert their_simulator.refcount(first, pfns[0]) == 0


def test_ctypes_from_an_address(pair):
    first, second = pair
    from mm._fast.capi import addresses

    prototype = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_int32,
                                 ctypes.c_int32)
    alloc_pages = prototype(addresses()["mm_alloc_pages"][0])
    assert [alloc_pages(first.address, mm.GFP_KERNEL, 2, -1, 0) for _ in range(50)] == \
        [second.alloc_pages(mm.GFP_KERNEL, 2) for _ in range(50)]


def test_numba_from_the_capsule(pair):
    numba = pytest.importorskip("numba")
    first, second = pair
    address = numba.extending.get_cython_function_address("mm._fast.capi", "mm_alloc_pages")
    alloc_pages = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_int32,
                                   ctypes.c_int32)(address)

    @numba.njit
    def fill(machine, gfp, pfns):
        for i in range(len(pfns)):
            pfns[i] = alloc_pages(machine, gfp, 0, -1, 0)

    pfns = np.zeros(1000, np.uint32)
    fill(first.address, mm.GFP_KERNEL, pfns)
    assert pfns.tolist() == [second.alloc_pages(mm.GFP_KERNEL) for _ in range(1000)]


def test_header_and_library_are_where_the_package_says():
    assert (pathlib.Path(mm.get_include()) / "mm.h").exists()
    assert pathlib.Path(mm.get_library()).exists()


def test_every_package_can_be_cimported():
    package = pathlib.Path(mm.__file__).parent
    folders = {path.parent for path in (package / "_fast").rglob("*.pxd")} | {package}
    assert [str(folder) for folder in folders if not (folder / "__init__.pxd").exists()] == []
