"""Random operations on random machines, with the whole state audited again and again.

Linux: none.  A round is one seed: it draws a machine (nodes, zones, holes, CPUs, limits), runs operations on it, legal
and illegal, and checks after every stretch that the audit is clean and no page is lost or handed out twice.  At its
end everything is freed and the free lists must have the blocks they began with.  The same seed gives the same round.
A build with MM_CANARY=1, which breaks a merge rule, must not survive.
"""

import dataclasses
import random
import time

import numpy as np

from mm._fast.gfp import gfp_masks
from mm._fast.machine_core import MachineCore
from mm._fast.state import mm_limits, zone_type
from mm.errors import AllocationFailed, BadFree, VMBug

MAX_ORDER = int(mm_limits.MAX_ORDER)
BLOCK = int(mm_limits.MAX_ORDER_NR_PAGES)
MAX_NR_ZONES = int(mm_limits.MAX_NR_ZONES)
RECLAIMABLE = 0x10
GFPS = [int(gfp_masks[name]) for name in ("GFP_KERNEL", "GFP_ATOMIC", "GFP_NOWAIT", "GFP_HIGHUSER_MOVABLE", "GFP_USER",
                                          "GFP_DMA32", "GFP_TRANSHUGE_LIGHT")]
GFPS.append(GFPS[0] | RECLAIMABLE)
STRETCH = 200           # operations between two audits
STRETCHES = 20          # a round


@dataclasses.dataclass
class FuzzResult:
    """What a fuzz run found.

    Attributes
    ----------
    first_seed, rounds, operations : int
    failure : str or None
        The first broken rule, with the seed that shows it again.
    """

    first_seed: int
    rounds: int = 0
    operations: int = 0
    failure: str | None = None

    def __str__(self):
        done = f"{self.rounds} rounds, {self.operations} operations, first seed {self.first_seed}"
        return f"FAILED: {self.failure} ({done})" if self.failure else f"no broken invariant in {done}"


def fuzz(seconds=10.0, seed=None, rounds=None, on_round=None):
    """Run rounds until the time is over, `rounds` are done, or an invariant is broken.

    Parameters
    ----------
    seconds : float
        A round that has begun is finished.
    seed : int, optional
        Seed of the first round; the next has the next number.  None: a fresh one.
    rounds : int, optional
    on_round : callable, optional
        Called with a line of text before each round.

    Returns
    -------
    FuzzResult
    """
    first = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    result = FuzzResult(first)
    end = time.monotonic() + seconds
    while time.monotonic() < end and (rounds is None or result.rounds < rounds):
        number = first + result.rounds
        if on_round is not None:
            on_round(f"round {result.rounds}, seed {number}")
        this = Round(number)
        try:
            this.run()
        except (VMBug, AssertionError) as error:
            result.failure = f"seed {number}, operation {this.nr_operations} ({this.last}): {error}"
        result.rounds += 1
        result.operations += this.nr_operations
        if result.failure:
            break
    return result


def draw_machine(rng):
    """A small machine with one or two nodes, one to three zones, holes and reserved pages."""
    nr_nodes, nr_cpus = rng.choice((1, 1, 2)), rng.choice((1, 2, 4))
    cpu_node = sorted(rng.randrange(nr_nodes) for _ in range(nr_cpus))
    sizes = [rng.randrange(6, 20) * BLOCK for _ in range(nr_nodes)]
    core = MachineCore(sum(sizes), nr_nodes, nr_cpus, cpu_node)
    core.pageblock_flags[:] = 1
    start = 0
    for nid, size in enumerate(sizes):
        cut = rng.choice((0, rng.randrange(1, size // BLOCK) * BLOCK)) if nid == 0 else 0
        if cut:
            _fill_zone(rng, core, nid, zone_type.ZONE_DMA32, start, start + cut)
        _fill_zone(rng, core, nid, zone_type.ZONE_NORMAL, start + cut, start + size)
        start += size
    _fill_nodes(core, cpu_node)
    core.start()
    for first, last in _ranges(core, rng):
        core.free_range_to_buddy(first, last)
    core.zones["vm_stat"][:, 0] += core.pageset["vm_stat_diff"][:, :, 0].sum(axis=1)
    core.pageset["vm_stat_diff"] = 0
    return core


def _fill_zone(rng, core, nid, zid, start, end):
    nr = nid * MAX_NR_ZONES + int(zid)
    zone = core.zones[nr:nr + 1]
    low = rng.randrange(16, 600)
    batch = rng.choice((1, 7, 31, 63))
    zone["zone_start_pfn"], zone["spanned_pages"] = start, end - start
    zone["watermark"] = [low, low + low // 4, low + low // 2, low * 2]
    zone["pageset_batch"], zone["pageset_high"] = batch, rng.choice((0, batch * 2, batch * 6))
    core.pageset["batch"][nr], core.pageset["high"][nr] = zone["pageset_batch"], zone["pageset_high"]
    core.pageset["stat_threshold"][nr] = rng.choice((0, 4, 32))
    core.init_page_range(start, end, nr)


def _fill_nodes(core, cpu_node):
    nr_nodes = len(core.nodes)
    for nid in range(nr_nodes):
        core.nodes["is_online"][nid] = 1
        core.nodes["nr_cpus"][nid] = cpu_node.count(nid)
        own = [nr for nr in _populated(core)[::-1] if nr // MAX_NR_ZONES == nid]
        others = [nr for nr in _populated(core)[::-1] if nr // MAX_NR_ZONES != nid]
        core.zonelists[nid, 0, :len(own + others)] = own + others
        core.zonelists[nid, 1, :len(own)] = own
    core.g["watermark_boost_factor"], core.g["gfp_allowed_mask"] = 15000, 0xffffffff


def _populated(core):
    return np.flatnonzero(core.zones["spanned_pages"]).tolist()


def _ranges(core, rng):
    """The page ranges to hand to the allocator: each zone without some holes, which stay reserved."""
    for nr in _populated(core):
        at = int(core.zones["zone_start_pfn"][nr])
        end = at + int(core.zones["spanned_pages"][nr])
        managed = 0
        while at < end:
            stop = min(end, at + rng.randrange(1, 12 * BLOCK))
            yield at, stop
            managed += stop - at
            at = min(end, stop + rng.choice((0, 1, 3, 64, 600)))
            core.init_page_range(stop, at, nr, is_reserved=True)
        core.zones["present_pages"][nr] = core.zones["spanned_pages"][nr]
        core.zones["managed_pages"][nr] = managed


class Round:
    """One seed: a machine, what is allocated on it, and the operations.

    Parameters
    ----------
    seed : int
    """

    OPERATIONS = (*["alloc", "free"] * 4, "bulk", "free_list", "split", "drain", "contig_range", "contig_pages",
                  "bad_free", "bad_alloc")

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.core = draw_machine(self.rng)
        self.held = []
        self.nr_operations = 0
        self.last = "boot"

    def run(self):
        """All operations of the round; raises VMBug or AssertionError at the first broken rule."""
        self.check()
        blocks = self.core.zones["nr_free"].copy()
        for _ in range(STRETCHES):
            for _ in range(STRETCH):
                self.last = self.rng.choice(self.OPERATIONS)
                getattr(self, "do_" + self.last)()
                self.nr_operations += 1
            self.check()
        self.last = "free everything"
        while self.held:
            self.do_free()
        for cpu in range(len(self.core.cpu_node)):
            self.core.drain_local_pages(cpu)
        self.check()
        if not self.core.zones["nr_reserved_highatomic"].any():
            assert np.array_equal(self.core.zones["nr_free"], blocks), \
                f"blocks by zone and order were {blocks.tolist()}, are {self.core.zones['nr_free'].tolist()}"

    def check(self):
        """The audit, and no page lost."""
        self.core.verify()
        free = int((self.core.zones["nr_free"] << np.arange(MAX_ORDER)).sum() + self.core.pageset["count"].sum())
        held = sum(1 << order for _, order in self.held)
        managed = int(self.core.zones["managed_pages"].sum())
        assert free + held == managed, f"{free} pages free and {held} held of {managed}"

    def cpu(self):
        """A random CPU."""
        return self.rng.randrange(len(self.core.cpu_node))

    def node(self):
        """A random node, or None for the CPU's own."""
        return self.rng.choice((None, self.rng.randrange(len(self.core.nodes))))

    def take(self):
        """A held block, no longer held; None if there is none."""
        if not self.held:
            return None
        at = self.rng.randrange(len(self.held))
        self.held[at], self.held[-1] = self.held[-1], self.held[at]
        return self.held.pop()

    def do_alloc(self):
        """One block."""
        order = min(int(self.rng.expovariate(0.8)), MAX_ORDER - 1)
        try:
            self.held.append((self.core.alloc_pages(self.rng.choice(GFPS), order, self.cpu(), self.node()), order))
        except AllocationFailed:
            self.do_free()

    def do_free(self):
        """One block."""
        block = self.take()
        if block:
            self.core.free_pages(*block, self.cpu())

    def do_bulk(self):
        """Some order-0 pages in one go."""
        pfns = self.core.alloc_pages_bulk(self.rng.choice(GFPS), self.rng.randrange(200), self.cpu(), self.node())
        self.held += [(pfn, 0) for pfn in pfns.tolist()]

    def do_free_list(self):
        """Order-0 pages as a batch."""
        blocks = [self.take() for _ in range(min(len(self.held), self.rng.randrange(40)))]
        self.held += [block for block in blocks if block[1]]
        self.core.free_unref_page_list(np.array([pfn for pfn, order in blocks if not order], np.uint32), self.cpu())

    def do_split(self):
        """A block becomes single pages; compound ones are refused."""
        block = self.take()
        if not block:
            return
        pfn, order = block
        try:
            self.core.split_page(pfn, order)
        except ValueError:
            self.held.append(block)
        else:
            self.held += [(page, 0) for page in range(pfn, pfn + (1 << order))]

    def do_drain(self):
        """Empty a CPU's lists."""
        self.core.drain_local_pages(self.cpu())

    def do_contig_range(self):
        """A range by address; nearly always busy."""
        start = self.rng.randrange(len(self.core.cold)) & ~(self.rng.choice((1, 8, 512)) - 1)
        end = min(start + self.rng.randrange(1, 600), len(self.core.cold))
        try:
            self.core.alloc_contig_range(start, end, self.cpu())
        except OSError:
            return
        self.held += [(page, 0) for page in range(start, end)]

    def do_contig_pages(self):
        """A range anywhere."""
        n = self.rng.randrange(1, 1500)
        try:
            start = self.core.alloc_contig_pages(n, self.rng.choice(GFPS), self.node(), self.cpu())
        except AllocationFailed:
            return
        self.held += [(page, 0) for page in range(start, start + n)]

    def do_bad_free(self):
        """A free that must be refused."""
        pfn, order = self.rng.randrange(-5, len(self.core.cold) + 5), self.rng.randrange(MAX_ORDER)
        if any(start <= pfn < start + (1 << size) for start, size in self.held):
            return
        try:
            self.core.free_pages(pfn, order, self.cpu())
        except BadFree:
            return
        raise AssertionError(f"pfn {pfn} order {order} is not allocated and was freed")

    def do_bad_alloc(self):
        """Requests that do not exist."""
        wrong = self.rng.choice(({"order": MAX_ORDER}, {"order": -1}, {"cpu": len(self.core.cpu_node)},
                                 {"node": len(self.core.nodes)}, {"gfp": 1 << 32}, {"gfp": 0x6}))
        try:
            self.core.alloc_pages(**{"gfp": GFPS[0], **wrong})
        except ValueError:
            return
        raise AssertionError(f"alloc_pages({wrong}) was not refused")
