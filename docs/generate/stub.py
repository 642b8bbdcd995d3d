"""mm/_fast/machine_core.pyi: the compiled class for type checkers and editors, from its source."""

import pathlib
import re

HEADING = '''# Made by docs/generate from machine_core.pyx; do not edit.

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
'''
TYPES = {"int64_t": "int", "int32_t": "int", "uint32_t": "int", "uint64_t": "int", "bint": "bool", "double": "float"}
NAMED = {"node": "int | None", "cpu_node": "Sequence[int]", "pfns": "ArrayLike", "nr_pages": "int", "nr_nodes": "int",
         "nr_cpus": "int"}
ARRAYS = {"buddy": "np.uint8", "pageblock_flags": "np.uint8", "vm_event": "np.int64", "zonelists": "np.int32",
          "first_zone": "np.int32", "node_distance": "np.int32", "cpu_node": "np.int32"}
LISTS = "dict[tuple[int, int, int, int], NDArray[np.uint32]]"
RETURNS = {"int": "int", "str": "str", "bool": "bool", "dict": "dict[str, Any]", "tuple": "tuple[Any, ...]"}
RESULTS = {"address": "int", "alloc_contig_pages": "int", "copy": "MachineCore", "op_calls": "dict[str, int]",
           "free_lists": LISTS, "pcp_lists": LISTS}


def stub(root):
    """The text of the stub."""
    text = (pathlib.Path(root) / "mm" / "_fast" / "machine_core.pyx").read_text()
    out = [HEADING]
    for name, body in classes(text):
        out += ["", f"class {name}:", *attributes(body), *methods(body)]
    return "\n".join(out) + "\n"


def classes(text):
    """(name, body) of every cdef class."""
    for match in re.finditer(r"^cdef class (\w+)[^\n]*:\n((?:[ ]+[^\n]*\n|\n)*)", text, re.M):
        yield match[1], match[2]


def attributes(body):
    """Read-only arrays and class constants."""
    out = []
    for line in re.findall(r"^    cdef readonly object ([^\n]+)$", body, re.M):
        for name in (part.strip() for part in line.split(",")):
            out.append(f"    {name}: NDArray[{ARRAYS.get(name, 'np.void')}]")
    return out + [f"    {name}: bool" for name in re.findall(r"^    (\w+) = bool\(", body, re.M)]


def methods(body):
    """Public methods and properties."""
    out = []
    pattern = (r"^    (?P<decorator>@\w+\n    )?def (?P<name>\w+)\((?P<args>[^)]*)\):\n"
               r"(?P<code>(?:        [^\n]*\n|\n)*)")
    for match in re.finditer(pattern, body, re.M):
        if match["name"].startswith("_") and match["name"] != "__init__":
            continue
        args = ", ".join(argument(part) for part in re.split(r"\s*,\s*", match["args"].strip()))
        decorator = "    " + match["decorator"].rstrip() + "\n" if match["decorator"] else ""
        out.append(f"{decorator}    def {match['name']}({args}) -> {result(match)}: ...")
    return out


def argument(text):
    """One parameter with its type."""
    match = re.match(r"^(?P<kind>.*?)\s*\b(?P<name>\w+)\s*(?:=\s*(?P<default>.+))?$", text)
    name = match["name"]
    if name == "self":
        return name
    kind = "ArrayLike" if "[" in match["kind"] else TYPES.get(match["kind"].strip(), NAMED.get(name, "Any"))
    return f"{name}: {kind}" + (f" = {match['default']}" if match["default"] else "")


def result(match):
    """Type of the result: as listed, None if nothing is returned, the docstring's, an array or unknown."""
    if match["name"] in RESULTS:
        return RESULTS[match["name"]]
    if not re.search(r"\breturn [^\n]", re.sub(r'"""(?:.|\n)*?"""', "", match["code"])):
        return "None"
    said = re.search(r"Returns\n\s+-+\n\s+(\w+)", match["code"])
    if said and said[1] in RETURNS:
        return RETURNS[said[1]]
    return "NDArray[np.uint32]" if "uint32 array" in match["code"] else "Any"
