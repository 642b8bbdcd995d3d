"""gfp masks as text and across kernel versions.

Linux: include/trace/events/mmflags.h (show_gfp_flags), lib/vsprintf.c (%pGg).  Values are those of 6.1 on x86-64 and
come from `_fast/gfp.pxd`; other kernels' bits are the tables below.  Modelled: names and values.  Not modelled: the
KASAN and lockdep bits, which are 0 in the reference configuration.  Invariant: `parse_gfp(format_gfp(m)) == m` for
every 32-bit mask.  Cost: microseconds a call; the converter interns strings and calls once for each distinct one.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from mm._fast import gfp as _gfp

# Every name of 6.1: composites and single bits.
GFP_MASKS: dict[str, int] = {name: int(value) for name, value in
                             [*_gfp.gfp_bits.__members__.items(), *_gfp.gfp_masks.__members__.items()]}
GFP_BITS: dict[str, int] = {name: int(value) for name, value in _gfp.gfp_bits.__members__.items()}

# The order in which the kernel looks for names: those with most bits first (show_gfp_flags of 6.1).
_PRINT_ORDER = (
    "GFP_TRANSHUGE", "GFP_TRANSHUGE_LIGHT", "GFP_HIGHUSER_MOVABLE", "GFP_HIGHUSER", "GFP_USER", "GFP_KERNEL_ACCOUNT",
    "GFP_KERNEL", "GFP_NOFS", "GFP_ATOMIC", "GFP_NOIO", "GFP_NOWAIT", "GFP_DMA", "__GFP_HIGHMEM", "GFP_DMA32",
    "__GFP_HIGH", "__GFP_ATOMIC", "__GFP_IO", "__GFP_FS", "__GFP_NOWARN", "__GFP_RETRY_MAYFAIL", "__GFP_NOFAIL",
    "__GFP_NORETRY", "__GFP_COMP", "__GFP_ZERO", "__GFP_NOMEMALLOC", "__GFP_MEMALLOC", "__GFP_HARDWALL",
    "__GFP_THISNODE", "__GFP_RECLAIMABLE", "__GFP_MOVABLE", "__GFP_ACCOUNT", "__GFP_WRITE", "__GFP_RECLAIM",
    "__GFP_DIRECT_RECLAIM", "__GFP_KSWAPD_RECLAIM", "__GFP_ZEROTAGS",
)

# Names of other kernels that mean a 6.1 name.
_RENAMED = {
    "__GFP_WAIT": "__GFP_RECLAIM",              # until 4.3: may sleep, and so reclaim
    "__GFP_REPEAT": "__GFP_RETRY_MAYFAIL",      # until 4.12
    "GFP_HIGHUSER_PAGECACHE": "GFP_HIGHUSER_MOVABLE",
    "GFP_TEMPORARY": "GFP_KERNEL|__GFP_RECLAIMABLE",    # until 4.13
}

# Bit numbers of the single bits by first kernel release that has them.  Sources: include/linux/gfp.h and gfp_types.h
# of each release.  Bits that configuration moves (lockdep, KASAN_HW_TAGS) are left out, so they are reported.
_LOW = {"DMA": 0, "HIGHMEM": 1, "DMA32": 2, "MOVABLE": 3, "RECLAIMABLE": 4, "HIGH": 5, "IO": 6, "FS": 7}
_V4 = {"COLD": 8, "NOWARN": 9, "RETRY_MAYFAIL": 10, "NOFAIL": 11, "NORETRY": 12, "MEMALLOC": 13, "COMP": 14, "ZERO": 15,
       "NOMEMALLOC": 16, "HARDWALL": 17, "THISNODE": 18, "ATOMIC": 19, "ACCOUNT": 20}
_V5 = {"ZERO": 8, "ATOMIC": 9, "DIRECT_RECLAIM": 10, "KSWAPD_RECLAIM": 11, "WRITE": 12, "NOWARN": 13,
       "RETRY_MAYFAIL": 14, "NOFAIL": 15, "NORETRY": 16, "MEMALLOC": 17, "COMP": 18, "NOMEMALLOC": 19, "HARDWALL": 20,
       "THISNODE": 21, "ACCOUNT": 22}
_V63 = {name: bit for name, bit in _V5.items() if name != "ATOMIC"} | {"ZEROTAGS": 23}


class GfpTable(NamedTuple):
    """The gfp bits of a range of kernel releases."""

    name: str                   # first release of the range
    bits: dict[str, int]        # name without __GFP_ -> bit number
    redefined: dict[str, int]   # composites whose bits are not those of 6.1


# Ascending.  A release uses the last table that is not newer.
GFP_TABLES = (
    GfpTable("4.4", _LOW | _V4 | {"NOTRACK": 21, "DIRECT_RECLAIM": 22, "OTHER_NODE": 23, "WRITE": 24,
                                  "KSWAPD_RECLAIM": 25}, {}),
    GfpTable("4.11", _LOW | _V4 | {"NOTRACK": 21, "DIRECT_RECLAIM": 22, "WRITE": 23, "KSWAPD_RECLAIM": 24}, {}),
    GfpTable("4.18", _LOW | {k: v for k, v in _V4.items() if k != "COLD"}
             | {"WRITE": 8, "DIRECT_RECLAIM": 21, "KSWAPD_RECLAIM": 22}, {}),
    GfpTable("5.1", _LOW | _V5, {}),
    GfpTable("6.1", {name.removeprefix("__GFP_"): value.bit_length() - 1 for name, value in GFP_BITS.items()}, {}),
    # ATOMIC is gone: what asks for reserves and does not sleep is atomic.
    GfpTable("6.3", _LOW | _V63, {"GFP_ATOMIC": 0x820}),
)


def gfp_table(kernel: str | None = None) -> GfpTable:
    """The table of a kernel release.

    Parameters
    ----------
    kernel : str, optional
        A release such as ``"6.1"``, ``"5.10.0-8-amd64"``; None is 6.1.

    Raises
    ------
    ValueError
        If it is no release, or one older than 4.4, whose bits are not known here (names are, see `parse_gfp`).
    """
    if kernel is None:
        kernel = "6.1"
    match = re.match(r"(\d{1,3})\.(\d{1,4})(?!\d)", kernel)
    if not match:
        raise ValueError(f"kernel release {kernel!r}: expected MAJOR.MINOR, such as 6.1")
    release = int(match[1]), int(match[2])
    for table in reversed(GFP_TABLES):
        if tuple(map(int, table.name.split("."))) <= release:
            return table
    raise ValueError(f"kernel release {kernel!r}: the gfp bits of kernels before {GFP_TABLES[0].name} are not known")


def format_gfp(mask: int) -> str:
    """The mask as Linux 6.1 prints it (`%pGg`, trace events).

    Parameters
    ----------
    mask : int
        0 to 2**32 - 1.

    Returns
    -------
    str
        Names joined by ``|``, what has no name in hexadecimal last; ``"none"`` for 0.

    Source: show_gfp_flags in include/trace/events/mmflags.h, trace_print_flags_seq in kernel/trace/trace_output.c.
    """
    return _format(_check_mask(mask), _named_masks("6.1"))


def parse_gfp(text: str, kernel: str | None = None) -> int:
    """The 6.1 mask of a printed one.

    Accepts composite and single names of any release (``__GFP_X`` or the older ``GFP_X``), joined by ``|``,
    hexadecimal parts with the bits of `kernel`, and ``none``.

    Raises
    ------
    ValueError
        For a name that no kernel prints, and for bits and names without a counterpart in 6.1.
    """
    mask, untranslated = parse_gfp_lenient(text, kernel)
    if untranslated:
        raise ValueError(f"gfp mask {text!r}: no counterpart in Linux 6.1 for {', '.join(untranslated)}")
    return mask


def parse_gfp_lenient(text: str, kernel: str | None = None) -> tuple[int, list[str]]:
    """Like `parse_gfp`, but what cannot be translated is left out and returned by name."""
    mask, untranslated = 0, []
    for part in text.split("|"):
        value = _named(part)
        if value is None and re.fullmatch(r"0x[0-9a-fA-F]{1,16}|[0-9]{1,20}", part):
            value, left = _translate(int(part, 0) if part[:2] == "0x" else int(part), kernel)
            untranslated += left
        if value is None:
            untranslated.append(part)
        else:
            mask |= value
    return mask, untranslated


def translate_gfp(mask: int, kernel: str) -> tuple[int, list[str]]:
    """A mask with the bits of another release.

    Returns
    -------
    tuple of int and list of str
        The 6.1 mask, and the names (hexadecimal if nameless) of the bits that 6.1 has not.
    """
    return _translate(_check_mask(mask), kernel)


def _check_mask(mask: int) -> int:
    mask = int(mask)
    if not 0 <= mask < 1 << 32:
        raise ValueError(f"gfp mask {mask:#x}: expected 0 to 0xffffffff")
    return mask


def _named(name: str) -> int | None:
    """The 6.1 mask of one name, None if 6.1 has none."""
    if name == "none":
        return 0
    for candidate in (name, "__" + name):
        renamed = _RENAMED.get(candidate)
        if renamed:
            return functools.reduce(int.__or__, (GFP_MASKS[part] for part in renamed.split("|")))
        if candidate in GFP_MASKS:
            return GFP_MASKS[candidate]
    return None


def _translate(mask: int, kernel: str | None) -> tuple[int, list[str]]:
    """By name: print with the other kernel's masks, then take the names' 6.1 masks."""
    table = gfp_table(kernel)
    if table.name == "6.1":
        return mask & 0xffffffff, [f"{mask & ~0xffffffff:#x}"] if mask >> 32 else []
    value, untranslated = 0, []
    for part in _format(mask, _named_masks(table.name)).split("|"):
        named = _named(part)
        if named is None:
            untranslated.append(part)
        else:
            value |= named
    return value, untranslated


def _format(mask: int, names: tuple[tuple[str, int], ...]) -> str:
    if mask == 0:
        return "none"
    parts = []
    for name, value in names:
        if value & mask == value:
            parts.append(name)
            mask &= ~value
            if not mask:
                break
    if mask:
        parts.append(f"{mask:#x}")
    return "|".join(parts)


@functools.cache
def _named_masks(release: str) -> tuple[tuple[str, int], ...]:
    """Names and masks of a table in printing order; its bits that 6.1 does not print come last."""
    table = next(table for table in GFP_TABLES if table.name == release)
    singles = {GFP_BITS["__GFP_" + name]: 1 << bit for name, bit in table.bits.items() if "__GFP_" + name in GFP_BITS}
    masks = {}
    for name in _PRINT_ORDER:
        bits = [bit for bit in GFP_BITS.values() if bit & GFP_MASKS[name]]
        if name in table.redefined:
            masks[name] = table.redefined[name]
        elif all(bit in singles for bit in bits):
            masks[name] = sum(singles[bit] for bit in bits)
    if release != "6.1":
        masks |= {"__GFP_" + name: 1 << bit for name, bit in table.bits.items() if "__GFP_" + name not in GFP_BITS}
    return tuple(masks.items())


# mm.GFP_KERNEL, mm.__GFP_HIGH; and GFP_HIGH for __GFP_HIGH wherever no composite bears that name, since Python mangles
# a leading __ inside classes.
GFP_EXPORTS: dict[str, int] = {
    **{name.removeprefix("__"): value for name, value in GFP_MASKS.items() if name.removeprefix("__") not in GFP_MASKS},
    **GFP_MASKS,
}
