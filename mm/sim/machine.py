"""Machine: one simulated host.  The one file that knows every subsystem.

A machine is booted from a description of its memory (`Machine("16G", nodes=2, cpus=8)`) or takes over the state of a
real kernel (`Machine.from_snapshot`).  Subsystems are attached here and register what lower layers call upward.
"""

import collections.abc
import operator

import numpy as np

from mm._fast import image
from mm._fast.machine_core import MachineCore
from mm._fast.state import mm_limits
from mm.physical import mm_init
from mm.physical.e820 import E820_TYPE_RAM, E820Table, memparse, pc_memory_map
from mm.physical.memblock import PAGE_SIZE, Memblock
from mm.physical.setup_arch import DEBIAN_6_1
from mm.sim import snapshot as _snapshot
from mm.sim.layers import layers
from mm.sim.page_alloc_api import PageAllocApi
from mm.sim.proc import Proc, Sys
from mm.sim.sysctl import Sysctl
from mm.sim.task import Task

NODE_GRANULE = 8 << 20      # memory is split over nodes in multiples of 8 MiB, the last gets the rest (QEMU)
NODE_MIN_SIZE = 4 << 20     # Linux gives a smaller node no memory (arch/x86/mm/numa.c)
MAX_NUMNODES = int(mm_limits.MAX_NUMNODES)
MAX_CPUS = 4096
KERNEL = "6.1"


class Machine(PageAllocApi, MachineCore):
    """A simulated host.

    Three forms: a PC of some size, a machine with a given firmware map, and with `zones` a machine as the specification
    describes it, where nothing is reserved and every page is managed.

    Parameters
    ----------
    memory : int or str, optional
        Bytes of RAM, or text such as "16G".  Without `zones`: a PC with a hole below 4 GiB, as QEMU builds it.  With
        `zones`: page frames from 0 on, without holes.
    nodes : int or sequence of sizes
        NUMA nodes: how many, of equal size, or the memory of each; sizes fill the memory from the lowest address.
    cpus : int or sequence of int
        How many, spread evenly in order over the nodes; or the node of each.
    seed : int
        Seed of everything random in this machine; boot draws nothing.
    zones : sequence of str, optional
        The only zones, of "DMA" (below 16 MiB), "DMA32" (below 4 GiB), "Normal", "Movable".
    memory_map : iterable of (start, size) or (start, size, type), optional
        Firmware map instead of `memory`; see mm.physical.e820.E820Table.
    distances : sequence of sequence of int, optional
        SLIT: distance from node to node, 10 to itself, 20 to others by default.
    kernelcore, movablecore : int or str, optional
        Boot options that make a Movable zone: a size or a percentage.
    reserve : BootReserve or None
        What kernel and firmware take at boot; None: only what the firmware map says.  Default: Debian's 6.1 on a PC.
    thp : bool, optional
        Huge pages on, so that khugepaged raises min_free_kbytes.  Default: on, as in Debian, but off with `zones`,
        whose figures the specification gives without.
    kernel : str
        "6.1", the only one modelled.

    Attributes
    ----------
    sysctl : mm.sim.sysctl.Sysctl
        Knobs by name.
    memblock : Memblock or None
        Memory and reservations at the end of boot; None after from_snapshot.
    boot_log : list of str
        What boot said, worded as in dmesg.

    Raises
    ------
    ValueError
        Contradictory or impossible descriptions, each named.

    Notes
    -----
    With a PC of 256 MiB to 6 GiB, reserved frames, managed pages, marks and reserves are those of the recorded
    machines.  After boot every frame that is not reserved is free; a real one has allocated some already.
    """

    memblock = None
    boot_log = ()

    def __init__(self, memory=None, *, nodes=1, cpus=1, seed=0, zones=None, memory_map=None, distances=None,
                 kernelcore=None, movablecore=None, reserve=DEBIAN_6_1, thp=None, kernel=KERNEL):
        if kernel != KERNEL:
            raise ValueError(f"kernel {kernel!r}: only {KERNEL!r} is modelled")
        self.memblock, spans, log = _firmware_memory(memory, memory_map, nodes, is_pc=zones is None)
        node_bytes = _node_bytes(spans, nodes)
        _set_nodes(self.memblock, spans, node_bytes)
        cpu_node = _cpu_nodes(cpus, len(node_bytes))
        layout = mm_init.MemoryLayout(self.memblock, cpu_node, len(node_bytes), zones, kernelcore, movablecore,
                                      reserve if zones is None else None)
        super().__init__(layout.nr_pages, len(node_bytes), len(cpu_node), cpu_node)
        if distances is not None:
            self.node_distance[:] = _checked_distances(distances, len(node_bytes))
        self.g["seed"] = operator.index(seed)
        mm_init.boot(self, layout, zones is None if thp is None else bool(thp))
        self.boot_log = log + layout.log

    @property
    def seed(self):
        """Seed of everything random in this machine."""
        return int(self.g["seed"][0])

    @property
    def is_exact_start(self):
        """Whether the state began as a recorded one, so that page frames may be compared with the recording."""
        return bool(self.g["is_exact_start"][0])

    def checkpoint(self):
        """The whole state as bytes, for `restore`; an image of this build, no archive format."""
        return image.to_bytes(self).tobytes()

    @classmethod
    def restore(cls, data):
        """The machine of a checkpoint.

        Raises
        ------
        ValueError
            Bytes that are no checkpoint of this build, or hold a state that breaks an invariant.
        """
        return image.from_bytes(cls, np.frombuffer(data, np.uint8))

    @property
    def sysctl(self):
        """Knobs of /proc/sys by name, to read and write."""
        return Sysctl(self)

    def task(self, cpu=0):
        """Who asks on a CPU: the task whose flags, memory policy and cpuset the allocator reads."""
        return Task(self, cpu)

    def layers(self, since=None):
        """Which layer served the allocations, and how often the zone lock was taken; see mm.sim.layers.layers."""
        return layers(self, since)

    @property
    def proc(self):
        """Text of /proc files about memory at this moment."""
        return Proc(self)

    @property
    def sys(self):
        """Text of /sys files about memory at this moment."""
        return Sys(self)

    @classmethod
    def from_snapshot(cls, path):
        """A machine in the recorded state of a real kernel.

        Parameters
        ----------
        path : str or path-like
            `snap-before.npz` or `snap-boot.npz`; the `meta.json` beside it is read too.

        Raises
        ------
        mm.SnapshotError
            A file that is missing, damaged, contradicts itself, or comes from a kernel with other constants.
        """
        snap = _snapshot.read_snapshot(path)
        self = cls.__new__(cls)
        MachineCore.__init__(self, *_snapshot.shape_of(snap))
        _snapshot.load_into(snap, self)
        self.g["is_exact_start"] = True
        return self

    def replay(self, trace, mode="free", guided_until_ns=None, infer=None, sampler=None, progress=None):
        """Run a trace on this machine; see mm.sim.replay.replay, whose Replay it returns.

        A trace with times is sampled along the way, so that the result has `to_table()` and `report(path)`.
        """
        from mm.sim.replay import has_times, replay

        if sampler is None and has_times(trace):
            from mm.sim.run import watch

            return watch(self, trace, mode, guided_until_ns, infer, progress)
        return replay(self, trace, mode, guided_until_ns, infer, sampler=sampler, progress=progress)


# -------------------------------------------------------------------------------------------- what a machine is made of

def _firmware_memory(memory, memory_map, nodes, is_pc):
    """(Memblock with all memory, the (start, end) bytes that nodes share in order, lines for the log)."""
    if memory is None and memory_map is None and isinstance(nodes, collections.abc.Iterable):
        memory = sum(memparse(size) for size in nodes)
    if (memory is None) == (memory_map is None):
        raise ValueError("memory: give either a size or memory_map=[...]")
    if memory_map is not None:
        table = E820Table(memory_map)
    elif is_pc:
        table = pc_memory_map(memparse(memory))
    else:
        table = E820Table([(0, memparse(memory))])
    log = table.print_table("BIOS-e820")
    table.update_table()
    if is_pc:
        table.trim_bios_range()
    memblock = Memblock()
    table.memblock_setup(memblock)
    if not memblock.memory.regions:
        raise ValueError("memory: there is no whole usable page")
    if memory_map is None and is_pc:
        spans = _pc_spans(table)
    else:
        spans = [(e.addr, e.end) for e in table.entries if e.type == E820_TYPE_RAM]
    return memblock, spans, log


def _pc_spans(table):
    """RAM of a PC below and above the hole, with the parts that firmware keeps: what nodes are cut from."""
    low = [e.end for e in table.entries if e.end < 0xFFFC0000]
    return [(0, max(low))] + [(e.addr, e.end) for e in table.entries
                              if e.type == E820_TYPE_RAM and e.addr >= 1 << 32]


def _node_bytes(spans, nodes):
    """Bytes of each node."""
    total = sum(end - start for start, end in spans)
    nr_nodes = len(nodes) if isinstance(nodes, collections.abc.Sized) else operator.index(nodes)
    if not 1 <= nr_nodes <= MAX_NUMNODES:
        raise ValueError(f"nodes {nodes!r}: 1 to {MAX_NUMNODES}")
    if isinstance(nodes, collections.abc.Iterable):
        sizes = [memparse(size) for size in nodes]
        if sum(sizes) != total:
            raise ValueError(f"nodes {list(nodes)!r}: they have {sum(sizes)} bytes in all, the memory {total}")
    else:
        granule = NODE_GRANULE if total // nr_nodes >= NODE_GRANULE else PAGE_SIZE
        share = total // nr_nodes // granule * granule if nr_nodes > 1 else total
        sizes = [share] * (nr_nodes - 1) + [total - share * (nr_nodes - 1)]
    if len(sizes) > 1 and any(0 < size < NODE_MIN_SIZE for size in sizes):
        raise ValueError(f"nodes {sizes!r} bytes: a node has none or at least {NODE_MIN_SIZE}")
    return sizes


def _set_nodes(memblock, spans, node_bytes):
    """Give the spans to the nodes in order."""
    spans = iter(spans)
    start = end = 0
    for nid, left in enumerate(node_bytes):
        while left:
            if start == end:
                start, end = next(spans)
            part = min(left, end - start)
            memblock.set_node(start, part, nid)
            start, left = start + part, left - part


def _cpu_nodes(cpus, nr_nodes):
    """Node of each CPU."""
    nr_cpus = len(cpus) if isinstance(cpus, collections.abc.Sized) else operator.index(cpus)
    if not 1 <= nr_cpus <= MAX_CPUS:
        raise ValueError(f"cpus {cpus!r}: 1 to {MAX_CPUS}")
    if not isinstance(cpus, collections.abc.Iterable):
        return [cpu * nr_nodes // nr_cpus for cpu in range(nr_cpus)]
    cpu_node = [operator.index(nid) for nid in cpus]
    if not all(0 <= nid < nr_nodes for nid in cpu_node):
        raise ValueError(f"cpus {cpus!r}: each on a node of 0 to {nr_nodes - 1}")
    return cpu_node


def _checked_distances(distances, nr_nodes):
    """The matrix, checked as Linux checks a SLIT (numa_set_distance, slit_valid)."""
    rows = [[operator.index(d) for d in row] for row in distances]
    if len(rows) != nr_nodes or any(len(row) != nr_nodes for row in rows):
        raise ValueError(f"distances: {nr_nodes} rows of {nr_nodes} numbers")
    for i, row in enumerate(rows):
        for j, d in enumerate(row):
            if not (d == 10 if i == j else 10 < d <= 254):
                raise ValueError(f"distances[{i}][{j}] = {d}: 10 from a node to itself, 11 to 254 to another")
    return rows
