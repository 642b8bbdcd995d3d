# Strings to small ids: gfp masks, command names and event names occur by the million and are few.
#
# Ids are dense, from 0 in order of first sight.  Open addressing at a load of at most one half; the bytes lie one
# after another in an arena.  A full table, or a string longer than STR_BYTES_MAX, gives STR_NONE: the caller counts it.

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy

cdef enum:
    STR_BYTES_MAX = 512
    STR_NONE = 0x7fffffff

cdef struct StrTable:
    uint32_t *slots     # id + 1, 0 free; mask + 1 of them
    uint32_t *start     # [id] first byte in arena; start[nr] is the end
    char *arena
    uint64_t arena_bytes
    uint32_t mask
    uint32_t nr
    uint32_t limit      # a power of two


cdef inline bint str_table_init(StrTable *t, uint32_t limit) noexcept nogil:
    """False if memory is short.  `limit` is a power of two, at most 2**24."""
    t.limit = limit
    t.mask = 2 * limit - 1
    t.nr = 0
    t.arena_bytes = 4096
    t.slots = <uint32_t *>calloc(2 * limit, sizeof(uint32_t))
    t.start = <uint32_t *>calloc(limit + 1, sizeof(uint32_t))
    t.arena = <char *>malloc(t.arena_bytes)
    return t.slots != NULL and t.start != NULL and t.arena != NULL


cdef inline void str_table_free(StrTable *t) noexcept nogil:
    free(t.slots)
    free(t.start)
    free(t.arena)


cdef inline uint64_t str_hash(const char *s, uint32_t n) noexcept nogil:
    """Eight bytes a step, multiplied by 2**64 divided by the golden ratio."""
    cdef uint64_t h = n
    cdef uint64_t word
    while n >= 8:
        memcpy(&word, s, 8)
        h = (h ^ word) * 0x9e3779b97f4a7c15ULL
        h ^= h >> 32
        s += 8
        n -= 8
    if n:
        word = 0
        memcpy(&word, s, n)
        h = (h ^ word) * 0x9e3779b97f4a7c15ULL
        h ^= h >> 32
    return h


cdef inline uint32_t str_intern(StrTable *t, const char *s, uint32_t n) noexcept nogil:
    """The id of the string; a new one if it is new and there is room, else STR_NONE."""
    cdef uint32_t slot, at, end
    cdef char *arena
    if n > STR_BYTES_MAX:
        return STR_NONE
    slot = <uint32_t>str_hash(s, n) & t.mask
    while t.slots[slot]:
        at = t.slots[slot] - 1
        if t.start[at + 1] - t.start[at] == n and memcmp(t.arena + t.start[at], s, n) == 0:
            return at
        slot = (slot + 1) & t.mask
    if t.nr == t.limit:
        return STR_NONE
    end = t.start[t.nr] + n
    if end > t.arena_bytes:
        arena = <char *>realloc(t.arena, 2 * t.arena_bytes)
        if arena == NULL:
            return STR_NONE
        t.arena = arena
        t.arena_bytes *= 2
    memcpy(t.arena + end - n, s, n)
    t.nr += 1
    t.start[t.nr] = end
    t.slots[slot] = t.nr
    return t.nr - 1
