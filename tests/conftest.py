"""What every test gets: the marks, the recordings, and an audit of every machine at the test's end."""

import os
import pathlib
import weakref

import pytest

TESTS = pathlib.Path(__file__).parent
ROOT = TESTS.parent
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(ROOT / "build" / "hypothesis"))
RECORDINGS = TESTS / "recordings" / "alloc"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    if hasattr(config.option, "benchmark_storage"):
        config.option.benchmark_storage = f"file://{ROOT / 'build' / 'benchmarks'}"
    config.addinivalue_line("markers", "spec(*rows, missing=''): passing means that the check of these rows of "
                                       "docs/spec_rows.csv holds, except for what is missing")
    config.addinivalue_line("markers", "slow: takes more than some seconds")
    config.addinivalue_line("markers", "broken_machine: the test breaks a machine on purpose, no audit at its end")


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="leave out the tests marked slow")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--quick"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="--quick"))


@pytest.fixture(autouse=True)
def machines(request, monkeypatch):
    """The machines of this test; each that is still there at its end must pass the audit."""
    from mm._fast.machine_core import MachineCore
    from mm.sim.machine import Machine

    made = weakref.WeakSet()

    def tracked(cls, *args, **kwargs):
        machine = MachineCore.__new__(cls, *args, **kwargs)
        made.add(machine)
        return machine

    monkeypatch.setattr(Machine, "__new__", tracked, raising=False)
    yield made
    if not request.node.get_closest_marker("broken_machine"):
        for machine in list(made):
            machine.verify()


@pytest.fixture
def recording():
    """recording("A1") is the folder of a bundled recording; the test is skipped where it is not there."""

    def find(name):
        path = RECORDINGS / name
        if not path.is_dir():
            pytest.skip(f"no recording {name}")
        return path

    return find
