"""The task of a CPU: its flags, memory policy and cpuset decide where its requests go."""

import errno

import pytest

import mm
from mm._fast.state import mpol_mode, task_flags
from mm._fast.vm_event_item import numa_stat_item

INTERLEAVE, BIND, PREFERRED = mpol_mode.MPOL_INTERLEAVE, mpol_mode.MPOL_BIND, mpol_mode.MPOL_PREFERRED


def r3():
    return mm.Machine("2G", nodes=2, cpus=8, zones=["Normal"])


def nodes(m, n, gfp=mm.GFP_KERNEL):
    return [m.alloc_pages(gfp) >> 18 for _ in range(n)]


@pytest.mark.spec("PA-18", missing="policies of address ranges")
def test_interleave_alternates_and_counts():
    m = r3()
    m.task().set_mempolicy(INTERLEAVE, (0, 1))
    assert nodes(m, 10) == [0, 1] * 5
    m.fold_counters()
    assert m.zones["numa_event"][:, int(numa_stat_item.NUMA_INTERLEAVE)].sum() == 10


@pytest.mark.spec("PA-18", missing="policies of address ranges")
def test_interrupt_and_thisnode_ignore_the_policy():
    m = r3()
    task = m.task()
    task.set_mempolicy(BIND, [1])
    assert nodes(m, 2) == [1, 1]
    with task.scope(task_flags.PF_INTERRUPT):
        assert nodes(m, 2) == [0, 0]
    assert nodes(m, 2, mm.GFP_KERNEL | 0x200000) == [0, 0]
    task.set_mempolicy(PREFERRED, [1])
    assert nodes(m, 2) == [1, 1]


@pytest.mark.parametrize("mode, wanted", [(9, ()), (INTERLEAVE, ()), (BIND, [7]), (BIND, [99]), (BIND, [-1]),
                                          (mpol_mode.MPOL_DEFAULT, [0]), (mpol_mode.MPOL_LOCAL, [0])])
def test_refused_policies_change_nothing(mode, wanted):
    m = r3()
    before = m.current.copy()
    with pytest.raises(OSError) as info:
        m.task().set_mempolicy(mode, wanted)
    assert info.value.errno == errno.EINVAL
    assert (m.current == before).all()


def test_a_cpuset_confines_and_can_be_left():
    m = r3()
    task = m.task()
    task.mems_allowed = [1]
    assert (task.mems_allowed, nodes(m, 2)) == ((1,), [1, 1])
    with pytest.raises(OSError):
        task.set_mempolicy(BIND, [0])
    task.mems_allowed = None
    assert (task.mems_allowed, nodes(m, 2), int(m.g["is_cpusets_enabled"][0])) == (None, [0, 0], 0)


def test_scopes_nest():
    task = r3().task(3)
    with task.scope(task_flags.PF_RT):
        with task.scope(task_flags.PF_RT | task_flags.PF_MEMALLOC):
            assert task.flags == 0x11
        assert task.flags == task_flags.PF_RT
    assert task.flags == 0
    with pytest.raises(ValueError):
        task.flags = 1 << 20
