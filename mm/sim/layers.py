"""Layers: which part of the allocator served how many requests, and how often the zone lock was needed.

Linux: none; the lock is zone->lock in mm/page_alloc.c (rmqueue_bulk, free_pcppages_bulk, rmqueue_buddy, free_one_page).
Modelled: counts.  Not modelled: what waiting for a lock costs.  Cost: a sum over zones.
"""

from mm._fast.vm_event_item import numa_stat_item, zone_event_item
from mm.errors import VMBug

EVENTS = ("PCP_HIT", "PCP_REFILL", "PCP_DRAIN", "BUDDY_ALLOC", "BUDDY_FREE", "ALLOC_FALLBACK", "ALLOC_SLOW",
          "ALLOC_SLOW_HIT")


def counters(machine):
    """{name: sum over zones} of the counters that `layers` uses, to be passed to a later call as `since`."""
    machine.fold_counters()
    events, numa = machine.zones["event"].sum(axis=0), machine.zones["numa_event"].sum(axis=0)
    found = {name: int(events[int(zone_event_item[name])]) for name in EVENTS}
    found["ALLOCATIONS"] = int(numa[int(numa_stat_item.NUMA_HIT)] + numa[int(numa_stat_item.NUMA_MISS)])
    return found


def layers(machine, since=None):
    """Shares of the layers in the allocations of a machine.

    Parameters
    ----------
    machine : mm.Machine
    since : dict, optional
        What `counters` returned earlier; only what came after counts.  Needed where the counters began before the
        machine did: from a snapshot.

    Returns
    -------
    dict
        `allocations`, and how many of them each layer served: `pcp`, a per-CPU list that was not empty; `smallest`, the
        smallest sufficient block of the own type, taken at once or to refill a list; `fallback`, the same with a
        block of another type; `slow`, any of these below the low mark.  The four sum to `allocations`, their `shares`
        to 1.  `zone_lock`: acquisitions of zone locks: refills, drains, and requests and frees that went straight to
        the free lists.

    Raises
    ------
    mm.VMBug
        The counters do not account for every allocation.
    """
    n = counters(machine)
    for name in since or ():
        n[name] -= since[name]
    total = n["ALLOCATIONS"]
    served = {"pcp": n["PCP_HIT"] - n["ALLOC_SLOW_HIT"], "fallback": n["ALLOC_FALLBACK"], "slow": n["ALLOC_SLOW"]}
    served["smallest"] = total - sum(served.values())
    if not 0 <= served["smallest"] <= n["PCP_REFILL"] + n["BUDDY_ALLOC"]:
        raise VMBug(f"{total} allocations, but {served['pcp']} from per-CPU lists, {served['fallback']} by fallback, "
                    f"{served['slow']} below the low mark, {n['PCP_REFILL']} refills and {n['BUDDY_ALLOC']} blocks")
    return {"allocations": total, **served, "shares": {name: k / total if total else 0.0 for name, k in served.items()},
            "zone_lock": n["PCP_REFILL"] + n["PCP_DRAIN"] + n["BUDDY_ALLOC"] + n["BUDDY_FREE"]}
