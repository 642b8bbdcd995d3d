"""Judge boot and sysctl writes against recordings of a real kernel.

A dataset holds `iomem.txt`, `meta.json`, `snap-boot.npz`, maybe `dmesg.txt`, and a snapshot after each sysctl write.
Boot: a machine is booted from the firmware map, the CPUs and the nodes alone; every figure that does not depend on what
ran since is compared: spans, present and managed pages, marks, reserves, per-CPU limits, thresholds, zonelists, which
frames are reserved, what boot printed.  Writes: from the recorded state after boot each recorded write is done through
`m.sysctl`; then every limit is compared with the next snapshot.
"""

import pathlib
import re
import time

import numpy as np

from mm._fast.state import pageflags
from mm.physical.e820 import e820_from_iomem, parse_iomem
from mm.physical.setup_arch import DEBIAN_6_1
from mm.sim import snapshot as snapshots
from mm.sim.machine import Machine
from mm.sim.sysctl import KNOBS

PG_valid, PG_reserved = int(pageflags.PG_valid), int(pageflags.PG_reserved)
MAX_LABEL = 31              # characters of a label that the recording kept
GLOB_SETUP = ("min_free_kbytes", "user_min_free_kbytes", "watermark_boost_factor", "watermark_scale_factor",
              "percpu_pagelist_high_fraction", "totalreserve_pages", "node_reclaim_mode")
GLOB_BOOT = ("page_group_by_mobility_disabled", "gfp_allowed_mask", "totalram_pages")
NODE_SETUP = ("totalreserve_pages", "min_unmapped_pages", "min_slab_pages")
NODE_BOOT = ("node_start_pfn", "node_spanned_pages", "node_present_pages")
ZONE_SETUP = ("pageset_high", "pageset_batch", "percpu_drift_mark")
ZONE_BOOT = ("zone_start_pfn", "spanned_pages", "present_pages", "managed_pages")
WMARKS = ("wmark_min", "wmark_low", "wmark_high", "wmark_promo")
RESERVES = ("lowmem_reserve0", "lowmem_reserve1", "lowmem_reserve2", "lowmem_reserve3", "lowmem_reserve_last")
PCP_SETUP = ("high", "batch", "stat_threshold")


class NotModelled(ValueError):
    """A recording of something the model does not have; says what."""


def verify_boot(directory, results=None):
    """Judge one dataset; a result row of `mm verify`.

    Parameters
    ----------
    directory : str or path-like
    results : ignored
        Boot has no results to keep; here for the form that all judges share.

    Returns
    -------
    dict
        dataset, kind, status ("ok", "short", "not_modelled"), matched and total items, lists_equal (zonelists and
        reserved frames), seconds, why.
    """
    directory = pathlib.Path(directory)
    start = time.perf_counter()
    items, status, why = [], None, ""
    try:
        boot = snapshots.read_snapshot(directory / "snap-boot.npz")
        machine = boot_as_recorded(directory, boot.meta)
        machine.verify()
        items += setup_items(boot, machine) + boot_items(boot, machine) + frame_items(boot, machine)
        items += log_items(directory, machine)
        items += write_items(directory, boot.meta)
    except NotModelled as error:
        status, why = "not_modelled", str(error)
    wrong = [(name, want, have) for name, want, have in items if want != have]
    status = status or ("short" if wrong or not items else "ok")
    return {"dataset": directory.resolve().name, "kind": "boot", "status": status,
            "matched": len(items) - len(wrong), "total": len(items),
            "lists_equal": bool(items) and not any(name.startswith("list ") for name, _, _ in wrong),
            "seconds": round(time.perf_counter() - start, 3),
            "why": why or "; ".join(f"{name}: recorded {want}, model {have}" for name, want, have in wrong[:5])}


def boot_as_recorded(directory, meta):
    """A machine booted from the firmware map, CPUs and node sizes of a dataset."""
    path = directory / "iomem.txt"
    try:
        text = path.read_text()
        check_kernel_image(text)
        table = e820_from_iomem(text)
    except FileNotFoundError:
        raise snapshots.SnapshotError(f"{path}: missing; boot starts from the firmware map") from None
    except UnicodeDecodeError as error:
        raise snapshots.SnapshotError(f"{path}: not text: {error}") from None
    except NotModelled:
        raise
    except ValueError as error:
        raise snapshots.SnapshotError(f"{path}: {error}") from None
    cpu_node = meta.get("cpu_node") or [0] * int(meta.get("smp", 1))
    sizes = re.findall(r"-object memory-backend-\w+,[^ ]*\bsize=(\w+)", meta.get("qemu", ""))
    if sizes:       # the nodes' sizes count what firmware keeps, so the map alone cannot place their borders
        return Machine(nodes=sizes, cpus=cpu_node)
    return Machine(memory_map=table.entries, cpus=cpu_node)


def check_kernel_image(text):
    """The reserved frames of the image are those of one build: refuse another."""
    parts = {r.name: r for r in parse_iomem(text) if r.name.startswith("Kernel ")}
    image = DEBIAN_6_1.kernel
    if not {"Kernel code", "Kernel bss"} <= parts.keys():
        raise NotModelled("iomem names no kernel image")
    start, end = parts["Kernel code"].start, parts["Kernel bss"].end
    if start != image[0][1] or end not in (base for _, base, _, _ in image):
        raise NotModelled(f"the kernel image [{start:#x}, {end:#x}) is not the one whose reservations are known")


# ------------------------------------------------------------------------------- items: (name, recorded, model)

def rows_of(table):
    """(index, zone number) of each row of a zone or pcp table."""
    return [(i, snapshots.zone_number(table["nid"][i], table["zid"][i])) for i in range(len(table["nid"]))]


def setup_items(snapshot, machine):
    """Limits that boot and sysctl writes compute."""
    glob, node, zone, pcp = (snapshot.table(name) for name in ("glob", "node", "zone", "pcp"))
    items = [(name, int(glob[name][0]), int(machine.g[name][0])) for name in GLOB_SETUP]
    items += [(f"lowmem_reserve_ratio[{i}]", int(glob[f"lowmem_reserve_ratio{i}"][0]),
               int(machine.g["lowmem_reserve_ratio"][0, i])) for i in range(4)]
    for i, nid in enumerate(node["nid"].tolist()):
        items += [(f"node {nid} {name}", int(node[name][i]), int(machine.nodes[name][nid])) for name in NODE_SETUP]
    for i, nr in rows_of(zone):
        z, where = machine.zones[nr], f"zone {nr} "
        items += [(where + name, int(zone[name][i]), int(z[name])) for name in ZONE_SETUP]
        items += [(where + name, int(zone[name][i]), int(z["watermark"][k])) for k, name in enumerate(WMARKS)]
        items += [(where + name, int(zone[name][i]), int(z["lowmem_reserve"][k])) for k, name in enumerate(RESERVES)]
    for i, nr in rows_of(pcp):
        cpu = int(pcp["cpu"][i])
        items += [(f"zone {nr} cpu {cpu} {name}", int(pcp[name][i]), int(machine.pageset[name][nr, cpu]))
                  for name in PCP_SETUP]
    return items


def boot_items(snapshot, machine):
    """Figures that only boot sets."""
    glob, node, zone = (snapshot.table(name) for name in ("glob", "node", "zone"))
    items = [(name, int(glob[name][0]), int(machine.g[name][0])) for name in GLOB_BOOT]
    for i, nid in enumerate(node["nid"].tolist()):
        items += [(f"node {nid} {name}", int(node[name][i]), int(machine.nodes[name][nid])) for name in NODE_BOOT]
    for i, nr in rows_of(zone):
        items += [(f"zone {nr} {name}", int(zone[name][i]), int(machine.zones[name][nr])) for name in ZONE_BOOT]
    for (nid, kind, _count), refs in snapshot.segments("zlst"):
        want = [snapshots.zone_number(n, z) for n, z in np.asarray(refs).reshape(-1, 2)]
        have = machine.zonelists[nid, kind]
        items.append((f"list zonelist {nid},{kind}", want, have[have >= 0].tolist()))
    return items


def frame_items(snapshot, machine):
    """Which frames exist and which are reserved, a zone an item; types of pageblocks that nothing could change."""
    items, is_reserved = [], np.zeros(len(machine.page), bool)
    for (nid, zid, first, count), data in snapshot.segments("page"):
        have = machine.page["flags"][first:first + count]
        want_valid, want_reserved = data & snapshots.PAGE_VALID != 0, data & snapshots.PAGE_RESERVED != 0
        is_reserved[first:first + count] = ~want_valid | want_reserved
        wrong_valid = int((want_valid != (have & PG_valid != 0)).sum())
        wrong_reserved = int((want_reserved != (have & PG_reserved != 0)).sum())
        items.append((f"list frames of node {nid} zone {zid} that are wrongly holes or not", 0, wrong_valid))
        items.append((f"list frames of node {nid} zone {zid} that are wrongly reserved or not", 0, wrong_reserved))
    size = snapshots.PAGES_PER_BLOCK
    for (nid, zid, first, count), data in snapshot.segments("pblk"):
        first //= size
        whole = is_reserved[first * size:(first + count) * size].reshape(-1, size).all(axis=1)
        judged = whole & (data[:len(whole)] != 255)
        have = machine.pageblock_flags[first:first + len(whole)]
        wrong = int((judged & (data[:len(whole)] & 7 != have & 7)).sum())
        items.append((f"list reserved pageblocks of node {nid} zone {zid} of a wrong type", 0, wrong))
    return items


def log_items(directory, machine):
    """Lines that boot printed; each must stand in the recorded dmesg."""
    path = directory / "dmesg.txt"
    if not path.exists():
        return []
    printed = {re.sub(r"^\[ *\d+\.\d+\] ", "", line).rstrip() for line in path.read_text(errors="replace").splitlines()}
    # iomem shows the map after Linux changed it: the lines that print the firmware's own are not derivable
    lines = [line.rstrip() for line in machine.boot_log if not line.startswith("BIOS-e820")]
    return [("dmesg line", line, line if line in printed else "not printed") for line in lines]


# --------------------------------------------------------------------------------------------------- sysctl writes

def write_items(directory, meta):
    """Do the recorded writes one after another; limits after each."""
    labels = [label for label in meta.get("snapshots", []) if "=" in label]
    if not labels:
        return []
    items = []
    machine = Machine.from_snapshot(directory / "snap-boot.npz")
    for label in labels:
        after = snapshots.read_snapshot(directory / f"snap-{label}.npz")
        name, value = written(label, after)
        machine.sysctl[name] = value
        machine.verify()
        items += [(f"after {label}: {what}", want, have) for what, want, have in setup_items(after, machine)]
    return items


def written(label, after):
    """(knob, value) of a label; digits that the label lost are read from the snapshot after the write."""
    name, _, value = label.partition("=")
    knob = KNOBS.get("vm." + name)
    if knob is None:
        raise NotModelled(f"vm.{name} is not modelled")
    if len(label) == MAX_LABEL and name in after.table("glob"):
        value = str(int(after.table("glob")[name][0]))
    return knob.name, value.replace(",", " ")
