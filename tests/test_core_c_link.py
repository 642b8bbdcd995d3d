"""The core in a C program without Python: it links, needs nothing of libpython, and answers as it does in Python."""

import pathlib
import random
import shutil
import subprocess

import pytest

import mm
from mm.sim.image import load_image, save_image
from mm.sim.snapshot import SnapshotError

ROOT = pathlib.Path(__file__).parents[1]
LIBRARY = pathlib.Path(mm.__file__).parent / "lib" / "libmm.a"
CC = shutil.which("cc") or shutil.which("gcc")
needs_compiler = pytest.mark.skipif(CC is None, reason="no C compiler")


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """The C program, linked with libmm.a and the C library alone."""
    assert LIBRARY.exists(), "libmm.a is made by the build"
    program = tmp_path_factory.mktemp("host") / "replay_image"
    subprocess.run([CC, "-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", f"-I{mm.get_include()}",
                    str(ROOT / "tests" / "c" / "replay_image.c"), str(LIBRARY), "-Wl,--gc-sections", "-o",
                    str(program)], check=True)
    return program


@needs_compiler
def test_program_needs_no_python(host):
    symbols = subprocess.run(["nm", "--undefined-only", str(host)], check=True, capture_output=True, text=True).stdout
    wanted = [line.split()[-1] for line in symbols.split("\n") if line.split()]
    assert wanted and [name for name in wanted if name.startswith(("Py", "_Py"))] == []
    libraries = subprocess.run(["ldd", str(host)], check=True, capture_output=True, text=True).stdout
    assert "python" not in libraries


def drive(machine, seed, n=3000):
    """Random operations on a machine: the lines for the C host, and the answers that it must print."""
    rng = random.Random(seed)
    lines, answers, held = [], [], []
    gfps = [mm.GFP_KERNEL, mm.GFP_HIGHUSER_MOVABLE, mm.GFP_ATOMIC, mm.GFP_KERNEL | getattr(mm, "__GFP_RECLAIMABLE")]
    for _ in range(n):
        if held and rng.random() < 0.4:
            pfn, order = held.pop(rng.randrange(len(held)))
            machine.free_pages(pfn, order)
            lines.append(f"f {pfn} {order} 0")
            answers.append("0")
        elif rng.random() < 0.05:
            pfns = machine.alloc_pages_bulk(mm.GFP_KERNEL, 40, 0, -1).tolist()
            lines.append(f"b {mm.GFP_KERNEL} -1 40 0")
            answers.append(" ".join(map(str, [len(pfns), *pfns])))
            held += [(pfn, 0) for pfn in pfns]
        else:
            gfp, order = rng.choice(gfps), min(int(rng.expovariate(1)), 10)
            try:
                held.append((machine.alloc_pages(gfp, order), order))
                answers.append(str(held[-1][0]))
            except mm.AllocationFailed:
                answers.append(str(0xffffffff))
            lines.append(f"a {gfp} {order} -1 0")
    return lines + ["v"], answers + ["0"]


@needs_compiler
@pytest.mark.parametrize("name", ["A1", "C1", "D1"])
def test_c_host_gives_the_same_pages(host, recording, tmp_path, name):
    machine = mm.Machine.from_snapshot(recording(name) / "snap-before.npz")
    save_image(machine, tmp_path / "image")
    lines, answers = drive(machine, seed=7)
    result = subprocess.run([str(host), str(tmp_path / "image")], input="\n".join(lines), check=True,
                            capture_output=True, text=True)
    assert result.stdout.split("\n")[:-1] == answers


@needs_compiler
def test_c_host_refuses_a_broken_image(host, tmp_path):
    (tmp_path / "image").write_bytes(b"MMIMAGE1" + bytes(5000))
    result = subprocess.run([str(host), str(tmp_path / "image")], input="", text=True, capture_output=True)
    assert result.returncode == 3
    assert "refused" in result.stderr


def test_image_loads_into_an_equal_machine(recording, tmp_path):
    machine = mm.Machine.from_snapshot(recording("C1") / "snap-before.npz")
    for _ in range(100):
        machine.alloc_pages(mm.GFP_KERNEL, 1)
    save_image(machine, tmp_path / "image")
    again = load_image(tmp_path / "image")
    assert type(again) is mm.Machine
    for array in ("page", "cold", "buddy", "pageblock_flags", "zones", "pageset", "nodes", "vm_event", "zonelists",
                  "g"):
        assert getattr(again, array).tobytes() == getattr(machine, array).tobytes(), array
    assert machine.alloc_pages_bulk(mm.GFP_KERNEL, 200).tolist() == again.alloc_pages_bulk(mm.GFP_KERNEL, 200).tolist()
    assert [machine.alloc_pages(mm.GFP_KERNEL, order) for order in range(8)] == \
        [again.alloc_pages(mm.GFP_KERNEL, order) for order in range(8)]


def test_damaged_images_are_refused_by_name(recording, tmp_path):
    machine = mm.Machine.from_snapshot(recording("D1") / "snap-before.npz")
    path = tmp_path / "image"
    save_image(machine, path)
    whole = path.read_bytes()
    rng = random.Random(3)
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 50))):
            data[rng.randrange(rng.choice((1024, len(data))))] = rng.randrange(256)
        path.write_bytes(data[:rng.choice((len(data), rng.randrange(len(data))))])
        try:
            load_image(path).verify()
        except SnapshotError as error:
            assert str(path) in str(error)


def test_image_of_something_else_is_refused(tmp_path):
    with pytest.raises(TypeError, match="expected a Machine"):
        save_image(object(), tmp_path / "image")
