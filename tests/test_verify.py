"""mm verify: kinds are found from the files, and no dataset, however broken, gets past without a clear row."""

import json
import random
import shutil

import numpy as np
import pytest

from mm.sim.verify import STATUSES, kind_of, verify, verify_one


@pytest.fixture
def copy_of(recording, tmp_path):
    """A recording to be broken."""

    def make(name):
        shutil.copytree(recording(name), tmp_path / name)
        return tmp_path / name

    return make


def change_npz(path, **arrays):
    """Replace arrays of an .npz file; None takes one away."""
    with np.load(path) as old:
        new = {name: old[name] for name in old.files} | arrays
    np.savez(path, **{name: array for name, array in new.items() if array is not None})


def assert_short(row, *words):
    """A row that names the problem."""
    assert row["status"] == "short"
    assert row["why"] and "\n" not in row["why"]
    for word in words:
        assert str(word) in row["why"], row["why"]


@pytest.mark.parametrize("files, kind, status", [
    (["a.jsonl.zst", "README.md"], "syscalls", "not_modelled"),
    (["index.json", "01.r1.json.zst"], "workloads", "not_modelled"),
    (["results.json", "trace.txt.zst", "meta.json"], "knob_effects", "not_modelled"),
    (["ops.npz", "trace.txt.zst", "meta.json"], "ops", "not_modelled"),
    (["ops.npz", "meta.json"], "ops", None),
    (["snap-boot.npz", "meta.json"], "boot", None),
])
def test_kind_is_found_from_the_files(tmp_path, files, kind, status):
    for name in files:
        (tmp_path / name).write_text("{}")
    assert kind_of(tmp_path)[0] == kind
    assert (kind_of(tmp_path)[1] or (None,))[0] == status


def test_folder_of_folders_is_gone_through(recording, tmp_path):
    for name in ("D1", "F1"):
        (tmp_path / name).symlink_to(recording(name))
    assert [row["dataset"] for row in verify([tmp_path])] == ["D1", "F1"]


@pytest.mark.parametrize("what", ["missing", "empty", "file"])
def test_what_is_no_dataset_is_said(tmp_path, what):
    path = tmp_path / "x"
    if what == "empty":
        path.mkdir()
    elif what == "file":
        path.write_text("")
    assert_short(verify_one(path), path)


def test_wrong_answer_is_short_and_named(copy_of):
    folder = copy_of("D1")
    with np.load(folder / "ops.npz") as ops:
        res = ops["res"].copy()
    at = int(np.flatnonzero(res > 0)[1000])
    res[at] += 1
    change_npz(folder / "ops.npz", res=res)
    row = verify_one(folder)
    assert_short(row, f"op {at} ")
    assert row["matched"] == row["total"] - 1


def test_wrong_list_is_short_and_named(copy_of):
    folder = copy_of("D1")
    with np.load(folder / "snap-after.npz") as snap:
        pfns = snap["free_pfn"].copy()
    pfns[[3, 4]] = pfns[[4, 3]]
    change_npz(folder / "snap-after.npz", free_pfn=pfns)
    row = verify_one(folder)
    assert_short(row, "after", "free list")
    assert row["lists_equal"] is False


@pytest.mark.parametrize("name", ["meta.json", "ops.npz", "snap-before.npz", "snap-after.npz"])
@pytest.mark.parametrize("how", ["missing", "empty", "cut", "text"])
def test_broken_file_is_named(copy_of, name, how):
    folder = copy_of("D1")
    path = folder / name
    whole = path.read_bytes()
    path.unlink()
    if how != "missing":
        path.write_bytes({"empty": b"", "cut": whole[:len(whole) // 2], "text": b"not what you expect"}[how])
    row = verify_one(folder)
    if (name, how) == ("ops.npz", "missing"):
        assert_short(row, folder)
    else:
        assert_short(row, path)


@pytest.mark.parametrize("arrays", [
    {"op": None}, {"op": np.array(["a", "b"])}, {"op": np.zeros((2, 2), int)}, {"op": np.zeros(3, int)}, {"aux": None},
    {"order": np.full(123503, 99)}, {"slot": np.full(123503, -7)}, {"slot": np.full(123503, 1 << 40)},
    {"gfp": np.full(123503, -1)}, {"gfp": np.full(123503, 0x6)}, {"cpu": np.full(123503, 77)},
    {"nid": np.full(123503, 9)},
    {"op": np.full(123503, 200)}, {"op": np.full(123503, 3), "arg": np.full(123503, 1 << 45)},
    {"op": np.full(123503, 4)}, {"op": np.full(123503, 6)}, {"op": np.full(123503, 5), "arg": np.full(123503, -1)},
], ids=lambda arrays: "-".join(arrays))
def test_hostile_operations_are_refused(copy_of, arrays):
    folder = copy_of("D1")
    change_npz(folder / "ops.npz", **arrays)
    assert_short(verify_one(folder))


@pytest.mark.parametrize("change", [
    {"fields": None}, {"fields": {"glob": "x"}}, {"config": {}}, {"cpu_node": ["a"]}, {"cpu_node": [3]},
    {"cpu_node": []},
    {"config": {"MAX_ORDER": 12}}, {"fields": {"glob": [], "node": [], "zone": [], "pcp": [], "vmev": []}},
], ids=str)
def test_hostile_meta_is_refused(copy_of, change):
    folder = copy_of("D1")
    meta = json.loads((folder / "meta.json").read_text()) | change
    (folder / "meta.json").write_text(json.dumps(meta))
    assert_short(verify_one(folder), folder)


@pytest.mark.slow
def test_random_damage_never_gets_out(copy_of):
    folder = copy_of("D1")
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    rng = random.Random(11)
    for _ in range(40):
        path = rng.choice([folder / "ops.npz", folder / "snap-before.npz", folder / "meta.json"])
        data = bytearray(whole[path])
        for _ in range(rng.choice((1, 8, 64))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        assert verify_one(folder)["status"] in STATUSES
        path.write_bytes(whole[path])


@pytest.mark.slow
@pytest.mark.broken_machine
def test_random_values_in_arrays_never_get_out(copy_of):
    """Well-formed files with wrong numbers: every index that a snapshot holds may be anything."""
    folder = copy_of("D1")
    path = folder / "snap-before.npz"
    whole = path.read_bytes()
    rng = np.random.default_rng(5)
    with np.load(path) as snap:
        arrays = {name: snap[name] for name in snap.files}
    for _ in range(60):
        name = rng.choice([name for name in arrays if arrays[name].size])
        array = arrays[name].copy()
        info = np.iinfo(array.dtype)
        at = rng.integers(array.size, size=rng.choice((1, 5)))
        array.reshape(-1)[at] = rng.choice(np.array([info.min, info.max, 0, 1, info.max // 2, 255], object)).__int__() \
            if rng.random() < 0.7 else rng.integers(info.min, info.max)
        change_npz(path, **{str(name): array})
        assert verify_one(folder)["status"] in STATUSES
        path.write_bytes(whole)
