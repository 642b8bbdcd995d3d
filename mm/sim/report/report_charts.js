"use strict";
// The charts and tables of the report; report.js stands before it and owns `view`, colours, axes and the moment.

// ---------------------------------------------------------------------------------------------------- charts

class Chart {
  // options: title; unit; note (text or () => text); format of ticks, exact of values; stacked; range: (chosen) => [min, max],
  // max undefined: the highest value; gap: a value that is drawn apart; controls [{name, choices: [[value, text]]}];
  // series: (chosen) => [{label, values, colour, dash, width}].
  constructor(id, options) {
    Object.assign(this, { box: $(id), format: short, range: () => [0], chosen: {}, hidden: new Set() }, options);
    const head = make("div", null, { class: "head" });
    this.canvas = make("canvas", null, { role: "img", "aria-label": this.title });
    this.legend = make("div", null, { class: "legend" });
    head.append(make("h2", this.title), this.controlBox(this.controls || []));
    this.box.replaceChildren(head, this.canvas, this.legend);
    if (this.note) this.box.append(make("p", "", { class: "note" }));
    interact(this.canvas, (event, sample) => this.tell(event, sample), () => this.draw());
    views.push(this);
  }
  controlBox(controls) {
    const box = make("span", null, { class: "controls" });
    for (const { name, choices } of controls) {
      const select = make("select", null, { "aria-label": `${this.title}: ${name}` });
      for (const [value, text] of choices) select.append(make("option", text, { value }));
      this.chosen[name] = choices[0][0];
      select.addEventListener("change", () => { this.chosen[name] = select.value; this.hidden.clear(); this.draw(); });
      box.append(select);
    }
    return box;
  }
  shown() { return this.lines.filter((line) => !this.hidden.has(line.label)); }
  draw() {
    this.lines = this.series(this.chosen).filter((line) => line.values);
    this.keys();
    if (this.note) this.box.lastChild.textContent = typeof this.note === "function" ? this.note() : this.note;
    const { g, width, height } = surface(this.canvas), lines = this.shown();
    this.stack(lines);
    const [low, high] = this.limits(lines), bottom = height - PLOT.bottom;
    const toY = (v) => PLOT.top + (1 - (v - low) / (high - low)) * (bottom - PLOT.top);
    g.textAlign = "right";
    for (const tick of ticks(low, high, 5)) {
      g.fillStyle = css("--grid");
      g.fillRect(PLOT.left, Math.round(toY(tick)), width - PLOT.left - PLOT.right, 1);
      g.fillStyle = css("--dim");
      g.fillText(this.format(tick), PLOT.left - 5, toY(tick) + 4);
    }
    timeAxis(g, width, height);
    g.save();
    g.beginPath();
    g.rect(PLOT.left, PLOT.top - 1, width - PLOT.left - PLOT.right, bottom - PLOT.top + 2);
    g.clip();
    for (const line of lines) this.line(g, line, width, toY);
    g.restore();
    cursorLine(g, width, height);
    return g;
  }
  stack(lines) {
    let below = null;
    for (const line of lines) {
      line.top = this.stacked ? Float64Array.from(line.values, (v, i) => v + (below ? below[i] : 0)) : line.values;
      line.bottom = below;
      if (this.stacked) below = line.top;
    }
  }
  limits(lines) {
    const [low, most] = this.range(this.chosen);
    let high = most ?? -Infinity;
    if (most === undefined) for (const line of lines) for (const v of line.top) if (v > high) high = v;
    return [low, high > low ? high * (most === undefined ? 1.04 : 1) : low + 1];
  }
  line(g, line, width, toY) {
    const times = view.run.time, from = Math.max(0, lastBefore(times, view.t0) - 1), to = Math.min(times.length - 1, lastBefore(times, view.t1) + 1);
    const trace = (values, back) => {
      for (let k = from; k <= to; k++) {
        const i = back ? to + from - k : k;
        const x = toX(times[i], width), y = toY(values ? values[i] : 0);
        if (this.gap !== undefined && k > from && (values[i] === this.gap) !== (values[i - 1] === this.gap)) g.moveTo(x, y);
        else g.lineTo(x, y);
      }
    };
    g.beginPath();
    trace(line.top, false);
    if (this.stacked) {
      trace(line.bottom, true);
      g.fillStyle = line.colour;
      g.fill();
      return;
    }
    g.strokeStyle = line.colour;
    g.lineWidth = line.width || 1.6;
    g.setLineDash(line.dash || []);
    g.lineJoin = "round";
    g.stroke();
    g.setLineDash([]);
  }
  keys() {
    this.legend.replaceChildren(...this.lines.map(({ label, colour, dash }) => {
      const key = make("button", null, { type: "button", class: "key", "aria-pressed": String(!this.hidden.has(label)) }), i = make("i");
      i.style.background = dash ? `repeating-linear-gradient(90deg, ${colour} 0 4px, transparent 4px 7px)` : colour;
      if (!this.stacked) i.style.height = "3px";
      key.append(i, label);
      key.addEventListener("click", () => { if (!this.hidden.delete(label)) this.hidden.add(label); this.draw(); });
      return key;
    }));
    this.legend.prepend(make("span", `${typeof this.unit === "function" ? this.unit(this.chosen) : this.unit}:`));
  }
  tell(event, sample) {
    const lines = this.stacked ? this.shown().slice().reverse() : this.shown();
    tip(event, `at ${time(view.run.time[sample])}`, lines.map(({ label, values, colour }) =>
      [label, Number.isNaN(values[sample]) ? "ended" : (this.exact || number)(values[sample]), colour]));
  }
}

// Sum over columns of every zone in the list, weighted.
function total(names, zones, weight = () => 1) {
  const sum = new Float64Array(view.run.time.length);
  for (const zone of zones) for (const [k, name] of names.entries()) {
    const values = column(name, zone), w = weight(k);
    for (let i = 0; i < sum.length; i++) sum[i] += values[i] * w;
  }
  return sum;
}

function freeSeries({ stack, measure }) {
  const orders = [...Array(DATA.orders).keys()], zones = view.run.zones.map((_, i) => i);
  const weigh = (order) => measure === "pages" ? 2 ** order : 1;
  if (stack === "order") return orders.map((o) => ({ label: `order ${o}`, colour: orderColour(o),
    values: total(DATA.typeKeys.map((t) => `free_o${o}_${t}_blocks`), [view.zone], () => weigh(o)) }));
  if (stack === "type") return DATA.typeKeys.map((t, i) => ({ label: DATA.types[i], colour: typeColour(t),
    values: total(orders.map((o) => `free_o${o}_${t}_blocks`), [view.zone], weigh) }));
  const names = orders.flatMap((o) => DATA.typeKeys.map((t) => `free_o${o}_${t}_blocks`));
  return zones.map((z) => ({ label: view.run.zones[z].label, colour: orderColour(z, Math.max(zones.length, 3)),
    values: total(names, [z], (k) => weigh(Math.floor(k / DATA.typeKeys.length))) }));
}

function perInterval(values) {
  return Float64Array.from(values, (v, i) => i ? v - values[i - 1] : 0);
}

function indexLines(kind, from) {
  return [...Array(DATA.orders - from).keys()].map((k) => ({ label: `order ${k + from}`, colour: orderColour(k + from),
    values: column(`${kind}_o${k + from}_ratio`), width: k + from === 9 ? 2.6 : 1.4 }));
}

function watermarkLines() {
  const marks = [["min", "--unmovable"], ["low", "--isolate"], ["high", "--reclaimable"]];
  const boost = column("watermark_boost_pages");
  return [{ label: "free pages", values: column("nr_free_pages"), colour: css("--movable"), width: 2 },
    { label: "on per-cpu lists", values: column("pcp_pages"), colour: css("--highatomic") },
    ...marks.map(([name, colour]) => ({ label: `${name} mark with boost`, dash: [6, 4], colour: css(colour),
      values: Float64Array.from(column(`watermark_${name}_pages`), (v, i) => v + boost[i]) }))];
}

// How often the counter that watermark tests read went to or below a mark, as far as samples show.
function crossings() {
  const texts = ["high", "low", "min"].map((name) => {
    const below = column(`is_below_${name}`);
    let count = 0, samples = 0;
    below.forEach((x, i) => { samples += x; count += i > 0 && x > below[i - 1]; });
    return `${name} mark: crossed ${number(count)} times, at or below it in ${number(samples)} samples`;
  });
  return `${texts.join("; ")}. Tests that failed in between: see the counters.`;
}

function nearMarks() {
  return 3 * Math.max(...watermarkLines().at(-1).values) || 1;
}

function progressLines() {
  const column_ = (name) => view.run.columns[`progress/${name}`], judged = column_("pfn_judged_count"), equal = column_("pfn_equal_count");
  if (!judged || !equal) return [];
  const share = (a, b) => b ? a / b * 1000 : 1000, stretch = Math.max(1, Math.round(judged.length / 60));
  return [{ label: "since the start", colour: css("--movable"), width: 2, values: Float64Array.from(judged, (n, i) => share(equal[i], n)) },
    { label: `over the last ${stretch} samples`, colour: css("--unmovable"), values: Float64Array.from(judged, (n, i) => {
      const j = Math.max(0, i - stretch);
      return share(equal[i] - equal[j], n - judged[j]);
    }) }];
}

function progressRange() {
  const lowest = Math.min(...progressLines().flatMap((line) => [...line.values]));
  return [Math.max(0, Math.floor(Math.min(lowest, 990) / 10) * 10), 1000];
}

const words = (counter) => counter.replace(/_(count|pages)$/, "").replaceAll("_", " ") + (counter.endsWith("_pages") ? " (pages)" : "");

function makeCharts() {
  const index = { range: () => [0, 1000], format: (x) => (x / 1000).toFixed(1), exact: ratio };
  new Chart("free", { title: "Free memory", unit: ({ measure }) => measure, stacked: true, series: freeSeries, controls: [
    { name: "stack", choices: [["order", "by order"], ["type", "by type of list"], ["zone", "by zone"]] },
    { name: "measure", choices: [["pages", "in pages"], ["blocks", "in blocks"]] }] });
  new Chart("unusable", { ...index, title: "Unusable free space index", unit: "0 to 1", series: () => indexLines("unusable", 1),
    note: "Share of the free pages in blocks too small for the order. Order 9 (huge pages) is drawn bold." });
  new Chart("fragmentation", { ...index, range: () => [-1000, 1000], gap: -1000, title: "Fragmentation index", unit: "-1 to 1",
    series: () => indexLines("fragmentation", 1),
    note: "-1: a request succeeds. Otherwise it fails: near 0 for lack of memory, near 1 by fragmentation." });
  new Chart("watermarks", { title: "Free pages and watermarks", unit: "pages", series: watermarkLines, note: crossings,
    range: ({ scale }) => [0, scale === "marks" ? nearMarks() : undefined],
    controls: [{ name: "scale", choices: [["all", "whole range"], ["marks", "near the marks"]] }] });
  new Chart("huge", { title: "Free huge blocks", unit: "blocks of 512 pages", series: () => [
    { label: "free", values: column("free_huge_blocks"), colour: css("--movable"), width: 2 },
    { label: "ideal: all free pages together", values: column("ideal_huge_blocks"), colour: css("--dim"), dash: [5, 4] }],
    note: "Ideal: the zone's free pages divided by 512. The distance between the lines is lost to fragmentation." });
  new Chart("types", { title: "Pageblocks by type", unit: "pageblocks", stacked: true, series: () => DATA.typeKeys.map((t, i) => ({
    label: DATA.types[i], colour: typeColour(t), values: column(`pageblock_${t}_blocks`) })) });
  new Chart("counter", { title: "Events", unit: "per sample interval", series: ({ counter }) => [
    { label: words(counter), colour: css("--movable"), values: perInterval(column(counter)) }],
    controls: [{ name: "counter", choices: DATA.counters.map((name) => [name, words(name)])
      .sort((a, b) => (b[0] === "extfrag_count") - (a[0] === "extfrag_count")) }] });
  new Chart("progress", { title: "PFN agreement over the run", unit: "ratio", format: ratio, exact: ratio, series: progressLines,
    range: progressRange });
}

// ------------------------------------------------------------------------------------------- figures and tables

function figureText(name, value) {
  if (value === null || value === undefined) return ["not measured", ""];
  const show = (x) => DATA.figures[name].unit === "ratio" ? `${+(x * 100).toFixed(3)} %` : number(x);
  if (typeof value === "object") return [show(value.median), `n=${value.n}: ${show(value.low)} to ${show(value.high)}`];
  return [show(value), DATA.figures[name].unit === "pages" ? "pages" : ""];
}

function showFigures() {
  $("figures").replaceChildren(...Object.entries(DATA.figures).map(([name, { label, meaning }]) => {
    const [text, spread] = figureText(name, view.run.info.figures[name]), box = make("div", null, { class: "figure", title: meaning });
    box.append(make("h3", label), make("b", text, text === "not measured" ? { class: "none" } : {}), make("small", spread));
    return box;
  }));
}

function showCounters() {
  const zones = view.run.zones.map((_, i) => i), last = view.run.time.length - 1, table = $("counters");
  const sum = (name) => zones.reduce((n, z) => n + column(name, z)[last], 0);
  table.replaceChildren();
  const head = table.createTHead().insertRow(), body = table.createTBody();
  for (const text of ["since the start of the run", ...view.run.zones.map((z) => z.label), "all zones"]) head.append(make("th", text, { scope: "col" }));
  for (const name of DATA.counters) {
    const row = body.insertRow();
    for (const text of [words(name), ...zones.map((z) => number(column(name, z)[last])), number(sum(name))])
      row.insertCell().textContent = text;
  }
  const parts = [["per-cpu list without a lock", sum("pcp_hit_count"), "--movable"], ["after a refill", sum("pcp_refill_count"), "--reclaimable"], ["straight from buddy", sum("buddy_alloc_count"), "--unmovable"]];
  const all = parts.reduce((n, part) => n + part[1], 0);
  const share = (n) => `${(n / all * 100).toFixed(n / all < 0.01 ? 3 : 1)} %`;
  $("layers").replaceChildren(...parts.filter((part) => part[1]).map(([name, n, colour]) => {
    const bar = make("div", null, { title: `${name}: ${number(n)} allocations, ${share(n)}` });
    bar.style.cssText = `flex: ${n} 1 0; background: ${css(colour)}`;
    return bar;
  }));
  $("layers-legend").replaceChildren(make("span", "Where allocations were served:"),
    ...parts.map(([name, n, colour]) => legendKey(`${name} ${all ? share(n) : "0 %"}`, css(colour))));
}

function plain(value) {
  if (value === null || value === undefined || value === "") return "none";
  if (Array.isArray(value)) return value.length ? value.map(plain).join(", ") : "none";
  if (typeof value !== "object") return typeof value === "number" ? number(value) : String(value);
  return Object.entries(value).map(([name, part]) => `${name}: ${plain(part)}`).join("; ") || "none";
}

function showDetails() {
  const { info } = view.run, rows = [["Trace", info.trace], ["Start state", info.start_state], ["Mode", info.mode], ["Seed", info.seed],
    ["Recorded", info.recorded], ["Inferred", info.inferred], ["Losses", info.losses], ["Counted by the replay", info.counts], ["Policies", info.policies],
    ["Settings of this run", info.settings], ["Knobs at the start", info.knobs], ["Notes", info.notes],
    ["Calls to parts not attached", info.unanswered_calls],
    ["Machine", { nodes: info.machine.nodes, cpus: info.machine.cpus, memory: bytes(info.machine.pages) }],
    ["Zones", info.machine.zones.map((z) => `${z.node}/${z.zone}: ${number(z.managed_pages)} pages managed, from pfn ${number(z.start_pfn)}`)],
    ["vmstat over the run", info.vm_event_deltas],
    ["Made by", `mm ${info.version}, semantics ${info.semantics}, reference ${info.kernel}${info.as_kernel ? `, as kernel ${info.as_kernel}` : ""}`]];
  $("details").replaceChildren(...rows.map(([name, value]) => {
    const list = make("dl");
    list.append(make("dt", name), make("dd", plain(value)));
    return list;
  }));
}

function showCompare() {
  $("compare").hidden = DATA.runs.length < 2;
  if (DATA.runs.length < 2) return;
  const table = $("compare-table"), head = table.createTHead().insertRow(), body = table.createTBody();
  for (const text of ["figure", ...DATA.runs.map((run) => run.name)]) head.append(make("th", text, { scope: "col" }));
  for (const [name, { label }] of Object.entries(DATA.figures)) {
    const row = body.insertRow();
    for (const text of [label, ...DATA.runs.map((run) => figureText(name, run.info.figures[name])[0])]) row.insertCell().textContent = text;
  }
  const lines = (name) => DATA.runs.map((run, i) => {
    const values = run.columns[`${largestZone(run)}/${name}`];
    return { label: run.name, colour: orderColour(i, Math.max(DATA.runs.length, 3)), width: run === view.run ? 2.6 : 1.4,
      values: Float64Array.from(view.run.time, (t) => t > run.time.at(-1) ? NaN : values[lastBefore(run.time, t)]) };
  });
  new Chart("compare-unusable", { title: "Unusable index, order 9, largest zone", unit: "0 to 1",
    range: () => [0, 1000], format: (x) => (x / 1000).toFixed(1), exact: ratio, series: () => lines("unusable_o9_ratio"),
    note: "Over the time of the run that is shown below; a run that ends earlier stops." });
  new Chart("compare-huge", { title: "Free huge blocks, largest zone", unit: "blocks of 512 pages", series: () => lines("free_huge_blocks") });
}
