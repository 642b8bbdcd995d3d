"""One list of C functions: core.pxd says what the modules define, the header and capi what core.pxd says."""

import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FAST = ROOT / "mm" / "_fast"
sys.path.insert(0, str(ROOT / "docs" / "generate"))

import c_header  # noqa: E402
import pxd as pxds  # noqa: E402


def declared(everywhere=False):
    """{name: (ret, args)} of core.pxd; or also of the .pxd files of folders, for what only a folder uses."""
    paths = [FAST / "core.pxd", *(sorted(FAST.glob("*/*.pxd")) if everywhere else ())]
    return {f.name: (f.ret, f.args) for path in paths for f in pxds.parse(path.read_text()).functions
            if f.name.startswith("mm_") or path.name == "core.pxd"}


def defined():
    """{name: (ret, args)} of every `cdef public` function with an mm_ symbol, and the file of each."""
    functions, files = {}, {}
    for path in sorted(FAST.rglob("*.pyx")):
        for _, code, _, _ in pxds.logical_lines(path.read_text()):
            function = pxds.prototype(code) if code.startswith("cdef public") else None
            if function:
                assert function.name not in functions, f"{function.name}: {path}, {files[function.name]}"
                functions[function.name], files[function.name] = (function.ret, function.args), path
    return functions, files


def test_parser_sees_every_public_function():
    n = sum(len(re.findall(r"^cdef public ", path.read_text(), re.M)) for path in FAST.rglob("*.pyx"))
    assert n == len(defined()[0]) > 20


def test_every_declaration_is_defined_with_the_same_prototype():
    here, (there, files) = declared(everywhere=True), defined()
    assert here.keys() - there.keys() == set()
    for name, (ret, args) in here.items():
        assert (ret, [kind for kind, _ in args]) == (there[name][0], [kind for kind, _ in there[name][1]]), \
            f"{name} differs between core.pxd and {files[name]}"


def test_every_public_definition_is_declared():
    assert defined()[0].keys() - declared(everywhere=True).keys() == set()


def test_names_of_c_functions_begin_with_mm():
    assert [name for name in declared() if not name.startswith("mm_")] == []


@pytest.mark.parametrize("name, make", [("mm/include/mm.h", c_header.header), ("mm/_fast/capi.pxd", c_header.capi_pxd),
                                        ("mm/_fast/capi.pyx", c_header.capi_pyx)])
def test_generated_file_is_up_to_date(name, make):
    assert (ROOT / name).read_text() == make(ROOT), "run: python docs/generate"


def test_addresses_cover_the_list():
    from mm._fast import capi

    addresses = capi.addresses()
    assert addresses.keys() == declared().keys()
    assert all(address > 0 and "(" in signature for address, signature in addresses.values())


def test_image_stores_every_array_of_the_state():
    state = pxds.parse((FAST / "state.pxd").read_text())
    machine = next(block for block in state.blocks if block.name == "MMState")
    arrays = [item.name for item in machine.items if item.type.endswith("*") and item.name != "extfrag"]    # not a state
    parts = re.findall(r"<void \*\*>&s\.(\w+)", (FAST / "image.pyx").read_text())
    assert parts == arrays
