"""Generated files are up to date, and what the documents say of themselves is true."""

import inspect
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs" / "generate"))

import fidelity  # noqa: E402
import reference  # noqa: E402
import stub  # noqa: E402

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "tests").rglob("*.md")])


@pytest.mark.parametrize("name, make", [("docs/fidelity.md", fidelity.page), ("docs/reference.md", reference.page),
                                        ("mm/_fast/machine_core.pyi", stub.stub)])
def test_generated_page_is_up_to_date(name, make):
    assert (ROOT / name).read_text() == make(ROOT), "run: python docs/generate"


def test_specification_rows_are_complete_and_distinct():
    ids = [row[0] for row in fidelity.rows_of(ROOT)]
    assert len(ids) == len(set(ids)) == 259
    for prefix in dict.fromkeys(row[:2] for row in ids):
        numbers = [int(row[3:]) for row in ids if row.startswith(prefix)]
        assert numbers == list(range(1, len(numbers) + 1)), prefix


def test_stub_names_what_the_class_has():
    from mm._fast.machine_core import MachineCore

    text = (ROOT / "mm" / "_fast" / "machine_core.pyi").read_text()
    stubbed = set(re.findall(r"^    (?:def )?(\w+)[:(]", text, re.M))
    public = {name for name, value in vars(MachineCore).items() if not name.startswith("_")}
    assert stubbed - {"__init__"} == public
    for name, args in re.findall(r"^    def (\w+)\(([^)]*)\)", text, re.M):
        if name not in ("__init__", "address"):
            wanted = [part.split(":")[0] for part in args.split(", ")]
            assert list(inspect.signature(getattr(MachineCore, name)).parameters) == wanted, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_readme_opens_with_two_short_commands():
    blocks = re.findall(r"^```\w*\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    for block in blocks[:2]:
        assert 1 <= len(block.strip().split("\n")) <= 5
        assert "pip install" in block
    assert "mm demo" in blocks[0]
    assert "pytest" in blocks[1]


def test_ci_runs_the_second_command():
    text = (ROOT / ".ci" / "run").read_text()
    assert "README.md" in text
    assert subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")]).returncode == 0


def test_commands_in_the_pages_exist():
    from mm.sim.cli import build_parser
    from mm.sim.cli.completion import commands_of

    known = set(commands_of(build_parser()))
    for page in PAGES:
        for block in re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", page.read_text(), re.M | re.S):
            for command in re.findall(r"^(?:\$ )?mm (\w+)", block, re.M):
                assert command in known, f"{page}: mm {command}"
