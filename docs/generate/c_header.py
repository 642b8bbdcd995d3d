"""mm/include/mm.h and mm/_fast/capi.{pxd,pyx}, from core.pxd and the files whose types it names."""

import collections
import pathlib
import re

import pxd as pxds

PLAIN = {"void", "char", "int", "bint", "size_t"}
PLAIN |= {f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)}
HEADING = """/* The core of linux-mm for C: layout of the state, and every function of it that C can call.
 *
 * Made by docs/generate from mm/_fast/core.pxd, which with state.pxd is the reading copy.  Link libmm.a, or the library
 * that mm.get_library() names; or take addresses from mm._fast.capi.  See docs/embedding.md.
 * A state comes from mm_image_load() or, inside a Python process, from Machine.address.  No function here needs Python,
 * allocates, or keeps anything outside the state.  Arguments are not checked: orders 0 to 10, CPUs, nodes and frames
 * that exist, gfp masks that name one zone and one mobility type. */
#ifndef MM_H
#define MM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
"""


def c_name(name, types):
    """The name of a type in the header: ours get mm_ unless they say so already."""
    if name in PLAIN:
        return {"bint": "int"}.get(name, name)
    return name if name.startswith(("mm_", "MM")) or name not in types else "mm_" + name


def c_type(text, types):
    """A pxd type as C."""
    return re.sub(r"\w+", lambda m: m[0] if m[0] == "const" else c_name(m[0], types), text).replace(" *", " *")


def declarator(kind, name):
    """`kind name` with the star at the name."""
    return f"{kind}{name}" if kind.endswith("*") else f"{kind} {name}".rstrip()


class Collector:
    """Reads core.pxd and what it needs, types before their users."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.files = {}
        self.core = self.read("mm._fast.core")

    def read(self, module):
        """The Pxd of a module, its own cimports first."""
        if module not in self.files:
            parsed = pxds.parse(self.path(module).read_text())
            for other in dict.fromkeys(parsed.cimports.values()):
                if other.startswith("mm."):
                    self.read(other)
            self.files[module] = parsed
        return self.files[module]

    def path(self, module):
        """Where the .pxd of a module lies."""
        return self.root.joinpath(*module.split(".")).with_suffix(".pxd")

    def owner(self, name):
        """The file that declares a type, None for a plain C type."""
        if name in PLAIN:
            return None
        for parsed in self.files.values():
            if any(name == block.name for block in parsed.blocks) or any(name == p.name for p in parsed.pointers):
                return parsed
        raise ValueError(f"core.pxd uses type {name!r}, and no file it cimports declares it")


def header(root):
    """The text of mm.h."""
    files = Collector(root)
    files.read("mm._fast.gfp")
    used = [parsed for parsed in files.files.values() if parsed.blocks]
    types = {thing.name for parsed in used for thing in (*parsed.blocks, *parsed.pointers)}
    counts = collections.Counter(item.name for parsed in used for block in parsed.blocks if block.kind == "enum"
                                 for item in block.items)
    shared = {name for name, n in counts.items() if n > 1}
    out = [HEADING]
    for parsed in used:
        out += [line.strip() for line in parsed.verbatim] + [""] * bool(parsed.verbatim)
        for block in parsed.blocks:
            if block.kind == "enum":
                out += enum(block, types, shared)
    for parsed in used:
        out += [f"typedef struct {c_name(block.name, types)} {c_name(block.name, types)};" for block in parsed.blocks
                if block.kind == "struct"]
    out.append("")
    for parsed in used:
        out += pointers(parsed, types)
        for block in parsed.blocks:
            if block.kind == "struct":
                out += struct(block, types)
    for function in files.core.functions:
        for kind, _ in [*function.args, (function.ret, "")]:
            files.owner(re.sub(r"\bconst\b|\*", "", kind).strip())
    out += [call(function, types) for function in files.core.functions]
    out += ["", "#ifdef __cplusplus", "}", "#endif", "#endif", ""]
    return "\n".join(out)


def comment_lines(text, indent=""):
    """A C comment, wrapped at 116 columns."""
    lines, line = [], f"{indent}/*"
    for word in text.split():
        if len(line) + len(word) > 116:
            lines.append(line)
            line = f"{indent} *"
        line += " " + word
    return [*lines, line + " */"] if text else []


def commented(code, comment):
    """A member with its comment behind it, or above it if that is too long."""
    if comment and len(code) + len(comment) > 110:
        return [*comment_lines(comment, "    "), code]
    return [f"{code:<40}/* {comment} */" if comment else code]


def enum(block, types, shared):
    """An enum; a name that two enums use gets the enum's name in front."""
    out = comment_lines(block.comment)
    out.append(f"enum {c_name(block.name, types)} {{".replace("enum  {", "enum {"))
    for item in block.items:
        name = f"{block.name}_{item.name}" if item.name in shared else item.name
        out += commented(f"    {name} = {item.value}," if item.value else f"    {name},", item.comment)
    return [*out, "};", ""]


def struct(block, types):
    """A struct."""
    out = comment_lines(block.comment)
    out.append(f"struct {c_name(block.name, types)} {{")
    for item in block.items:
        out += commented(f"    {declarator(c_type(item.type, types), item.name)}{item.dims};", item.comment)
    return [*out, "};", ""]


def pointers(parsed, types):
    """The function pointer types."""
    out = []
    for pointer in parsed.pointers:
        args = ", ".join(c_type(kind, types) for kind, _ in pointer.args)
        out.append(f"typedef {declarator(c_type(pointer.ret, types), '')} (*{c_name(pointer.name, types)})({args});")
    return [*out, ""] if out else []


def call(function, types):
    """A prototype, wrapped."""
    args = [declarator(c_type(kind, types), name) for kind, name in function.args]
    start = declarator(c_type(function.ret, types), function.name) + "("
    lines, line = [], start
    for i, arg in enumerate(args):
        piece = arg + (", " if i + 1 < len(args) else ");")
        if len(line) + len(piece.rstrip()) > 116:
            lines.append(line.rstrip())
            line = " " * len(start)
        line += piece
    return "\n".join([*lines, line])


def capi_pxd(root):
    """The text of mm/_fast/capi.pxd."""
    core = Collector(root).core
    return "\n".join([
        "# The core's C functions for other packages: cimport them from here, not from core.pxd.",
        "#",
        "# Made by docs/generate from core.pxd.  Cython gives another package pointers to these at import time, so",
        "# that package links with nothing of ours.",
        "", *cimports(core), "",
        *(wrapped(f"cdef {declarator(f.ret, f.name)}(", f.args, ") noexcept nogil") for f in core.functions), ""])


def capi_pyx(root):
    """The text of mm/_fast/capi.pyx."""
    core = Collector(root).core
    out = [
        '"""Addresses of the core\'s C functions, for numba, ctypes, cffi, SciPy and other Cython packages.',
        "",
        "Linux: none.  Made by docs/generate from core.pxd: one wrapper a function, so that Cython exports it in",
        "`__pyx_capi__` as a PyCapsule whose name is the C signature.  Cost: one jump more than the function itself.",
        '"""', "", *cimports(core), "from mm._fast cimport core", "",
        "from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer",
    ]
    for f in core.functions:
        back = "" if f.ret == "void" else "return "
        out += ["", "", wrapped(f"cdef {declarator(f.ret, f.name)}(", f.args, ") noexcept nogil:"),
                f"    {back}core.{f.name}({', '.join(name for _, name in f.args)})"]
    return "\n".join([*out, "", "", *ADDRESSES.strip("\n").split("\n"), ""])


ADDRESSES = '''
def addresses():
    """{name: (address, C signature)} of every function of core.pxd.

    Returns
    -------
    dict of str to tuple of int and str
        An address is valid as long as the process lives.
    """
    return {name: (<size_t>PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule)),
                   (<bytes>PyCapsule_GetName(capsule)).decode())
            for name, capsule in globals()["__pyx_capi__"].items()}
'''


def cimports(core):
    """The cimport lines for the types of core.pxd."""
    by_module = {}
    for name, module in core.cimports.items():
        by_module.setdefault(module, []).append(name)
    return [wrapped(f"from {module} cimport ", [(name, "") for name in names], "", "(")
            for module, names in by_module.items()]


def wrapped(start, args, end, parenthesis=""):
    """start, arguments, end; in several lines if they do not fit one."""
    parts = [declarator(kind, name).strip() for kind, name in args]
    one = start + ", ".join(parts) + end
    if len(one) <= 120:
        return one
    lines, line = [], start + parenthesis
    indent = " " * len(line)
    for i, part in enumerate(parts):
        piece = part + (", " if i + 1 < len(parts) else (")" if parenthesis else "") + end)
        if len(line) + len(piece.rstrip()) > 120:
            lines.append(line.rstrip())
            line = indent
        line += piece
    return "\n".join([*lines, line])
