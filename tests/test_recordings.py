"""The bundled recordings of a real Linux 6.1: every result, list and counter is equal."""

import pytest
from conftest import RECORDINGS

from mm.sim.verify import verify_one

SCRIPTED = ("A1", "B1", "C1", "D1", "E1", "F1", "X5")
BOOT = ("Gtune", "G256", "G512", "G1024", "G2n", "G6144")
TRACES = ("H3",)


def assert_equal(path):
    """All of it matched."""
    row = verify_one(path)
    assert (row["status"], row["why"]) == ("ok", "")
    assert row["matched"] == row["total"] > 0
    assert row["lists_equal"]


def test_every_recording_is_tested():
    assert {path.name for path in RECORDINGS.iterdir() if path.is_dir()} == {*SCRIPTED, *BOOT, *TRACES}


@pytest.mark.spec("PA-01", missing="masks that no recording uses (DMA zones of other sizes, CMA)")
@pytest.mark.spec("PA-02", "PA-03", "PA-04", "PA-05", "PA-06")
@pytest.mark.spec("PA-07", missing="giving the reserve back under pressure: needs direct reclaim")
@pytest.mark.spec("PA-12", missing="dirty spread and node_reclaim: nobody answers these calls yet")
@pytest.mark.parametrize("name", SCRIPTED)
def test_scripted_operations(recording, name):
    assert_equal(recording(name))


@pytest.mark.spec("PA-17", missing="contiguous ranges that need migration")
def test_bulk_split_and_contiguous_allocation(recording):
    assert_equal(recording("F1"))


@pytest.mark.spec("PM-06", "PM-08", missing="highmem; deferred and hotplugged memory")
@pytest.mark.spec("PA-08", missing="kswapd's use of the marks")
@pytest.mark.spec("PA-10", "PA-11")
@pytest.mark.parametrize("name", BOOT)
def test_state_after_boot_and_sysctl_writes(recording, name):
    assert_equal(recording(name))


@pytest.mark.spec("DO-22", missing="traces with reclaim and compaction; access traces")
@pytest.mark.parametrize("name", TRACES)
def test_traces_of_workloads(recording, name):
    assert_equal(recording(name))
