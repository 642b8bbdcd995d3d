"""Bad calls: the right exception, and nothing changed."""

import pytest

import mm


@pytest.mark.parametrize("error, call", [
    (mm.BadFree, lambda m, pfn: m.free_pages(5000)),
    (mm.BadFree, lambda m, pfn: m.free_pages(1 << 30)),
    (mm.BadFree, lambda m, pfn: m.free_pages(-1)),
    (mm.BadFree, lambda m, pfn: m.free_pages(pfn, 2)),
    (mm.BadFree, lambda m, pfn: m.free_pages(pfn + 1, 0)),
    (ValueError, lambda m, pfn: m.free_pages(pfn, 11)),
    (ValueError, lambda m, pfn: m.free_pages(pfn, 3, 9)),
    (ValueError, lambda m, pfn: m.alloc_pages(0xCC0, 11)),
    (ValueError, lambda m, pfn: m.alloc_pages(0xCC0, -1)),
    (ValueError, lambda m, pfn: m.alloc_pages(0xCC0 | 0x18)),
    (ValueError, lambda m, pfn: m.alloc_pages(0xCC0, 0, 4)),
    (ValueError, lambda m, pfn: m.alloc_pages(0xCC0, 0, 0, 1)),
    (TypeError, lambda m, pfn: m.alloc_pages("GFP_KERNEL")),
    (TypeError, lambda m, pfn: m.free_pages(None)),
])
def test_refused_calls_change_nothing(error, call):
    m = mm.Machine("64M", zones=["Normal"])
    pfn = m.alloc_pages(mm.GFP_KERNEL, 3)
    m.g["step"] = 0
    before = m.checkpoint()
    with pytest.raises(error):
        call(m, pfn)
    assert m.checkpoint() == before


def test_double_free_and_reserved():
    m = mm.Machine("256M")
    pfn = m.alloc_pages(mm.GFP_KERNEL, 3)
    m.free_pages(pfn, 3)
    before = m.checkpoint()
    with pytest.raises(mm.BadFree):
        m.free_pages(pfn, 3)
    with pytest.raises(mm.BadFree, match="reserved"):
        m.free_pages(0)
    assert m.checkpoint() == before
