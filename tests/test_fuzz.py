"""The fuzz command: rounds are reproducible, a sound build passes, a build that is broken on purpose does not."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from mm.debug.fuzz import Round, fuzz

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.spec("DO-23", missing="audit of the page allocator only")
def test_rounds_find_nothing():
    result = fuzz(seconds=8, seed=100)
    assert result.failure is None
    assert result.rounds >= 1


def test_a_seed_gives_the_same_round():
    first, second = Round(42), Round(42)
    first.run()
    second.run()
    assert first.core.page.tobytes() == second.core.page.tobytes()
    assert first.core.vm_event.tobytes() == second.core.vm_event.tobytes()


@pytest.mark.broken_machine
def test_a_lost_page_is_found():
    this = Round(7)
    this.do_alloc()
    this.held.pop()
    with pytest.raises(AssertionError, match="held of"):
        this.check()


@pytest.mark.slow
def test_canary_build_is_found(tmp_path):
    """MM_CANARY=1 breaks one merge rule: the command must fail on such a build."""
    pytest.importorskip("Cython")
    if not shutil.which("cc") and not shutil.which("gcc"):
        pytest.skip("no C compiler")
    for name in ("mm", "setup.py", "pyproject.toml", "README.md", "LICENSE", "linux_mm.py"):
        source = ROOT / name
        ignored = shutil.ignore_patterns("*.so", "*.a", "__pycache__", "demo")
        shutil.copytree(source, tmp_path / name, ignore=ignored) if source.is_dir() else shutil.copy(source, tmp_path)
    if (ROOT / "build" / "cython").is_dir():
        shutil.copytree(ROOT / "build" / "cython", tmp_path / "build" / "cython")
    environment = os.environ | {"MM_CANARY": "1", "CFLAGS": "-O0", "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "setup.py", "build_ext", "--inplace"], cwd=tmp_path, env=environment, check=True,
                   capture_output=True)
    done = subprocess.run([sys.executable, "-m", "mm.sim.cli", "fuzz", "--seed", "1", "--seconds", "60"], cwd=tmp_path,
                          env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED: seed" in done.stdout
