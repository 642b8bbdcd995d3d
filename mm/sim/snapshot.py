"""Snapshots of a real kernel's allocator: read, load into a machine, compare.

A snapshot is `snap-LABEL.npz` with a `meta.json` beside it that names the columns (docs/snapshot.md).  The `before`
snapshot holds every page's state; later ones only lists, pageblocks and counters.
"""

import dataclasses
import json
import pathlib
import zipfile
import zlib

import numpy as np

from mm._fast.state import mm_limits, pageflags
from mm._fast.vm_event_item import node_stat_item, vm_event_item, zone_stat_item

PG_head, PG_lru, PG_order_known, PG_reserved, PG_slab, PG_tail = (
    int(pageflags["PG_" + name]) for name in ("head", "lru", "order_known", "reserved", "slab", "tail"))
MAX_NR_ZONES = int(mm_limits.MAX_NR_ZONES)
PAGES_PER_BLOCK = int(mm_limits.pageblock_nr_pages)
MAX_PFN = 1 << 31

# Bits of a byte of the `page` array.
PAGE_VALID, PAGE_FREE_HEAD, PAGE_RESERVED, PAGE_LRU, PAGE_SLAB, PAGE_HEAD, PAGE_TAIL, PAGE_REFERENCED = (
    1 << i for i in range(8))


class SnapshotError(ValueError):
    """A snapshot that cannot be used: names the file, the array and what was expected."""


@dataclasses.dataclass
class Snapshot:
    """One snapshot as read: arrays of the file, and rows of its tables by column name.

    Attributes
    ----------
    path : pathlib.Path
    meta : dict
        The `meta.json` beside it.
    arrays : dict of str to ndarray
    """

    path: pathlib.Path
    meta: dict
    arrays: dict

    def table(self, name):
        """A table as a dict of int64 columns."""
        columns = self.meta["fields"][name]
        rows = np.atleast_2d(np.asarray(self.arrays[name], np.int64))
        if rows.shape[1] != len(columns):
            raise SnapshotError(f"{self.path}: table {name} has {rows.shape[1]} columns, meta.json names {len(columns)}")
        return {column: rows[:, i] for i, column in enumerate(columns)}

    def segments(self, name):
        """(row of the segment table, its part of the data) for each segment of `name`."""
        seg = np.atleast_2d(np.asarray(self.arrays[name + "_seg"], np.int64))
        data = self.arrays[name if name + "_pfn" not in self.arrays else name + "_pfn"]
        if seg.size == 0:
            return
        ends = np.cumsum(seg[:, -1])
        if (seg[:, -1] < 0).any() or ends[-1] != len(data):
            raise SnapshotError(f"{self.path}: {name}_seg counts {ends[-1]} items, {name} holds {len(data)}")
        for row, end in zip(seg.tolist(), ends.tolist()):
            yield row, data[end - row[-1]:end]


def read_meta(directory):
    """The `meta.json` of a dataset, checked for what every reader needs."""
    path = pathlib.Path(directory) / "meta.json"
    try:
        meta = json.loads(path.read_text())
    except FileNotFoundError:
        raise SnapshotError(f"{path}: missing; a snapshot needs the meta.json it was recorded with") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SnapshotError(f"{path}: not JSON: {error}") from None
    for key in ("fields", "config"):
        if not isinstance(meta.get(key), dict):
            raise SnapshotError(f"{path}: no table {key!r}")
    for table in ("glob", "node", "zone", "pcp", "vmev"):
        if not isinstance(meta["fields"].get(table), list):
            raise SnapshotError(f"{path}: fields names no columns of {table!r}")
    return meta


def read_npz(path):
    """The arrays of an .npz file; only plain numbers are accepted."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise SnapshotError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError, zlib.error) as error:
        raise SnapshotError(f"{path}: not a readable .npz file: {error}") from None


def read_snapshot(path):
    """Read and check a snapshot.

    Raises
    ------
    SnapshotError
        Missing or damaged file, missing array, columns or sizes that contradict each other.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise SnapshotError(f"{path}: no such file")
    snapshot = Snapshot(path, read_meta(path.parent), read_npz(path))
    needed = ["glob", "node", "zone", "pcp", "vmev", "free_seg", "free_pfn", "pcpl_seg", "pcpl_pfn", "pcpl_mt", "pblk_seg",
              "pblk", "zlst_seg", "zlst"]
    for name in needed:
        array = snapshot.arrays.get(name)
        if array is None:
            raise SnapshotError(f"{path}: no array {name!r}; a snapshot holds {', '.join(needed)}")
        if array.dtype.kind not in "iu":
            raise SnapshotError(f"{path}: array {name!r} has dtype {array.dtype}, expected integers")
    check_config(snapshot)
    return snapshot


def check_config(snapshot):
    """Refuse a kernel whose constants the model does not have."""
    config = snapshot.meta["config"]
    ours = {"MAX_ORDER": 11, "pageblock_order": 9, "PAGE_SHIFT": 12, "MAX_NR_ZONES": 5, "MIGRATE_TYPES": 5,
            "NR_PCP_LISTS": 14}
    for name, value in ours.items():
        if config.get(name) != value:
            raise SnapshotError(f"{snapshot.path}: kernel has {name} = {config.get(name)}, this model {value}")


def nr_pages_of(snapshot):
    """Page frames up to the end of the last zone."""
    zone = snapshot.table("zone")
    end = int((zone["zone_start_pfn"] + zone["spanned_pages"]).max())
    if not 0 < end < MAX_PFN or (zone["zone_start_pfn"] < 0).any() or (zone["spanned_pages"] < 0).any():
        raise SnapshotError(f"{snapshot.path}: zones end at pfn {end}, expected 1 to {MAX_PFN - 1}")
    return end


def shape_of(snapshot):
    """(nr_pages, nr_nodes, nr_cpus, cpu_node) of the recorded machine."""
    node, pcp = snapshot.table("node"), snapshot.table("pcp")
    nr_cpus = int(pcp["cpu"].max()) + 1
    cpu_node = snapshot.meta.get("cpu_node", [0] * nr_cpus)
    if len(cpu_node) < nr_cpus:
        raise SnapshotError(f"{snapshot.path}: meta.json names the nodes of {len(cpu_node)} CPUs of {nr_cpus}")
    return nr_pages_of(snapshot), int(node["nid"].max()) + 1, nr_cpus, cpu_node[:nr_cpus]


def load_into(snapshot, core):
    """Fill a fresh MachineCore of the right shape from a snapshot with page states."""
    for name in ("page_seg", "page"):
        if name not in snapshot.arrays:
            raise SnapshotError(f"{snapshot.path}: no array {name!r}; only `before` and `boot` snapshots start a machine")
    load_globals(snapshot, core)
    load_zones(snapshot, core)
    load_pages(snapshot, core)
    load_lists(snapshot, core)
    load_pcp(snapshot, core)
    load_zonelists(snapshot, core)
    core.start()


def load_globals(snapshot, core):
    """Machine-wide numbers, nodes, and the events each CPU has counted."""
    glob = {name: int(column[0]) for name, column in snapshot.table("glob").items()}
    for name in ("min_free_kbytes", "user_min_free_kbytes", "watermark_boost_factor", "watermark_scale_factor",
                 "percpu_pagelist_high_fraction", "totalreserve_pages", "page_group_by_mobility_disabled",
                 "gfp_allowed_mask", "totalram_pages"):
        core.g[name] = glob[name]
    core.g["node_reclaim_mode"] = glob["node_reclaim_mode"]
    for i in range(4):
        core.g["lowmem_reserve_ratio"][0, i] = glob[f"lowmem_reserve_ratio{i}"]
    node = snapshot.table("node")
    for i, nid in enumerate(node["nid"]):
        for name in ("node_start_pfn", "node_spanned_pages", "node_present_pages", "totalreserve_pages", "min_unmapped_pages",
                     "min_slab_pages", "kswapd_order", "kswapd_highest_zoneidx", "kswapd_failures"):
            core.nodes[name][nid] = node[name][i]
        core.nodes["vm_stat"][nid] = [node[item.name.lower()][i] for item in items(node_stat_item)]
        core.nodes["is_online"][nid] = node["node_present_pages"][i] > 0
        core.nodes["nr_cpus"][nid] = sum(int(n) == nid for n in core.cpu_node)
    vmev = snapshot.table("vmev")
    for i, cpu in enumerate(vmev["cpu"]):
        if 0 <= cpu < len(core.vm_event):
            core.vm_event[cpu] = [vmev[item.name.lower()][i] for item in items(vm_event_item)]


def items(enum):
    """Members of a counter enum without the closing NR_ item, in order."""
    return sorted(enum, key=int)[:-1]


def zone_number(nid, zid):
    return int(nid) * MAX_NR_ZONES + int(zid)


def load_zones(snapshot, core):
    """Limits and gauges of every zone."""
    zone = snapshot.table("zone")
    for i in range(len(zone["nid"])):
        nr = zone_number(zone["nid"][i], zone["zid"][i])
        if not 0 <= nr < len(core.zones):
            raise SnapshotError(f"{snapshot.path}: zone {zone['zid'][i]} of node {zone['nid'][i]} does not exist")
        z = core.zones[nr:nr + 1]
        for name in ("zone_start_pfn", "spanned_pages", "present_pages", "managed_pages", "watermark_boost",
                     "nr_reserved_highatomic", "pageset_high", "pageset_batch", "flags", "nr_isolate_pageblock",
                     "percpu_drift_mark"):
            z[name] = zone[name][i]
        z["watermark"] = [zone["wmark_" + name][i] for name in ("min", "low", "high", "promo")]
        z["lowmem_reserve"] = [zone[f"lowmem_reserve{j}"][i] for j in range(4)] + [zone["lowmem_reserve_last"][i]]
        z["vm_stat"] = [zone[item.name.lower()][i] for item in items(zone_stat_item)]


def load_pages(snapshot, core):
    """Page flags, references and compound blocks; blocks on lists are marked later."""
    for (nid, zid, first, count), data in snapshot.segments("page"):
        nr = zone_number(nid, zid)
        check_span(snapshot, core, "page", first, count)
        bits = np.where(data & PAGE_VALID, core.zones["page_bits"][nr], 0).astype(np.uint32)
        for mask, flag in ((PAGE_RESERVED, PG_reserved), (PAGE_LRU, PG_lru), (PAGE_SLAB, PG_slab)):
            bits[(data & mask) != 0] |= np.uint32(flag)
        core.page["flags"][first:first + count] = bits
        core.page["refcount"][first:first + count] = ((data & PAGE_REFERENCED) != 0) & ((data & PAGE_VALID) != 0)
        load_compound(core, first, data)
    for (nid, zid, first, count), data in snapshot.segments("pblk"):
        check_span(snapshot, core, "pblk", first, count * PAGES_PER_BLOCK - first % PAGES_PER_BLOCK)
        first //= PAGES_PER_BLOCK
        block = core.pageblock_flags[first:first + count]
        block[:] = np.where(data == 255, block, data & 15)


def load_compound(core, first, data):
    """Heads with the order that the number of tails behind them tells, tails with their head."""
    heads = np.flatnonzero(data & PAGE_HEAD)
    is_tail = (data & PAGE_TAIL) != 0
    run_end = np.flatnonzero(np.diff(np.append(is_tail, False).astype(np.int8)) == -1) + 1
    for head in heads.tolist():
        if head + 1 >= len(data) or not is_tail[head + 1]:
            continue
        end = int(run_end[np.searchsorted(run_end, head + 1)])
        order = (end - head).bit_length() - 1
        page = core.page[first + head:first + head + (1 << order)]
        page["flags"][0] |= PG_head | PG_order_known | min(order, 15)
        page["flags"][1:] |= PG_tail
        page["refcount"][1:] = 0
        page["next"][1:] = first + head


def check_span(snapshot, core, name, first, count):
    if not 0 <= first <= first + count <= int(core.g["nr_pages"][0]):
        raise SnapshotError(f"{snapshot.path}: {name} covers pfn [{first}, {first + count}), outside memory")


def load_lists(snapshot, core):
    try:
        for (nid, zid, order, mt, _count), pfns in snapshot.segments("free"):
            core.load_free_list(zone_number(nid, zid), order, mt, np.ascontiguousarray(pfns, np.uint32))
        start = 0
        for (nid, zid, cpu, index, count), pfns in snapshot.segments("pcpl"):
            types = np.ascontiguousarray(snapshot.arrays["pcpl_mt"][start:start + count], np.uint8)
            core.load_pcp_list(zone_number(nid, zid), cpu, index, np.ascontiguousarray(pfns, np.uint32), types)
            start += count
    except ValueError as error:
        raise SnapshotError(f"{snapshot.path}: {error}") from None


def load_pcp(snapshot, core):
    pcp = snapshot.table("pcp")
    for i in range(len(pcp["nid"])):
        row = core.pageset[zone_number(pcp["nid"][i], pcp["zid"][i]), int(pcp["cpu"][i])]
        for name in ("count", "high", "batch", "free_factor", "expire", "stat_threshold"):
            row[name] = pcp[name][i]
        row["vm_stat_diff"] = [pcp["diff_" + item.name.lower()][i] for item in items(zone_stat_item)]


def load_zonelists(snapshot, core):
    for (nid, kind, count), refs in snapshot.segments("zlst"):
        core.zonelists[nid, kind, :count] = [zone_number(n, z) for n, z in np.asarray(refs).reshape(-1, 2)]


def compare(snapshot, core):
    """Differences between a machine and a recorded snapshot, as lines; none: the states are equal.

    Compared: every free list and per-cpu list in order, the types that pcp pages return to, pageblock types, zone and
    pcp counters, the events the allocator counts.
    """
    differences = []
    compare_lists(snapshot, core, differences)
    compare_pageblocks(snapshot, core, differences)
    compare_zones(snapshot, core, differences)
    compare_events(snapshot, core, differences)
    return differences


def compare_lists(snapshot, core, differences):
    """Free lists and per-cpu lists, order and types included."""
    wanted = {tuple(row[:4]): pfns for row, pfns in snapshot.segments("free")}
    compare_list_sets("free list (node, zone, order, type)", wanted, core.free_lists(), differences)
    wanted, types, start = {}, {}, 0
    for row, pfns in snapshot.segments("pcpl"):
        wanted[tuple(row[:4])] = pfns
        types[tuple(row[:4])] = snapshot.arrays["pcpl_mt"][start:start + row[4]]
        start += row[4]
    have = core.pcp_lists()
    compare_list_sets("pcp list (node, zone, cpu, list)", wanted, have, differences)
    for key, pfns in have.items():
        mt = (core.page["flags"][pfns] >> 4) & 7
        if key in types and len(types[key]) == len(mt) and (types[key] != mt).any():
            differences.append(f"pcp list {key}: types differ at position {np.argmax(types[key] != mt)}")


def compare_list_sets(what, wanted, have, differences):
    for key in sorted(wanted.keys() | have.keys()):
        a, b = np.asarray(wanted.get(key, ()), np.int64), np.asarray(have.get(key, ()), np.int64)
        if np.array_equal(a, b):
            continue
        n = min(len(a), len(b))
        at = int(np.argmax(a[:n] != b[:n])) if (a[:n] != b[:n]).any() else n
        differences.append(f"{what} {key}: recorded {len(a)} blocks, model {len(b)}, first difference at {at}: "
                           f"{a[at:at + 3].tolist()} / {b[at:at + 3].tolist()}")


def compare_pageblocks(snapshot, core, differences):
    for (nid, zid, first, count), data in snapshot.segments("pblk"):
        first //= PAGES_PER_BLOCK
        have = core.pageblock_flags[first:first + count] & 7
        bad = np.flatnonzero((data != 255) & ((data & 7) != have))
        if len(bad):
            differences.append(f"pageblocks of node {nid} zone {zid}: {len(bad)} differ, first at pfn "
                               f"{(first + bad[0]) * PAGES_PER_BLOCK}: {data[bad[0]] & 7} / {have[bad[0]]}")


ZONE_COLUMNS = {"wmark_min": ("watermark", 0), "wmark_low": ("watermark", 1), "wmark_high": ("watermark", 2),
                "wmark_promo": ("watermark", 3), "watermark_boost": ("watermark_boost", None),
                "nr_reserved_highatomic": ("nr_reserved_highatomic", None), "pageset_high": ("pageset_high", None),
                "pageset_batch": ("pageset_batch", None), "managed_pages": ("managed_pages", None),
                "nr_isolate_pageblock": ("nr_isolate_pageblock", None), "nr_free_pages": ("vm_stat", 0),
                "percpu_drift_mark": ("percpu_drift_mark", None)}
ZONE_COLUMNS |= {f"lowmem_reserve{i}": ("lowmem_reserve", i) for i in range(4)}
ZONE_COLUMNS |= {f"nr_free{i}": ("nr_free", i) for i in range(11)}
PCP_COLUMNS = ("count", "high", "batch", "free_factor", "stat_threshold")


def compare_zones(snapshot, core, differences):
    """Counters and limits of every zone and of its per-cpu parts."""
    zone = snapshot.table("zone")
    for i in range(len(zone["nid"])):
        z = core.zones[zone_number(zone["nid"][i], zone["zid"][i])]
        for column, (field, index) in ZONE_COLUMNS.items():
            have = int(z[field] if index is None else z[field][index])
            if have != zone[column][i]:
                differences.append(f"zone {zone['nid'][i]},{zone['zid'][i]} {column}: {zone[column][i]} / {have}")
    pcp = snapshot.table("pcp")
    for i in range(len(pcp["nid"])):
        row = core.pageset[zone_number(pcp["nid"][i], pcp["zid"][i]), int(pcp["cpu"][i])]
        for column in PCP_COLUMNS + ("diff_nr_free_pages",):
            have = int(row["vm_stat_diff"][0] if column == "diff_nr_free_pages" else row[column])
            if have != pcp[column][i]:
                differences.append(f"pcp {pcp['nid'][i]},{pcp['zid'][i]} cpu {pcp['cpu'][i]} {column}: "
                                   f"{pcp[column][i]} / {have}")


def compare_events(snapshot, core, differences):
    """pgalloc, pgfree and the allocator's other events; a CPU at a time."""
    core.fold_counters()
    vmev = snapshot.table("vmev")
    names = [item.name.lower() for item in items(vm_event_item)]
    wanted = [n for n in names if n.startswith(("pgalloc_", "allocstall_")) or n in ("pgfree", "compact_isolated")]
    for i, cpu in enumerate(vmev["cpu"].tolist()):
        for name in wanted:
            have = int(core.vm_event[cpu, names.index(name)])
            if have != vmev[name][i]:
                differences.append(f"cpu {cpu} {name}: {vmev[name][i]} / {have}")
