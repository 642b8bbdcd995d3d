"""Replay an ftrace recording of the `kmem` events on `PageAllocModel`, predicting every page that was handed out.

Models what the text of a trace leaves out: pages taken by `alloc_pages_bulk` (no event), the moment at which a freed
page reaches its list, interrupts between an allocation and its event, kswapd lowering the pcp limit.

Two stages. `convert` needs no allocator state: it orders events by the moment at which they acted on the allocator and
attaches what is local to one operation (pages refilled, pages drained, pageblocks claimed). `TraceReplay` runs the
rows and decides what only state can decide. Predictions run free: a wrong one is never corrected from the recording,
a page is then known by the recorded PFN in `held`.

Usage: python trace_replay.py [--no-inference] DIR...
"""

import io
import json
import re
import sys
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

import zstandard
from page_alloc import (
    COSTLY_ORDER,
    UNMOVABLE,
    WMARK_LOW,
    ZONE_NAMES,
    ZONE_RECLAIM_ACTIVE,
    PageAllocModel,
    gfp_zone,
    order_to_pindex,
    pcp_allowed_order,
    pindex_to_order,
)

LINE = re.compile(r"^\s*(.+)-(\d+)\s+\[(\d+)\] (\S+)\s+(\d+)\.(\d+): (\w+): (.*)$")
EVENTS = {"mm_page_alloc": "alloc", "mm_page_free": "free", "mm_page_free_batched": "batched",
          "mm_page_alloc_zone_locked": "refill", "mm_page_pcpu_drain": "drain", "mm_page_alloc_extfrag": "extfrag"}
GFP_NAMES = {"none": 0, "GFP_KERNEL_ACCOUNT": 0x400CC0, "GFP_NOFS": 0xC40, "GFP_NOIO": 0xC00, "GFP_DMA": 0x1,
             "GFP_DMA32": 0x4, "__GFP_RECLAIM": 0xC00}
BATCH_LOOK = 4096  # rows: the longest batch of frees; release_pages hands over at most some hundred pages
IRQ_LOOK = 256  # rows: the longest visit of an interrupt between an allocation and its event
PCP_LOCK_DEPTH = 3  # preempt depth of an interrupt that came inside the pcp lock (2); it must free to the buddy lists
STACK_PAGES = 4  # a kernel stack: what hidden bulk allocations nearly always are


@dataclass(slots=True)
class Row:
    """One operation. `drained` is in pages, `refilled` the PFNs of the blocks that came from the buddy lists."""

    op: str
    time_us: int
    cpu: int
    in_irq: bool
    depth: int
    task: str
    pid: int
    order: int
    migratetype: int
    gfp: int
    pfn: int
    refilled: list = field(default_factory=list)
    claims: list = field(default_factory=list)
    drained: int = 0
    past_pcp: bool = False
    done: bool = False


# ---- stage 1: text to rows ------------------------------------------------------------------------------------------


def gfp_mask(text, config):
    mask = 0
    for name in text.split("|"):
        mask |= int(name, 16) if name.startswith("0x") else config[name] if name in config else GFP_NAMES[name]
    return mask


def parse(lines, config, counts):
    """Yield a Row for each line; the stray copy of a later event that may stand first is dropped."""
    masks, first = {}, None
    for line in lines:
        match = LINE.match(line)
        if not match:
            counts["comments" if line.startswith("#") else "lines not understood"] += 1
            continue
        task, pid, cpu, context, seconds, micros, name, rest = match.groups()
        values = dict(item.split("=", 1) for item in rest.split() if "=" in item)
        gfp = values.get("gfp_flags", "none")
        if gfp not in masks:
            masks[gfp] = gfp_mask(gfp, config)
        row = Row(EVENTS.get(name, name), int(seconds) * 1000000 + int(micros), int(cpu), context[2] not in ".-",
                  int(context[3], 16) if context[3] not in ".-" else 0, task, int(pid),
                  int(values.get("order", values.get("alloc_order", 0))),
                  int(values.get("migratetype", values.get("alloc_migratetype", 0))), masks[gfp],
                  int(values.get("pfn", "0"), 16))
        if row.op == "extfrag":
            row.claims = [int(values["change_ownership"])]
        if first is None:
            first = row
            continue
        if first:
            if first.time_us > row.time_us:
                counts["stray first line"] += 1
            else:
                yield first
            first = False
        yield row


def settle_frees(rows):
    """Put each free where its page reaches a list: at its batched event if it has one.

    Batches announce all their pages first (a run of frees on that CPU) and then insert them one by one. So at the
    first event after a run: if it is a batched one, the run from its page on is the batch, all before are single.
    """
    run, batch = {}, {}
    for row in rows:
        if row.op == "free":
            run.setdefault(row.cpu, []).append(row)
            continue
        mine = run.setdefault(row.cpu, [])
        if row.op == "batched":
            start = next((i for i, free in enumerate(mine) if free.pfn == row.pfn and free.order == 0), None)
            if start is not None:
                for free in mine[start:]:
                    if free.order == 0 and free.in_irq == row.in_irq:
                        batch[free.pfn] = free
            free = batch.pop(row.pfn, None)
            if free:
                free.done = True  # happens here and not at its own place
            row.op = "free"
        mine.clear()
    return [row for row in rows if not row.done]


def attach(rows):
    """Attach refills and claims to the operation that caused them, drains to the free before them.

    The zone lock was taken where refills and drains stand, so what caused them acts there.
    A run of refills of one list belongs to the next allocation on that CPU in the same context if that allocation got
    the run's first page (the list was empty, so the head is the first refilled); it then acts where the run stands.
    Any other run was caused by a bulk allocation, which has no event of its own.
    """
    out, position = [], {}
    streams = {}
    for row in rows:
        position[id(row)] = len(streams.setdefault(row.cpu, []))
        streams[row.cpu].append(row)
    for row in rows:
        if row.done:
            continue
        if row.op in ("refill", "extfrag"):
            out.append(take_run(streams[row.cpu], position[id(row)]))
        elif row.op == "drain":
            cause = drain_cause(streams[row.cpu], position[id(row)])
            cause.done = True
            out.append(cause)
        elif row.op != "free" or not drains_follow(streams[row.cpu], position[id(row)]):
            out.append(row)
    return out


def take_run(stream, at):
    first, refills, claims = stream[at], [], []
    owner = None
    for row in stream[at:at + BATCH_LOOK]:
        if row.done or (row.in_irq and not first.in_irq):
            continue
        if row.op == "extfrag":
            claims += row.claims
        elif row.op == "refill" and (not refills or (row.order, row.migratetype) == (first.order, first.migratetype)):
            if not refills:
                first = row
            refills.append(row.pfn)
        else:
            if row.op == "alloc" and refills and row.pfn == refills[0] and row.order == first.order:
                owner = row
            break
        row.done = True
    if owner is None:
        owner = first
        owner.op = "bulk"
    owner.done = True
    owner.past_pcp = len(refills) == 1 and first.depth - owner.depth == 1 and pcp_allowed_order(owner.order)
    owner.refilled, owner.claims = refills, claims
    return owner


def drains_follow(stream, at):
    """Whether this free's drain comes next; it then acts where the drain stands: it may have waited for the lock."""
    free = stream[at]
    for row in stream[at + 1:at + IRQ_LOOK]:
        if not row.in_irq or free.in_irq:
            return row.op == "drain" and row.in_irq == free.in_irq
    return False


def drain_cause(stream, at):
    """Count the blocks of a run of drains with the free before it; a run without one is a row of its own."""
    before, first = at - 1, stream[at]
    while before >= 0 and stream[before].in_irq and not first.in_irq:
        before -= 1
    cause = stream[before] if before >= 0 and stream[before].op == "free" else first
    if cause is first:
        cause.op = "drained"
    for row in stream[at:]:
        if row.in_irq and not first.in_irq:
            continue
        if row.op != "drain" and row is not first:
            break
        cause.drained += 1 << row.order
        row.done = True
    return cause


def bracket_kswapd(rows):
    """Follow each kswapd_wake (the start of a run) with a row `kswapd_end` behind the last event of that run."""
    started, last, out = {}, {}, []
    ends = {}
    for at, row in enumerate(rows):
        if not row.task.startswith("kswapd"):
            continue
        if row.op in ("mm_vmscan_kswapd_wake", "mm_vmscan_kswapd_sleep"):
            if row.task in started:
                ends.setdefault(last[row.task], []).append(row.task)
                del started[row.task]
            if row.op == "mm_vmscan_kswapd_wake":
                started[row.task] = at
        last[row.task] = at
    for task in started:
        ends.setdefault(last[task], []).append(task)
    for at, row in enumerate(rows):
        out.append(row)
        if at in ends:
            out.append(Row("kswapd_end", row.time_us, row.cpu, False, 0, row.task, row.pid, 0, 0, 0, 0))
    return out


def convert(lines, config, counts):
    return attach(bracket_kswapd(settle_frees(list(parse(lines, config, counts)))))


# ---- stage 2: rows on the model -------------------------------------------------------------------------------------


class TraceReplay:
    """Runs rows on a model. Without `inference` nothing hidden is guessed: how far do the visible events alone get?"""

    def __init__(self, folder, inference=True):
        self.folder = Path(folder)
        self.meta = json.loads((self.folder / "meta.json").read_text())
        self.fields = self.meta["fields"]
        self.model = PageAllocModel.from_snapshot(self.folder / "snap-before.npz", self.fields, self.meta["cpu_node"])
        self.model.claims_pageblock = self.recorded_claim
        self.inference = inference
        self.held, self.counts, self.inferred, self.claims = {}, Counter(), Counter(), deque()
        self.first_miss, self.reclaimers, self.began = None, {}, {}
        self.noted_boost, self.kswapd_done = {}, {}

    def recorded_claim(self, start_type, old_type, free, movable):
        if self.claims:
            return bool(self.claims.popleft())
        self.counts["claims not recorded"] += 1
        return self.model.has_enough_alike(start_type, old_type, free, movable)

    def pcp_list(self, zone, cpu, order, migratetype):
        return zone.pcp[cpu].lists[order_to_pindex(migratetype, order)]

    def take_hidden(self, zone, cpu, migratetype, pages, why):
        """Let a bulk allocation that the trace does not show take single pages from a CPU's list."""
        self.counts["inferences: " + why] += pages > 0
        for _ in range(pages):
            pfn = self.model._PageAllocModel__rmqueue_pcplist(zone, cpu, 0, migratetype, WMARK_LOW)
            if pfn is None:
                break
            self.inferred[why] += 1
            self.model.count_event(cpu, "pgalloc_" + ZONE_NAMES[zone.idx], 1)

    def infer_before_alloc(self, row):
        """A refill means that the list was empty, a page below the head that those above are gone."""
        if row.order or not row.pfn or row.past_pcp:
            return
        zone = self.model.zone_of(row.pfn)
        pages = self.pcp_list(zone, row.cpu, 0, row.migratetype)
        if row.refilled:
            self.take_hidden(zone, row.cpu, row.migratetype, len(pages), "list was empty")
        elif pages and pages[0] != row.pfn and row.pfn in pages:
            self.take_hidden(zone, row.cpu, row.migratetype, pages.index(row.pfn), "below the head")

    def alloc(self, row):
        row.done = True
        self.claims = deque(row.claims)
        forced = False
        if self.inference:
            forced = not self.settle_zone(row)
            self.infer_before_alloc(row)
        if row.past_pcp:
            pfn = self.alloc_past_pcp(row)
        elif forced:
            pfn = self.alloc_in_recorded_zone(row)
        elif self.reclaimers.pop(row.pid, None) == "ended":
            pfn = self.try_again(row.gfp, row.order, row.cpu)
        else:
            pfn = self.model.alloc_pages(row.gfp, row.order, row.cpu)
        recorded = row.pfn or None
        self.counts["allocations"] += 1
        self.counts["equal"] += pfn == recorded
        if pfn == recorded:
            return
        self.first_miss = self.first_miss or (self.counts["allocations"], row, pfn)
        if pfn is not None and recorded is None:
            self.model.free_pages(pfn, row.order, row.cpu)
        elif recorded is not None:
            self.held[recorded] = pfn

    def bulk(self, row):
        """A refill that no allocation owns: the list ran empty and at least one page more was taken."""
        self.claims = deque(row.claims)
        if not self.inference:
            return
        if row.order:
            self.counts["bulk of order > 0"] += 1
            return
        zone = self.model.zone_of(row.pfn)
        pages = self.pcp_list(zone, row.cpu, 0, row.migratetype)
        self.take_hidden(zone, row.cpu, row.migratetype, len(pages) + 1, "refill without owner")

    def infer_before_free(self, row, zone):
        """Compare the drain that the model would do with the recorded one; hidden pages make ours larger."""
        pcp = zone.pcp[row.cpu]
        count = pcp.count + (1 << row.order)
        if pcp.free_factor and 1 <= row.order <= COSTLY_ORDER:
            if 0 < row.drained < count:
                self.take_hidden(zone, row.cpu, UNMOVABLE, count - row.drained, "drain of all was smaller")
            return
        active = bool(zone.flags & ZONE_RECLAIM_ACTIVE)
        ours, other = (self.drain_size(pcp, count, a) for a in (active, not active))
        if abs(other - row.drained) < abs(ours - row.drained):
            zone.flags ^= ZONE_RECLAIM_ACTIVE
            self.counts["kswapd inferred " + ("idle" if active else "active")] += 1
        elif ours and not row.drained:
            missing = count - pcp.high + 1
            self.take_hidden(zone, row.cpu, UNMOVABLE, -(-missing // STACK_PAGES) * STACK_PAGES, "no drain")

    def drain_size(self, pcp, count, active):
        """Pages that a free drains when kswapd is active in the zone or not."""
        high = min(4 * pcp.batch, pcp.high) if active else pcp.high
        if count < high:
            return 0
        return 1 if high < pcp.batch else min(pcp.batch << pcp.free_factor, high - pcp.batch)

    def free(self, row):
        pfn = self.held.pop(row.pfn, row.pfn)
        if pfn is None:
            self.counts["free of a page the model refused"] += 1
            return
        zone = self.model.zone_of(pfn)
        if self.is_free(pfn, row.order):
            self.counts["free of a free page"] += 1
            return
        if row.in_irq and row.depth >= PCP_LOCK_DEPTH and pcp_allowed_order(row.order):
            self.counts["frees past a locked pcp"] += 1
            self.model.free_one_page(zone, row.cpu, pfn, row.order, self.model.block_type(pfn))
            return
        pages = self.pages_on_pcp_lists() + (1 << row.order)
        if pages > row.drained and self.inference and pcp_allowed_order(row.order):
            self.infer_before_free(row, zone)
        self.model.free_pages(pfn, row.order, row.cpu)
        kept = self.pages_on_pcp_lists()
        if row.drained and kept and row.drained == pages and pcp_allowed_order(row.order):
            self.drained(row)  # a task drained everything right after this free

    def pages_on_pcp_lists(self):
        return sum(pcp.count for zone in self.model.zones.values() for pcp in zone.pcp.values())

    def is_free(self, pfn, order):
        """Whether the model holds any page of the block for free already (it diverged, or a page is hidden)."""
        end = pfn + (1 << order)
        for size in range(11):
            head = pfn & -(1 << size)
            if self.model.buddy.get(head, (-1,))[0] >= size:
                return True
        if order and any(page in self.model.buddy for page in range(pfn, end)):
            return True
        for pcp in self.model.zone_of(pfn).pcp.values():
            for pindex, pages in enumerate(pcp.lists):
                size = 1 << pindex_to_order(pindex)
                if pages and (pfn & -size in pages or (order and any(pfn <= page < end for page in pages))):
                    return True
        return False

    def alloc_seen_late(self, rows, at):
        """An interrupt may come between an allocation and its event: run the allocation first if it got the head."""
        cpu = rows[at].cpu
        for row in rows[at + 1:at + IRQ_LOOK]:
            if row.cpu == cpu and not row.in_irq:
                if row.op == "alloc" and not row.done and not row.refilled and pcp_allowed_order(row.order) and row.pfn:
                    pages = self.pcp_list(self.model.zone_of(row.pfn), cpu, row.order, row.migratetype)
                    if pages and pages[0] == row.pfn:
                        self.counts["allocations before an interrupt"] += 1
                        self.alloc(row)
                return

    def try_again(self, gfp, order, cpu):
        """One more attempt of an allocation that is in the slow path already."""
        flags = self.model.gfp_to_alloc_flags(gfp, order)
        return self.model.get_page_from_freelist(gfp, order, cpu, self.model.cpu_node[cpu], flags)

    def reclaim_begin(self, row):
        """The task comes here after failed attempts, which have halved free_factor."""
        if row.pid in self.reclaimers:
            pfn = self.try_again(row.gfp, row.order, row.cpu)
        else:
            pfn = self.model.alloc_pages(row.gfp, row.order, row.cpu)
        self.reclaimers[row.pid] = row
        if pfn is not None:
            self.counts["reclaim where the model had a page"] += 1
            self.model.free_pages(pfn, row.order, row.cpu)

    def reclaim_end(self, row):
        begin = self.reclaimers.get(row.pid)
        if begin:
            self.reclaimers[row.pid] = "ended"
            self.began[row.pid] = begin

    def drained(self, row):
        """A drain that no free caused: all lists of all CPUs by a task after reclaim, else of this CPU in one zone."""
        self.counts["drains without a free"] += 1
        zone = self.model.zone_of(row.pfn)
        everything = self.pages_on_pcp_lists()
        begin = self.began.get(row.pid) if self.reclaimers.get(row.pid) == "ended" else None
        if begin:
            if self.try_again(begin.gfp, begin.order, row.cpu) is not None:
                self.counts["drain where the model had a page"] += 1
            self.model.unreserve_highatomic_pageblock(begin.gfp, self.model.cpu_node[row.cpu], False)
        if begin or row.drained >= everything != zone.pcp[row.cpu].count:
            self.reclaimers[row.pid] = "ended"
            self.model.drain_all_pages(None, row.cpu)
        else:
            self.model.drain_pages_zone(zone, row.cpu)

    def kswapd_zones(self, nid):
        return [zone for key, zone in self.model.zones.items() if key[0] == nid]

    def kswapd_start(self, nid):
        """kswapd notes the boosts when it begins; what it noted it takes back when it ends."""
        self.kswapd_end(nid)
        self.kswapd_done[nid] = False
        for zone in self.kswapd_zones(nid):
            zone.flags |= ZONE_RECLAIM_ACTIVE
            self.noted_boost[zone] = zone.watermark_boost

    def kswapd_end(self, nid):
        if self.kswapd_done.get(nid) is False:
            self.kswapd_done[nid] = True
            for zone in self.kswapd_zones(nid):
                zone.flags &= ~ZONE_RECLAIM_ACTIVE
                zone.watermark_boost -= min(zone.watermark_boost, self.noted_boost[zone])

    def kswapd_not_yet_ended(self, nid):
        """Take an end back that was guessed too early."""
        self.kswapd_done[nid] = False
        for zone in self.kswapd_zones(nid):
            zone.flags |= ZONE_RECLAIM_ACTIVE
            zone.watermark_boost += self.noted_boost[zone]

    def expected_zone(self, row):
        """The zone that the watermarks choose: the low mark first, then the min mark."""
        nid, highest = self.model.cpu_node[row.cpu], gfp_zone(row.gfp)
        for flags in (WMARK_LOW, self.model.gfp_to_alloc_flags(row.gfp, row.order)):
            for zone in self.model.zones_for(row.gfp, nid):
                mark = zone.wmark[flags & 3] + zone.watermark_boost
                if self.model.zone_watermark_fast(zone, row.order, mark, highest, flags, row.gfp):
                    return zone
        return None

    def settle_zone(self, row):
        """Learn from the zone of a recorded page what no event shows; the mildest explanation is kept.

        In this order: vmstat has folded this CPU's counters, kswapd has ended or not yet ended, both, a boost was
        taken back by a run of kswapd that the trace does not show.
        """
        nid = self.model.cpu_node[row.cpu]
        zone = self.model.zone_of(row.pfn) if row.pfn else None
        if self.expected_zone(row) is zone:
            return True
        zones = self.kswapd_zones(nid)
        saved = [(z, z.watermark_boost, z.nr_free_pages, z.pcp[row.cpu].diff, z.flags) for z in zones]
        done, noted = self.kswapd_done.get(nid), dict(self.noted_boost)
        for fold, kswapd, no_boost in ((1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 1), (1, 0, 1)):
            if fold:
                self.fold_counters(zones, row.cpu)
            if kswapd and done is not None:
                (self.kswapd_not_yet_ended if done else self.kswapd_end)(nid)
            if no_boost:
                self.kswapd_start(nid)
                self.kswapd_end(nid)
            if self.expected_zone(row) is zone:
                self.counts["zone explained by" + " vmstat" * fold + " kswapd" * kswapd + " boost" * no_boost] += 1
                return True
            for z, boost, free_pages, diff, flags in saved:
                z.watermark_boost, z.nr_free_pages, z.pcp[row.cpu].diff, z.flags = boost, free_pages, diff, flags
            self.noted_boost.update(noted)
            self.kswapd_done[nid] = done
        self.counts["zone taken from the recording"] += 1
        return False

    def alloc_in_recorded_zone(self, row):
        """Last resort where the watermarks of the model and of the recording disagree."""
        self.reclaimers.pop(row.pid, None)
        if not row.pfn:
            return None
        flags = self.model.gfp_to_alloc_flags(row.gfp, row.order)
        return self.model.rmqueue(self.model.zone_of(row.pfn), row.cpu, row.order, row.migratetype, flags)

    def alloc_past_pcp(self, row):
        """The CPU's lists were locked (interrupt, remote drain): the page came straight from the buddy lists."""
        self.counts["allocations past a locked pcp"] += 1
        self.reclaimers.pop(row.pid, None)
        zone, flags = self.model.zone_of(row.pfn), self.model.gfp_to_alloc_flags(row.gfp, row.order)
        self.model.count_event(row.cpu, "pgalloc_" + ZONE_NAMES[zone.idx], 1 << row.order)
        return self.model.rmqueue_buddy(zone, row.cpu, row.order, row.migratetype, flags)

    def fold_counters(self, zones, cpu):
        for zone in zones:
            zone.nr_free_pages += zone.pcp[cpu].diff
            zone.pcp[cpu].diff = 0

    def run(self, lines=None):
        rows = convert(lines or read_lines(self.folder), self.meta["config"], self.counts)
        for row in rows:
            row.done = False
        for at, row in enumerate(rows):
            if row.done:
                continue
            if row.in_irq and self.inference:
                self.alloc_seen_late(rows, at)
            if row.op == "alloc":
                self.alloc(row)
            elif row.op == "free":
                self.free(row)
            elif row.op == "bulk":
                self.bulk(row)
            elif row.op == "drained":
                self.drained(row)
            elif row.op == "mm_vmscan_direct_reclaim_begin":
                self.reclaim_begin(row)
            elif row.op == "mm_vmscan_direct_reclaim_end":
                self.reclaim_end(row)
            elif row.op == "mm_vmscan_kswapd_wake":
                self.kswapd_start(int(row.task[len("kswapd"):]))
            elif row.op == "kswapd_end":
                self.kswapd_end(int(row.task[len("kswapd"):]))
        return self.model.compare_snapshot(self.folder / "snap-after.npz", self.fields)


def read_lines(folder):
    raw = zstandard.ZstdDecompressor(max_window_size=1 << 28).stream_reader(open(folder / "trace.txt.zst", "rb"))
    return io.TextIOWrapper(io.BufferedReader(raw, 1 << 20), errors="replace")


def main(arguments):
    for folder in (a for a in arguments if not a.startswith("--")):
        replay = TraceReplay(folder, "--no-inference" not in arguments)
        found = replay.run()
        total, equal = replay.counts["allocations"], replay.counts["equal"]
        inferred = sum(replay.inferred.values())
        print(f"{replay.folder.name}: {equal}/{total} PFNs equal ({equal / total:.4%}), {inferred} pages inferred "
              f"({inferred / total:.3%}), {len(found)} differences at the end")
        print("  ", dict(replay.inferred), dict(replay.counts))
        if replay.first_miss:
            print("   first miss:", replay.first_miss)


if __name__ == "__main__":
    main(sys.argv[1:])
