"""Imports and cimports point down only.

The order of layers, lowest first: mm.errors, the compiled core (its own folders in the same order inside, then what
knows the whole machine), physical, swap, file, virtual, reclaim, policy, debug, sim with the command line, `mm` itself.
A call through core.pxd counts as an arrow to the module that defines the function; the way up is the table MMOps.
"""

import ast
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs" / "generate"))


FOLDERS = ("physical", "swap", "file", "virtual", "reclaim", "policy", "debug", "sim")
WHOLE_MACHINE = {"mm._fast.machine_core", "mm._fast.verify", "mm._fast.image", "mm._fast.capi"}
LINKAGE = "mm._fast.core"           # prototypes only: no layer of its own
STATEMENT = re.compile(r"^\s*(?:from\s+(?P<base>[\w.]+)\s+(?:c?import)\s+(?P<names>\([^)]*\)|[^\n]*)"
                       r"|c?import\s+(?P<modules>[\w., ]+))", re.M)


def module_of(path):
    """Dotted name of a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def rank(module):
    """Layer of a module of ours; a pair that grows upwards."""
    parts = module.split(".")
    if module == "mm.errors":
        return (-1, 0)
    if module == "mm":
        return (2, 0)
    if parts[1] == "_fast":
        if module in WHOLE_MACHINE:
            return (0, len(FOLDERS) - 0.5)
        is_inside = len(parts) > 3 or (len(parts) == 3 and (ROOT / "mm" / "_fast" / parts[2]).is_dir())
        return (0, FOLDERS.index(parts[2]) + 1 if is_inside else 0)
    return (1, FOLDERS.index(parts[1]) + 1)


def sources():
    """Every Python and Cython file of the package."""
    return sorted(path for pattern in ("*.py", "*.pyx", "*.pxd") for path in (ROOT / "mm").rglob(pattern))


def exists(module):
    """Is there a file of this name?"""
    path = ROOT.joinpath(*module.split("."))
    return (path / "__init__.py").exists() or any(path.with_suffix(end).exists() for end in (".py", ".pyx", ".pxd"))


def imports_of(path):
    """Modules of ours that a file imports or cimports, wherever the statement stands."""
    text = path.read_text()
    found = []
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                found += [(alias.name, None) for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                assert not node.level, f"{path}: relative import"
                found += [(node.module, alias.name) for alias in node.names]
    else:
        for match in STATEMENT.finditer(re.sub(r'"""(?:.|\n)*?"""|#[^\n]*', "", text)):
            names = re.findall(r"(\w+)(?:\s+as\s+\w+)?", match["names"] or "")
            found += [(match["base"], name) for name in names] if match["base"] else \
                [(name.split()[0], None) for name in match["modules"].split(",")]
    return {target for base, name in found if base.split(".")[0] == "mm" for target in targets(base, name)}


def targets(base, name):
    """The module that `from base import name` reaches; for the core's functions the one that defines them."""
    if base == LINKAGE and name in DEFINED:
        return [DEFINED[name]]
    return [f"{base}.{name}" if name and exists(f"{base}.{name}") else base]


def defining_modules():
    """{C symbol: module} of every `cdef public` function."""
    found = {}
    for path in (ROOT / "mm" / "_fast").rglob("*.pyx"):
        for symbol in re.findall(r'^cdef public [^"\n]*"(mm_\w+)"', path.read_text(), re.M):
            found[symbol] = module_of(path)
    return found


DEFINED = defining_modules()


def upward(importer, imported):
    """Why this import is not allowed, or None."""
    if importer in (LINKAGE, "mm._fast.capi") or imported in (LINKAGE, importer):
        return None
    if imported == "mm" and importer.startswith("mm.sim."):
        return None             # its names are loaded when they are used; the top layer may ask for the version
    if rank(imported) > rank(importer):
        return "points up"
    if imported.startswith("mm.debug") and not importer.startswith(("mm.debug", "mm.sim")):
        return "only sim may import debug"
    if importer.startswith("mm._fast") and not imported.startswith("mm._fast") and imported != "mm.errors":
        return "the core may import mm.errors only"
    return None


def test_imports_point_down():
    bad = []
    for path in sources():
        importer = module_of(path)
        if importer == "mm":
            continue
        for imported in sorted(imports_of(path)):
            why = upward(importer, imported)
            if why:
                bad.append(f"{path.relative_to(ROOT)} imports {imported}: {why}")
    assert bad == []


def test_the_rule_sees_upward_arrows():
    assert upward("mm.physical.page_alloc", "mm.sim.machine") == "points up"
    assert upward("mm._fast.physical.page_alloc", "mm._fast.sim.replay") == "points up"
    assert upward("mm._fast.machine_core", "mm.physical.memblock") == "points up"
    assert upward("mm.physical.memblock", "mm") == "points up"
    assert upward("mm.virtual.mmap", "mm.physical.memblock") is None
    assert upward("mm._fast.machine_core", "mm.errors") is None


def test_the_rule_reads_cython():
    found = imports_of(ROOT / "mm" / "_fast" / "machine_core.pyx")
    assert {"mm._fast.state", "mm._fast.physical.buddy", "mm.errors", "mm._fast.physical.front"} <= found


def test_lists_are_written_in_one_place():
    """Only page_list.pxd may assign the link fields of a page on a list."""
    bad = []
    for path in sources():
        if path.suffix in (".pyx", ".pxd") and path.name != "page_list.pxd":
            text = re.sub(r'"""(?:.|\n)*?"""|#[^\n]*', "", path.read_text())
            bad += [f"{path.relative_to(ROOT)}: {line.strip()}" for line in text.split("\n")
                    if re.search(r"\.prev\s*=[^=]", line) and "page" in line]
    assert bad == []
