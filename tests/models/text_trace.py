"""Slow, obvious twin of the text converter: regular expressions, whole text in memory, dictionaries.

It knows the ftrace and perf shapes of the recordings only, and looks ahead without a window.  test_convert.py compares.
"""

import re
from typing import NamedTuple

LINE = re.compile(
    rb"^ *(?P<comm>.*?)[- ] *(?P<pid>\d+) +(?:\( *[-\d]+\) )?\[(?P<cpu>\d+)\] +(?:(?P<flags>[\w.#]{4,8}) +)?"
    rb"(?P<time>\d+\.\d+): +(?:\w+:)?(?P<event>\w+):(?: |$)(?P<payload>.*)$")
LOST = re.compile(rb"^CPU:(\d+) \[LOST (\d+) EVENTS\]$")
ORDER_MAX = 20


class Event(NamedTuple):
    name: str
    pfn: int
    order: int
    cpu: int
    time_ns: int
    fields: dict


class Row(NamedTuple):
    op: str
    pfn: int
    order: int
    cpu: int
    handle: int         # never used twice here; -1 none
    kind: str           # "", "lost", "unknown": of a free
    upper: int = -1     # of a split: the upper half's handle


def parse(text):
    """Events of the text, ("gap", cpu, count) for a loss, in order; everything else is passed over."""
    events = []
    for line in text.split(b"\n"):
        lost = LOST.match(line)
        if lost:
            events.append(Event("gap", int(lost[2]), 0, int(lost[1]), 0, {}))
            continue
        found = LINE.match(line)
        if not found:
            continue
        fields = dict(part.split(b"=", 1) for part in found["payload"].replace(b",", b" ").split() if b"=" in part)
        pfn = fields.get(b"pfn", b"0")
        seconds, fraction = found["time"].split(b".")
        time_ns = int(seconds) * 10**9 + int(fraction.ljust(9, b"0"))
        order = int(fields.get(b"order", b"0"))
        events.append(Event(found["event"].decode(), int(pfn, 0), order, int(found["cpu"]), time_ns, fields))
    return events


def withdraw_paired_frees(events):
    """Indices of the mm_page_free whose mm_page_free_batched comes later, and the order that the latter take over."""
    open_frees, paired, orders = {}, set(), {}
    for i, event in enumerate(events):
        if event.name == "mm_page_free":
            for pfn in range(event.pfn, event.pfn + (1 << event.order)):
                open_frees.pop(pfn, None)
            open_frees[event.pfn] = i
        elif event.name == "mm_page_free_batched" and event.pfn in open_frees:
            before = open_frees.pop(event.pfn)
            paired.add(before)
            orders[i] = events[before].order
        elif event.name == "mm_page_alloc" and event.pfn:
            for pfn in range(event.pfn, event.pfn + (1 << event.order)):
                open_frees.pop(pfn, None)
    return paired, orders


class Pages:
    """Who holds what: first page -> (handle, order)."""

    def __init__(self):
        self.held = {}
        self.next_handle = 0
        self.rows = []

    def handle(self):
        self.next_handle += 1
        return self.next_handle - 1

    def cover(self, pfn):
        for order in range(ORDER_MAX + 1):
            head = pfn & ~((1 << order) - 1)
            if head in self.held and self.held[head][1] >= order:
                return head
        return None

    def lose(self, pfn, order, cpu):
        """Frees that were lost: of what covers pfn from before it, then of what starts in the block."""
        head = self.cover(pfn)
        heads = {head} if head is not None and head != pfn else set()
        heads |= {at for at in range(pfn, pfn + (1 << order)) if at in self.held}
        for head in sorted(heads):
            handle, held_order = self.held.pop(head)
            self.rows.append(Row("free", head, held_order, cpu, handle, "lost"))

    def alloc(self, event):
        if event.pfn == 0:
            self.rows.append(Row("alloc", 0, event.order, event.cpu, -1, ""))
            return
        self.lose(event.pfn, event.order, event.cpu)
        handle = self.handle()
        self.held[event.pfn] = handle, event.order
        self.rows.append(Row("alloc", event.pfn, event.order, event.cpu, handle, ""))

    def free(self, event, order):
        """Appends the free's row and returns its place."""
        head = self.cover(event.pfn)
        while head is not None and self.held[head][1] > order:
            handle, held_order = self.held[head]
            middle = head + (1 << (held_order - 1))
            self.held[head] = handle, held_order - 1
            upper = self.handle()
            self.held[middle] = upper, held_order - 1
            self.rows.append(Row("split", middle, held_order - 1, event.cpu, handle, "", upper))
            head = self.cover(event.pfn)
        found = self.held.pop(event.pfn, None)
        handle, kind = (found[0], "") if found else (self.handle(), "unknown")
        if order:
            self.lose(event.pfn, order, event.cpu)
        self.rows.append(Row("free", event.pfn, order, event.cpu, handle, kind))


OPS = {"mm_page_alloc_zone_locked": "refill", "mm_page_pcpu_drain": "drain", "mm_page_alloc_extfrag": "extfrag",
       "mm_vmscan_kswapd_wake": "reclaim begin", "mm_vmscan_direct_reclaim_begin": "reclaim begin",
       "mm_vmscan_kswapd_sleep": "reclaim end", "mm_vmscan_direct_reclaim_end": "reclaim end",
       "mm_compaction_begin": "compaction begin", "mm_compaction_end": "compaction end", "gap": "gap"}


def convert(text):
    """Rows of a text whose lines are all in order: no stray first line.

    Handles are settled at mm_page_free, rows stand at mm_page_free_batched.
    """
    events = parse(text)
    paired, orders = withdraw_paired_frees(events)
    pages = Pages()
    moved = {}
    for i, event in enumerate(events):
        if event.name == "mm_page_alloc":
            pages.alloc(event)
        elif event.name == "mm_page_free":
            pages.free(event, event.order)
            if i in paired:
                moved[event.pfn] = pages.rows.pop()
        elif event.name == "mm_page_free_batched":
            if i in orders:
                pages.rows.append(moved.pop(event.pfn)._replace(cpu=event.cpu))
            else:
                pages.free(event, 0)
        elif event.name in OPS:
            pages.rows.append(Row(OPS[event.name], event.pfn, event.order, event.cpu, -1, ""))
    return pages.rows
