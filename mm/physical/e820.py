"""e820: the firmware's map of physical memory.

Linux: arch/x86/kernel/e820.c, trim_bios_range of setup.c.
Modelled: the types; resolving overlaps (the higher type wins); changing and removing ranges; the page 0 and BIOS area
rules; what becomes memory in memblock; the map of a QEMU PC of any size; maps given as ranges or as /proc/iomem text.
Not modelled: EFI maps, memmap= options, setup_data, MTRR trimming.
Invariants: after update_table entries are sorted and disjoint, and neighbours differ in type (but for types that the
kernel never joins).  Cost: a sort of the entries; addresses and sizes are bytes.
"""

import enum
import itertools
import re
import typing

from mm.physical.memblock import PAGE_SIZE

MAX_ADDR = 1 << 64
BIOS_BEGIN, BIOS_END = 0xA0000, 0x100000
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class e820_type(enum.IntEnum):
    """Kinds of ranges, values of Linux; of two that overlap the higher one wins."""

    E820_TYPE_RAM = 1
    E820_TYPE_RESERVED = 2
    E820_TYPE_ACPI = 3
    E820_TYPE_NVS = 4
    E820_TYPE_UNUSABLE = 5
    E820_TYPE_PMEM = 7
    E820_TYPE_PRAM = 12
    E820_TYPE_RESERVED_KERN = 128
    E820_TYPE_SOFT_RESERVED = 0xEFFFFFFF


E820_TYPE_RAM, E820_TYPE_RESERVED = e820_type.E820_TYPE_RAM, e820_type.E820_TYPE_RESERVED

# What /proc/iomem calls a type; dmesg's word for it.  Two types are called System RAM: the first is meant.
IOMEM_NAMES = {
    "System RAM": e820_type.E820_TYPE_RAM, "Reserved": e820_type.E820_TYPE_RESERVED,
    "ACPI Tables": e820_type.E820_TYPE_ACPI, "ACPI Non-volatile Storage": e820_type.E820_TYPE_NVS,
    "Unusable memory": e820_type.E820_TYPE_UNUSABLE, "Persistent Memory": e820_type.E820_TYPE_PMEM,
    "Persistent Memory (legacy)": e820_type.E820_TYPE_PRAM, "Soft Reserved": e820_type.E820_TYPE_SOFT_RESERVED,
}
DMESG_NAMES = {
    e820_type.E820_TYPE_RAM: "usable", e820_type.E820_TYPE_RESERVED_KERN: "usable",
    e820_type.E820_TYPE_RESERVED: "reserved", e820_type.E820_TYPE_ACPI: "ACPI data",
    e820_type.E820_TYPE_NVS: "ACPI NVS", e820_type.E820_TYPE_UNUSABLE: "unusable",
    e820_type.E820_TYPE_PMEM: "persistent (type 7)", e820_type.E820_TYPE_PRAM: "persistent (type 12)",
    e820_type.E820_TYPE_SOFT_RESERVED: "soft reserved",
}
# Types whose borders say something (domains of performance or protection): never joined (e820_nomerge).
NOMERGE = frozenset({e820_type.E820_TYPE_PRAM, e820_type.E820_TYPE_SOFT_RESERVED})

SIZE = re.compile(r"\s*(0x[0-9a-f]+|\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?\s*", re.IGNORECASE | re.ASCII)
SUFFIXES = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50}


def memparse(size):
    """Bytes of a size given as an int or as text such as "16G", "512MiB" or "0x1000"; suffixes are powers of 1024.

    Raises
    ------
    ValueError
        Neither, or a negative size.
    """
    if isinstance(size, str):
        match = SIZE.fullmatch(size)
        if match:
            number, suffix = match[1], SUFFIXES[match[2].upper()]
            nr_bytes = int(number, 16) << suffix if number[:2] in ("0x", "0X") else _scaled(number, suffix)
            if nr_bytes is not None:
                return nr_bytes
    elif not isinstance(size, bool) and hasattr(size, "__index__") and size.__index__() >= 0:
        return size.__index__()
    raise ValueError(f"size {size!r}: bytes, or a number with K, M, G, T or P such as '16G'")


def _scaled(number, shift):
    """A decimal number times 2^shift if that is whole, else None."""
    whole, _, fraction = number.partition(".")
    scaled, rest = divmod(int(whole + fraction) << shift, 10 ** len(fraction))
    return None if rest else scaled


class E820Entry(typing.NamedTuple):
    """[addr, addr + size) bytes of one e820_type."""

    addr: int
    size: int
    type: e820_type

    @property
    def end(self):
        """First byte behind."""
        return self.addr + self.size


def _checked_entry(addr, size, kind):
    addr, size = memparse(addr), memparse(size)
    if addr + size > MAX_ADDR:
        raise ValueError(f"memory range of {size} bytes at {addr:#x}: reaches beyond the 64-bit address space")
    if isinstance(kind, str):
        names = {**IOMEM_NAMES, **{t.name[len("E820_TYPE_"):].lower(): t for t in e820_type}, "usable": E820_TYPE_RAM}
        if kind not in names:
            raise ValueError(f"memory type {kind!r}: one of {', '.join(names)}")
        kind = names[kind]
    try:
        return E820Entry(addr, size, e820_type(kind))
    except ValueError:
        raise ValueError(f"memory type {kind!r}: one of {', '.join(str(int(t)) for t in e820_type)}") from None


class E820Table:
    """The map.

    Parameters
    ----------
    ranges : iterable of (start, size) or (start, size, type)
        Bytes (int or text such as "1M"); type: e820_type, its number, or a name ("usable", "reserved", "Reserved",
        "acpi"); without type: usable memory.

    Attributes
    ----------
    entries : list of E820Entry
    """

    def __init__(self, ranges=()):
        self.entries = []
        for item in ranges:
            item = tuple(item)
            if len(item) not in (2, 3):
                raise ValueError(f"memory range {item!r}: (start, size) or (start, size, type)")
            self.range_add(*item)

    def range_add(self, addr, size, kind=E820_TYPE_RAM):
        """Append an entry, whatever it overlaps."""
        self.entries.append(_checked_entry(addr, size, kind))

    def _cut(self, addr, size, old_type, new_type):
        """Take [addr, addr + size) out of entries of old_type (None: any); re-add the parts as new_type unless None."""
        end, changed = min(addr + size, MAX_ADDR), []
        for entry in self.entries:
            lo, hi = max(entry.addr, addr), min(entry.end, end)
            if lo >= hi or (old_type is not None and entry.type != old_type):
                changed.append(entry)
                continue
            if entry.addr < lo:
                changed.append(E820Entry(entry.addr, lo - entry.addr, entry.type))
            if new_type is not None:
                changed.append(E820Entry(lo, hi - lo, e820_type(new_type)))
            if hi < entry.end:
                changed.append(E820Entry(hi, entry.end - hi, entry.type))
        self.entries = changed

    def range_update(self, addr, size, old_type, new_type):
        """Give the parts of the range that have one type another one (e820__range_update)."""
        self._cut(addr, size, old_type, new_type)

    def range_remove(self, addr, size, old_type=None):
        """Take the range out of the map, only where it has old_type if that is given (e820__range_remove)."""
        self._cut(addr, size, old_type, None)

    def update_table(self):
        """Sort, resolve overlaps, drop empty entries, join neighbours of one type (e820__update_table).

        Notes
        -----
        A map of fewer than two entries is left as it is, as in Linux.
        """
        if len(self.entries) < 2:
            return
        entries = [e for e in self.entries if e.size]
        cuts = sorted({e.addr for e in entries} | {e.end for e in entries})
        resolved = []
        for lo, hi in itertools.pairwise(cuts):
            kinds = [e.type for e in entries if e.addr < hi and lo < e.end]
            if not kinds:
                continue
            kind = max(kinds)
            if resolved and resolved[-1].end == lo and resolved[-1].type == kind and kind not in NOMERGE:
                resolved[-1] = E820Entry(resolved[-1].addr, hi - resolved[-1].addr, kind)
            else:
                resolved.append(E820Entry(lo, hi - lo, kind))
        self.entries = resolved

    def trim_bios_range(self):
        """Page 0 belongs to the BIOS; 640 KiB to 1 MiB is no RAM whatever the firmware says."""
        self.range_update(0, PAGE_SIZE, E820_TYPE_RAM, E820_TYPE_RESERVED)
        self.range_remove(BIOS_BEGIN, BIOS_END - BIOS_BEGIN, E820_TYPE_RAM)
        self.update_table()

    def memblock_setup(self, memblock):
        """Register usable ranges as memory, whole pages only, and reserve soft-reserved ones (e820__memblock_setup)."""
        for entry in self.entries:
            if entry.type == e820_type.E820_TYPE_SOFT_RESERVED:
                memblock.reserve(entry.addr, entry.size)
            elif entry.type in (E820_TYPE_RAM, e820_type.E820_TYPE_RESERVED_KERN):
                memblock.add(entry.addr, entry.size)
        memblock.trim_memory(PAGE_SIZE)

    def print_table(self, who):
        """Lines as in dmesg, `who` being BIOS-e820 or such."""
        return [f"{who}: [mem {e.addr:#018x}-{e.end - 1:#018x}] {DMESG_NAMES[e.type]}" for e in self.entries]


def pc_memory_map(ram_bytes):
    """The map that QEMU's i440fx PC gives a guest with so much RAM.

    Parameters
    ----------
    ram_bytes : int
        At least 2 MiB.  Up to 3.5 GiB all lies below 4 GiB, else 3 GiB there and the rest from 4 GiB on.

    Returns
    -------
    E820Table

    Notes
    -----
    Source: the recorded maps of 256 MiB to 6 GiB machines; the 3.5 GiB limit is QEMU's (hw/i386/pc_piix.c).  The last
    128 KiB below the hole hold ACPI tables.  A machine so large that it meets the reserved range before 1 TiB keeps its
    RAM in one piece, unlike QEMU on AMD hosts.
    """
    if ram_bytes < 2 * MIB:
        raise ValueError(f"memory {ram_bytes} bytes: a PC has at least {2 * MIB}")
    low = ram_bytes if ram_bytes < 0xE0000000 else 0xC0000000
    ranges = [(0, 0x9FC00), (0x9FC00, 0x400, "reserved"), (0xF0000, 0x10000, "reserved"),
              (MIB, low - 0x20000 - MIB), (low - 0x20000, 0x20000, "reserved"), (0xFFFC0000, 0x40000, "reserved")]
    if low < ram_bytes:
        ranges.append((4 * GIB, ram_bytes - low))
    if 4 * GIB + ram_bytes - low <= 0xFD00000000:
        ranges.append((0xFD00000000, 0x300000000, "reserved"))
    return E820Table(ranges)


class Resource(typing.NamedTuple):
    """A line of /proc/iomem: [start, end) bytes, its depth in the tree, its name."""

    start: int
    end: int
    depth: int
    name: str


def parse_iomem(text):
    """The lines of /proc/iomem.

    Returns
    -------
    list of Resource

    Raises
    ------
    ValueError
        A line of another form, named by its number; or a file that was read without privilege (all addresses zero).
    """
    resources = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"((?:  )*)([0-9a-fA-F]+)-([0-9a-fA-F]+) : (.+)", line.rstrip())
        if not match:
            raise ValueError(f"iomem line {number}: {line!r} is not 'start-end : name'")
        start, end = int(match[2], 16), int(match[3], 16) + 1
        if not start < end <= MAX_ADDR:
            raise ValueError(f"iomem line {number}: range {match[2]}-{match[3]} ends before it starts")
        resources.append(Resource(start, end, len(match[1]) // 2, match[4]))
    if resources and all(r.end == 1 for r in resources):
        raise ValueError("iomem: all addresses are zero; /proc/iomem must be read as root")
    return resources


def e820_from_iomem(text):
    """The firmware map that a /proc/iomem shows: its outermost ranges with a firmware type.

    Notes
    -----
    What iomem cannot tell: how page 0 and the BIOS area looked before Linux changed them, and reserved ranges that a
    device's resource hides.
    """
    table = E820Table((r.start, r.end - r.start, IOMEM_NAMES[r.name])
                      for r in parse_iomem(text) if r.depth == 0 and r.name in IOMEM_NAMES)
    if not any(e.type == E820_TYPE_RAM for e in table.entries):
        raise ValueError("iomem: no range is called 'System RAM'")
    return table
