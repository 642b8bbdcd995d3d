"""The slow path's steps and rules, with scripted reclaim, compaction and OOM killer behind the table of operations."""

import ctypes

import pytest

import mm
from mm._fast.state import compact_result, task_flags
from mm._fast.vm_event_item import vm_event_item

NORMAL = 2
NORETRY, NOFAIL, RETRY_MAYFAIL, THISNODE = 0x10000, 0x8000, 0x4000, 0x200000
P, I32, U32, I64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_uint32, ctypes.c_int64
SIGNATURES = {"wakeup_kswapd": (None, P, I32, U32, U32, I32), "try_to_free_pages": (I64, P, P, U32, U32),
              "try_to_compact_pages": (I32, P, P, U32, U32, U32, I32, P), "out_of_memory": (I32, P, P, U32, U32)}


def scripted(free=0, **answers):
    """A machine with `free` pages in sight, and the log of the calls that `answers` serve."""
    m, log = mm.Machine("64M", zones=["Normal"]), []
    m.zones["vm_stat"][NORMAL, 0] = free

    def register(name):
        def answer(*args):
            log.append((name, *args[5:6]) if name == "try_to_compact_pages" else (name,))
            return answers[name](m) if callable(answers[name]) else answers[name]
        m.register_op(name, ctypes.CFUNCTYPE(*SIGNATURES[name])(answer))

    for name in answers:
        register(name)
    return m, log


def fails(m, gfp, order=0):
    real = m.zones["vm_stat"][NORMAL, 0]
    with pytest.raises(mm.AllocationFailed):
        m.alloc_pages(gfp, order)
    assert m.zones["vm_stat"][NORMAL, 0] == real


def give_memory(m):
    m.zones["vm_stat"][NORMAL, 0] = 16384
    return 1


@pytest.fixture(autouse=True)
def _counters_are_bent(request):
    request.node.add_marker("broken_machine")


@pytest.mark.spec("PA-14", "PA-15", missing="reclaim, compaction and the OOM killer themselves")
def test_steps_stand_in_order():
    m, log = scripted(wakeup_kswapd=None, try_to_free_pages=1, try_to_compact_pages=int(compact_result.COMPACT_COMPLETE),
                      out_of_memory=0)
    fails(m, mm.GFP_KERNEL, 4)
    compact, reclaim, wake = "try_to_compact_pages", ("try_to_free_pages",), ("wakeup_kswapd",)
    assert [name for name, *_ in log] == [wake[0], compact, wake[0], reclaim[0], compact]
    events = m.vm_event.sum(axis=0)
    assert events[int(vm_event_item.COMPACT_STALL)] == events[int(vm_event_item.COMPACT_FAIL)] == 2


@pytest.mark.spec("PA-14", missing="reclaim, compaction and the OOM killer themselves")
def test_reclaim_that_helps_serves_the_request():
    m, log = scripted(try_to_free_pages=give_memory, out_of_memory=0)
    m.alloc_pages(mm.GFP_KERNEL)
    assert log == [("try_to_free_pages",)]


@pytest.mark.spec("PA-14", "PA-16", missing="reclaim, compaction and the OOM killer themselves")
def test_killing_one_task_serves_the_request():
    m, log = scripted(try_to_free_pages=0, out_of_memory=give_memory)
    m.alloc_pages(mm.GFP_KERNEL)
    assert log == [("try_to_free_pages",), ("out_of_memory",)]


@pytest.mark.spec("PA-14", missing="reclaim, compaction and the OOM killer themselves")
def test_a_request_that_may_not_wait_wakes_kswapd_only():
    m, log = scripted(wakeup_kswapd=None, try_to_free_pages=1, out_of_memory=1)
    fails(m, mm.GFP_NOWAIT)
    assert {name for name, in log} == {"wakeup_kswapd"}


@pytest.mark.spec("PA-15", missing="reclaim, compaction and the OOM killer themselves")
def test_skipped_compaction_counts_nothing():
    m, log = scripted(try_to_compact_pages=int(compact_result.COMPACT_SKIPPED))
    fails(m, mm.GFP_KERNEL | NORETRY, 4)
    assert len(log) == 1
    assert m.vm_event[:, int(vm_event_item.COMPACT_STALL)].sum() == 0


@pytest.mark.spec("PA-16", missing="reclaim, compaction and the OOM killer themselves")
@pytest.mark.parametrize("gfp, order, flag", [
    (mm.GFP_KERNEL | RETRY_MAYFAIL, 0, 0), (mm.GFP_KERNEL | THISNODE, 0, 0), (mm.GFP_KERNEL, 4, 0),
    (mm.GFP_KERNEL | NORETRY, 0, 0), (mm.GFP_KERNEL, 0, task_flags.PF_DUMPCORE)])
def test_requests_that_must_not_kill(gfp, order, flag):
    m, log = scripted(try_to_free_pages=0, out_of_memory=1)
    with m.task().scope(flag):
        fails(m, gfp, order)
    assert ("out_of_memory",) not in log


@pytest.mark.spec("PA-14", missing="reclaim, compaction and the OOM killer themselves")
def test_nofail_returns_a_page():
    m, log = scripted(try_to_free_pages=0, out_of_memory=0)
    assert m.alloc_pages(mm.GFP_KERNEL | NOFAIL) >= 0


def test_registration():
    m, _ = scripted(out_of_memory=0)
    with pytest.raises(ValueError, match="already"):
        m.register_op("out_of_memory", 1)
    with pytest.raises(ValueError, match="'node_reclaim'"):
        m.register_op("node_reclam", 1)
    with pytest.raises(ValueError, match="already"):
        m.copy().register_op("out_of_memory", 1)
