"""The house rules that a machine can check.

A file that breaks a size limit on purpose stands in a table here with the size it may have; it can only shrink.
"""

import ast
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60
MAX_INLINE_LINES = 30       # with signature, declarations and comments; about 20 of code
MAX_MODULES = 18
MAX_ROOT_ENTRIES = 14

# What is longer than the limit, and how long it may be.
LONG_FILES = {"tests/models/page_alloc.py": 760}
LONG_FUNCTIONS = {"mm/_fast/physical/buddy.pxd:__free_one_page": 34}

DIRECTIVE = re.compile(r"^\s*#\s*(?:cython|distutils)\s*:|@cython\.|^\s*cimport cython", re.M)
OLD_SYNTAX = re.compile(r"^\s*(?:DEF\s+\w+\s*=|IF\s+.+:|ELIF\s+.+:|ELSE\s*:|include\s+[\"'])", re.M)
STAR_IMPORT = re.compile(r"^\s*from\s+[\w.]+\s+c?import\s+\*", re.M)
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home(?!/me\b)|root|work|Users)/\w")


def files(*suffixes, folders=("mm", "tests", "docs", "bench")):
    """Source files, without what is generated or recorded."""
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    return sorted(path for path in found if not {"build", "__pycache__", "recordings"} & set(path.parts)
                  and path.name not in ("capi.pyx", "capi.pxd"))


def name(path):
    return path.relative_to(ROOT).as_posix()


def without_strings(text):
    """The text without comments and docstrings, line numbers kept."""
    blank = re.sub(r'"""(?:.|\n)*?"""', lambda m: "\n" * m[0].count("\n"), text)
    return re.sub(r"#[^\n]*", "", blank)


def functions(path):
    """(name, is it inline, lines) of every function; Cython by indentation."""
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield node.name, False, node.end_lineno - node.lineno + 1
        return
    lines = path.read_text().split("\n")
    for at, line in enumerate(lines):
        match = re.match(r"^(\s*)(?:def|cdef|cpdef)\s+(inline\s+)?[^=]*?(\w+)\s*(?:\"\w+\")?\(", line)
        if match and not re.match(r"^\s*c?p?def\s+(?:extern|class|enum|struct)", line):
            end = _body_end(lines, at, len(match[1]))
            if end > at + 1:
                yield match[3], bool(match[2]), end - at


def _body_end(lines, at, indent):
    """Line after the function that begins at `at`."""
    depth, end, i = 0, at + 1, at
    while i < len(lines):
        text = lines[i]
        if i > at and depth <= 0 and text.strip() and len(text) - len(text.lstrip()) <= indent:
            break
        depth += text.count("(") - text.count(")")
        if text.strip():
            end = i + 1
        i += 1
    return end


@pytest.mark.parametrize("path", files(".py", ".pyx", ".pxd"), ids=name)
def test_sizes(path):
    lines = path.read_text().count("\n")
    assert lines <= LONG_FILES.get(name(path), MAX_FILE_LINES), f"{lines} lines"
    long = [f"{function}: {n} lines" for function, is_inline, n in functions(path)
            if n > LONG_FUNCTIONS.get(f"{name(path)}:{function}", MAX_FUNCTION_LINES)]
    assert long == []


def test_inline_functions_are_short():
    long = [f"{name(path)}:{function}: {n} lines"
            for path in files(".pxd") for function, is_inline, n in functions(path)
            if is_inline and n > LONG_FUNCTIONS.get(f"{name(path)}:{function}", MAX_INLINE_LINES)]
    assert long == []


def test_exceptions_to_sizes_are_still_needed():
    for where, limit in LONG_FILES.items():
        assert (ROOT / where).read_text().count("\n") > MAX_FILE_LINES, f"{where} is short again: take it off the list"
        assert limit > MAX_FILE_LINES


def test_no_star_imports():
    assert [name(path) for path in files(".py", ".pyx", ".pxd") if STAR_IMPORT.search(without_strings(path.read_text()))
            and path.name != "test_api.py"] == []


def test_no_old_cython_syntax():
    assert [name(path) for path in files(".pyx", ".pxd") if OLD_SYNTAX.search(without_strings(path.read_text()))] == []


def test_directives_stand_in_setup_only():
    assert [name(path) for path in files(".pyx", ".pxd", folders=("mm",)) if DIRECTIVE.search(path.read_text())] == []


def test_c_functions_say_how_they_fail():
    """noexcept, an except value, or a Python object as result."""
    bad = []
    for path in files(".pyx", ".pxd", folders=("mm",)):
        text = without_strings(path.read_text())
        for match in re.finditer(r"^(?P<indent>[ ]*)(?:cdef|cpdef) (?P<head>(?:inline |public |api )*)"
                                 r"(?P<rest>[^\n=(]*?)(?P<name>\w+)(?:\s*\"\w+\")?\("
                                 r"(?P<tail>(?:[^()]|\([^()]*\))*\)[^\n]*)", text, re.M):
            if match["rest"].split()[:1] in (["extern"], ["class"], ["struct"], ["enum"]):
                continue
            is_object = match["rest"].strip(" *") in ("", "object", "list", "dict", "tuple", "bytes", "str")
            if not (is_object or "noexcept" in match["tail"] or " except" in match["tail"]):
                bad.append(f"{name(path)}: {match['name']}")
    assert bad == []


def test_folders_are_small():
    for folder in {path.parent for path in files(".py", ".pyx", ".pxd", folders=("mm",))}:
        modules = {path.stem for path in folder.iterdir() if path.suffix in (".py", ".pyx", ".pxd")}
        modules -= {"__init__", "__main__"}
        assert len(modules) <= MAX_MODULES, f"{name(folder)} has {len(modules)} modules"


def head_of(path):
    """The comment or docstring with which a file opens."""
    text = path.read_text()
    if path.suffix == ".pxd":
        return re.match(r"(?:#[^\n]*\n)*", text)[0]
    match = re.match(r'"""((?:.|\n)*?)"""', text)
    return match[1] if match else ""


@pytest.mark.parametrize("path", [path for path in files(".py", ".pyx", ".pxd") if path.read_text().strip()], ids=name)
def test_files_open_with_what_they_are(path):
    assert len(head_of(path).strip("# \n")) > 20, "no docstring or comment at the top"


def test_public_names_have_docstrings():
    bad = []
    for path in files(".py", folders=("mm", "docs")):
        tree = ast.parse(path.read_text())
        for node in [*tree.body, *(child for item in tree.body if isinstance(item, ast.ClassDef)
                                     and not item.name.startswith("_") for child in item.body)]:
            is_public = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
            if is_public and not ast.get_docstring(node) and not _is_trivial(node):
                bad.append(f"{name(path)}: {node.name}")
    assert bad == []


def _is_trivial(node):
    """A function of at most three lines whose name says it all."""
    return isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno <= 12


def test_no_path_of_a_developers_machine():
    everything = files(".py", ".pyx", ".pxd", ".md", ".toml", ".cff", ".c", ".h", ".csv") + [
        ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "pyproject.toml", ROOT / "setup.py"]
    assert [name(path) for path in everything if path.exists() and MACHINE_PATH.search(path.read_text())] == []


def test_root_is_small():
    try:
        listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True,
                                capture_output=True, text=True).stdout.split("\n")
        entries = {line.split("/")[0] for line in listed if line}
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git checkout")
    assert len(entries) <= MAX_ROOT_ENTRIES, sorted(entries)
