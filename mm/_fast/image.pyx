"""Machine images: the whole state as one block of bytes that a program without Python can load and run.

Linux: none.  An image is a header, then every array of the machine at an offset that is a multiple of 64, in native
byte order (docs/snapshot.md).  `mm_image_load` points an MMState into the block, which becomes the machine's memory:
nothing is copied or allocated, and the block may be a private mapping of a file.  Not in an image: the callbacks of
MMOps.  Invariants: whatever the bytes are, `mm_image_load` answers an image_error and never reads outside the block,
and a state that it accepts has passed the audit.  Cost: one pass over the pages, the audit's two.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcmp, memcpy, memset

from mm._fast.core cimport (mm_image_bytes, mm_image_load, mm_image_save, mm_refresh_fast_requests, mm_refresh_zone,
                            mm_verify)
from mm._fast.state cimport (IMAGE_BAD_INDEX, IMAGE_BAD_MAGIC, IMAGE_BAD_SIZE, IMAGE_BAD_STATE, IMAGE_MISALIGNED,
                             IMAGE_OK, IMAGE_OTHER_LAYOUT, IMAGE_TOO_SHORT, MAX_NR_ZONES, MAX_NUMNODES,
                             MAX_ORDER_NR_PAGES, MIGRATE_TYPES, MMGlobals, MMState, NR_FAST_REQUESTS, NR_FREE_LISTS,
                             NR_PCP_LISTS, PG_buddy, PG_pcp, PG_tail, PG_valid, PG_ZONE_MASK, PG_ZONE_SHIFT,
                             fast_request, page_cold, page_hot, pageblock_nr_pages, per_cpu_pages, pglist_data,
                             task_context, zone)
from mm._fast.vm_event_item cimport NR_VM_EVENT_ITEMS

cdef enum:
    NR_IMAGE_PARTS = 15         # arrays of a machine: the pointers of MMState
    IMAGE_ALIGN = 64            # bytes
    MAX_CPUS = 4096

cdef struct image_header:
    char magic[8]               # "MMIMAGE1"
    uint64_t layout             # tells builds with other structs apart (image_layout)
    uint64_t nbytes             # of the whole image
    uint64_t offset[NR_IMAGE_PARTS]     # of each array, bytes from the start
    MMGlobals g

cdef struct image_part:
    void **array                # the pointer in MMState
    uint64_t nbytes
    bint is_derived             # holds addresses: made anew, not stored


cdef uint32_t image_parts(MMState *s, image_part *parts) noexcept nogil:
    """The arrays of a machine whose MMState.g is filled, in the order of MMState."""
    cdef uint64_t pages = s.g.nr_pages
    cdef uint64_t zones = <uint64_t>s.g.nr_zones
    cdef uint64_t nodes = <uint64_t>s.g.nr_nodes
    cdef uint64_t cpus = <uint64_t>s.g.nr_cpus
    parts[0] = image_part(<void **>&s.page, (pages + s.g.nr_lists) * sizeof(page_hot), False)
    parts[1] = image_part(<void **>&s.cold, pages * sizeof(page_cold), False)
    parts[2] = image_part(<void **>&s.buddy, pages, False)
    parts[3] = image_part(<void **>&s.pageblock_flags, pages // pageblock_nr_pages, False)
    parts[4] = image_part(<void **>&s.pageblock_bits, pages // pageblock_nr_pages * sizeof(uint32_t), False)
    parts[5] = image_part(<void **>&s.zones, zones * sizeof(zone), False)
    parts[6] = image_part(<void **>&s.pageset, zones * cpus * sizeof(per_cpu_pages), False)
    parts[7] = image_part(<void **>&s.nodes, nodes * sizeof(pglist_data), False)
    parts[8] = image_part(<void **>&s.vm_event, cpus * NR_VM_EVENT_ITEMS * sizeof(int64_t), False)
    parts[9] = image_part(<void **>&s.zonelists, nodes * 2 * (zones + 1) * sizeof(int32_t), False)
    parts[10] = image_part(<void **>&s.first_zone, nodes * MAX_NR_ZONES * sizeof(int32_t), False)
    parts[11] = image_part(<void **>&s.node_distance, nodes * nodes * sizeof(int32_t), False)
    parts[12] = image_part(<void **>&s.cpu_node, cpus * sizeof(int32_t), False)
    parts[13] = image_part(<void **>&s.current, cpus * sizeof(task_context), False)
    parts[14] = image_part(<void **>&s.fast, cpus * NR_FAST_REQUESTS * sizeof(fast_request), True)
    return NR_IMAGE_PARTS


cdef inline uint64_t aligned(uint64_t n) noexcept nogil:
    return (n + IMAGE_ALIGN - 1) & ~<uint64_t>(IMAGE_ALIGN - 1)


cdef uint64_t image_layout() noexcept nogil:
    """A number that changes with the size of any stored struct."""
    cdef uint64_t sizes[9]
    cdef uint64_t h = NR_IMAGE_PARTS
    cdef uint32_t i
    sizes[0], sizes[1], sizes[2] = sizeof(page_hot), sizeof(page_cold), sizeof(zone)
    sizes[3], sizes[4], sizes[5] = sizeof(per_cpu_pages), sizeof(pglist_data), sizeof(task_context)
    sizes[6], sizes[7], sizes[8] = sizeof(fast_request), sizeof(MMGlobals), NR_VM_EVENT_ITEMS
    for i in range(9):
        h = h * 1000003 + sizes[i]
    return h


cdef void fill_offsets(MMState *s, image_header *h) noexcept nogil:
    """Where each array lies, and the size of the whole."""
    cdef image_part parts[NR_IMAGE_PARTS]
    cdef uint32_t i
    cdef uint64_t at = aligned(sizeof(image_header))
    for i in range(image_parts(s, parts)):
        h.offset[i] = at
        at += aligned(parts[i].nbytes)
    h.nbytes = at


cdef public uint64_t image_bytes "mm_image_bytes"(const MMState *s) noexcept nogil:
    """Size of the machine's image."""
    cdef image_header h
    fill_offsets(<MMState *>s, &h)
    return h.nbytes


cdef public int32_t image_save "mm_image_save"(const MMState *s, void *image, uint64_t nbytes) noexcept nogil:
    """Write the image of a machine into a block of at least mm_image_bytes()."""
    cdef image_header *h = <image_header *>image
    cdef image_part parts[NR_IMAGE_PARTS]
    cdef uint32_t i
    if nbytes < mm_image_bytes(s):
        return IMAGE_TOO_SHORT
    memset(image, 0, nbytes)
    memcpy(h.magic, b"MMIMAGE1", 8)
    h.layout = image_layout()
    h.g = s.g
    fill_offsets(<MMState *>s, h)
    for i in range(image_parts(<MMState *>s, parts)):
        if not parts[i].is_derived:
            memcpy(<char *>image + h.offset[i], parts[i].array[0], parts[i].nbytes)
    return IMAGE_OK


cdef public int32_t image_load "mm_image_load"(MMState *s, void *image, uint64_t nbytes) noexcept nogil:
    """Make `s` the machine whose image lies in a writable block, aligned to 64 bytes; IMAGE_OK or an image_error."""
    cdef image_header *h = <image_header *>image
    cdef image_header own
    cdef image_part parts[NR_IMAGE_PARTS]
    cdef uint32_t i
    if <uintptr_t>image & (IMAGE_ALIGN - 1):
        return IMAGE_MISALIGNED
    if nbytes < sizeof(image_header):
        return IMAGE_TOO_SHORT
    if memcmp(h.magic, b"MMIMAGE1", 8) != 0:
        return IMAGE_BAD_MAGIC
    if h.layout != image_layout():
        return IMAGE_OTHER_LAYOUT
    memset(s, 0, sizeof(MMState))
    s.g = h.g
    if not are_sizes_legal(&s.g):
        return IMAGE_BAD_SIZE
    fill_offsets(s, &own)
    if memcmp(own.offset, h.offset, sizeof(own.offset)) != 0 or own.nbytes != h.nbytes:
        return IMAGE_BAD_SIZE
    if nbytes < own.nbytes:
        return IMAGE_TOO_SHORT
    for i in range(image_parts(s, parts)):
        parts[i].array[0] = <char *>image + own.offset[i]
        if parts[i].is_derived:
            memset(parts[i].array[0], 0, parts[i].nbytes)
    return image_start(s)


cdef int32_t image_start(MMState *s) noexcept nogil:
    """Check everything that is used as an index, then the state; derive what is not stored."""
    cdef int32_t nr
    if not (are_zones_legal(s) and are_nodes_legal(s) and are_cpus_legal(s) and are_pages_legal(s)):
        return IMAGE_BAD_INDEX
    for nr in range(s.g.nr_zones):
        mm_refresh_zone(s, nr)
    mm_refresh_fast_requests(s)
    if mm_verify(s) != 0:
        return IMAGE_BAD_STATE
    return IMAGE_OK


cdef bint are_sizes_legal(const MMGlobals *g) noexcept nogil:
    if not (0 < g.nr_pages < <uint32_t>0xfff00000 and g.nr_pages % MAX_ORDER_NR_PAGES == 0):
        return False
    if not (1 <= g.nr_nodes <= MAX_NUMNODES and 1 <= g.nr_cpus <= MAX_CPUS):
        return False
    if g.nr_zones != g.nr_nodes * MAX_NR_ZONES or g.nr_claim_hints < 0:
        return False
    return g.nr_lists == <uint32_t>(g.nr_zones * (NR_FREE_LISTS + g.nr_cpus * NR_PCP_LISTS))


cdef bint are_zones_legal(const MMState *s) noexcept nogil:
    """Each zone has its number, its list heads and a span within memory; so has each CPU's part."""
    cdef int32_t nr, cpu
    cdef uint32_t slot = s.g.nr_pages
    cdef const zone *z
    cdef const per_cpu_pages *pcp
    for nr in range(s.g.nr_zones):
        z = &s.zones[nr]
        if z.nid != nr // MAX_NR_ZONES or z.zid != nr % MAX_NR_ZONES or z.first_list != slot:
            return False
        if z.page_bits != (PG_valid | (<uint32_t>nr << PG_ZONE_SHIFT)):
            return False
        if not (0 <= z.zone_start_pfn <= s.g.nr_pages and 0 <= z.spanned_pages <= s.g.nr_pages - z.zone_start_pfn):
            return False
        slot += NR_FREE_LISTS
        for cpu in range(s.g.nr_cpus):
            pcp = &s.pageset[nr * s.g.nr_cpus + cpu]
            if pcp.first_list != slot or not (0 <= pcp.batch <= 65536 and 0 <= pcp.free_factor <= 16 and pcp.high >= 0):
                return False
            slot += NR_PCP_LISTS
    return True


cdef bint are_numbers_below(const int32_t *numbers, int64_t n, int32_t low, int32_t end) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        if not low <= numbers[i] < end:
            return False
    return True


cdef bint are_nodes_legal(const MMState *s) noexcept nogil:
    """Zonelists name zones and end; nodes' fields are in range."""
    cdef int32_t nid
    cdef int64_t length = s.g.nr_zones + 1
    if not are_numbers_below(s.zonelists, s.g.nr_nodes * 2 * length, -1, s.g.nr_zones):
        return False
    if not are_numbers_below(s.first_zone, s.g.nr_nodes * MAX_NR_ZONES, -1, s.g.nr_zones):
        return False
    for nid in range(2 * s.g.nr_nodes):
        if s.zonelists[(nid + 1) * length - 1] != -1:
            return False
    return True


cdef bint are_cpus_legal(const MMState *s) noexcept nogil:
    cdef int32_t cpu
    for cpu in range(s.g.nr_cpus):
        if not 0 <= s.current[cpu].mpol_mode <= 5 or not 0 <= s.current[cpu].il_prev < MAX_NUMNODES:
            return False
    return are_numbers_below(s.cpu_node, s.g.nr_cpus, 0, s.g.nr_nodes)


cdef bint are_pages_legal(const MMState *s) noexcept nogil:
    """Links of listed pages and list heads stay inside the array; zone numbers and pageblock types exist."""
    cdef uint32_t slots = s.g.nr_pages + s.g.nr_lists
    cdef uint32_t i
    cdef const page_hot *page
    for i in range(slots):
        page = &s.page[i]
        if i >= s.g.nr_pages or page.flags & (PG_buddy | PG_pcp):
            if page.next >= slots or page.prev >= slots:
                return False
        elif page.flags & PG_tail and page.next >= s.g.nr_pages:
            return False
        if (page.flags & PG_ZONE_MASK) >> PG_ZONE_SHIFT >= <uint32_t>s.g.nr_zones:
            return False
    for i in range(s.g.nr_pages // pageblock_nr_pages):
        if (s.pageblock_flags[i] & 7) >= MIGRATE_TYPES:
            return False
        if (s.pageblock_bits[i] & PG_ZONE_MASK) >> PG_ZONE_SHIFT >= <uint32_t>s.g.nr_zones:
            return False
    return True


# ---- for Python -----------------------------------------------------------------------------------------------------


def to_bytes(core):
    """The image of a machine; a uint8 array.

    Parameters
    ----------
    core : mm._fast.machine_core.MachineCore
    """
    cdef MMState *s = <MMState *><uintptr_t>_address(core)
    cdef uint8_t[::1] view = np.empty(mm_image_bytes(s), np.uint8)
    cdef int32_t code
    with nogil:
        code = mm_image_save(s, &view[0], <uint64_t>view.shape[0])
    assert code == IMAGE_OK, code
    return view.base


def from_bytes(cls, const uint8_t[::1] data):
    """A machine of class `cls` (MachineCore or derived) with the state of an image.

    Raises
    ------
    ValueError
        Bytes that are no image of this build, or hold a state that breaks an invariant.
    """
    cdef MMState s
    cdef int32_t code
    cdef uint64_t nbytes = <uint64_t>data.shape[0]
    block = np.empty(data.shape[0] + IMAGE_ALIGN, np.uint8)
    block = block[-block.ctypes.data % IMAGE_ALIGN:][:data.shape[0]]
    block[:] = data
    cdef void *image = <void *><uintptr_t>block.ctypes.data
    with nogil:
        code = mm_image_load(&s, image, nbytes)
    if code != IMAGE_OK:
        raise ValueError(WHY[code])
    return _machine_of(cls, &s)


WHY = {
    int(IMAGE_TOO_SHORT): "shorter than an image must be", int(IMAGE_BAD_MAGIC): "not a machine image",
    int(IMAGE_OTHER_LAYOUT): "an image of a build with other structs",
    int(IMAGE_MISALIGNED): "the block is not aligned",
    int(IMAGE_BAD_SIZE): "its sizes are out of range or contradict each other",
    int(IMAGE_BAD_INDEX): "it names a page, zone, node or list that does not exist",
    int(IMAGE_BAD_STATE): "its state breaks an invariant",
}


cdef _machine_of(cls, MMState *s):
    """A MachineCore with a copy of a loaded state."""
    from mm._fast.machine_core import MachineCore

    cdef image_part source[NR_IMAGE_PARTS]
    cdef image_part target[NR_IMAGE_PARTS]
    cdef MMState *t
    cdef uint32_t i
    core = cls.__new__(cls)
    MachineCore.__init__(core, s.g.nr_pages, s.g.nr_nodes, s.g.nr_cpus, [s.cpu_node[i] for i in range(s.g.nr_cpus)])
    t = <MMState *><uintptr_t>_address(core)
    t.g = s.g
    image_parts(s, source)
    for i in range(image_parts(t, target)):
        if not source[i].is_derived:
            memcpy(target[i].array[0], source[i].array[0], source[i].nbytes)
    core.start()
    return core


cdef object _address(core):
    """Address of a machine's MMState; of nothing else."""
    from mm._fast.machine_core import MachineCore

    if not isinstance(core, MachineCore):
        raise TypeError(f"{type(core).__name__}: expected a Machine")
    return MachineCore.address.__get__(core)
