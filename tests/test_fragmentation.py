"""The fragmentation indices against the specification, a plain twin, and what a real kernel printed."""

import pathlib

import numpy as np
import pytest

from mm.physical import fragmentation

PROC = pathlib.Path(__file__).parent / "recordings" / "proc"


def blocks(**counts):
    """nr_free with o<order>=<blocks>."""
    nr_free = np.zeros(11, np.int64)
    for name, count in counts.items():
        nr_free[int(name[1:])] = count
    return nr_free


def twin(nr_free, order):
    """(unusable, fragmentation, extfrag) of one state, step by step with Python's integers."""
    free = sum(int(n) << i for i, n in enumerate(nr_free))
    total = sum(int(n) for n in nr_free)
    suitable = sum(int(n) << (i - order) for i, n in enumerate(nr_free) if i >= order)
    unusable = (free - (suitable << order)) * 1000 // free if free else 1000
    if total == 0:
        index = 0
    elif suitable:
        index = -1000
    else:
        index = 1000 - (1000 + free * 1000 // (1 << order)) // total
    return unusable, index, (free - (suitable << order)) * 100 // free if free else 0


@pytest.mark.spec("PA-19")
@pytest.mark.parametrize(("pages", "index"), [(1000, 937), (10, 838)])
def test_only_single_pages_free_is_fragmentation_for_order_4(pages, index):
    nr_free = blocks(o0=pages)
    assert fragmentation.fragmentation_index(nr_free, 4) == index
    assert fragmentation.unusable_free_index(nr_free, 4) == 1000


@pytest.mark.spec("PA-19")
def test_a_suitable_block_makes_the_index_minus_one():
    nr_free = blocks(o0=1000, o5=1)
    assert fragmentation.fragmentation_index(nr_free, 4) == -1000
    assert fragmentation.fragmentation_index(nr_free, 6) > 0
    assert fragmentation.unusable_free_index(nr_free, 4) == 1000 * 1000 // 1032


@pytest.mark.spec("PA-19")
def test_nothing_free_is_lack_of_memory_and_wholly_unusable():
    nr_free = blocks()
    assert fragmentation.fragmentation_index(nr_free).tolist() == [0] * 11
    assert fragmentation.unusable_free_index(nr_free).tolist() == [1000] * 11
    assert fragmentation.extfrag_for_order(nr_free).tolist() == [0] * 11


def test_a_single_block_gives_a_negative_index_as_in_linux():
    # 1000 - (1000 + 512 * 1000 / 1024) / 1
    assert fragmentation.fragmentation_index(blocks(o9=1), 10) == -500


def test_random_states_equal_the_twin():
    rng = np.random.default_rng(5)
    nr_free = rng.integers(0, 1 << rng.integers(0, 20, (400, 11)), dtype=np.int64)
    nr_free[rng.random((400, 11)) < 0.5] = 0
    unusable = fragmentation.unusable_free_index(nr_free)
    index = fragmentation.fragmentation_index(nr_free)
    extfrag = fragmentation.extfrag_for_order(nr_free)
    for i, order in np.ndindex(400, 11):
        assert (unusable[i, order], index[i, order], extfrag[i, order]) == twin(nr_free[i], order)


def test_one_order_equals_its_column_of_all_orders_in_any_shape():
    nr_free = np.random.default_rng(6).integers(0, 50, (3, 4, 11))
    for name in ("unusable_free_index", "fragmentation_index", "extfrag_for_order"):
        function = getattr(fragmentation, name)
        every = function(nr_free)
        assert every.shape == (3, 4, 11)
        for order in range(11):
            one = function(nr_free, order)
            assert one.shape == (3, 4)
            assert (one == every[..., order]).all()


def test_free_huge_blocks_never_exceed_the_ideal():
    free, ideal = fragmentation.free_huge_blocks(np.stack([blocks(o9=3, o10=2), blocks(o8=6), blocks(o0=511)]))
    assert free.tolist() == [7, 0, 0]
    assert ideal.tolist() == [7, 3, 0]


@pytest.mark.parametrize("dataset", ["J1", "J2"])
def test_unusable_index_is_what_the_kernel_printed(dataset):
    buddyinfo = (PROC / dataset / "buddyinfo0.txt").read_text().splitlines()
    printed = (PROC / dataset / "unusable0.txt").read_text().splitlines()
    nr_free = np.array([line.split()[4:] for line in buddyinfo], np.int64)
    wanted = [[round(float(x) * 1000) for x in line.split()[4:]] for line in printed]
    assert fragmentation.unusable_free_index(nr_free).tolist() == wanted


@pytest.mark.parametrize("order", [-1, 11, 20])
def test_an_order_that_does_not_exist_is_refused(order):
    with pytest.raises(ValueError, match="0 to 10"):
        fragmentation.fragmentation_index(blocks(o0=1), order)


@pytest.mark.parametrize("nr_free", [5, np.zeros(10, int), np.zeros((11, 3), int), np.full(11, -1), np.zeros(11)])
def test_counts_that_make_no_sense_are_refused(nr_free):
    with pytest.raises(ValueError, match="nr_free"):
        fragmentation.unusable_free_index(nr_free)
