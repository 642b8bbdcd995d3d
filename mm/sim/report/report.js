"use strict";
// The report's page: data, the two pictures of memory, controls.  The charts and tables are in report_charts.js, which
// follows in the same page.  All views share `view`: the run, the zone, the moment (a sample index), the time shown.

const DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const view = { run: null, zone: 0, at: 0, t0: 0, t1: 1 };
const views = [];
const redraw = () => views.forEach((v) => v.draw());

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// ---------------------------------------------------------------------------------------------------- numbers

const number = (x) => Math.abs(x) >= 1e4 && Number.isInteger(x) ? x.toLocaleString("en-US").replace(/,/g, "\u202f") : String(x);
const ratio = (x) => (x / 1000).toFixed(3);

function short(x) {
  for (const [size, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (Math.abs(x) >= size) return `${+(x / size).toPrecision(3)}${letter}`;
  return String(+x.toPrecision(3));
}

function bytes(pages) {
  let x = pages * 4, units = ["KiB", "MiB", "GiB", "TiB"];
  while (x >= 1024 && units.length > 1) { x /= 1024; units.shift(); }
  return `${+x.toPrecision(4)} ${units[0]}`;
}

function timeUnit(span) {
  for (const [size, name] of [[1e9, "s"], [1e6, "ms"], [1e3, "\u00b5s"]]) if (span >= 2 * size) return [size, name];
  return [1, "ns"];
}

function time(ns, span = view.t1 - view.t0) {
  const [size, name] = timeUnit(span);
  return `${+(ns / size).toPrecision(5)} ${name}`;
}

function ticks(low, high, count) {
  const rough = (high - low) / count || 1, base = 10 ** Math.floor(Math.log10(rough));
  const step = base * [1, 2, 5, 10].find((m) => m * base >= rough * 0.999), list = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) list.push(+(i * step).toPrecision(12));
  return list;
}

// ----------------------------------------------------------------------------------------------------- unpack

async function unpack(run) {
  const packed = Uint8Array.from(atob(run.blob), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  run.columns = {};
  let offset = 0;
  for (const [name, kind, length] of run.arrays) {
    const Kind = { f: Float64Array, i: Int32Array, c: Uint16Array }[kind], column = new Kind(buffer, offset, length);
    offset += column.byteLength;
    if (kind === "i") for (let i = 1; i < length; i++) column[i] += column[i - 1];
    if (kind === "c") for (let i = run.rows; i < length; i++) column[i] ^= column[i - run.rows];
    run.columns[name] = column;
  }
  run.time = run.columns.time;
  run.cells = run.columns.cells;
  run.blob = null;
}

const column = (name, zone = view.zone, run = view.run) => run.columns[`${zone}/${name}`];
const lastBefore = (times, t) => {
  let low = 0, high = times.length - 1;
  while (low < high) { const mid = (low + high + 1) >> 1; if (times[mid] <= t) low = mid; else high = mid - 1; }
  return low;
};

// ---------------------------------------------------------------------------------------------------- colours

const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
const mix = (a, b, f) => a.map((x, i) => Math.round(x + (b[i] - x) * f));
const typeColour = (key) => css("--" + key);
const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches;

// Viridis, thinned; the end that the background would swallow is left out.
const VIRIDIS = ["#440154", "#482878", "#3e4a89", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
function orderColour(order, count = DATA.orders) {
  const [from, to] = isDark() ? [2.6, 9] : [0, 7.6], x = from + (to - from) * order / (count - 1), i = Math.min(Math.floor(x), 8);
  return `rgb(${mix(rgb(VIRIDIS[i]), rgb(VIRIDIS[i + 1]), x - i)})`;
}

// Colour of each cell value: type by hue, fill by intensity; an empty pageblock keeps a trace of its hue.
function cellColours() {
  const empty = rgb(css("--empty")), table = new Uint8Array((DATA.noMemory + 1) * 1024 * 3);
  const hues = DATA.typeKeys.map((key) => rgb(typeColour(key)));
  for (let type = 0; type <= DATA.noMemory; type++)
    for (let free = 0; free <= DATA.pageblockPages; free++) {
      const colour = type < hues.length ? mix(empty, hues[type], 0.12 + 0.88 * (1 - free / DATA.pageblockPages)) : rgb(css("--hole"));
      table.set(colour, ((type << DATA.typeShift) | free) * 3);
    }
  return table;
}

// ---------------------------------------------------------------------------------------------------- drawing

function surface(canvas) {
  const scale = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const g = canvas.getContext("2d");
  g.setTransform(scale, 0, 0, scale, 0, 0);
  g.font = "11px system-ui, sans-serif";
  g.clearRect(0, 0, width, height);
  return { g, width, height, scale };
}

function tip(event, title, rows) {
  const box = $("tip");
  box.replaceChildren(make("div", title));
  const table = make("table");
  for (const [name, value, colour] of rows) {
    const row = table.insertRow(), first = row.insertCell();
    if (colour) { const i = make("i"); i.style.background = colour; first.append(i); }
    first.append(name);
    row.insertCell().textContent = value;
  }
  if (rows.length) box.append(table);
  box.hidden = false;
  const x = event.clientX + 14, y = event.clientY + 14, { width, height } = box.getBoundingClientRect();
  box.style.left = `${x + width > innerWidth ? Math.max(0, event.clientX - width - 10) : x}px`;
  box.style.top = `${y + height > innerHeight ? Math.max(0, event.clientY - height - 10) : y}px`;
}
const hideTip = () => { $("tip").hidden = true; };

const PLOT = { left: 56, right: 10, top: 8, bottom: 20 };
const toX = (t, width) => PLOT.left + (t - view.t0) / (view.t1 - view.t0) * (width - PLOT.left - PLOT.right);
const toTime = (x, width) => view.t0 + (x - PLOT.left) / (width - PLOT.left - PLOT.right) * (view.t1 - view.t0);

function timeAxis(g, width, height) {
  const [size, name] = timeUnit(view.t1 - view.t0);
  g.fillStyle = css("--dim");
  g.textAlign = "center";
  for (const tick of ticks(view.t0 / size, view.t1 / size, Math.max(2, Math.floor(width / 110)))) {
    const x = toX(tick * size, width);
    g.fillText(`${tick} ${name}`, Math.min(x, width - 22), height - 5);
    g.fillRect(x, height - PLOT.bottom, 1, 4);
  }
}

function cursorLine(g, width, height) {
  const t = view.run.time[view.at];
  if (t < view.t0 || t > view.t1) return;
  g.fillStyle = css("--cursor");
  g.fillRect(Math.round(toX(t, width)) - 0.5, PLOT.top, 1, height - PLOT.top - PLOT.bottom);
}

// Moving over a view shows numbers; pressing or dragging sets the moment; shift and drag selects a stretch of time.
function interact(canvas, show, draw) {
  let from = null;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top, box.width, box.height];
  };
  const moment = (x, width) => lastBefore(view.run.time, Math.min(Math.max(toTime(x, width), view.t0), view.t1));
  canvas.addEventListener("pointermove", (event) => {
    const [x, y, width, height] = at(event);
    if (event.buttons & 1 && from === null) setMoment(moment(x, width));
    if (from !== null) {
      const g = draw();
      g.fillStyle = css("--accent");
      g.globalAlpha = 0.2;
      g.fillRect(toX(from, width), PLOT.top, x - toX(from, width), height - PLOT.top - PLOT.bottom);
    }
    show(event, moment(x, width), y, height);
  });
  canvas.addEventListener("pointerdown", (event) => {
    const [x, , width] = at(event);
    canvas.setPointerCapture(event.pointerId);
    from = event.shiftKey ? toTime(x, width) : null;
    if (from === null) setMoment(moment(x, width));
  });
  canvas.addEventListener("pointerup", (event) => {
    const [x, , width] = at(event);
    if (from !== null) zoom(Math.min(from, toTime(x, width)), Math.max(from, toTime(x, width)));
    from = null;
  });
  canvas.addEventListener("pointerleave", hideTip);
  canvas.addEventListener("dblclick", () => zoom(0, Infinity));
}

// -------------------------------------------------------------------------------- memory: picture and the moment

const cellOf = (sample, row) => view.run.cells[sample * view.run.rows + row];
const valueOfRow = (runs, row) => { for (const [value, count] of runs) { if (row < count) return value; row -= count; } return null; };

function cellTip(event, sample, row) {
  const run = view.run, value = cellOf(sample, row), type = value >> DATA.typeShift, free = value & ((1 << DATA.typeShift) - 1);
  const first = row * run.group * DATA.pageblockPages, last = first + run.group * DATA.pageblockPages - 1;
  const rows = [["pfn", `${number(first)} - ${number(last)}`], ["address", `${bytes(first)} + ${bytes(last - first + 1)}`]];
  if (type === DATA.noMemory) rows.push(["no memory here", ""]);
  else rows.push(["place", `node ${valueOfRow(run.nodeOfRow, row)}, zone ${valueOfRow(run.zoneOfRow, row)}`],
    ["type", DATA.types[type], typeColour(DATA.typeKeys[type])],
    [run.group > 1 ? "free, mean a pageblock" : "free", `${free} of ${DATA.pageblockPages} pages`]);
  tip(event, `at ${time(run.time[sample])}`, rows);
}

const Picture = {
  start() {
    interact($("picture"), (event, sample, y, height) => {
      const row = Math.floor((1 - (y - PLOT.top) / (height - PLOT.top - PLOT.bottom)) * view.run.rows);
      if (row >= 0 && row < view.run.rows) { cellTip(event, sample, row); Grid.mark(row); } else hideTip();
    }, () => this.draw());
    $("picture").addEventListener("pointerleave", () => Grid.mark(null));
  },
  draw() {
    const { g, width, height, scale } = surface($("picture")), run = view.run;
    const plotWidth = width - PLOT.left - PLOT.right, plotHeight = height - PLOT.top - PLOT.bottom;
    const columns = Math.max(1, Math.round(plotWidth * scale)), lines = Math.max(1, Math.round(plotHeight * scale));
    const key = [DATA.runs.indexOf(run), view.t0, view.t1, columns, lines, isDark()].join();
    if (key !== this.key) this.kept = this.image(g, run, columns, lines);
    this.key = key;
    g.putImageData(this.kept, Math.round(PLOT.left * scale), Math.round(PLOT.top * scale));
    timeAxis(g, width, height);
    this.addressAxis(g, plotHeight, width);
    cursorLine(g, width, height);
    return g;
  },
  // The picture without axes: for each column of pixels the last sample before its time.
  image(g, run, columns, lines) {
    const image = g.createImageData(columns, lines), pixels = image.data, colours = cellColours(), strip = new Uint8Array(lines * 3);
    let drawn = -1;
    for (let x = 0; x < columns; x++) {
      const sample = lastBefore(run.time, view.t0 + (x + 0.5) / columns * (view.t1 - view.t0));
      if (sample !== drawn) this.strip(strip, run, sample, lines, colours);
      drawn = sample;
      for (let y = 0, to = x * 4; y < lines; y++, to += columns * 4) {
        pixels[to] = strip[y * 3]; pixels[to + 1] = strip[y * 3 + 1]; pixels[to + 2] = strip[y * 3 + 2]; pixels[to + 3] = 255;
      }
    }
    return image;
  },
  // One sample, lowest address at the bottom; rows that share a line are averaged.
  strip(strip, run, sample, lines, colours) {
    for (let y = 0; y < lines; y++) {
      const first = Math.floor((lines - 1 - y) * run.rows / lines), end = Math.max(first + 1, Math.ceil((lines - y) * run.rows / lines));
      let r = 0, gr = 0, b = 0;
      for (let row = first; row < end; row++) {
        const at = cellOf(sample, row) * 3;
        r += colours[at]; gr += colours[at + 1]; b += colours[at + 2];
      }
      strip[y * 3] = r / (end - first); strip[y * 3 + 1] = gr / (end - first); strip[y * 3 + 2] = b / (end - first);
    }
  },
  addressAxis(g, plotHeight, width) {
    const run = view.run, pages = run.rows * run.group * DATA.pageblockPages;
    const step = 2 ** Math.ceil(Math.log2(pages / 8));
    g.textAlign = "right";
    g.fillStyle = css("--dim");
    for (let pfn = 0; pfn <= pages; pfn += step) g.fillText(bytes(pfn), PLOT.left - 5, PLOT.top + plotHeight * (1 - pfn / pages) + 4);
    let row = 0;
    g.fillStyle = css("--cursor");
    for (const [zone, count] of run.zoneOfRow) {
      const y = PLOT.top + plotHeight * (1 - row / run.rows);
      g.globalAlpha = 0.55;
      if (row && zone) g.fillRect(PLOT.left, y, width - PLOT.left - PLOT.right, 1);
      g.globalAlpha = 1;
      if (zone && count / run.rows * plotHeight >= 14) {
        g.fillStyle = css("--card");
        g.globalAlpha = 0.8;
        g.fillRect(width - PLOT.right - g.measureText(zone).width - 10, y - 16, g.measureText(zone).width + 8, 14);
        g.globalAlpha = 1;
        g.fillStyle = css("--cursor");
        g.fillText(zone, width - PLOT.right - 6, y - 5);
      }
      row += count;
    }
  },
};

const Grid = {
  marked: null,
  start() {
    const canvas = $("grid");
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect(), { cell, across } = this.shape(box.width, box.height);
      const x = Math.floor((event.clientX - box.left) / cell), row = Math.floor((event.clientY - box.top) / cell) * across + x;
      if (x < across && row < view.run.rows) { cellTip(event, view.at, row); this.mark(row); } else { hideTip(); this.mark(null); }
    });
    canvas.addEventListener("pointerleave", () => { hideTip(); this.mark(null); });
  },
  shape(width, height) {
    let cell = Math.sqrt(width * height / view.run.rows);
    if (cell > 3) cell = Math.floor(cell);
    while (Math.ceil(view.run.rows / Math.floor(width / cell)) * cell > height) cell -= cell > 3 ? 1 : 0.02;
    return { cell, across: Math.floor(width / cell) };
  },
  mark(row) {
    if (row !== this.marked) { this.marked = row; this.draw(); }
  },
  draw() {
    const { g, width, height } = surface($("grid")), { cell, across } = this.shape(width, height), colours = cellColours(), run = view.run;
    const gap = cell >= 5 ? 1 : 0;
    let free = 0, whole = 0, memory = 0;
    for (let row = 0; row < run.rows; row++) {
      const value = cellOf(view.at, row), pages = value & ((1 << DATA.typeShift) - 1);
      g.fillStyle = `rgb(${colours[value * 3]},${colours[value * 3 + 1]},${colours[value * 3 + 2]})`;
      g.fillRect((row % across) * cell, Math.floor(row / across) * cell, cell - gap, cell - gap);
      if (value >> DATA.typeShift === DATA.noMemory) continue;
      memory++; free += pages; whole += pages === DATA.pageblockPages;
    }
    if (this.marked !== null) {
      g.strokeStyle = css("--cursor");
      g.lineWidth = 2;
      g.strokeRect((this.marked % across) * cell - 1, Math.floor(this.marked / across) * cell - 1, cell + 2 - gap, cell + 2 - gap);
    }
    const unit = run.group > 1 ? `groups of ${run.group} pageblocks` : "pageblocks";
    $("grid-caption").textContent = `At ${time(run.time[view.at])}: ${number(memory)} ${unit}, `
      + `${run.group > 1 ? "about " : ""}${bytes(free * run.group)} free, ${number(whole)} wholly free`;
  },
};

// ------------------------------------------------------------------------------------------------------- main

const largestZone = (run) => run.zones.reduce((best, zone, i) => zone.managed_pages > run.zones[best].managed_pages ? i : best, 0);

function setMoment(sample) {
  if (sample === view.at) return;
  view.at = sample;
  showMoment();
  redraw();
}

function showMoment() {
  $("time").value = view.at;
  $("moment").textContent = time(view.run.time[view.at]);
}

function zoom(t0, t1) {
  const times = view.run.time, first = times[0], last = times[times.length - 1];
  const span = Math.max(t1 - t0, Math.max(last - first, 1) / 500);
  view.t0 = Math.max(t0, first);
  view.t1 = Math.min(view.t0 + span, Math.max(last, first + 1));
  showMoment();
  redraw();
}

function zoomBy(factor) {
  const half = (view.t1 - view.t0) * factor / 2, middle = view.run.time[view.at];
  zoom(middle - half, middle + half);
}

function showRun(index) {
  const run = view.run = DATA.runs[index], { info } = run;
  view.at = run.time.length - 1;
  view.zone = largestZone(run);
  $("zone").replaceChildren(...run.zones.map((zone, i) => make("option", zone.label, { value: i })));
  $("zone").value = view.zone;
  $("time").max = run.time.length - 1;
  $("subtitle").textContent = `${info.mode}, ${info.kernel}${info.as_kernel ? ` (trace of another kernel, as ${info.as_kernel})` : ""}, `
    + `${bytes(info.machine.pages)}, nodes: ${info.machine.nodes}, CPUs: ${info.machine.cpus}, seed ${info.seed ?? "none"}, `
    + `mm ${info.version}, semantics ${info.semantics}; ${Object.values(info.figures).some((x) => x?.n) ? "where no interval is shown: " : ""}n=1, deterministic`;
  const shown = run.time.length < run.samplesOfRun ? `${run.time.length} of ${run.samplesOfRun} samples shown` : `${run.time.length} samples`;
  $("picture-note").textContent = `${shown}${run.group > 1 ? `, ${run.group} pageblocks a row` : ""}. Free: on buddy lists, without per-cpu lists. `
    + "Press or drag to set the moment, shift and drag to zoom, double click for all.";
  $("progress").hidden = !run.columns["progress/pfn_judged_count"] || !run.columns["progress/pfn_equal_count"];
  showFigures();
  showCounters();
  showDetails();
  zoom(0, Infinity);
}

function legendKey(label, background, kind = "") {
  const box = make("span", null, { class: "key" }), i = make("i", null, { class: kind });
  i.style.background = background;
  box.append(i, label);
  return box;
}

function showTypeLegend() {
  $("type-legend").replaceChildren(...DATA.typeKeys.map((t, i) => legendKey(DATA.types[i], typeColour(t))), legendKey("no memory", css("--hole")),
    legendKey(`0 to ${DATA.pageblockPages} of ${DATA.pageblockPages} pages in use`, `linear-gradient(90deg, ${css("--empty")}, ${css("--dim")})`, "ramp"));
}

function startControls() {
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; $("play").textContent = "\u25b6"; };
  $("play").addEventListener("click", () => {
    if (timer) return stop();
    const step = Math.max(1, Math.round(view.run.time.length / 240));
    if (view.at >= view.run.time.length - 1) setMoment(0);
    $("play").textContent = "\u275a\u275a";
    timer = setInterval(() => { const last = view.run.time.length - 1; setMoment(Math.min(view.at + step, last)); if (view.at === last) stop(); }, 50);
  });
  $("time").addEventListener("input", () => setMoment(+$("time").value));
  $("zone").addEventListener("change", () => { view.zone = +$("zone").value; redraw(); });
  $("run").addEventListener("change", () => { stop(); showRun(+$("run").value); });
  $("zoom-in").addEventListener("click", () => zoomBy(0.5));
  $("zoom-out").addEventListener("click", () => zoomBy(2));
  $("zoom-all").addEventListener("click", () => zoom(0, Infinity));
  let pending = null;
  new ResizeObserver(() => { cancelAnimationFrame(pending); pending = requestAnimationFrame(redraw); }).observe(document.body);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { showTypeLegend(); showCounters(); redraw(); });
}

// Called by the page when both scripts are read.
async function main() {
  try {
    await Promise.all(DATA.runs.map(unpack));
  } catch (error) {
    document.querySelector("main").prepend(make("p", `The data of this report is damaged or the browser is too old: ${error.message}`, { class: "error" }));
    return;
  }
  DATA.runs.forEach((run, i) => $("run").append(make("option", run.name, { value: i })));
  $("run-choice").hidden = DATA.runs.length < 2;
  view.run = DATA.runs[0];
  showTypeLegend();
  Picture.start();
  Grid.start();
  views.push(Picture, Grid);
  showCompare();
  makeCharts();
  showRun(0);
  startControls();
  document.body.dataset.ready = "yes";
}
