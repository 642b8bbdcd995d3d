"""Zonelists: node order for distances, zone order inside a node, recorded lists."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm.physical.mmzone import build_all_zonelists, fallback_orders, find_next_best_node, zones_of_node
from mm.sim import snapshot as snapshots
from mm.sim.machine import Machine


def flat(n, far=20):
    return [[10 if i == j else far for j in range(n)] for i in range(n)]


@pytest.mark.spec("PA-11")
def test_four_equal_nodes_are_used_in_turn():
    assert fallback_orders(flat(4), [True] * 4, [True] * 4) == [[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1], [3, 0, 1, 2]]


@pytest.mark.spec("PA-11")
def test_zones_of_two_nodes():
    m = Machine(memory_map=[(1 << 20, (9 << 30) - (1 << 20))], nodes=[(5 << 30) - (1 << 20), 4 << 30],
                zones=["DMA", "DMA32", "Normal"], cpus=2)
    normal0, dma32, dma, normal1 = 2, 1, 0, 7
    assert m.zonelists[0, 0, :5].tolist() == [normal0, dma32, dma, normal1, -1]
    assert m.zonelists[1, 0, :5].tolist() == [normal1, normal0, dma32, dma, -1]
    assert m.zonelists[0, 1, :4].tolist() == [normal0, dma32, dma, -1]
    assert m.zonelists[1, 1, :2].tolist() == [normal1, -1]


def test_nearer_nodes_first_lower_numbers_a_little_further():
    ring = [[10, 12, 14, 12], [12, 10, 12, 14], [14, 12, 10, 12], [12, 14, 12, 10]]
    orders = fallback_orders(ring, [True] * 4, [True] * 4)
    assert [order[0] for order in orders] == [0, 1, 2, 3]
    assert orders[0] == [0, 1, 3, 2] and orders[1] == [1, 2, 0, 3] and orders[3][-1] == 1


def test_nodes_without_cpus_are_preferred_once_cpus_are_known():
    assert fallback_orders(flat(3), [True] * 3, [True, True, False])[0] == [0, 2, 1]
    assert fallback_orders(flat(3), [True] * 3, [False] * 3)[0] == [0, 1, 2]
    m = Machine(zones=["Normal"], nodes=["64M"] * 3, cpus=[0, 1])
    assert m.zonelists[0, 0, :3].tolist() == [2, 7, 12], "boot builds the lists before CPUs are known"
    build_all_zonelists(m)
    assert m.zonelists[0, 0, :3].tolist() == [2, 12, 7]
    m.start()


def test_nodes_without_memory_have_lists_but_are_in_none():
    m = Machine(zones=["Normal"], nodes=["64M", 0, "64M"], cpus=[0, 1, 2])
    assert m.zonelists[1, 0, :3].tolist() == [12, 2, -1], "node 2 follows 1; 0 counts as one further"
    assert m.zonelists[1, 1, 0] == -1
    assert 7 not in m.zonelists
    pfn = m.alloc_pages(0xcc0, cpu=1)
    assert pfn >= 16384


def test_load_moves_the_second_choice():
    """Source: find_next_best_node; each order's first node of a new distance is charged."""
    used, load = {0}, [0, 1, 0]
    assert find_next_best_node(0, used, flat(3), [True] * 3, [True] * 3, load) == 2
    assert used == {0, 2}
    assert find_next_best_node(0, {0, 1, 2}, flat(3), [True] * 3, [True] * 3, load) is None


@given(st.integers(1, 6).flatmap(lambda n: st.tuples(
    st.lists(st.lists(st.integers(11, 40), min_size=n, max_size=n), min_size=n, max_size=n),
    st.lists(st.booleans(), min_size=n, max_size=n), st.lists(st.booleans(), min_size=n, max_size=n))))
def test_orders_hold_every_memory_node_once_own_node_first(case):
    distance, has_memory, has_cpus = case
    for i in range(len(distance)):
        distance[i][i] = 10
    for nid, order in enumerate(fallback_orders(distance, has_memory, has_cpus)):
        assert order[0] == nid
        assert sorted(order[1:]) == [n for n, has in enumerate(has_memory) if has and n != nid]
        for a, b in itertools.pairwise(order[1:]):
            assert distance[nid][a] <= distance[nid][b] + 2, "penalties are at most 2"


def test_zones_of_a_node_run_from_the_highest_type_down():
    m = Machine("6G", kernelcore="4G")
    assert zones_of_node(m, 0) == [3, 2, 1, 0]


@pytest.mark.parametrize("name, kwargs", [("G2n", {"memory": "1G", "nodes": 2, "cpus": 2}), ("G6144", {"memory": "6G"}),
                                          ("E1", {"memory": "768M", "nodes": 2, "cpus": 2})])
def test_lists_are_the_recorded_ones(name, kwargs, recording):
    directory = recording(name)
    path = next(p for p in (directory / "snap-boot.npz", directory / "snap-before.npz") if p.exists())
    m, snapshot = Machine(**kwargs), snapshots.read_snapshot(path)
    for (nid, kind, count), refs in snapshot.segments("zlst"):
        want = [snapshots.zone_number(n, z) for n, z in refs.reshape(-1, 2)]
        assert m.zonelists[nid, kind, :count + 1].tolist() == [*want, -1]
