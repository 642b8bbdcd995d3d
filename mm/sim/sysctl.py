"""sysctl: the knobs of /proc/sys/vm as a mapping.

Linux: kernel/sysctl.c (vm_table), proc_dointvec_minmax.
Modelled: the knobs that something in the package reads; each has Linux's name, range, default and effect.  The table
VM_TABLE is the one list of them: text, checks, docs and command line are derived from it.  Not modelled yet, hence
absent: numa_stat, and the knobs of subsystems that do not exist.
Invariant: a write that is refused changes nothing.  Cost: a write recomputes what the kernel's handler does.
"""

import collections.abc
import dataclasses
import difflib
import typing

from mm.physical import page_alloc

INT_MAX = (1 << 31) - 1


def _scalar(name):
    """Getter of a knob that is a number of the core's g."""
    return lambda core: int(core.g[name][0])


def _plain(name):
    """Handler of a knob that is only read by others (proc_dointvec_minmax without a function)."""
    def handler(core, value):
        core.g[name] = value
        core.refresh()
    return handler


def _zonelist_order(core, value):
    """Only the node order exists; its old names are accepted and change nothing."""
    if value[:1] not in ("d", "D", "n", "N"):
        raise ValueError(f"vm.numa_zonelist_order = {value!r}: only 'Node' or 'Default'")


@dataclasses.dataclass(frozen=True)
class Knob:
    """One file of /proc/sys.

    Attributes
    ----------
    name : str
        Such as vm.min_free_kbytes.
    low, high : int
        Legal range of every number.
    default : int, tuple of int, str or None
        None: computed from the size of memory.
    get : callable
        get(core) -> value.
    handler : callable
        handler(core, value): store it and recompute what follows.
    nr_values : int
        Numbers in the file; 0: it is text.
    doc : str
        One line, with the unit.
    """

    name: str
    low: int
    high: int
    default: typing.Any
    get: typing.Callable
    handler: typing.Callable
    doc: str
    nr_values: int = 1


VM_TABLE = (
    Knob("vm.lowmem_reserve_ratio", -INT_MAX - 1, INT_MAX, page_alloc.LOWMEM_RESERVE_RATIO,
         lambda core: tuple(core.g["lowmem_reserve_ratio"][0].tolist()), page_alloc.lowmem_reserve_ratio_sysctl_handler,
         "a zone keeps 1/ratio of the pages of higher zones from requests that could use these; below 1: nothing",
         nr_values=page_alloc.MAX_NR_ZONES),
    Knob("vm.min_free_kbytes", 0, INT_MAX, None, _scalar("min_free_kbytes"),
         page_alloc.min_free_kbytes_sysctl_handler, "sum of all zones' min watermarks, KiB"),
    Knob("vm.min_slab_ratio", 0, 100, page_alloc.MIN_SLAB_RATIO,
         lambda core: page_alloc.node_percent(core, "min_slab_pages"), page_alloc.setup_min_slab_ratio,
         "reclaimable slab above which a node may be reclaimed for locality, percent of its pages"),
    Knob("vm.min_unmapped_ratio", 0, 100, page_alloc.MIN_UNMAPPED_RATIO,
         lambda core: page_alloc.node_percent(core, "min_unmapped_pages"), page_alloc.setup_min_unmapped_ratio,
         "unmapped file pages above which a node may be reclaimed for locality, percent of its pages"),
    Knob("vm.numa_zonelist_order", 0, 0, "Node", lambda core: "Node", _zonelist_order,
         "order of zonelists: by node; no other exists", nr_values=0),
    Knob("vm.percpu_pagelist_high_fraction", 0, INT_MAX, 0, _scalar("percpu_pagelist_high_fraction"),
         page_alloc.percpu_pagelist_high_fraction_sysctl_handler,
         "per-CPU lists hold up to 1/fraction of a zone, shared by its CPUs; 0: the low watermark; 1 to 7 are refused"),
    Knob("vm.watermark_boost_factor", 0, INT_MAX, page_alloc.WATERMARK_BOOST_FACTOR, _scalar("watermark_boost_factor"),
         _plain("watermark_boost_factor"), "greatest boost after mixing types, 1/10000 of the high watermark; 0: none"),
    Knob("vm.watermark_scale_factor", 1, 3000, page_alloc.WATERMARK_SCALE_FACTOR, _scalar("watermark_scale_factor"),
         page_alloc.watermark_scale_factor_sysctl_handler, "distance between watermarks, 1/10000 of a zone"),
    Knob("vm.zone_reclaim_mode", 0, INT_MAX, 0, _scalar("node_reclaim_mode"), _plain("node_reclaim_mode"),
         "reclaim a node before going to another: 1 on, 2 write pages, 4 unmap pages"),
)
KNOBS = {knob.name: knob for knob in VM_TABLE}


class Sysctl(collections.abc.Mapping):
    """`m.sysctl`: knobs by name; reading gives numbers, writing takes numbers or text.

    Parameters
    ----------
    core : MachineCore

    Notes
    -----
    Names may be written vm.min_free_kbytes or vm/min_free_kbytes.  A knob of several numbers reads as a tuple and takes
    a sequence or text separated by blanks; fewer numbers change only the first ones, as in Linux.
    """

    def __init__(self, core):
        self._core = core

    def __iter__(self):
        return iter(KNOBS)

    def __len__(self):
        return len(KNOBS)

    def __contains__(self, name):
        return isinstance(name, str) and name.replace("/", ".") in KNOBS

    def __getitem__(self, name):
        return find_knob(name).get(self._core)

    def get(self, name, default=None):
        """Value of a knob, or `default` if there is no such knob."""
        return self[name] if name in self else default

    def __setitem__(self, name, value):
        knob = find_knob(name)
        knob.handler(self._core, parse_value(knob, value))

    def text(self, name):
        """What /proc/sys shows, with its newline."""
        value = self[name]
        return "\t".join(map(str, value if isinstance(value, tuple) else (value,))) + "\n"

    def __repr__(self):
        return "\n".join(f"{name} = {self.text(name).strip()}" for name in self)


def find_knob(name):
    """The knob of this name.

    Raises
    ------
    ValueError
        There is none; names the nearest.
    """
    key = name.replace("/", ".") if isinstance(name, str) else name
    if key in KNOBS:
        return KNOBS[key]
    near = difflib.get_close_matches(str(key), KNOBS, n=1, cutoff=0.0)[0]
    raise ValueError(f"no knob {name!r}; did you mean {near!r}?")


def parse_value(knob, value):
    """Check and convert what is to be written.

    Raises
    ------
    ValueError
        Not a number, too many numbers, or outside the legal range, which is named.
    """
    if knob.nr_values == 0:
        return str(value)
    words = value.split() if isinstance(value, str) else value
    if isinstance(words, str) or not isinstance(words, collections.abc.Iterable):
        words = [words]
    numbers = [_number(knob, word) for word in words]
    if not 1 <= len(numbers) <= knob.nr_values:
        raise ValueError(f"{knob.name} = {value!r}: {knob.nr_values} number{'s' * (knob.nr_values > 1)}")
    for number in numbers:
        if not knob.low <= number <= knob.high:
            raise ValueError(f"{knob.name} = {number}: {knob.low} to {knob.high}")
    return numbers if knob.nr_values > 1 else numbers[0]


def _number(knob, word):
    try:
        if isinstance(word, str):
            return int(word, 0)
        if not isinstance(word, bool):
            return word.__index__()
    except (ValueError, AttributeError):
        pass
    raise ValueError(f"{knob.name} = {word!r}: a whole number of {knob.low} to {knob.high}")
