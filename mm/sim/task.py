"""Task: who asks on a CPU, as far as the allocator looks.

Linux: `current` (task_struct.flags, .mempolicy, .mems_allowed), mm/mempolicy.c (mpol_new, mpol_set_nodemask),
include/linux/sched/mm.h (memalloc_*_save).
Modelled: one task a CPU; its flags, memory policy without mode flags, cpuset nodes.
Not modelled: rebinding of a policy when the cpuset changes; relative and static nodemasks.
Invariant: a write that is refused changes nothing.  Cost: each write rebuilds the tables of the fast path.
"""

import contextlib
import errno
import operator

from mm._fast.state import mm_limits, mpol_mode, task_flags

ALL_FLAGS = sum(int(flag) for flag in task_flags)
NO_NODES = (mpol_mode.MPOL_DEFAULT, mpol_mode.MPOL_LOCAL)


class Task:
    """What the allocator reads of the task on one CPU.

    Parameters
    ----------
    machine : mm.Machine
    cpu : int

    Raises
    ------
    ValueError
        A CPU that does not exist.
    """

    def __init__(self, machine, cpu=0):
        cpu = operator.index(cpu)
        if not 0 <= cpu < len(machine.current):
            raise ValueError(f"cpu {cpu}: 0 to {len(machine.current) - 1}")
        self.machine, self.cpu = machine, cpu

    def __repr__(self):
        return f"<Task cpu {self.cpu} flags {task_flags(self.flags)!r} {self.mempolicy[0].name}>"

    def _set(self, **fields):
        for name, value in fields.items():
            self.machine.current[name][self.cpu] = value
        self.machine.update_current()

    @property
    def flags(self):
        """Bits of mm._fast.state.task_flags; other bits are refused with ValueError."""
        return int(self.machine.current["flags"][self.cpu])

    @flags.setter
    def flags(self, value):
        self._set(flags=_checked_flags(value))

    @contextlib.contextmanager
    def scope(self, flag):
        """Set flags for the length of a `with` block; those set before stay set after it (memalloc_noio_save)."""
        flag = _checked_flags(flag)
        before = self.flags & flag
        self.flags |= flag
        try:
            yield self
        finally:
            self.flags = self.flags & ~flag | before

    @property
    def mempolicy(self):
        """(mode, nodes) of the memory policy."""
        fields = self.machine.current[self.cpu]
        return mpol_mode(int(fields["mpol_mode"])), _nodes(int(fields["mpol_nodes"]))

    def set_mempolicy(self, mode, nodes=()):
        """Set the memory policy (`set_mempolicy(2)`).

        Parameters
        ----------
        mode : mm._fast.state.mpol_mode
        nodes : iterable of int
            Nodes without memory or outside the cpuset are left out, as in Linux; PREFERRED keeps the lowest, and
            without any is LOCAL.

        Raises
        ------
        OSError
            EINVAL: an unknown mode, a node Linux's masks do not hold, nodes for DEFAULT or LOCAL, no usable node for
            another mode.
        """
        try:
            mode = mpol_mode(operator.index(mode))
        except ValueError:
            raise OSError(errno.EINVAL, f"memory policy {mode}: unknown mode") from None
        wanted = _nodemask(nodes)
        if mode == mpol_mode.MPOL_PREFERRED and not wanted:
            mode = mpol_mode.MPOL_LOCAL
        if mode in NO_NODES and wanted:
            raise OSError(errno.EINVAL, f"{mode.name} takes no nodes")
        usable = wanted & self._memory_nodes() & (self._mems_allowed() or ~0)
        if mode not in NO_NODES and not usable:
            raise OSError(errno.EINVAL, f"{mode.name}: no node with memory that the task may use in {_nodes(wanted)}")
        if mode == mpol_mode.MPOL_PREFERRED:
            usable &= -usable
        last = int(self.machine.g["nr_nodes"][0]) - 1
        self._set(mpol_mode=int(mode), mpol_nodes=usable, **({"il_prev": last} if mode == mpol_mode.MPOL_INTERLEAVE else {}))

    @property
    def mems_allowed(self):
        """Nodes of the task's cpuset, None without one.

        Writing raises OSError: EINVAL for a node without memory, ENOSPC for no node at all.
        """
        return _nodes(self._mems_allowed()) or None

    @mems_allowed.setter
    def mems_allowed(self, nodes):
        mask = 0 if nodes is None else _nodemask(nodes)
        if mask & ~self._memory_nodes():
            raise OSError(errno.EINVAL, f"cpuset: a node of {_nodes(mask)} has no memory")
        if nodes is not None and not mask:
            raise OSError(errno.ENOSPC, "cpuset: a task needs a node")
        self.machine.current["mems_allowed"][self.cpu] = mask
        self.machine.g["is_cpusets_enabled"] = int(self.machine.current["mems_allowed"].any())
        self.machine.update_current()

    def _mems_allowed(self):
        return int(self.machine.current["mems_allowed"][self.cpu])

    def _memory_nodes(self):
        return sum(1 << nid for nid, pages in enumerate(self.machine.nodes["node_present_pages"]) if pages)


def _checked_flags(value):
    value = operator.index(value)
    if value & ~ALL_FLAGS:
        raise ValueError(f"task flags {value:#x}: bits of {ALL_FLAGS:#x} only")
    return value


def _nodemask(nodes):
    """Bits of nodes; OSError for one that no mask holds."""
    mask = 0
    for nid in nodes:
        if not 0 <= operator.index(nid) < mm_limits.MAX_NUMNODES:
            raise OSError(errno.EINVAL, f"node {nid}: 0 to {int(mm_limits.MAX_NUMNODES) - 1}")
        mask |= 1 << operator.index(nid)
    return mask


def _nodes(mask):
    return tuple(nid for nid in range(mask.bit_length()) if mask >> nid & 1)
