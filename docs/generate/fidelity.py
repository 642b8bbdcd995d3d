"""docs/fidelity.md: what of the specification is modelled, from spec_rows.csv and the marks of the tests.

A test says `@pytest.mark.spec("PA-02")` if passing means that the row's check holds, and adds `missing="..."` if it
holds in part.  A row without a mark is absent: nothing is modelled until a test says so.
"""

import ast
import collections
import csv
import pathlib

HEADING = """# What is modelled

Made by docs/generate from docs/spec_rows.csv and the `spec` marks of the tests; do not edit.

The specification of the whole memory manager has {total} rows. *Modelled*: a test of this repository passes only if
the row's condition holds. *In part*: such a test covers some of the row; what is missing is named. *Absent*: not there,
or not proven by a test.

| | rows |
| --- | --- |
| modelled | {modelled} |
| in part | {in_part} |
| absent | {absent} |
"""


def rows_of(root):
    """[(id, sheet, topic, works when)] in order."""
    with open(pathlib.Path(root) / "docs" / "spec_rows.csv", newline="") as file:
        return [(row["id"], row["sheet"], row["topic"], row["works_when"]) for row in csv.DictReader(file)]


def marks_of(root):
    """{row id: [(test file, missing or "")]} from the sources of the tests."""
    marks = collections.defaultdict(list)
    for path in sorted((pathlib.Path(root) / "tests").rglob("test_*.py")):
        for call in filter(is_spec_mark, ast.walk(ast.parse(path.read_text()))):
            missing = "".join(ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg == "missing")
            for argument in call.args:
                mark = (path.relative_to(root).as_posix(), missing)
                if mark not in marks[ast.literal_eval(argument)]:
                    marks[ast.literal_eval(argument)].append(mark)
    return marks


def is_spec_mark(node):
    """Is this a call of pytest.mark.spec?"""
    return (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "spec"
            and isinstance(node.func.value, ast.Attribute) and node.func.value.attr == "mark")


def status_of(marks):
    """(status, what is missing) of a row with these marks."""
    if not marks:
        return "absent", ""
    missing = list(dict.fromkeys(text for _, text in marks if text))
    return ("in part", "; ".join(missing)) if missing else ("modelled", "")


def page(root):
    """The text of the page."""
    rows, marks = rows_of(root), marks_of(root)
    unknown = sorted(set(marks) - {row[0] for row in rows})
    if unknown:
        raise ValueError(f"tests cite rows that do not exist: {', '.join(unknown)}")
    counts = collections.Counter(status_of(marks.get(row[0]))[0] for row in rows)
    out = [HEADING.format(total=len(rows), modelled=counts["modelled"], in_part=counts["in part"],
                          absent=counts["absent"])]
    sheet = None
    for name, of, topic, works_when in rows:
        if of != sheet:
            sheet = of
            out.append(f"\n## {sheet}\n\n| row | topic | works when | status | missing | tests |\n|{' --- |' * 6}")
        status, missing = status_of(marks.get(name))
        tests = ", ".join(dict.fromkeys(pathlib.Path(path).stem for path, _ in marks.get(name, ())))
        out.append(f"| {name} | {topic} | {works_when} | {status} | {missing} | {tests} |")
    return "\n".join(out) + "\n"
