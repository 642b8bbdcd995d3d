"""What a user would write without this package: a buddy allocator in numba, the whole loop jitted.

One free list an order, no types, no per-cpu lists, no watermarks, no counters.
"""

import time

import numba
import numpy as np

MAX_ORDER = 10
ORDERS = np.array([0, 1, 2, 3, 9], np.int8)
SHARES = (0.9, 0.04, 0.03, 0.02, 0.01)


@numba.njit
def push(nxt, prv, state, head, p, order):
    nxt[p], prv[p] = head[order], -1
    if head[order] >= 0:
        prv[head[order]] = p
    head[order], state[p] = p, order


@numba.njit
def alloc(nxt, prv, state, head, order):
    for o in range(order, MAX_ORDER + 1):
        p = head[o]
        if p >= 0:
            head[o] = nxt[p]
            if nxt[p] >= 0:
                prv[nxt[p]] = -1
            state[p] = -1
            while o > order:
                o -= 1
                push(nxt, prv, state, head, p + (1 << o), o)
            return p
    return -1


@numba.njit
def free(nxt, prv, state, head, p, order):
    while order < MAX_ORDER:
        buddy = p ^ (1 << order)
        if state[buddy] != order:
            break
        if prv[buddy] >= 0:
            nxt[prv[buddy]] = nxt[buddy]
        else:
            head[order] = nxt[buddy]
        if nxt[buddy] >= 0:
            prv[nxt[buddy]] = prv[buddy]
        state[buddy] = -1
        p &= buddy
        order += 1
    push(nxt, prv, state, head, p, order)


@numba.njit
def random_mix(nxt, prv, state, head, orders, draws, live, live_order, count, pages, target):
    k = ops = 0
    for j in range(-1, draws.size):
        if j >= 0:
            i = (draws[j] * count) >> 32
            p, o = live[i], live_order[i]
            count -= 1
            live[i], live_order[i] = live[count], live_order[count]
            free(nxt, prv, state, head, p, np.int64(o))
            pages -= 1 << o
            ops += 1
        while pages < target:
            o = np.int64(orders[k & 0xFFFFF])
            k += 1
            live[count], live_order[count] = alloc(nxt, prv, state, head, o), o
            count += 1
            pages += 1 << o
            ops += j >= 0
    return ops, count, pages


def run_random_mix(nr_pages, steps, seed=7):
    """ns an operation of the random mix, without the time to compile and to fill."""
    rng = np.random.default_rng(seed)
    orders = rng.choice(ORDERS, 1 << 20, p=SHARES)
    draws = rng.integers(0, 1 << 32, steps, dtype=np.int64)
    nxt, prv = np.zeros(nr_pages, np.int32), np.zeros(nr_pages, np.int32)
    state, head = np.full(nr_pages, -1, np.int8), np.full(MAX_ORDER + 1, -1, np.int32)
    for p in range(nr_pages - (1 << MAX_ORDER), -1, -(1 << MAX_ORDER)):
        free(nxt, prv, state, head, np.int64(p), MAX_ORDER)
    live, live_order = np.zeros(nr_pages, np.int32), np.zeros(nr_pages, np.int8)
    arrays = (nxt, prv, state, head, orders)
    _, count, pages = random_mix(*arrays, draws[:0], live, live_order, 0, 0, nr_pages // 2)
    start = time.thread_time()
    ops, _, _ = random_mix(*arrays, draws, live, live_order, count, pages, nr_pages // 2)
    return (time.thread_time() - start) / ops * 1e9
