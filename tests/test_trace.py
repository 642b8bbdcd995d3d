"""The native trace: columns, files, recovery, and files that are none."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mm._fast.sim.trace_ops import TRACE_HANDLE_NONE, TRACE_PFN_FAILED, TRACE_PFN_UNKNOWN, TraceFlag, TraceOp

from mm.sim.trace import Trace, TraceWriter
from mm.sim.trace.format import COLUMNS, TraceError, schema

ALLOC, FREE, SPLIT = TraceOp.TRACE_ALLOC, TraceOp.TRACE_FREE, TraceOp.TRACE_SPLIT


def pairs(n, **columns):
    """n allocations, each freed at once."""
    return dict(op=np.tile([ALLOC, FREE], n), handle=np.repeat(np.arange(n), 2), pfn=np.repeat(np.arange(n), 2),
                **columns)


def write_pairs(path, batches=5, rows=1000, **options):
    with TraceWriter(path, **options) as writer:
        for _ in range(batches):
            writer.write(**pairs(rows // 2))
    return path


def assert_same(one, two):
    assert one.columns == two.columns and len(one) == len(two)
    for name in one.columns:
        np.testing.assert_array_equal(one.column(name), two.column(name), err_msg=name)


# ---- in memory

def test_columns_have_the_types_of_the_format():
    expected = {"time_ns": "int64", "cpu": "uint16", "op": "uint8", "order": "uint8", "migratetype": "uint8",
                "gfp": "uint32", "node": "int16", "handle": "uint32", "pfn": "uint32", "cause": "uint8",
                "flags": "uint32"}
    assert {column.name: str(column.dtype) for column in COLUMNS} == expected
    trace = Trace.from_arrays([ALLOC])
    assert {name: str(trace.column(name).dtype) for name in trace.columns} == expected


def test_what_is_not_given_has_its_default():
    batch = Trace.from_arrays([ALLOC, FREE]).batch(0)
    assert batch.node.tolist() == [-1, -1] and batch.migratetype.tolist() == [255, 255]
    assert batch.handle.tolist() == [TRACE_HANDLE_NONE] * 2 == [0xffffffff] * 2
    assert batch.pfn.tolist() == [TRACE_PFN_UNKNOWN] * 2 and batch.time_ns.tolist() == [0, 0]


def test_numbers_are_broadcast_and_optional_columns_kept():
    trace = Trace.from_arrays([ALLOC, FREE], 3, 0xcc0, 7, cpu=2, pid=[5, 6], comm=["sh", "ls"], address=2**64 - 1)
    batch = trace.batch(0)
    assert batch.order.tolist() == [3, 3] and batch.pid.tolist() == [5, 6] and batch.comm.tolist() == ["sh", "ls"]
    assert batch.address.tolist() == [2**64 - 1] * 2


@pytest.mark.parametrize("columns, error, message", [
    ({"order": [0, 256]}, ValueError, "column 'order', row 1: 256, expected 0 to 255"),
    ({"node": [0, 40000]}, ValueError, "row 1: 40000"),
    ({"pfn": [-1, 0]}, ValueError, "column 'pfn', row 0: -1, expected 0 to 4294967295"),
    ({"cpu": [0]}, ValueError, r"shape \(1,\), expected \(2,\)"),
    ({"gfp": [0.5, 1]}, TypeError, "expected integers, got float64"),
    ({"comm": ["a"]}, ValueError, "1 names, expected 2"),
    ({"color": [1, 2]}, ValueError, r"columns \['color'\]"),
])
def test_wrong_columns_are_named(columns, error, message):
    with pytest.raises(error, match=message):
        Trace.from_arrays([ALLOC, FREE], **columns)


def test_unknown_ops_are_kept_and_counted():
    assert Trace.from_arrays([ALLOC, 77, 77]).op_counts() == {"TRACE_ALLOC": 1, "op 77": 2}


def test_empty_trace():
    trace = Trace.from_arrays(np.empty(0, np.uint8))
    assert len(trace) == 0 and trace.column("pfn").shape == (0,) and trace.op_counts() == {}
    trace.validate()


def test_batches_are_cut_and_know_their_rows():
    trace = Trace.from_arrays(**pairs(10), batch_rows=8)
    assert [(len(batch), batch.first_row) for batch in trace] == [(8, 0), (8, 8), (4, 16)]
    assert trace.column("pfn").tolist() == np.repeat(np.arange(10), 2).tolist()
    with pytest.raises(IndexError, match="batch 3"):
        trace.batch(3)
    with pytest.raises(KeyError, match="comm"):
        trace.column("comm")
    with pytest.raises(AttributeError):
        trace.batch(0).comm  # noqa: B018


# ---- validate

def columns_of(**columns):
    return columns


@pytest.mark.parametrize("columns, message", [
    (columns_of(op=[ALLOC, ALLOC], handle=[1, 1], pfn=1), "row 1: handle 1 is allocated twice"),
    (columns_of(op=[ALLOC, FREE, FREE], handle=[1, 1, 1], pfn=1), "row 2: handle 1 is freed but not live"),
    (columns_of(op=[FREE], handle=[3], pfn=1), "row 0: handle 3 is freed"),
    (columns_of(op=[ALLOC], handle=[3], pfn=1, order=21), "row 0: order 21"),
    (columns_of(op=[ALLOC, SPLIT, FREE, FREE, FREE], handle=[3, 3, 3, 8, 8], flags=[0, 8, 0, 0, 0], pfn=1),
     "row 4: handle 8"),
])
@pytest.mark.parametrize("batch_rows", [1, 100])
def test_broken_rules_are_found_across_batches(columns, message, batch_rows):
    with pytest.raises(TraceError, match=message):
        Trace.from_arrays(**columns, batch_rows=batch_rows).validate()


def test_failed_allocations_and_unknown_frees_hold_nothing():
    Trace.from_arrays([ALLOC, ALLOC, FREE, FREE], handle=[TRACE_HANDLE_NONE] * 2 + [4, 4],
                      pfn=[TRACE_PFN_FAILED, TRACE_PFN_FAILED, 1, 1],
                      flags=[0, 0, TraceFlag.FREE_UNKNOWN_PAGE, TraceFlag.FREE_UNKNOWN_PAGE]).validate()


# ---- files

@pytest.mark.parametrize("compression", ["zstd", None])
def test_saved_and_opened(tmp_path, compression):
    trace = Trace.from_arrays(**pairs(100, comm=["sh", "ls"] * 100, pid=1), batch_rows=64,
                              metadata={"kernel_release": "6.1.0", "knobs": {"vm.min_free_kbytes": 65536}})
    trace.save(tmp_path / "a.trace", compression=compression)
    with Trace.open(tmp_path / "a.trace") as opened:
        assert_same(trace, opened)
        assert opened.metadata == {"schema": "linux-mm trace", "version": 1, "complete": True, "rows": 200,
                                   "kernel_release": "6.1.0", "knobs": {"vm.min_free_kbytes": 65536}}
        assert not opened.recovered
    assert os.listdir(tmp_path) == ["a.trace"]


def test_an_uncompressed_file_is_read_without_a_copy(tmp_path):
    trace = Trace.open(write_pairs(tmp_path / "a.trace", compression=None))
    before = pa.total_allocated_bytes()
    views = [batch.pfn for batch in trace]
    assert pa.total_allocated_bytes() - before < 4096
    assert not any(view.flags.writeable or view.flags.owndata for view in views)
    trace.close()
    assert views[4][:4].tolist() == [0, 0, 1, 1]        # views outlive the trace


def test_any_arrow_reader_can_read_it(tmp_path):
    path = write_pairs(tmp_path / "a.trace", columns=("pid",))
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    assert table.num_rows == 5000
    assert json.loads(table.schema.metadata[b"mm"])["rows"] == 5000
    table.validate(full=True)


def test_columns_of_others_survive(tmp_path):
    trace = Trace.from_arrays(**pairs(2))
    batch = trace.batch(0).record_batch.append_column("colour", pa.array(["red"] * 4))
    with TraceWriter(tmp_path / "a.trace", arrow_schema=batch.schema) as writer:
        writer.write_batch(batch)
    opened = Trace.open(tmp_path / "a.trace")
    opened.save(tmp_path / "b.trace")
    assert Trace.open(tmp_path / "b.trace").column("colour").tolist() == ["red"] * 4


def test_a_new_comm_in_a_later_batch(tmp_path):
    with TraceWriter(tmp_path / "a.trace", columns=("comm",)) as writer:
        writer.write([ALLOC] * 2, comm=["sh", "ls"])
        writer.write([ALLOC] * 3, comm=["ls", "cc", "sh"])
    assert Trace.open(tmp_path / "a.trace").column("comm").tolist() == ["sh", "ls", "ls", "cc", "sh"]


def test_writer_appends(tmp_path):
    path = write_pairs(tmp_path / "a.trace", batches=2, metadata={"kernel_release": "6.1.0"})
    write_pairs(path, batches=3, append=True, compression=None, metadata={"notes": ["more"]})
    trace = Trace.open(path)
    assert len(trace) == 5000 and trace.nr_batches == 5
    assert trace.metadata["kernel_release"] == "6.1.0" and trace.metadata["notes"] == ["more"]
    trace.validate()
    with pytest.raises(ValueError, match="has columns"):
        TraceWriter(path, append=True, columns=("pid",))
    with pytest.raises(FileNotFoundError):
        TraceWriter(tmp_path / "none.trace", append=True)
    assert len(Trace.open(path)) == 5000


def test_a_trace_with_comm_is_not_appended_to(tmp_path):
    Trace.from_arrays([ALLOC], comm=["sh"]).save(tmp_path / "a.trace")
    with pytest.raises(ValueError, match="comm"):
        TraceWriter(tmp_path / "a.trace", append=True, columns=("comm",))


def test_an_error_while_writing_leaves_a_readable_incomplete_trace(tmp_path):
    with pytest.raises(RuntimeError, match="stop"), TraceWriter(tmp_path / "a.trace") as writer:
        writer.write(**pairs(5))
        raise RuntimeError("stop")
    trace = Trace.open(tmp_path / "a.trace")
    assert len(trace) == 10 and trace.metadata["complete"] is False


def test_a_failed_save_leaves_nothing(tmp_path):
    trace = Trace.open(write_pairs(tmp_path / "a.trace"))
    damage(tmp_path / "a.trace", 0.9)
    with pytest.raises((TraceError, FileNotFoundError)):
        Trace.open(tmp_path / "a.trace").save(tmp_path / "b.trace")
    assert os.listdir(tmp_path) == ["a.trace"]
    trace.close()


def damage(path, where, size=400):
    data = bytearray(path.read_bytes())
    at = int(len(data) * where)
    data[at - size:at] = bytes(255 - byte for byte in data[at - size:at])
    path.write_bytes(data)


# ---- metadata

@pytest.mark.parametrize("metadata, error", [
    ({"hostname": "x"}, ValueError), ({"cmdline": "x"}, ValueError), ({"handles": "1"}, TypeError),
    ({"handles": True}, TypeError), ({"start_state": {"name": "/home/me/state.npz"}}, ValueError),
    ({"start_state": {"path": "a"}}, ValueError), ({"first_time": float("nan")}, TypeError),
])
def test_metadata_that_may_not_be_stored_is_refused(metadata, error):
    with pytest.raises(error, match="metadata"):
        Trace.from_arrays([ALLOC], metadata=metadata)


# ---- recovery

@pytest.mark.parametrize("compression", ["zstd", None])
@pytest.mark.parametrize("comm", [False, True])
def test_every_cut_gives_the_whole_batches(tmp_path, compression, comm):
    path = tmp_path / "a.trace"
    columns = {"comm": ["sh", "ls"] * 50} if comm else {}
    ends = []
    with TraceWriter(path, compression=compression, columns=tuple(columns)) as writer:
        for _ in range(4):
            writer.write(**pairs(50), **columns)
            ends.append(path.stat().st_size)
    data = path.read_bytes()
    for cut in sorted({*ends, *(end - 1 for end in ends), *(end + 9 for end in ends), ends[0] + 8, len(data) - 1}):
        path.write_bytes(data[:cut])
        with Trace.open(path) as trace:
            assert trace.recovered and trace.metadata["complete"] is False
            assert trace.nr_batches == sum(end <= cut for end in ends)
            assert trace.column("pfn").tolist() == np.repeat(np.arange(50), 2).tolist() * trace.nr_batches


def test_a_killed_writer_leaves_its_batches(tmp_path):
    code = """
        import os, sys
        from mm.sim.trace import TraceWriter
        writer = TraceWriter(sys.argv[1])
        for i in range(3):
            writer.write([0] * 100, handle=range(100 * i, 100 * i + 100))
        os.kill(os.getpid(), 9)
    """
    path = tmp_path / "a.trace"
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), path], check=False)
    trace = Trace.open(path)
    assert trace.recovered and trace.column("handle").tolist() == list(range(300))
    with TraceWriter(path, append=True) as writer:
        writer.write([1], handle=0)
    assert len(Trace.open(path)) == 301 and not Trace.open(path).recovered


def test_zeros_after_a_crash_are_no_batches(tmp_path):
    path = write_pairs(tmp_path / "a.trace", batches=2)
    with Trace.open(path) as trace:
        end = trace._batches.end
    path.write_bytes(path.read_bytes()[:end] + bytes(5000))
    assert len(Trace.open(path)) == 2000


# ---- what is no trace

def arrow_file(path, arrow_schema, columns):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, arrow_schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=arrow_schema))
    return path


def test_files_that_are_no_trace(tmp_path):
    path = tmp_path / "x"
    for data, message in [(b"", "empty"), (b"A", "byte 0: expected an Arrow IPC file"),
                          (b"# tracer: nop\n", "mm convert"), (b"ARROW1\0\0", "expected a whole schema message"),
                          (b"ARROW1\0\0" + bytes(100), "expected a whole schema message"),
                          (b"ARROW1\0\0" + b"\xff" * 100 + b"ARROW1", "byte 12: expected a metadata length")]:
        path.write_bytes(data)
        with pytest.raises(TraceError, match=message):
            Trace.open(path)
    with pytest.raises(FileNotFoundError):
        Trace.open(tmp_path / "none")
    with pytest.raises(OSError):
        Trace.open(tmp_path)


@pytest.mark.parametrize("metadata, message", [
    (None, "schema metadata 'mm' is missing"), (b"{", "not JSON"), (b"[" * 100000, "not JSON"),
    (b"[]", "not that of a"),
    (b'{"schema": "linux-mm trace", "version": 2}', "version '2': this package reads version 1"),
    (b'{"schema": "linux-mm trace", "version": true}', "version"),
])
def test_arrow_files_with_other_metadata(tmp_path, metadata, message):
    arrow_schema = schema((), {}).with_metadata({b"mm": metadata} if metadata else {b"other": b"1"})
    columns = [np.zeros(1, column.dtype) for column in COLUMNS]
    with pytest.raises(TraceError, match=message):
        Trace.open(arrow_file(tmp_path / "x", arrow_schema, columns))


def test_wrong_missing_and_double_columns(tmp_path):
    right = schema((), {"schema": "linux-mm trace", "version": 1})
    zeros = [np.zeros(1, column.dtype) for column in COLUMNS]
    where = right.get_field_index("pfn")
    for changed, columns, message in [
        (right.set(where, pa.field("pfn", pa.int64())), None, "'pfn' has type int64, expected uint32"),
        (right.remove(where), zeros[:-1], "'pfn' stands 0 times"),
        (right.append(right.field(where)), [*zeros, zeros[where]], "'pfn' stands 2 times"),
        (right.append(pa.field("comm", pa.string())), [*zeros, ["sh"]], "'comm' has type string"),
    ]:
        columns = columns or [pa.array([0], field.type) for field in changed]
        with pytest.raises(TraceError, match=message):
            Trace.open(arrow_file(tmp_path / "x", changed, columns))


def test_nulls_are_refused_when_read(tmp_path):
    arrow_schema = pa.schema([pa.field(field.name, field.type) for field in schema(())],
                             {b"mm": b'{"schema": "linux-mm trace", "version": 1}'})
    columns = [pa.array([None if field.name == "gfp" else 0], field.type) for field in arrow_schema]
    trace = Trace.open(arrow_file(tmp_path / "x", arrow_schema, columns))
    with pytest.raises(TraceError, match=r"batch 0 .* column 'gfp' has nulls"):
        trace.batch(0)


def read_all(path):
    """Everything that a reader does; damaged files raise TraceError and nothing else."""
    try:
        with Trace.open(path) as trace:
            for index in range(trace.nr_batches):
                try:
                    batch = trace.batch(index)
                    for name in trace.columns:
                        np.array(batch[name])
                except TraceError:
                    pass
            trace.validate()
    except TraceError:
        return False
    return True


@pytest.mark.parametrize("compression", ["zstd", None])
def test_a_damaged_file_never_crashes_the_reader(tmp_path, compression):
    path = write_pairs(tmp_path / "a.trace", batches=3, rows=60, compression=compression, columns=("pid", "comm"))
    data = path.read_bytes()

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), min_size=1, max_size=8),
           st.integers(0, len(data)))
    def check(changes, cut):
        changed = bytearray(data)
        for at, value in changes:
            changed[at] = value
        path.write_bytes(changed if cut % 3 else changed[:cut])
        if os.path.getsize(path):
            read_all(path)

    assert read_all(path)
    check()
