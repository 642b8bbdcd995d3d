"""Replay of native traces: events a second, two machines on two threads, growth with the size of the machine.

Unit: million events a second, thread CPU time (wall time for two threads), best of some rounds.  Size: 2 million events of
a seeded random mix (half of 4 GiB held, orders 0 to 3 and 9) and of alloc/free pairs; the recorded workload of `mm demo`.
Goals: 30 M events/s on one thread; two machines on two threads 1.8 times one; ns an event at most doubled from 4 GiB to
1 TiB; a 1 TiB machine booted within 10 s and 8 GiB resident.  Roofline beside it: reading the same columns with NumPy.

    pytest bench/bench_replay.py -s --benchmark-disable
"""

import concurrent.futures
import os
import pathlib
import resource
import time

import numpy as np
import pytest

import mm
from mm.sim.replay import replay
from mm.sim.trace.convert import convert

ROUNDS = int(os.environ.get("MM_BENCH_ROUNDS", "4"))
EVENTS = int(os.environ.get("MM_BENCH_EVENTS", "2000000"))
NR_PAGES = 1 << 20
ORDERS, SHARES = np.array([0, 1, 2, 3, 9], np.uint8), (0.9, 0.04, 0.03, 0.02, 0.01)
GOAL_EVENTS_PER_S, GOAL_THREADS, GOAL_GROWTH = 30e6, 1.8, 2.0
BIG_BYTES = 10 << 30


def random_mix(events, pages, seed=7):
    """Columns op, handle, order: hold half of the pages, free a random block, allocate until half is held again."""
    rng = np.random.default_rng(seed)
    orders, draws = rng.choice(ORDERS, events, p=SHARES).tolist(), rng.random(events).tolist()
    rows, live, spare, held, fresh = [], [], [], 0, 0
    while len(rows) < events:
        if held < pages // 2:
            handle = spare.pop() if spare else fresh
            fresh += handle == fresh
            order = orders[len(rows)]
            rows.append((0, handle, order))
            live.append((handle, order))
            held += 1 << order
        else:
            at = int(draws[len(rows)] * len(live))
            (handle, order), live[at] = live[at], live[-1]
            live.pop()
            rows.append((1, handle, order))
            spare.append(handle)
            held -= 1 << order
    return np.array(rows, np.uint32).T


def native(op, handle, order, path):
    """The columns as a trace file, memory-mapped."""
    gfp = np.full(len(op), mm.GFP_HIGHUSER_MOVABLE, np.uint32)
    mm.Trace.from_arrays(op.astype(np.uint8), order.astype(np.uint8), gfp, handle).save(path, compression=None)
    return mm.Trace.open(path)


@pytest.fixture(scope="module")
def mix(tmp_path_factory):
    op, handle, order = random_mix(EVENTS, NR_PAGES)
    return native(op, handle, order, tmp_path_factory.mktemp("bench") / "mix.trace")


@pytest.fixture(scope="module")
def machine():
    return mm.Machine("4G", zones=["Normal"], cpus=4)


def seconds(machine, trace, rounds=ROUNDS):
    """Least thread CPU seconds of a replay from the same start state."""
    times = []
    for _ in range(rounds):
        m = machine.copy()
        start = time.thread_time()
        replay(m, trace)
        times.append(time.thread_time() - start)
    m.verify()
    return min(times)


def show(what, events, spent, goal=GOAL_EVENTS_PER_S):
    rate = events / spent
    print(f"\n{what}: {rate / 1e6:.1f} M events/s, {spent / events * 1e9:.1f} ns an event; goal {goal / 1e6:.0f}: "
          f"{'met' if rate >= goal else 'MISSED'}")
    assert rate > 0


def test_random_mix(machine, mix):
    spent = seconds(machine, mix)
    start = time.thread_time()
    sum(int(batch[name].sum()) for batch in mix for name in ("op", "order", "cpu", "gfp", "handle", "pfn"))
    print(f"\nreading the columns alone: {(time.thread_time() - start) / len(mix) * 1e9:.1f} ns an event", end="")
    show("random mix", len(mix), spent)


def test_pairs(machine, tmp_path):
    op = np.tile(np.array([0, 1]), EVENTS // 2)
    trace = native(op, np.zeros(len(op), np.uint32), np.zeros(len(op)), tmp_path / "pairs.trace")
    show("alloc/free pairs", len(trace), seconds(machine, trace))


def test_recorded_workload(tmp_path):
    """With refills and drains attached and hidden allocations inferred; no goal, it is short."""
    folder = pathlib.Path(mm.__file__).parent / "sim" / "demo"
    convert(folder / "trace.txt.zst", tmp_path / "demo.trace")
    trace = mm.Trace.open(tmp_path / "demo.trace")
    show("recorded workload, inferring", len(trace), seconds(mm.Machine.from_snapshot(folder / "snap-before.npz"), trace), 0)


def test_two_machines_on_two_threads(machine, mix):
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one processor")
    ratios = []
    for _ in range(ROUNDS):
        one, two = machine.copy(), [machine.copy(), machine.copy()]
        start = time.perf_counter()
        replay(one, mix, keep_results=False)
        alone = time.perf_counter() - start
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            start = time.perf_counter()
            list(pool.map(lambda m: replay(m, mix, keep_results=False), two))
            ratios.append(2 * alone / (time.perf_counter() - start))
    print(f"\ntwo machines on two threads: {max(ratios):.2f} times the throughput of one (median {np.median(ratios):.2f}); "
          f"goal {GOAL_THREADS}: {'met' if max(ratios) >= GOAL_THREADS else 'MISSED'}")
    assert max(ratios) > 0


def test_growth_to_one_terabyte(machine, mix):
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if free < BIG_BYTES:
        pytest.skip(f"{free >> 30} GiB of memory free, a 1 TiB machine and its copy want {BIG_BYTES >> 30}")
    small = seconds(machine, mix, 1)
    start = time.perf_counter()
    big = mm.Machine("1T", zones=["Normal"], cpus=4)
    boot = time.perf_counter() - start
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    start = time.thread_time()
    replay(big, mix)
    growth = (time.thread_time() - start) / small
    print(f"\n1 TiB: booted in {boot:.1f} s (goal 10), {resident:.1f} GiB resident (goal 8), {growth:.2f} times the ns an "
          f"event of 4 GiB (goal {GOAL_GROWTH}): {'met' if growth <= GOAL_GROWTH else 'MISSED'}")
    assert growth > 0
