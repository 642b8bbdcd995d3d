"""The package from outside: importing it is cheap, its names are there, another module of its name is told apart."""

import pathlib
import re
import subprocess
import sys

import pytest

import mm

ROOT = pathlib.Path(__file__).parents[1]
IMPORT_SECONDS = 0.3


def python(*lines, cwd=None, path=ROOT):
    """Run lines in a fresh interpreter; its standard output."""
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, cwd=cwd,
                          env={"PYTHONPATH": str(path), "PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_quick_and_brings_nothing_heavy():
    code = ["import sys, time", "start = time.perf_counter()", "import mm", "print(time.perf_counter() - start)",
            "print([name for name in ('numpy', 'pyarrow', 'zstandard', 'numba', 'mm._fast') if name in sys.modules])"]
    runs = [python(*code).split("\n") for _ in range(3)]
    assert min(float(run[0]) for run in runs) <= IMPORT_SECONDS
    assert {run[1] for run in runs} == {"[]"}


def test_masks_need_neither_numpy_nor_arrow():
    out = python("import sys, mm", "print(hex(mm.GFP_KERNEL))", "print({'numpy', 'pyarrow'} & set(sys.modules))")
    assert out == "0xcc0\nset()\n"


def test_star_import_gives_what_all_names():
    out = python("from mm import *", "print(Machine.__name__, GFP_KERNEL, __GFP_HIGH, AllocationFailed.__name__)",
                 "import mm", "print(sorted(set(mm.__all__) - set(globals())))")
    assert out == "Machine 3264 32 AllocationFailed\n[]\n"


def test_names_have_the_values_of_linux_6_1():
    assert mm.GFP_ATOMIC == 0xa20
    assert mm.GFP_HIGHUSER_MOVABLE == 0x100cca
    assert getattr(mm, "__GFP_COMP") == mm.GFP_COMP == 0x40000


@pytest.mark.parametrize("name", ["Machine", "Trace", "convert", "Run", "AllocationFailed", "BadFree", "VMBug",
                                  "SnapshotError", "TraceError", "RunError"])
def test_public_names(name):
    assert getattr(mm, name).__doc__
    assert name in dir(mm)


def test_errors_are_of_the_kinds_that_python_knows():
    assert issubclass(mm.AllocationFailed, MemoryError)
    assert issubclass(mm.BadFree, ValueError)
    assert issubclass(mm.SnapshotError, ValueError)
    assert issubclass(mm.VMBug, AssertionError)


def test_unknown_name_is_named():
    with pytest.raises(AttributeError, match="no attribute 'alloc_pages_exact'"):
        _ = mm.alloc_pages_exact
    assert not hasattr(mm, "GFP_BANANA")


def test_version_stands_in_one_place():
    assert re.fullmatch(r"\d+\.\d+\.\d+(?:[.+-].+)?", mm.__version__)
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text()
    assert f"version: {mm.__version__}\n" in (ROOT / "CITATION.cff").read_text()


class TestForeignModule:
    """Somebody else's `mm` on the path."""

    def command(self, *paths, program="import linux_mm, sys; sys.exit(linux_mm.main(['info']))"):
        environment = {"PYTHONPATH": ":".join(map(str, paths)), "PATH": "/usr/bin:/bin"}
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd="/")

    def test_ours_passes(self):
        assert self.command(ROOT).returncode == 0

    def test_a_file_is_named_with_a_remedy(self, tmp_path):
        (tmp_path / "mm.py").write_text("raise RuntimeError('must not run')\n")
        done = self.command(tmp_path, ROOT)
        assert done.returncode == 2
        assert done.stdout == ""
        assert len(done.stderr.strip().split("\n")) == 1
        assert str(tmp_path / "mm.py") in done.stderr
        assert "rename" in done.stderr

    def test_a_package_is_named(self, tmp_path):
        (tmp_path / "mm").mkdir()
        (tmp_path / "mm" / "__init__.py").write_text("")
        assert str(tmp_path / "mm") in self.command(tmp_path, ROOT).stderr

    def test_a_folder_without_init_does_not_hide_ours(self, tmp_path):
        (tmp_path / "mm").mkdir()
        assert self.command(tmp_path, ROOT).returncode == 0

    def test_an_init_that_replaced_ours_is_named(self, tmp_path):
        """What `pip install mm` does to an installed linux-mm."""
        (tmp_path / "mm").mkdir()
        (tmp_path / "mm" / "__init__.py").write_text("")
        for name in ("_fast", "errors.py", "sim"):
            (tmp_path / "mm" / name).symlink_to(ROOT / "mm" / name)
        done = self.command(tmp_path, program="import mm.sim.gfp")
        assert "ImportError" in done.stderr
        assert "pip uninstall mm" in done.stderr
