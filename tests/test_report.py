"""The HTML report: self-contained, holds the run's numbers, works in a browser."""

import base64
import html
import json
import re
import shutil
import subprocess
import zlib

import numpy as np
import pytest
from test_run import make_run

from mm.sim import report
from mm.sim.report import render, write_report
from mm.sim.run.folder import RunError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def data_of(page):
    """The JSON in the page, and the columns of each run, decoded as the page decodes them."""
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    columns = []
    for run in data["runs"]:
        raw, offset, decoded = zlib.decompress(base64.b64decode(run["blob"])), 0, {}
        for name, kind, length in run["arrays"]:
            dtype = {"f": "<f8", "i": "<i4", "c": "<u2"}[kind]
            assert offset % np.dtype(dtype).itemsize == 0
            values = np.frombuffer(raw, dtype, length, offset)
            offset += values.nbytes
            if kind == "i":
                values = np.cumsum(values, dtype=np.int64)
            if kind == "c":
                values = np.bitwise_xor.accumulate(values.reshape(-1, run["rows"]), axis=0)
            decoded[name] = values
        assert offset == len(raw)
        columns.append(decoded)
    return data, columns


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [make_run(folder / "one", "H3", samples=40), make_run(folder / "two", "E1", samples=30)]


def test_the_page_asks_nothing_of_the_network(runs):
    page = render(runs)
    assert "default-src 'none'" in page
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:,)""", markup)
    assert not re.search(r"https?://|@import|url\(", page)
    assert "@@" not in page


def test_the_page_holds_every_number_of_the_run(runs):
    data, columns = data_of(render(runs))
    for run, shown, decoded in zip(runs, data["runs"], columns, strict=True):
        times, types, free = run.pageblocks()
        assert decoded["time"].tolist() == times.tolist()
        assert shown["group"] == 1 and shown["rows"] == types.shape[1]
        assert (decoded["cells"] & 1023 == free).all()
        assert (decoded["cells"] >> 10 == np.where(types == 255, 7, types)).all()
        table = run.to_table()
        zones = run.info["machine"]["zones"]
        for i in range(len(zones)):
            for name in table.column_names:
                if name in ("time_ns", "node", "zone"):
                    continue
                values = table[name].to_numpy()[i::len(zones)].astype(float) * (1000 if name.endswith("_ratio") else 1)
                assert decoded[f"{i}/{name}"] == pytest.approx(values)
        assert decoded["progress/events_count"].tolist() == run.to_table("progress")["events_count"].to_pylist()
        assert "progress/pfn_equal_count" not in decoded
        assert shown["info"]["figures"] == run.figures


def test_zones_of_the_picture_are_those_of_memory(runs):
    data, _ = data_of(render(runs[1:]))
    run = data["runs"][0]
    assert run["zoneOfRow"] == [["DMA", 8], ["DMA32", run["rows"] - 8]]
    assert [node for node, _ in run["nodeOfRow"]] == [0, 1]


def test_large_pictures_are_thinned_and_say_so(runs, monkeypatch):
    monkeypatch.setattr(report, "MIN_SAMPLES", 10)
    monkeypatch.setattr(report, "MAX_CELLS", 10 * 128)
    data, columns = data_of(render(runs[:1]))
    shown = data["runs"][0]
    times, types, free = runs[0].pageblocks()
    assert (shown["group"], shown["samplesOfRun"], len(columns[0]["time"])) == (4, 40, 10)
    assert columns[0]["time"][[0, -1]].tolist() == times[[0, -1]].tolist()
    last = columns[0]["cells"][-1]
    assert (last & 1023).tolist() == (free[-1].reshape(-1, 4).sum(axis=1) // 4).tolist()
    for cell, group in zip(last >> 10, types[-1].reshape(-1, 4), strict=True):
        assert (group == cell).sum() == max((group == mt).sum() for mt in range(5))


def test_groups_that_span_a_hole_count_only_memory():
    types = np.array([[1, 255, 255, 255, 255, 255]], np.uint8)
    cells = report._cells(types, np.array([[100, 0, 0, 0, 0, 0]], np.uint16), 4)
    assert cells.tolist() == [[1 << 10 | 100, 7 << 10]]


def test_counters_beyond_32_bits_are_kept():
    values = np.array([0, 5_000_000_000, 5_000_000_001])
    layout, blob = report._pack({"a": values, "b": np.arange(3)}, np.zeros((3, 2), np.uint16))
    assert layout == [["a", "f", 3], ["b", "i", 3], ["cells", "c", 6]]
    assert np.frombuffer(zlib.decompress(base64.b64decode(blob)), "<f8", 3).tolist() == values.tolist()


def test_hostile_names_stay_text(tmp_path):
    name = "</script><script>alert(1)</script><!--"
    run = make_run(tmp_path / "x", samples=2)
    run.info["trace"]["name"] = name
    page = render([run], title=name)
    assert page.count("<script") == page.count("</script>") == 3
    assert "alert(1)</script>" not in page
    assert html.escape(name) in page
    assert data_of(page)[0]["runs"][0]["info"]["trace"]["name"] == name


def test_the_same_runs_give_the_same_page(runs, tmp_path):
    write_report(runs, tmp_path / "a.html")
    write_report([run.path for run in runs], tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_nothing_is_written_for_no_run_or_a_broken_one(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        write_report([], tmp_path / "a.html")
    with pytest.raises(RunError):
        write_report([tmp_path], tmp_path / "a.html")
    assert list(tmp_path.iterdir()) == []


# What a reader does, run inside the page; the answers are left in an attribute.
READER = """
<script>
(async () => {
  const log = {errors: []}, find = (s) => document.querySelector(s);
  addEventListener("error", (e) => log.errors.push(e.message));
  for (let i = 0; i < 200 && document.body.dataset.ready !== "yes"; i++) await new Promise((r) => setTimeout(r, 20));
  const point = (element, type, x, y, more = {}) => {
    const box = element.getBoundingClientRect();
    element.setPointerCapture = () => {};
    element.dispatchEvent(new PointerEvent(type, {clientX: box.left + x * box.width, clientY: box.top + y * box.height,
      bubbles: true, pointerId: 1, ...more}));
  };
  const choose = (select, value) => { select.value = value; select.dispatchEvent(new Event("change")); };
  const picture = find("#picture");
  point(picture, "pointermove", 0.5, 0.5);
  log.hover = find("#tip").innerText;
  point(picture, "pointerdown", 0.3, 0.5, {buttons: 1});
  point(picture, "pointerup", 0.3, 0.5);
  log.moment = +find("#time").value;
  log.caption = find("#grid-caption").textContent;
  find("#time").value = 7;
  find("#time").dispatchEvent(new Event("input"));
  log.slid = find("#grid-caption").textContent;
  point(find("#grid"), "pointermove", 0.02, 0.02);
  log.grid = find("#tip").innerText;
  point(picture, "pointerleave", 0.5, 0.5);
  log.hidden = find("#tip").hidden;
  for (const select of document.querySelectorAll("select"))
    for (const option of select.options) choose(select, option.value);
  choose(find("#run"), "0");
  log.zones = find("#zone").options.length;
  choose(find("#free select"), "type");
  const free = find("#free canvas"), scale = devicePixelRatio;
  const foot = free.getContext("2d")
    .getImageData((PLOT.left + 2) * scale, free.height - (PLOT.bottom + 4) * scale, 20, 1).data;
  log.stack = foot.filter((_, i) => i % 4 === 3).every((alpha) => alpha === 255);
  point(free, "pointermove", 0.5, 0.5);
  log.free = find("#tip").innerText;
  find("#free .key").click();
  log.pressed = find("#free .key").getAttribute("aria-pressed");
  find("#zoom-in").click();
  log.zoomed = [view.t0, view.t1];
  point(picture, "dblclick", 0.5, 0.5);
  picture.dispatchEvent(new MouseEvent("dblclick"));
  log.whole = [view.t0, view.t1];
  log.colours = new Set(find("#picture").getContext("2d").getImageData(100, 20, 300, 200).data).size;
  log.width = [document.documentElement.scrollWidth, innerWidth];
  log.cards = document.querySelectorAll(".figure").length;
  log.counters = find("#counters").rows.length;
  document.body.dataset.log = JSON.stringify(log);
})();
</script></body>"""


def browse(page, tmp_path, *flags):
    """The page after READER has used it: its log and what the console said."""
    file = tmp_path / "page.html"
    file.write_text(page.replace("</body>", READER), encoding="utf-8")
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
               f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1280,800", "--virtual-time-budget=20000",
               *flags, "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'data-log="([^"]*)"', done.stdout)
    assert found, done.stdout[:2000]
    return json.loads(html.unescape(found[1])), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("scheme", ["0", "1"], ids=["dark", "light"])
def test_a_reader_can_use_the_page(runs, tmp_path, scheme):
    log, console = browse(render(runs), tmp_path, f"--blink-settings=preferredColorScheme={scheme}")
    assert console == [] and log["errors"] == []
    assert re.search(r"^at \d.*pfn.*node 0, zone DMA32.*of 512 pages", log["hover"], re.DOTALL)
    assert log["caption"] != log["slid"] and 5 < log["moment"] < 20
    _, types, free = runs[0].pageblocks()
    whole = int((free[7] == 512).sum())
    assert f"{types.shape[1]} pageblocks" in log["slid"] and f"{whole} wholly free" in log["slid"]
    assert "0 - 511" in log["grid"] and "zone DMA\n" in log["grid"] and log["hidden"]
    row = next(row for row in runs[0].to_table().to_pylist() if row["zone"] == "DMA32" and row["time_ns"] == 18000)
    blocks = sum(row[f"free_o{order}_movable_blocks"] for order in range(11))
    assert log["zones"] == 2 and log["free"].startswith("at 18 \u00b5s\n") and f"\nMovable\t{blocks}\n" in log["free"]
    assert log["pressed"] == "false"
    assert log["zoomed"][1] - log["zoomed"][0] < log["whole"][1] - log["whole"][0] == 39000
    assert log["stack"]     # the stacked areas begin at the axis
    assert log["colours"] > 20
    assert log["width"][0] <= log["width"][1]
    assert log["cards"] == 10 and log["counters"] > 15
