"""Zonelists: in which order a node's requests try the zones of all nodes.

Linux: mm/page_alloc.c (find_next_best_node, build_zonelists, __build_all_zonelists), mm/mmzone.c.
Modelled: node order (there is no other in 6.1) for the fallback list and the list of the node's own zones.
Not modelled: memoryless-node remapping (numa_mem).
Invariants: a list names each zone at most once; inside a node from the highest type down.
Cost: nodes squared a list, at boot and after memory hotplug only.
"""

import numpy as np

from mm._fast.state import mm_limits

MAX_NR_ZONES = int(mm_limits.MAX_NR_ZONES)
LINUX_MAX_NUMNODES = 1024           # CONFIG_NODES_SHIFT=10; weighs distance against load
PENALTY_FOR_NODE_WITH_CPUS = 1
ZONELIST_FALLBACK, ZONELIST_NOFALLBACK = 0, 1


def find_next_best_node(nid, used, distance, has_memory, has_cpus, node_load):
    """The node that follows in a node's fallback order.

    Parameters
    ----------
    nid : int
        Whose order.
    used : set of int
        Nodes already in it; the answer is added.
    distance : sequence of sequence of int
        SLIT distances, 10 to itself.
    has_memory, has_cpus : sequence of bool
        By node.
    node_load : sequence of int
        How often each node was the first of its distance in orders built so far.

    Returns
    -------
    int or None
        The node itself first; then the nearest, a lower number and a node with CPUs counting as one further, the less
        loaded of equals, the lowest number of those.  None: all are used.
    """
    best = None
    if nid not in used:
        best = nid
    else:
        def cost(n):
            hops = distance[nid][n] + (n < nid) + (PENALTY_FOR_NODE_WITH_CPUS if has_cpus[n] else 0)
            return hops * LINUX_MAX_NUMNODES + node_load[n]
        best = min((n for n in range(len(has_memory)) if has_memory[n] and n not in used), key=cost, default=None)
    if best is not None:
        used.add(best)
    return best


def fallback_orders(distance, has_memory, has_cpus):
    """The order of nodes for each node, as build_all_zonelists makes them one after another.

    Returns
    -------
    list of list of int
    """
    node_load = [0] * len(has_memory)
    orders = []
    for nid in range(len(has_memory)):
        used, order, previous = set(), [], nid
        while (n := find_next_best_node(nid, used, distance, has_memory, has_cpus, node_load)) is not None:
            if distance[nid][n] != distance[nid][previous]:
                node_load[n] += 1       # the next order that meets this distance prefers another node
            order.append(n)
            previous = n
        orders.append(order)
    return orders


def zones_of_node(core, nid):
    """Numbers of a node's zones with managed pages, highest type first (build_zonerefs_node)."""
    first = nid * MAX_NR_ZONES
    managed = core.zones["managed_pages"][first:first + MAX_NR_ZONES]
    return (first + np.flatnonzero(managed))[::-1].tolist()


def build_all_zonelists(core, has_cpus=None):
    """Fill core.zonelists from distances and zones.

    Parameters
    ----------
    core : MachineCore
    has_cpus : sequence of bool, optional
        Nodes whose CPUs are known to be there; default: those with CPUs.  Boot passes none at all: on x86 the lists
        are built before any CPU is entered in its node's mask, so nodes without CPUs are not preferred until memory
        hotplug builds the lists anew.

    Returns
    -------
    list of list of int
        The order of nodes for each node.
    """
    has_memory = [bool(n) for n in core.nodes["node_present_pages"]]
    if has_cpus is None:
        has_cpus = [bool(n) for n in core.nodes["nr_cpus"]]
    orders = fallback_orders(core.node_distance.tolist(), has_memory, has_cpus)
    core.zonelists[:] = -1
    for nid, order in enumerate(orders):
        fallback = [nr for n in order for nr in zones_of_node(core, n)]
        own = zones_of_node(core, nid)
        core.zonelists[nid, ZONELIST_FALLBACK, :len(fallback)] = fallback
        core.zonelists[nid, ZONELIST_NOFALLBACK, :len(own)] = own
    return orders
