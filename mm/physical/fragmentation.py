"""How fragmented free memory is: indices from the number of free blocks per order.

Linux: mm/vmstat.c (fill_contig_page_info, unusable_free_index, __fragmentation_index, extfrag_for_order).
Modelled: the kernel's integer arithmetic, so results are equal digit for digit.  Not here: the weighing of zones
into a node's score (mm/compaction.c).
Cost: every function takes many states at once, shape (..., 11), and is a few NumPy passes over them.

An index is a whole number of thousandths, as the kernel keeps it; the text has three decimals (mm.sim.proc).
"""

import numpy as np

from mm._fast.state import mm_limits

MAX_ORDER = int(mm_limits.MAX_ORDER)
PAGEBLOCK_ORDER = int(mm_limits.pageblock_order)
ORDERS = np.arange(MAX_ORDER)

# __fragmentation_index: an allocation of this order would succeed, so the question does not arise.
FRAGMENTATION_INDEX_SUITABLE = -1000


def fill_contig_page_info(nr_free, order=None):
    """Free memory as a request of an order sees it.

    Parameters
    ----------
    nr_free : array_like of int, shape (..., 11)
        Free blocks of each order.
    order : int, optional
        Order of the request, 0 to 10; None: all of them, as a last axis of length 11.

    Returns
    -------
    free_pages : ndarray of int64, shape (...) or (..., 1)
        All free pages.
    free_blocks_total : ndarray of int64, same shape
        All free blocks.
    free_blocks_suitable : ndarray of int64, shape (...) or (..., 11)
        Blocks of 2^order pages that can be cut from the free blocks.

    Raises
    ------
    ValueError
        For a shape or an order that does not exist, or a negative number of blocks.

    Source: fill_contig_page_info in mm/vmstat.c.
    """
    nr_free = np.asarray(nr_free)
    if nr_free.ndim == 0 or nr_free.shape[-1] != MAX_ORDER:
        raise ValueError(f"nr_free has shape {nr_free.shape}: the last axis must hold {MAX_ORDER} orders")
    if nr_free.dtype.kind not in "iu" or (nr_free < 0).any():
        raise ValueError("nr_free: whole numbers of blocks, none negative")
    pages = nr_free.astype(np.int64) << ORDERS
    in_blocks_from = np.cumsum(pages[..., ::-1], axis=-1)[..., ::-1]
    free_pages, blocks = in_blocks_from[..., :1], nr_free.sum(axis=-1, dtype=np.int64, keepdims=True)
    if order is None:
        return free_pages, blocks, in_blocks_from >> ORDERS
    if not 0 <= order < MAX_ORDER:
        raise ValueError(f"order {order}: 0 to {MAX_ORDER - 1}")
    return free_pages[..., 0], blocks[..., 0], in_blocks_from[..., order] >> order


def unusable_free_index(nr_free, order=None):
    """Share of the free pages that a request of an order cannot use, in thousandths.

    Parameters
    ----------
    nr_free : array_like of int, shape (..., 11)
    order : int, optional
        None: all orders, as a last axis of length 11.

    Returns
    -------
    ndarray of int64, shape (...) or (..., 11)
        0 (all usable) to 1000 (nothing usable, or nothing free).

    Source: unusable_free_index in mm/vmstat.c.
    """
    free_pages, _, suitable = fill_contig_page_info(nr_free, order)
    unusable = (free_pages - (suitable << _orders(order))) * 1000
    return np.where(free_pages == 0, 1000, unusable // np.maximum(free_pages, 1))


def fragmentation_index(nr_free, order=None):
    """Why a request of an order would fail, in thousandths: near 0 lack of memory, near 1000 fragmentation.

    Parameters
    ----------
    nr_free : array_like of int, shape (..., 11)
    order : int, optional
        None: all orders, as a last axis of length 11.

    Returns
    -------
    ndarray of int64, shape (...) or (..., 11)
        -1000 if the request would succeed, 0 if nothing is free.  With a single free block it can lie between -500
        and 0, as in Linux.

    Source: __fragmentation_index in mm/vmstat.c.
    """
    free_pages, blocks, suitable = fill_contig_page_info(nr_free, order)
    index = 1000 - (1000 + (free_pages * 1000 >> _orders(order))) // np.maximum(blocks, 1)
    return np.where(blocks == 0, 0, np.where(suitable > 0, FRAGMENTATION_INDEX_SUITABLE, index))


def extfrag_for_order(nr_free, order=None):
    """External fragmentation in percent: the share of the free pages in blocks smaller than the order.

    Parameters
    ----------
    nr_free : array_like of int, shape (..., 11)
    order : int, optional
        None: all orders, as a last axis of length 11.

    Returns
    -------
    ndarray of int64, shape (...) or (..., 11)
        0 to 100; 0 if nothing is free.  Proactive compaction weighs it by zone size.

    Source: extfrag_for_order in mm/vmstat.c.
    """
    free_pages, _, suitable = fill_contig_page_info(nr_free, order)
    return (free_pages - (suitable << _orders(order))) * 100 // np.maximum(free_pages, 1)


def free_huge_blocks(nr_free):
    """(free, ideal): huge pages that can be had now, and if all free pages of the state lay together.

    Parameters
    ----------
    nr_free : array_like of int, shape (..., 11)

    Returns
    -------
    free, ideal : ndarray of int64, shape (...)
        Blocks of 512 pages.
    """
    free_pages, _, suitable = fill_contig_page_info(nr_free, PAGEBLOCK_ORDER)
    return suitable, free_pages >> PAGEBLOCK_ORDER


def _orders(order):
    return ORDERS if order is None else order
