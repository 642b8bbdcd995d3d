"""Sampler: looks at a machine now and then during a run and writes what it sees to Parquet tables.

Linux has nothing alike; what is sampled are the numbers of /proc/buddyinfo, pagetypeinfo, zoneinfo and of debugfs
extfrag, and the model's own counters (zone_event_item).
Tables: samples (a row a sample and zone), pageblocks (a row a sample: type and free pages of every pageblock), progress
(a row a sample: how far the run is), memory (a row a pageblock: what does not change).
Bounded: rows go to disk in groups as they come.  When a run yields more than `max_samples`, the interval doubles; at
the end the tables are thinned to the last interval, so they are evenly spaced and at most `max_samples` + 2 long.
Cost: one pass over a byte a page (0.1 ms a GiB), some NumPy calls, 3 bytes a pageblock before compression.
"""

import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mm._fast.sim import sampling
from mm._fast.state import migratetype, mm_limits, pageflags
from mm._fast.vm_event_item import zone_event_item, zone_stat_item
from mm.physical import fragmentation
from mm.physical.mm_init import ZONE_NAMES

MAX_ORDER = int(mm_limits.MAX_ORDER)
MAX_NR_ZONES = int(mm_limits.MAX_NR_ZONES)
PAGEBLOCK_NR_PAGES = int(mm_limits.pageblock_nr_pages)
NR_FREE_PAGES = int(zone_stat_item.NR_FREE_PAGES)
TYPES = [item.name.removeprefix("MIGRATE_").lower() for item in sorted(migratetype, key=int)[:-1]]
WATERMARKS = ("min", "low", "high")

# In the pageblocks table, of a pageblock without any page.
NO_MEMORY = 255

DEFAULT_INTERVAL_NS = 10_000_000
DEFAULT_MAX_SAMPLES = 2000
GROUP_SAMPLES = 64
GROUP_BYTES = 8 << 20

_ZONE = pa.dictionary(pa.int8(), pa.string())


def counter_columns():
    """Column names of the model's counters, in the order of zone_event_item; each ends in its unit."""
    names = [item.name.lower() for item in sorted(zone_event_item, key=int)[:-1]]
    return [name if name.endswith("_pages") else name + "_count" for name in names]


def _samples_columns():
    """(name, type, what it is) of the samples table."""
    columns = [("time_ns", pa.int64(), "simulated time of the sample"), ("node", pa.int16(), "NUMA node"),
               ("zone", _ZONE, "zone of the node"),
               ("nr_free_pages", pa.int64(), "free pages, the CPUs' parts of the counter included"),
               ("pcp_pages", pa.int64(), "pages on per-cpu lists; not in nr_free_pages"),
               ("watermark_boost_pages", pa.int64(), "boost, to be added to the marks")]
    columns += [(f"watermark_{name}_pages", pa.int64(), f"{name} mark without the boost") for name in WATERMARKS]
    columns += [(f"is_below_{name}", pa.bool_(), "the counter that watermark tests read is at or below the mark with "
                 "the boost") for name in WATERMARKS]
    columns += [(f"free_o{order}_{mt}_blocks", pa.int64(), f"free blocks of order {order} on the {mt} list")
                for order in range(MAX_ORDER) for mt in TYPES]
    columns += [(f"pageblock_{mt}_blocks", pa.int64(), f"pageblocks of type {mt}") for mt in TYPES]
    columns += [(name, pa.int64(), "since the start of the run") for name in counter_columns()]
    columns += [(f"unusable_o{order}_ratio", pa.float64(), "unusable free space index as in debugfs, 0 to 1")
                for order in range(MAX_ORDER)]
    columns += [(f"fragmentation_o{order}_ratio", pa.float64(), "fragmentation index as in debugfs; -1: a block exists")
                for order in range(MAX_ORDER)]
    columns += [("free_huge_blocks", pa.int64(), "blocks of 512 pages that can be had"),
                ("ideal_huge_blocks", pa.int64(), "the same if all free pages lay together")]
    return columns


# The driver's own counts at each sample, all since the start of the run; null where it gave none.
PROGRESS = {"events_count": "trace events replayed", "allocations_count": "allocations replayed",
            "pfn_judged_count": "allocations whose recorded page frame is known",
            "pfn_equal_count": "of these: the model gave the same one",
            "failures_count": "allocations the model refused", "inferred_pages": "pages taken by inference"}

# {table: [(column, type, what it is)]}
TABLES = {
    "samples": _samples_columns(),
    "pageblocks": [("time_ns", pa.int64(), "simulated time of the sample"),
                   ("migratetype", pa.binary(), "a byte each pageblock: its type, 255 no memory there"),
                   ("free_pages", pa.binary(), "two bytes each pageblock, low byte first: free pages, 0 to 512")],
    "progress": [("time_ns", pa.int64(), "simulated time of the sample")]
    + [(name, pa.int64(), text) for name, text in PROGRESS.items()],
    "memory": [("first_pfn", pa.int64(), "first page frame of the pageblock"),
               ("node", pa.int16(), "NUMA node, null none"), ("zone", _ZONE, "zone of the node, null none"),
               ("present_pages", pa.int16(), "frames with a struct page"),
               ("reserved_pages", pa.int16(), "of these: never given to the allocator")],
}


def schema(table):
    """The Arrow schema of a table."""
    return pa.schema([pa.field(name, kind) for name, kind, _ in TABLES[table]])


def memory_table(machine):
    """What does not change of each pageblock, as an Arrow table."""
    flags = machine.page["flags"][:int(machine.g["nr_pages"][0])].reshape(-1, PAGEBLOCK_NR_PAGES)
    is_present = (flags & int(pageflags.PG_valid)) != 0
    present = is_present.sum(axis=1)
    reserved = (is_present & ((flags & int(pageflags.PG_reserved)) != 0)).sum(axis=1)
    first = np.take_along_axis(flags, is_present.argmax(axis=1)[:, None], axis=1)[:, 0]
    nr = (first & int(pageflags.PG_ZONE_MASK)) >> int(pageflags.PG_ZONE_SHIFT)
    is_hole = present == 0
    zone = pa.DictionaryArray.from_arrays(pa.array((nr % MAX_NR_ZONES).astype(np.int8), mask=is_hole), list(ZONE_NAMES))
    node = pa.array((nr // MAX_NR_ZONES).astype(np.int16), mask=is_hole)
    return pa.table([pa.array(np.arange(len(nr)) * PAGEBLOCK_NR_PAGES), node, zone, pa.array(present.astype(np.int16)),
                     pa.array(reserved.astype(np.int16))], schema=schema("memory"))


class Sampler:
    """Writes samples of one machine into a folder.

    Parameters
    ----------
    machine : mm.Machine
    folder : path-like
        Where the tables are written; it exists.
    interval_ns : int
        Simulated time between samples at first.
    max_samples : int
        Bound of samples kept, at least 2.

    Attributes
    ----------
    next_time_ns : int
        The driver runs to this time, then calls `sample`.
    interval_ns : int
        Now; doubled as the run gets long.
    """

    def __init__(self, machine, folder, interval_ns=DEFAULT_INTERVAL_NS, max_samples=DEFAULT_MAX_SAMPLES):
        if interval_ns < 1:
            raise ValueError(f"interval_ns {interval_ns}: at least 1 ns")
        if max_samples < 2:
            raise ValueError(f"max_samples {max_samples}: at least 2")
        self._folder = pathlib.Path(folder)
        self.interval_ns, self.max_samples, self.next_time_ns = int(interval_ns), int(max_samples), 0
        self._zones = np.flatnonzero(machine.zones["present_pages"])
        memory = memory_table(machine)
        self._is_hole = memory["present_pages"].to_numpy() == 0
        self._zone_of_block = np.where(self._is_hole, -1, (memory["node"].fill_null(0).to_numpy() * MAX_NR_ZONES
                                       + memory["zone"].combine_chunks().indices.fill_null(0).to_numpy()))
        machine.fold_counters()
        self._events_at_start = machine.zones["event"][self._zones].copy()
        self._times, self._windows = [], 0
        self._groups = {"samples": [], "pageblocks": [], "progress": []}
        self._writers = {}
        pq.write_table(memory, self._folder / "memory.parquet", compression="zstd")

    @property
    def samples(self):
        """Samples taken so far; after `close`, those kept."""
        return len(self._times)

    def is_due(self, time_ns):
        return time_ns >= self.next_time_ns

    def sample(self, machine, time_ns, **progress):
        """Take one sample.

        Parameters
        ----------
        machine : mm.Machine
            The one the sampler was made for.
        time_ns : int
            Simulated time.  Lines of several CPUs may step back a little: a time before the last sample's counts as
            that one.
        **progress : int
            What the driver has counted so far, by the names in `PROGRESS`.
        """
        time_ns = max(int(time_ns), self._times[-1] if self._times else 0)
        unknown = progress.keys() - PROGRESS.keys()
        if unknown:
            raise ValueError(f"progress {sorted(unknown)}: there are {', '.join(PROGRESS)}")
        machine.fold_counters()
        nr_free, free_pages = sampling.free_blocks(machine)
        types = np.where(self._is_hole, NO_MEMORY, machine.pageblock_flags & 7).astype(np.uint8)
        self._groups["samples"].append(self._zone_rows(machine, time_ns, nr_free[self._zones], types))
        self._groups["pageblocks"].append((time_ns, types.tobytes(), free_pages.astype("<u2").tobytes()))
        self._groups["progress"].append((time_ns, *(progress.get(name) for name in PROGRESS)))
        self._count_window(time_ns)
        if len(self._groups["samples"]) >= min(GROUP_SAMPLES, max(1, GROUP_BYTES // (3 * len(types)))):
            self._flush()

    def _zone_rows(self, machine, time_ns, nr_free, types):
        """The integer columns of the samples table up to the counters, a row a zone."""
        nrs, n = self._zones, len(self._zones)
        zones, pcp = machine.zones[nrs], machine.pageset[nrs]
        seen = np.maximum(zones["vm_stat"][:, NR_FREE_PAGES], 0)
        true = np.maximum(zones["vm_stat"][:, NR_FREE_PAGES] + pcp["vm_stat_diff"][:, :, NR_FREE_PAGES].sum(axis=1), 0)
        marks = zones["watermark"][:, :len(WATERMARKS)]
        below = seen[:, None] <= marks + zones["watermark_boost"][:, None]
        blocks = [np.bincount(types[self._zone_of_block == nr], minlength=len(TYPES))[:len(TYPES)] for nr in nrs]
        return np.column_stack([np.full(n, time_ns), nrs // MAX_NR_ZONES, nrs % MAX_NR_ZONES, true,
                                pcp["count"].sum(axis=1), zones["watermark_boost"], marks, below,
                                nr_free.reshape(n, -1), np.stack(blocks), zones["event"] - self._events_at_start])

    def _count_window(self, time_ns):
        """Note the time; double the interval while too many of its windows hold a sample."""
        start = self._times[0] if self._times else time_ns
        if not self._times or (time_ns - start) // self.interval_ns != (self._times[-1] - start) // self.interval_ns:
            self._windows += 1
        self._times.append(time_ns)
        while self._windows > self.max_samples:
            self.interval_ns *= 2
            self._windows = int(self._is_kept().sum())
        self.next_time_ns = start + ((time_ns - start) // self.interval_ns + 1) * self.interval_ns

    def _is_kept(self):
        """Of all samples: is it the first of its window?"""
        times = np.array(self._times)
        return np.diff((times - times[0]) // self.interval_ns, prepend=-1) != 0

    def _flush(self):
        for name, rows in self._groups.items():
            if not rows:
                continue
            if name == "samples":
                table = _samples_table(np.concatenate(rows))
            else:
                columns = zip(*rows, strict=True)
                table = pa.table([pa.array(c, kind) for c, (_, kind, _) in zip(columns, TABLES[name], strict=True)],
                                 schema=schema(name))
            if name not in self._writers:
                path = self._folder / f"{name}.parquet"
                self._writers[name] = pq.ParquetWriter(path, schema(name), compression="zstd")
            self._writers[name].write_table(table, row_group_size=len(table))
            rows.clear()

    def close(self):
        """Write what is left and thin the tables to even spacing; returns the number of samples kept."""
        if not self._times:
            raise ValueError("no sample was taken: sample the machine at least once, at its start")
        self._flush()
        for writer in self._writers.values():
            writer.close()
        is_kept = self._is_kept()
        is_kept[-1] = True
        if not is_kept.all():
            for name in self._writers:
                rows = np.repeat(is_kept, len(self._zones)) if name == "samples" else is_kept
                _thin(self._folder / f"{name}.parquet", rows)
        self._times = list(np.array(self._times)[is_kept])
        return len(self._times)

    def abort(self):
        """Close the files without finishing them."""
        for writer in self._writers.values():
            writer.close()


def _samples_table(rows):
    """The samples table of integer rows; the indices are derived here, for all rows at once."""
    columns = dict(zip((name for name, _, _ in TABLES["samples"]), rows.T, strict=False))
    first = [name for name, _, _ in TABLES["samples"]].index("free_o0_unmovable_blocks")
    nr_free = rows[:, first:first + MAX_ORDER * len(TYPES)].reshape(-1, MAX_ORDER, len(TYPES)).sum(axis=2)
    unusable, extfrag = fragmentation.unusable_free_index(nr_free), fragmentation.fragmentation_index(nr_free)
    for order in range(MAX_ORDER):
        columns[f"unusable_o{order}_ratio"] = unusable[:, order] / 1000
        columns[f"fragmentation_o{order}_ratio"] = extfrag[:, order] / 1000
    columns["free_huge_blocks"], columns["ideal_huge_blocks"] = fragmentation.free_huge_blocks(nr_free)
    columns["zone"] = pa.DictionaryArray.from_arrays(columns["zone"].astype(np.int8), list(ZONE_NAMES))
    arrays = []
    for name, kind, _ in TABLES["samples"]:
        values = columns[name]
        arrays.append(values if isinstance(values, pa.Array) else pa.array(values.astype(kind.to_pandas_dtype())))
    return pa.table(arrays, schema=schema("samples"))


def _thin(path, is_kept):
    """Rewrite a table with the rows of the mask, a row group at a time."""
    thin = path.with_suffix(".thin")
    with pq.ParquetFile(path) as source, pq.ParquetWriter(thin, source.schema_arrow, compression="zstd") as target:
        start, waiting = 0, []
        for group in range(source.num_row_groups):
            table = source.read_row_group(group)
            waiting.append(table.filter(pa.array(is_kept[start:start + len(table)])))
            start += len(table)
            is_full = sum(map(len, waiting)) >= GROUP_SAMPLES or sum(part.nbytes for part in waiting) >= GROUP_BYTES
            if is_full or group == source.num_row_groups - 1:
                merged = pa.concat_tables(waiting)
                target.write_table(merged, row_group_size=max(len(merged), 1))
                waiting.clear()
    thin.replace(path)
