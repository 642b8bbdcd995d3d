"""How far a CPU's part of a counter may drift from the global one.

Linux: mm/vmstat.c (calculate_normal_threshold, calculate_pressure_threshold, refresh_zone_stat_thresholds).
Modelled: thresholds of zone counters and percpu_drift_mark.  Not modelled: the thresholds of node counters (the core's
node counters have no per-CPU part).
Invariant: a drift mark once set is never taken back, as in Linux.  Cost: Python, a few microseconds a zone.
"""

from mm.physical.page_alloc import WMARK_HIGH, WMARK_LOW, WMARK_MIN, populated_zones, wmark_pages, zone_managed_pages

MAX_THRESHOLD = 125


def fls(x):
    """Number of the highest set bit, counted from 1; 0 for 0."""
    return x.bit_length()


def calculate_normal_threshold(core, nr, nr_cpus=None):
    """Threshold by the CPUs and the zone's size in units of 128 MiB; at most 125 pages."""
    nr_cpus = int(core.g["nr_cpus"][0]) if nr_cpus is None else nr_cpus
    return min(MAX_THRESHOLD, 2 * fls(nr_cpus) * (1 + fls(zone_managed_pages(core, nr) >> 15)))


def calculate_pressure_threshold(core, nr):
    """Threshold while kswapd is awake: all CPUs together cannot hide the distance from the low to the min mark."""
    distance = wmark_pages(core, nr, WMARK_LOW) - wmark_pages(core, nr, WMARK_MIN)
    return min(MAX_THRESHOLD, max(1, distance // int(core.g["nr_cpus"][0])))


def refresh_zone_stat_thresholds(core, nr_online_cpus=None):
    """Set the normal thresholds, and the drift mark of zones where drift could hide a breach of the min mark."""
    nr_online_cpus = int(core.g["nr_cpus"][0]) if nr_online_cpus is None else nr_online_cpus
    for nr in populated_zones(core):
        threshold = calculate_normal_threshold(core, nr, nr_online_cpus)
        core.pageset["stat_threshold"][nr, :nr_online_cpus] = threshold
        max_drift = nr_online_cpus * threshold
        if max_drift > wmark_pages(core, nr, WMARK_LOW) - wmark_pages(core, nr, WMARK_MIN):
            core.zones["percpu_drift_mark"][nr] = wmark_pages(core, nr, WMARK_HIGH) + max_drift


def set_pgdat_percpu_threshold(core, nid, calculate):
    """Set the thresholds of a node's zones that have a drift mark; `calculate(core, zone)` gives each."""
    for nr in populated_zones(core):
        if int(core.zones["nid"][nr]) == nid and core.zones["percpu_drift_mark"][nr]:
            core.pageset["stat_threshold"][nr] = calculate(core, nr)
