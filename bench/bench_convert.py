"""Text to trace, end to end: decompression, parsing, pairing, Arrow writing.

Unit: lines of text a second, one process.  Size: the recording of tests/ repeated to about a million lines, in zstd.
Goal: at least 1,000,000 lines/s.  Peers in the same run: decompression alone (the roofline of any reader), and a
regular expression that only finds the fields, on a tenth of the text.

    pytest bench/bench_convert.py --benchmark-only
"""

import io
import pathlib
import re

import pytest
import zstandard

from mm.sim.trace import Trace
from mm.sim.trace.convert import convert

RECORDING = pathlib.Path(__file__).parents[1] / "tests" / "recordings" / "linux-6.1.192-ftrace.txt.zst"
REPEATS = 50
GOAL_LINES_PER_S = 1_000_000
FIELDS = re.compile(rb"-(\d+) +\[(\d+)\] (\S+) +(\d+)\.(\d+): (\w+): page=\S+ pfn=(\S+) order=(\d+)"
                    rb"(?: migratetype=(\d+))?(?: gfp_flags=(\S+))?")


@pytest.fixture(scope="module")
def text():
    """The recording without its stray first line, again and again."""
    once = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(RECORDING.read_bytes())).read()
    return b"\n".join(once.split(b"\n")[13:]) * REPEATS


@pytest.fixture(scope="module")
def packed(text, tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "trace.txt.zst"
    # A window smaller than the recording: its repeats are as hard to decompress as new text.
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=20)
    path.write_bytes(zstandard.ZstdCompressor(compression_params=parameters).compress(text))
    return path


def report(benchmark, what, lines):
    rate = lines / benchmark.stats.stats.min
    benchmark.extra_info["lines_per_s"] = round(rate)
    print(f"\n{what}: {rate / 1e6:.2f} M lines/s")
    return rate


@pytest.mark.parametrize("compression", ["zstd", None])
def test_convert(benchmark, text, packed, tmp_path, compression):
    lines = text.count(b"\n")
    benchmark.pedantic(convert, (packed, tmp_path / "out.trace"), {"kernel": "6.1", "compression": compression},
                       rounds=5, warmup_rounds=1)
    rate = report(benchmark, f"convert to {compression or 'uncompressed'}", lines)
    size = (tmp_path / "out.trace").stat().st_size / len(Trace.open(tmp_path / "out.trace"))
    verdict = "met" if rate >= GOAL_LINES_PER_S else "MISSED"
    print(f"{size:.1f} bytes a row; goal {GOAL_LINES_PER_S / 1e6} M lines/s: {verdict}")


def test_decompression_alone(benchmark, text, packed):
    def read():
        stream = zstandard.ZstdDecompressor().stream_reader(packed.read_bytes())
        while stream.read(1 << 20):
            pass
    benchmark.pedantic(read, rounds=5, warmup_rounds=1)
    report(benchmark, "decompression alone", text.count(b"\n"))


def test_regular_expression(benchmark, text):
    part = text[:len(text) // 10]
    benchmark.pedantic(lambda: sum(1 for _ in FIELDS.finditer(part)), rounds=2)
    report(benchmark, "regular expression, fields only", part.count(b"\n"))
