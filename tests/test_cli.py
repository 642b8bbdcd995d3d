"""The command `mm`: results on stdout, one line for a mistake, the promised exit status."""

import json
import shutil
import subprocess
import sys

import pytest

from mm.sim.cli import build_parser, main
from mm.sim.cli.completion import commands_of
from mm.sim.cli.frame import EXIT_OK, EXIT_SHORT, EXIT_USAGE


@pytest.fixture
def run(capsys):
    """run("info", ...) -> (status, stdout, stderr)"""

    def call(*arguments):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def assert_one_line_error(result, *words):
    """Status 2, nothing on stdout, one line that has these words."""
    status, out, err = result
    assert (status, out) == (EXIT_USAGE, "")
    assert err.startswith("mm: error: ")
    assert err.count("\n") == 1
    for word in words:
        assert str(word) in err


def test_info(run):
    status, out, _ = run("info", "--json")
    facts = json.loads(out)
    assert status == EXIT_OK
    assert facts["kernel"].startswith("Linux 6.1")
    assert run("info")[1].count("\n") == len(facts)


@pytest.mark.parametrize("arguments, word", [
    ([], "COMMAND"), (["frobnicate"], "frobnicate"), (["verify"], "DATASET"), (["replay", "x"], "--snapshot"),
    (["fuzz", "--seconds", "-1"], "positive"), (["fuzz", "--seconds", "soon"], "soon"),
    (["completion", "tcsh"], "tcsh"),
    (["replay", "t", "--snapshot", "s", "-o", "r", "--guided-until", "5s"], "guided"),
    (["replay", "t", "--snapshot", "s", "-o", "r", "--mode", "guided", "--guided-until", "late"], "late"),
    (["convert", "/nonexistent/file", "/tmp/never"], "/nonexistent/file"),
])
def test_mistakes_take_one_line(run, arguments, word):
    assert_one_line_error(run(*arguments), word)


def test_verify_prints_rows(run, recording):
    status, out, err = run("verify", "--json", recording("A1"), recording("D1"))
    rows = json.loads(out)
    assert (status, err) == (EXIT_OK, "")
    assert [row["dataset"] for row in rows] == ["A1", "D1"]
    for row in rows:
        assert {"dataset", "kind", "status", "matched", "total", "lists_equal", "seconds", "why"} <= row.keys()
        assert row["status"] == "ok"


def test_verify_leaves_results(run, recording, tmp_path):
    assert run("verify", recording("D1"), "--results", tmp_path / "results")[0] == EXIT_OK
    assert list((tmp_path / "results").iterdir())


def test_verify_is_short_for_a_broken_dataset_and_goes_on(run, recording, tmp_path):
    shutil.copytree(recording("D1"), tmp_path / "D1")
    whole = (tmp_path / "D1" / "ops.npz").read_bytes()
    (tmp_path / "D1" / "ops.npz").write_bytes(whole[:len(whole) // 2])
    status, out, _ = run("verify", "--json", tmp_path / "D1", recording("A1"))
    assert status == EXIT_SHORT
    assert [row["status"] for row in json.loads(out)] == ["short", "ok"]
    assert str(tmp_path / "D1" / "ops.npz") in json.loads(out)[0]["why"]


def test_fuzz_says_what_it_did(run):
    status, out, _ = run("fuzz", "--seconds", "60", "--rounds", "1", "--seed", "5")
    assert status == EXIT_OK
    assert "first seed 5" in out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command(run, shell):
    status, out, _ = run("completion", shell)
    assert status == EXIT_OK
    for name in commands_of(build_parser()):
        assert name in out
    assert "--results" in out or "-l results" in out
    if shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=out, text=True).returncode == 0


def test_bash_completes_a_command(run, tmp_path):
    bash = shutil.which("bash")
    if not bash:
        pytest.skip("no bash")
    (tmp_path / "mm").write_text(run("completion", "bash")[1])
    script = f'. {tmp_path}/mm; COMP_WORDS=(mm ver); COMP_CWORD=1; _mm; echo "${{COMPREPLY[@]}}"'
    assert subprocess.run([bash, "-c", script], capture_output=True, text=True).stdout == "verify\n"


def test_every_command_has_help():
    for name, parser in commands_of(build_parser()).items():
        assert parser.description, name
        assert parser.format_help()


def test_output_into_a_closed_pipe_is_no_error():
    code = "import sys; from mm.sim.cli import main; sys.exit(main(['info']))"
    reader = subprocess.Popen([sys.executable, "-c", "pass"], stdin=subprocess.PIPE)
    reader.wait()
    done = subprocess.run([sys.executable, "-c", code], stdout=reader.stdin, stderr=subprocess.PIPE, text=True)
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_demo_agrees_and_leaves_a_report(run, tmp_path):
    status, out, err = run("demo", "-o", tmp_path / "demo")
    assert (status, err) == (EXIT_OK, "")
    assert "81826 of 81826 allocations" in out
    assert (tmp_path / "demo" / "report.html").stat().st_size > 10000
    assert run("demo", "-o", tmp_path / "demo")[0] == EXIT_OK, "a second demo replaces the first"


@pytest.mark.slow
def test_convert_replay_report(run, recording, tmp_path):
    trace, folder, page = tmp_path / "web.trace", tmp_path / "run", tmp_path / "report.html"
    status, out, _ = run("convert", recording("H3") / "trace.txt.zst", trace, "--anonymize", "--json")
    assert status == EXIT_OK
    assert json.loads(out)["rows"] > 100000
    again = ("replay", trace, "--snapshot", recording("H3") / "snap-before.npz", "-o", folder, "--mode", "guided",
             "--guided-until", "1s", "--json")
    status, out, _ = run(*again)
    assert status == EXIT_OK
    assert json.loads(out)["pfn_agreement_ratio"] == 1
    assert_one_line_error(run(*again), folder)
    assert run(*again, "--overwrite")[0] == EXIT_OK
    assert run("report", folder, "-o", page)[0] == EXIT_OK
    assert page.exists()
    assert_one_line_error(run("report", tmp_path / "nothing", "-o", page), "nothing")
    assert_one_line_error(run("replay", recording("H3") / "trace.txt.zst", *again[2:4], "-o", tmp_path / "other"),
                          "trace.txt.zst")
