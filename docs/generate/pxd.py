"""Reads the subset of Cython that the `.pxd` files of this package use.

Enums, structs, function pointer types, C prototypes, verbatim C blocks, cimports; with their comments.  Anything else
is skipped.  Used by the generators and by the tests that compare declarations.
"""

import dataclasses
import re

PROTOTYPE = re.compile(r'^(?:cdef\s+public\s+|cdef\s+)?(?P<ret>[\w ]+?[ *]+)(?P<name>\w+)(?:\s+"(?P<cname>\w+)")?\s*'
                       r"\((?P<args>.*)\)\s*noexcept nogil:?$")
POINTER = re.compile(r"^ctypedef\s+(?P<ret>[\w ]+?[ *]*)\s*\(\*(?P<name>\w+)\)\s*\((?P<args>.*)\)\s*noexcept nogil$")
FIELD = re.compile(r"^(?P<type>(?:const\s+)?\w+)\s+(?P<rest>.+)$")


@dataclasses.dataclass
class Item:
    """A member of an enum or struct: `type` and `dims` are empty in enums, `value` in structs."""

    name: str
    comment: str = ""
    value: str = ""
    type: str = ""
    dims: str = ""


@dataclasses.dataclass
class Block:
    """An enum or struct with the comment that stands above it."""

    kind: str
    name: str
    comment: str
    items: list


@dataclasses.dataclass
class Function:
    """A prototype, or a function pointer type; `args` are (type, name) pairs."""

    name: str
    ret: str
    args: list
    comment: str = ""


@dataclasses.dataclass
class Pxd:
    """What one file declares, in order."""

    comment: str
    blocks: list
    pointers: list
    functions: list
    verbatim: list
    cimports: dict


def logical_lines(text):
    """(indent, code, comment, comment lines above) of each statement; parentheses join lines."""
    above, joined, comments, indent = [], "", [], 0
    in_verbatim = False
    for line in text.split("\n"):
        stripped = line.strip()
        if stripped.count('"""'):
            in_verbatim ^= stripped.count('"""') % 2
            continue
        if in_verbatim:
            yield -1, line, "", []
            continue
        code, comment = _split_comment(stripped)
        if line.startswith("cdef "):
            joined, comments = "", []
        if not code and not joined:
            above = [*above, comment] if comment or stripped else []
            if comment:
                yield len(line) - len(line.lstrip()), "", comment, []
            continue
        indent = indent if joined else len(line) - len(line.lstrip())
        joined = f"{joined} {code}".strip()
        comments += [comment] if comment else []
        if joined.count("(") > joined.count(")"):
            continue
        yield indent, joined, " ".join(comments), above
        joined, comments, above = "", [], []


def _split_comment(line):
    code, mark, comment = line.partition("#")
    return code.rstrip(), comment.strip() if mark else ""


def parse_args(text):
    """(type, name) pairs of a parameter list."""
    pairs = []
    for arg in filter(None, (part.strip() for part in text.split(","))):
        match = re.match(r"^((?:const\s+)?\w+[ *]*?)\s*(\w*)$", arg)
        kind, name = match[1].strip(), match[2]
        if not name and "*" not in arg:
            kind, name = arg, ""
        elif not name:
            kind = arg
        pairs.append((re.sub(r"\s*\*", " *", kind), name))
    return pairs


def prototype(code):
    """A Function of one logical line that declares or defines a C function, None of any other line."""
    match = PROTOTYPE.match(code)
    if not match or match["ret"].split()[0] in ("cdef", "ctypedef", "inline", "def"):
        return None
    ret = match["ret"].strip()
    return Function(match["cname"] or match["name"], re.sub(r"\s*\*", " *", ret), parse_args(match["args"]))


def parse(text):
    """A Pxd of the text of a file."""
    pxd = Pxd("", [], [], [], [], {})
    head = []
    block = None
    for indent, code, comment, above in logical_lines(text):
        if indent == -1:
            pxd.verbatim.append(code)
        elif not code:
            _comment_line(pxd, block, indent, comment, head)
        else:
            block = _statement(pxd, block, indent, code, comment, above)
            head = None
    return pxd


def _comment_line(pxd, block, indent, comment, head):
    if block is not None and indent and block.items:
        block.items[-1].comment += (" " if block.items[-1].comment else "") + comment
    elif head is not None and not indent:
        head.append(comment)
        pxd.comment = " ".join(head)


def _statement(pxd, block, indent, code, comment, above):
    """Adds one statement; returns the block that an indented next line belongs to."""
    opening = re.match(r"^(?:cp|c)def\s+(enum|struct)(?:\s+(\w+))?:$", code)
    if opening and not indent:
        pxd.blocks.append(Block(opening[1], opening[2] or "", " ".join(above), []))
        return pxd.blocks[-1]
    if indent and block is not None:
        block.items += _members(block.kind, code, comment)
        return block
    cimport = re.match(r"^from\s+([\w.]+)\s+cimport\s+\(?([^)]*)\)?$", code)
    if cimport:
        pxd.cimports |= {name.strip().split(" as ")[-1]: cimport[1] for name in cimport[2].split(",") if name.strip()}
    pointer = POINTER.match(code)
    if pointer:
        pxd.pointers.append(Function(pointer["name"], pointer["ret"].strip(), parse_args(pointer["args"]), comment))
    elif indent or code.startswith("cdef public"):
        function = prototype(code)
        if function:
            function.comment = comment or " ".join(above)
            pxd.functions.append(function)
    return None


def _members(kind, code, comment):
    if kind == "enum":
        names = [part.strip() for part in code.split(",") if part.strip()]
        items = [Item(*_name_value(name)) for name in names]
        items[-1].comment = comment
        return items
    match = FIELD.match(code)
    stars = re.match(r"^(\**)(\w+)((?:\[\w+\])*)$", match["rest"].replace(" ", ""))
    return [Item(stars[2], comment, "", match["type"] + " " + stars[1] if stars[1] else match["type"], stars[3])]


def _name_value(text):
    name, _, value = text.partition("=")
    return name.strip(), "", value.strip()
