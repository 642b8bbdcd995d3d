"""Sampling a machine, writing a run, opening it: whole, bounded, the same bytes again, or a clear refusal."""

import hashlib
import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mm
from mm._fast.sim import sampling
from mm.physical import fragmentation
from mm.sim.machine import Machine
from mm.sim.run.folder import DETAILS, FIGURES, KERNEL, Run, RunError
from mm.sim.run.record import record, state_digest
from mm.sim.run.sampler import NO_MEMORY, PROGRESS, TABLES, TYPES, Sampler, counter_columns
from mm.sim.run.writer import RunWriter
from mm.sim.trace.convert import convert

RECORDINGS = pathlib.Path(__file__).parent / "recordings"
FIGURE_VALUES = {"pfn_agreement_ratio": 0.98, "allocations_count": 400,
                 "one_step_agreement_ratio": {"median": 0.99, "low": 0.98, "high": 1.0, "n": 5}}


def machine_of(dataset="H3"):
    snap = next(RECORDINGS.glob(f"*/{dataset}")) / "snap-before.npz"
    return Machine.from_snapshot(snap if snap.exists() else snap.with_name("snap-boot.npz"))


def shuffle(machine, steps, seed, held):
    """Random allocations and frees; `held` is what is allocated."""
    rng = np.random.default_rng(seed)
    gfps = [mm.GFP_HIGHUSER_MOVABLE, mm.GFP_KERNEL, mm.GFP_KERNEL | mm.__GFP_RECLAIMABLE, mm.GFP_ATOMIC]
    nr_cpus = machine.pageset.shape[1]
    for _ in range(steps):
        cpu = int(rng.integers(nr_cpus))
        if held and rng.random() < 0.4:
            pfn, order = held.pop(int(rng.integers(len(held))))
            machine.free_pages(pfn, order, cpu)
            continue
        order = int(rng.choice([0, 0, 0, 0, 1, 2, 3, 5, 9]))
        try:
            held.append((machine.alloc_pages(gfps[int(rng.integers(4))], order, cpu), order))
        except mm.AllocationFailed:
            pass


def make_run(path, dataset="H3", samples=20, steps=200, overwrite=False, **sampling_options):
    machine, held = machine_of(dataset), []
    options = {"interval_ns": 1000, **sampling_options}
    with RunWriter(path, machine, overwrite=overwrite, **options) as writer:
        writer.sampler.sample(machine, 0, events_count=0)
        for i in range(1, samples):
            shuffle(machine, steps, i, held)
            writer.sampler.sample(machine, i * 1000, events_count=i * steps)
        machine.verify()
        return writer.finish("open loop", FIGURE_VALUES, seed=3, trace={"name": "random", "sha256": "0" * 64})


# ------------------------------------------------------------------------------------------------------- sampling

@pytest.mark.parametrize("dataset", ["H3", "J1", "E1", "G6144"])
def test_free_blocks_are_those_on_the_lists(dataset):
    machine, held = machine_of(dataset), []
    for seed in range(4):
        nr_free, free_pages = sampling.free_blocks(machine)
        assert (nr_free.sum(axis=2) == machine.zones["nr_free"]).all()
        pages = np.zeros(int(machine.g["nr_pages"][0]), bool)
        for (nid, zid, order, mt), pfns in machine.free_lists().items():
            assert nr_free[nid * 5 + zid, order, mt] == len(pfns)
            for pfn in pfns.tolist():
                pages[pfn:pfn + (1 << order)] = True
        assert (pages.reshape(-1, 512).sum(axis=1) == free_pages).all()
        shuffle(machine, 2000, seed, held)
    machine.verify()


def test_samples_hold_the_numbers_of_the_machine(tmp_path):
    machine, held = machine_of(), []
    sampler = Sampler(machine, tmp_path, interval_ns=10)
    zones = machine.zones[[0, 1]]
    sampler.sample(machine, 5)
    shuffle(machine, 30000, 1, held)
    sampler.sample(machine, 30)
    assert sampler.close() == 2
    table = pq.read_table(tmp_path / "samples.parquet").to_pylist()
    assert [(row["time_ns"], row["node"], row["zone"]) for row in table] == [
        (5, 0, "DMA"), (5, 0, "DMA32"), (30, 0, "DMA"), (30, 0, "DMA32")]
    machine.fold_counters()
    for i, row in enumerate(table[2:]):
        zone = machine.zones[i]
        nr_free = [sum(row[f"free_o{order}_{mt}_blocks"] for mt in TYPES) for order in range(11)]
        assert nr_free == zone["nr_free"].tolist()
        drift = machine.pageset["vm_stat_diff"][i, :, 0].sum()
        assert row["nr_free_pages"] == zone["vm_stat"][0] + drift
        assert row["pcp_pages"] == machine.pageset["count"][i].sum()
        assert row["is_below_low"] == (zone["vm_stat"][0] <= zone["watermark"][1] + zone["watermark_boost"])
        for k, name in enumerate(counter_columns()):
            assert row[name] == zone["event"][k] - zones["event"][i, k]
        for order in range(11):
            assert row[f"unusable_o{order}_ratio"] * 1000 == pytest.approx(
                int(fragmentation.unusable_free_index(zone["nr_free"], order)))
            assert row[f"fragmentation_o{order}_ratio"] * 1000 == pytest.approx(
                int(fragmentation.fragmentation_index(zone["nr_free"], order)))
        assert row["ideal_huge_blocks"] == sum(n << k for k, n in enumerate(nr_free)) >> 9
        assert row["free_huge_blocks"] == nr_free[9] + 2 * nr_free[10]
    assert table[3]["pcp_refill_count"] > 0


def test_every_column_says_its_unit():
    units = ("_ns", "_pages", "_blocks", "_count", "_ratio")
    named = {"node", "zone", "first_pfn", "migratetype", "is_below_min", "is_below_low", "is_below_high"}
    for columns in TABLES.values():
        assert {name for name, _, _ in columns if not name.endswith(units)} <= named


def test_pageblocks_without_memory_are_marked(tmp_path):
    run = make_run(tmp_path / "run", "G6144", samples=3)
    _, types, free = run.pageblocks()
    memory = run.to_table("memory").to_pylist()
    assert types.shape == free.shape == (3, len(memory))
    for i, row in enumerate(memory):
        assert (row["present_pages"] == 0) == (row["zone"] is None) == (types[0, i] == NO_MEMORY)
        assert free[:, i].max() <= row["present_pages"] - row["reserved_pages"]
    holes = [row for row in memory if row["zone"] is None]
    assert holes and all(786432 <= row["first_pfn"] < 1048576 for row in holes)
    assert {row["zone"] for row in memory} == {"DMA", "DMA32", "Normal", None}


def test_pageblock_types_add_up_to_pagetypeinfo(tmp_path):
    machine = machine_of("J1")
    sampler = Sampler(machine, tmp_path)
    sampler.sample(machine, 0)
    sampler.close()
    rows = pq.read_table(tmp_path / "samples.parquet").to_pylist()
    printed = (RECORDINGS / "proc" / "J1" / "pagetypeinfo0.txt").read_text().splitlines()[-2:]
    assert [[row[f"pageblock_{mt}_blocks"] for mt in TYPES] for row in rows] == [
        [int(x) for x in line.split()[4:]] for line in printed]


@pytest.mark.parametrize("samples", [1, 2, 5, 8, 9, 17, 100, 1000])
def test_long_runs_keep_few_evenly_spaced_samples(tmp_path, samples):
    machine = machine_of()
    sampler = Sampler(machine, tmp_path, interval_ns=100, max_samples=8)
    time, taken = 0, 0
    while time < samples * 100:
        sampler.sample(machine, time, events_count=time)
        taken += 1
        time = sampler.next_time_ns
    sampler.sample(machine, samples * 100)
    kept = sampler.close()
    assert kept <= 10
    assert taken <= 8 + 8 * max(0, int(np.log2(samples)))
    times = pq.read_table(tmp_path / "pageblocks.parquet")["time_ns"].to_numpy()
    assert len(times) == kept == sampler.samples
    assert times[0] == 0 and times[-1] == samples * 100
    assert len(set(np.diff(times[:-1]))) <= 1
    for table, factor in (("samples", 2), ("progress", 1)):
        assert pq.read_metadata(tmp_path / f"{table}.parquet").num_rows == kept * factor


def test_an_interval_far_too_short_doubles_until_it_fits(tmp_path):
    machine = machine_of()
    sampler = Sampler(machine, tmp_path, interval_ns=1, max_samples=4)
    for time in range(0, 10_000_000, 100_000):
        sampler.sample(machine, time)
    assert sampler.close() <= 6
    assert sampler.interval_ns == 1 << 22


def test_rows_reach_the_disk_while_the_run_goes_on(tmp_path):
    machine = machine_of()
    sampler = Sampler(machine, tmp_path, interval_ns=1)
    for time in range(64):
        sampler.sample(machine, time)
    assert not any(sampler._groups.values())
    assert (tmp_path / "samples.parquet").exists()
    sampler.abort()


def test_what_the_driver_did_not_count_is_null(tmp_path):
    progress = make_run(tmp_path / "run", samples=3).to_table("progress").to_pydict()
    assert progress["events_count"] == [0, 200, 400]
    assert all(progress[name] == [None] * 3 for name in PROGRESS if name != "events_count")


def test_a_time_that_steps_back_counts_as_the_last(tmp_path):
    machine = machine_of()
    sampler = Sampler(machine, tmp_path)
    for time in (10, 7, 12):
        sampler.sample(machine, time)
    sampler._flush()
    sampler.abort()
    assert pq.read_table(tmp_path / "pageblocks.parquet")["time_ns"].to_pylist() == [10, 10, 12]


def test_unknown_counts_and_senseless_bounds_are_refused(tmp_path):
    machine = machine_of()
    sampler = Sampler(machine, tmp_path)
    with pytest.raises(ValueError, match="there are events_count"):
        sampler.sample(machine, 11, evnets=1)
    for options in ({"interval_ns": 0}, {"max_samples": 1}):
        with pytest.raises(ValueError, match="at least"):
            Sampler(machine, tmp_path, **options)


# --------------------------------------------------------------------------------------------------------- writing

def test_a_run_says_what_was_run(tmp_path):
    run = make_run(tmp_path / "run")
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info == run.info
    assert (info["kernel"], info["mode"], info["seed"], info["version"]) == (KERNEL, "open loop", 3, mm.__version__)
    assert info["machine"]["cpus"] == 2 and info["machine"]["zones"][1]["managed_pages"] == 241529
    assert info["knobs"]["watermark_boost_factor"] == 15000
    assert info["vm_event_deltas"]["pgalloc_dma32"] > 0
    assert info["figures"] == {**dict.fromkeys(FIGURES), **FIGURE_VALUES}
    assert set(DETAILS) <= set(info)
    assert info["sampling"] == {"interval_ns": 1000, "samples": 20}
    schema = json.loads((tmp_path / "run" / "schema.json").read_text())
    for name, entry in info["tables"].items():
        path = tmp_path / "run" / name
        assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert [c["name"] for c in schema[name]] == pq.read_schema(path).names
    assert str(tmp_path) not in (tmp_path / "run" / "run.json").read_text()


def test_the_same_run_gives_the_same_bytes(tmp_path):
    make_run(tmp_path / "a", samples=90, max_samples=20, steps=50)
    make_run(tmp_path / "b", samples=90, max_samples=20, steps=50)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["memory.parquet", "pageblocks.parquet", "progress.parquet", "run.json", "samples.parquet",
                     "schema.json"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_a_failed_replay_leaves_nothing(tmp_path):
    machine = machine_of()
    with pytest.raises(RuntimeError), RunWriter(tmp_path / "run", machine) as writer:
        writer.sampler.sample(machine, 0)
        raise RuntimeError("stopped")
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_replaced_only_on_request_and_only_a_run(tmp_path):
    make_run(tmp_path / "run", samples=3)
    with pytest.raises(FileExistsError):
        make_run(tmp_path / "run", samples=4)
    assert make_run(tmp_path / "run", samples=4, overwrite=True).info["sampling"]["samples"] == 4
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="is no run"):
        make_run(tmp_path / "other", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "run"]


def test_a_failed_replacement_keeps_the_old_run(tmp_path):
    make_run(tmp_path / "run", samples=3)
    machine = machine_of()
    with pytest.raises(ValueError, match="figures"), RunWriter(tmp_path / "run", machine, overwrite=True) as writer:
        writer.sampler.sample(machine, 0)
        writer.finish("open loop", {"speed": 1})
    assert Run.open(tmp_path / "run").info["sampling"]["samples"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_without_a_path_can_be_saved(tmp_path):
    run = make_run(None, samples=5)
    folder = run.path
    assert folder.is_dir() and run.name == "random"
    saved = run.save(tmp_path / "kept")
    with pytest.raises(FileExistsError):
        run.save(tmp_path / "kept")
    del run
    assert not folder.exists()
    assert saved.name == "kept" and saved.to_table().num_rows == 10


@pytest.mark.parametrize(("mode", "figures", "details", "message"), [
    ("half open", {}, {}, "open loop or closed loop"),
    ("open loop", {"agreement": 1}, {}, "figures agreement: there are pfn_agreement_ratio"),
    ("open loop", {"pfn_agreement_ratio": "all"}, {}, "is no number"),
    ("open loop", {"pfn_agreement_ratio": {"median": 1}}, {}, "is no number"),
    ("open loop", {}, {"tarce": {}}, "details tarce"),
])
def test_unknown_words_are_refused(tmp_path, mode, figures, details, message):
    machine = machine_of()
    with pytest.raises(ValueError, match=message), RunWriter(tmp_path / "run", machine) as writer:
        writer.sampler.sample(machine, 0)
        writer.finish(mode, figures, **details)


def test_extfrag_events_are_kept(tmp_path):
    machine = machine_of()
    events = {"time_ns": [1, 2], "pfn": np.array([7, 8], np.uint32), "alloc_order": [0, 0], "fallback_order": [3, 9],
              "alloc_migratetype": [0, 1], "fallback_migratetype": [1, 2], "fragmenting": [True, False],
              "change_ownership": np.array([False, True])}
    with RunWriter(tmp_path / "run", machine) as writer:
        writer.sampler.sample(machine, 0)
        writer.write_extfrag(events)
        writer.write_extfrag({name: values[:0] for name, values in events.items()})
        with pytest.raises(ValueError, match="need the columns time_ns"):
            writer.write_extfrag({"pfn": [1]})
        run = writer.finish("closed loop", {})
    assert run.to_table("extfrag")["fallback_order"].to_pylist() == [3, 9]
    with pytest.raises(KeyError, match="there are extfrag, memory"):
        run.to_table("faults")


def test_a_run_prints_its_figures(tmp_path):
    run = make_run(tmp_path / "run", samples=2)
    text = str(run)
    assert "98.000% (n=1, deterministic)" in text
    assert "99.000% (median of n=5, 98.000% to 100.000%)" in text
    assert run.headline()["allocations_count"] == 400
    assert "failures_count" not in run.headline()
    json.dumps(run.headline())


# --------------------------------------------------------------------------------------------------------- opening

@pytest.fixture
def stored(tmp_path):
    return make_run(tmp_path / "run", samples=3).path


def edit_info(path, **changes):
    info = json.loads((path / "run.json").read_text())
    info.update(changes)
    (path / "run.json").write_text(json.dumps({k: v for k, v in info.items() if v is not ...}))


@pytest.mark.parametrize("table", ["samples", "pageblocks", "progress", "memory"])
def test_a_table_that_was_cut_off_changed_or_lost_is_refused(stored, table):
    path = stored / f"{table}.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(RunError, match=r"cut off or changed"):
        Run.open(stored)
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    with pytest.raises(RunError, match="digest"):
        Run.open(stored)
    path.unlink()
    with pytest.raises(RunError, match="missing"):
        Run.open(stored)


@pytest.mark.parametrize(("text", "message"), [
    ('{"format": "mm-run", "format_ver', "damaged"), ("\xff\xfe", "damaged"), ("[]", "not a run"), ("{}", "not a run"),
    ('{"format": "mm-run", "format_version": 99}', "format version 99, this package reads 1"),
    ('{"format": "mm-run", "format_version": 1}', "damaged: 'version' is missing"),
])
def test_a_damaged_description_is_refused(stored, text, message):
    (stored / "run.json").write_text(text, encoding="latin-1")
    with pytest.raises(RunError, match=message):
        Run.open(stored)


@pytest.mark.parametrize(("changes", "message"), [
    ({"tables": {}}, "no table samples"), ({"tables": {"../x.parquet": {}}}, "damaged: table"),
    ({"machine": {}}, "lacks its sizes"), ({"sampling": {"samples": 4}}, "not the 8 rows"),
    ({"figures": ...}, "'figures'"), ({"counts": ...}, "'counts' is missing"), ({"trace": None}, "'trace'"),
    ({"figures": {"speed": 1}}, "unknown figures"), ({"recorded": 5}, "'recorded'"),
])
def test_a_description_that_contradicts_the_tables_is_refused(stored, changes, message):
    edit_info(stored, **changes)
    with pytest.raises(RunError, match=message):
        Run.open(stored)


def test_a_table_without_its_columns_is_refused(stored):
    path = stored / "progress.parquet"
    pq.write_table(pa.table({"time_ns": [1, 2, 3]}), path)
    tables = json.loads((stored / "run.json").read_text())["tables"]
    tables[path.name] |= {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    edit_info(stored, tables=tables)
    with pytest.raises(RunError, match="no column 'events_count'"):
        Run.open(stored)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"no run\.json"):
        Run.open(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="a run is a folder"):
        Run.open(tmp_path / "file")


# ------------------------------------------------------------------------------------------------------- recording

@pytest.fixture(scope="module")
def h3_trace(tmp_path_factory):
    source = RECORDINGS / "alloc" / "H3" / "trace.txt.zst"
    if not source.exists():
        pytest.skip("no recording of H3's trace")
    path = tmp_path_factory.mktemp("trace") / "h3.trace"
    convert(source, path)
    return path


def test_a_recorded_replay_says_where_it_came_from(h3_trace, tmp_path):
    with mm.Trace.open(h3_trace) as trace:
        rows, ops = len(trace), trace.op_counts()
        run = record(machine_of(), trace, tmp_path / "run", seed=4)
    info = run.info
    assert info["mode"] == "open loop" and info["seed"] == 4 and info["as_kernel"] is None
    assert info["trace"]["rows"] == rows and len(info["trace"]["sha256"]) == len(info["start_state"]["sha256"]) == 64
    assert info["recorded"] and len(info["recorded"]) == len(ops)
    assert sum(info["inferred"].values()) == run.figures["inferred_pages"]
    assert run.figures["pfn_agreement_ratio"] == 1.0
    assert 0 < run.figures["pfn_agreement_plain_ratio"] < 1
    assert 0.9 < run.figures["one_step_agreement_ratio"] <= 1
    assert run.figures["failures_count"] == run.figures["recorded_failures_count"] == 0
    assert run.to_table("pageblocks").num_rows > 10
    assert run.headline()["allocations_count"] == run.figures["allocations_count"] > 80000


def test_recording_twice_gives_the_same_bytes(h3_trace, tmp_path):
    for name in "ab":
        with mm.Trace.open(h3_trace) as trace:
            record(machine_of(), trace, tmp_path / name, headlines=False)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    assert Run.open(tmp_path / "a").figures["one_step_agreement_ratio"] is None


def test_the_digest_of_a_state_tells_states_apart():
    one, two = machine_of(), machine_of()
    assert state_digest(one) == state_digest(two)
    pfn = one.alloc_pages(mm.GFP_KERNEL)
    assert state_digest(one) != state_digest(two)
    assert two.alloc_pages(mm.GFP_KERNEL) == pfn
    assert state_digest(one) == state_digest(two)


@pytest.mark.parametrize(("release", "as_kernel"), [("6.1.0-56-amd64", None), ("6.1", None), ("5.10.0", "6.1"),
                                                    ("6.12.3", "6.1")])
def test_a_trace_of_another_kernel_is_named(tmp_path, release, as_kernel):
    trace = mm.Trace.from_arrays([0], gfp=[int(mm.GFP_KERNEL)], handle=[0], metadata={"kernel_release": release})
    assert record(machine_of(), trace, tmp_path / "run").info["as_kernel"] == as_kernel
