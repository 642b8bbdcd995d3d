"""gfp masks: values, printing, parsing, translation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm.sim.gfp import (
    GFP_BITS,
    GFP_EXPORTS,
    GFP_MASKS,
    format_gfp,
    gfp_table,
    parse_gfp,
    parse_gfp_lenient,
    translate_gfp,
)

# Values a 6.1.192 kernel reported of itself (its headers, read by a module on the machine that made the recordings).
KERNEL = {
    "__GFP_DMA": 1, "__GFP_HIGHMEM": 2, "__GFP_DMA32": 4, "__GFP_MOVABLE": 8, "__GFP_RECLAIMABLE": 16,
    "__GFP_HIGH": 32, "__GFP_IO": 64, "__GFP_FS": 128, "__GFP_ZERO": 256, "__GFP_ATOMIC": 512,
    "__GFP_DIRECT_RECLAIM": 1024, "__GFP_KSWAPD_RECLAIM": 2048, "__GFP_WRITE": 4096, "__GFP_NOWARN": 8192,
    "__GFP_RETRY_MAYFAIL": 16384, "__GFP_NOFAIL": 32768, "__GFP_NORETRY": 65536, "__GFP_MEMALLOC": 131072,
    "__GFP_COMP": 262144, "__GFP_NOMEMALLOC": 524288, "__GFP_HARDWALL": 1048576, "__GFP_THISNODE": 2097152,
    "__GFP_ACCOUNT": 4194304, "GFP_ATOMIC": 2592, "GFP_KERNEL": 3264, "GFP_NOWAIT": 2048, "GFP_USER": 1051840,
    "GFP_HIGHUSER": 1051842, "GFP_HIGHUSER_MOVABLE": 1051850, "GFP_TRANSHUGE_LIGHT": 1843402, "GFP_TRANSHUGE": 1844426,
}


def test_values_are_the_kernels():
    assert {name: GFP_MASKS[name] for name in KERNEL} == KERNEL


def test_bits_are_distinct_single_bits():
    assert all(value.bit_count() == 1 for value in GFP_BITS.values())
    assert len(set(GFP_BITS.values())) == len(GFP_BITS)


def test_composites_are_unions_of_bits():
    bits = GFP_BITS
    reclaim = bits["__GFP_DIRECT_RECLAIM"] | bits["__GFP_KSWAPD_RECLAIM"]
    assert GFP_MASKS["GFP_NOIO"] == reclaim
    assert GFP_MASKS["GFP_NOFS"] == reclaim | bits["__GFP_IO"]
    assert GFP_MASKS["GFP_KERNEL_ACCOUNT"] == GFP_MASKS["GFP_KERNEL"] | bits["__GFP_ACCOUNT"]
    assert GFP_MASKS["GFP_TRANSHUGE_LIGHT"] & reclaim == 0


def test_exports_have_both_spellings_where_no_composite_is_in_the_way():
    assert GFP_EXPORTS["GFP_HIGH"] == GFP_EXPORTS["__GFP_HIGH"] == 0x20
    assert GFP_EXPORTS["GFP_ATOMIC"] == 0xa20 and GFP_EXPORTS["__GFP_ATOMIC"] == 0x200


# Pairs from recordings (ftrace text beside the mask), and from the order of the kernel's name table.
@pytest.mark.parametrize("mask, text", [
    (0, "none"),
    (0x140dca, "GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO"),
    (0x400dc0, "GFP_KERNEL_ACCOUNT|__GFP_ZERO"),
    (0x500cc2, "GFP_HIGHUSER|__GFP_ACCOUNT"),
    (0xa20, "GFP_ATOMIC"),
    (0x820, "GFP_NOWAIT|__GFP_HIGH"),
    (0x01, "GFP_DMA"),
    (0x02, "__GFP_HIGHMEM"),
    (0x400, "__GFP_DIRECT_RECLAIM"),
    (0x1c24ca, "GFP_TRANSHUGE"),
    (0x1000000, "0x1000000"),
    (0xcc0 | 0x8000000, "GFP_KERNEL|0x8000000"),
])
def test_format_and_parse(mask, text):
    assert format_gfp(mask) == text
    assert parse_gfp(text) == mask


@given(st.integers(0, 2**32 - 1))
def test_parse_undoes_format(mask):
    assert parse_gfp(format_gfp(mask)) == mask


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_reported(text):
    mask, left = parse_gfp_lenient(text)
    assert 0 <= mask < 2**32 and all(isinstance(name, str) for name in left)


@pytest.mark.parametrize("text, mask", [
    ("GFP_KERNEL|GFP_REPEAT", 0xcc0 | 0x4000),      # renamed in 4.13, printed without __ before 4.6
    ("GFP_HIGHUSER_MOVABLE|GFP_COMP", 0x140cca),
    ("__GFP_WAIT|__GFP_IO", 0xc40),
    ("GFP_TEMPORARY", 0xcd0),
    ("0x140cca", 0x140cca),
])
def test_old_names(text, mask):
    assert parse_gfp(text) == mask


def test_what_6_1_has_not_is_reported_by_name():
    assert parse_gfp_lenient("GFP_KERNEL|__GFP_COLD|__GFP_NO_OBJ_EXT") == (0xcc0, ["__GFP_COLD", "__GFP_NO_OBJ_EXT"])
    with pytest.raises(ValueError, match="__GFP_COLD"):
        parse_gfp("GFP_KERNEL|__GFP_COLD")


# Masks beside their names in kernel logs: "order:0, mode:0x2084120(GFP_ATOMIC|__GFP_COLD|__GFP_COMP)" and so on.
@pytest.mark.parametrize("kernel, mask, names, left", [
    ("4.9.24", 0x2084120, "GFP_ATOMIC|__GFP_COMP", ["__GFP_COLD"]),
    ("4.12.0", 0x14210d2, "GFP_HIGHUSER|__GFP_NORETRY|__GFP_RECLAIMABLE", []),
    ("4.15.0-108-generic", 0x15000c0, "GFP_KERNEL_ACCOUNT", []),
    ("4.19.4", 0x6000c0, "GFP_KERNEL", []),
    ("5.4.17", 0x100cca, "GFP_HIGHUSER_MOVABLE", []),
    ("6.8.0", 0x820, "GFP_ATOMIC", []),
    ("6.16.9", 0x140dca, "GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO", []),
    ("6.16.9", 0xce0, "GFP_KERNEL|__GFP_HIGH", []),
    ("6.16.9", 0x1000cc0, "GFP_KERNEL", ["0x1000000"]),
])
def test_translation(kernel, mask, names, left):
    assert translate_gfp(mask, kernel) == (parse_gfp(names), left)
    assert parse_gfp_lenient(hex(mask), kernel) == (parse_gfp(names), left)


@pytest.mark.parametrize("kernel, table", [("6.1.0-56-amd64", "6.1"), ("6.2", "6.1"), ("5.10", "5.1"), ("7.0", "6.3"),
                                           ("4.4.0", "4.4"), (None, "6.1")])
def test_table_is_the_last_not_newer(kernel, table):
    assert gfp_table(kernel).name == table


@pytest.mark.parametrize("kernel", ["", "6", "six.one", "3.10", "6.99999"])
def test_a_kernel_that_is_none_is_refused(kernel):
    with pytest.raises(ValueError, match="kernel release"):
        gfp_table(kernel)


@pytest.mark.parametrize("mask", [-1, 2**32])
def test_a_mask_out_of_range_is_refused(mask):
    with pytest.raises(ValueError, match="gfp mask"):
        format_gfp(mask)
