"""The walk over zones: which zone serves a request, and when a node is reclaimed first."""

import ctypes

import pytest

import mm
from mm._fast.vm_event_item import vm_event_item

NODE_RECLAIM = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32, ctypes.c_uint32, ctypes.c_uint32,
                                ctypes.c_int32)
DIRTY_OK = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32)


@pytest.mark.broken_machine
@pytest.mark.spec("PA-12", missing="the dirty limits themselves")
def test_normal_at_its_low_mark_leaves_the_request_to_dma32():
    m = mm.Machine(memory_map=[(1 << 20, (8 << 30) - (1 << 20))], zones=["DMA", "DMA32", "Normal"], cpus=8)
    m.zones["vm_stat"][2, 0] = m.zones["watermark"][2, 1]
    m.alloc_pages(mm.GFP_KERNEL)
    m.fold_counters()
    assert m.vm_event[0, int(vm_event_item.PGALLOC_DMA32)] == 1
    assert m.op_calls() == {}


@pytest.mark.spec("PA-12", missing="the dirty limits themselves")
def test_a_node_with_too_many_dirty_pages_is_passed_over_once_asked():
    m, asked = mm.Machine("2G", nodes=2, cpus=8, zones=["Normal"]), []
    m.register_op("node_dirty_ok", DIRTY_OK(lambda state, nid: asked.append(nid) or nid == 1))
    assert m.alloc_pages(mm.GFP_KERNEL | 0x1000) >> 18 == 1
    assert m.alloc_pages(mm.GFP_KERNEL) >> 18 == 0
    assert set(asked) == {0, 1}


@pytest.mark.broken_machine
@pytest.mark.spec("PA-13", missing="the reclaim of a node itself and its thresholds")
@pytest.mark.parametrize("mode, distance, node", [(1, 20, 0), (0, 20, 1), (1, 40, 1)])
def test_node_reclaim_by_mode_and_distance(mode, distance, node):
    m = mm.Machine("2G", nodes=2, cpus=8, zones=["Normal"], distances=[[10, distance], [distance, 10]])
    m.g["node_reclaim_mode"] = mode
    m.zones["vm_stat"][2, 0] = 0
    calls = []

    def reclaim(state, nid, gfp, order, cpu):
        calls.append(nid)
        if nid == 0 and distance == 20:
            m.zones["vm_stat"][2, 0] = 1 << 18
            return 1
        return -1

    m.register_op("node_reclaim", NODE_RECLAIM(reclaim))
    assert m.alloc_pages(mm.GFP_KERNEL) >> 18 == node
    assert calls == [0] * mode
