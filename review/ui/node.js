// One node: the USE matrix, coloured by the worst of the window, and charts with the lines of its logs under one cursor.

import { h, link, replace } from "./dom.js";
import { amount, clock, counted, duration, isoTime, metricTitle, parseTime, second, STATES } from "./words.js";
import { go, lookAround, onDraw, point, view } from "./state.js";
import { chart } from "./chart.js";
import { badge, cites, showAt, timelineTable } from "./verdict.js";
import { severityOf } from "./words.js";

// The charts of a node, top to bottom; top is where a chart ends at the least.
const NODE_CHARTS = [
  { metric: "cpu_busy_ratio", top: 1, source: "cpu" },
  { metric: "node_pressure_cpu_waiting_seconds_total", source: "pressure" },
  { metric: "memory_used_ratio", top: 1, source: "memory" },
  { metric: "node_pressure_memory_waiting_seconds_total", source: "pressure" },
  { metric: "node_pressure_io_waiting_seconds_total", source: "pressure" },
  { metric: "disk_busy_ratio", top: 1, source: "disk" },
  { metric: "disk_wait_seconds", source: "disk" },
  { metric: "disk_bytes_per_second", source: "disk" },
  { metric: "filesystem_used_ratio", top: 1, source: "filesystem" },
  { metric: "network_bytes_per_second", source: "network" },
  { metric: "network_drops_per_second", source: "network" },
  { metric: "container_memory_rss", source: "cgroup" },
  { metric: "container_cpu_usage_seconds_total", source: "cgroup" },
  { metric: "node_load1", source: "load" },
  { metric: "node_procs_blocked", source: "cpu" },
  { metric: "node_vmstat_pgmajfault", source: "memory" },
  { metric: "DCGM_FI_DEV_GPU_UTIL", top: 100, source: "gpu" },
  { metric: "DCGM_FI_DEV_POWER_USAGE", source: "gpu" },
  { metric: "DCGM_FI_DEV_GPU_TEMP", source: "gpu" },
  { metric: "DCGM_FI_DEV_FB_USED", source: "gpu" },
];
const KINDS = { cpu: "CPU", memory: "memory", disk: "disk", filesystem: "file system", network: "network", gpu: "GPU" };
const LOG_REACH = 15000;

export function nodePicker(review, chosen, run, label) {
  const select = h("select", { "aria-label": label || "node", on: { change: () => run(select.value) } },
    review.nodes.map((n) => h("option", { value: n.node, selected: n.node === chosen }, n.node)));
  return select;
}

function useCell(cell, onPick) {
  if (!cell) return h("td", { class: "use none" }, "–");
  const main = cell.words && (cell.unit === "code" || cell.unit === "count" && cell.worst === 0) ? (cell.unit === "count" ? "0" : cell.words) : amount(cell.worst, cell.unit, cell.metric.endsWith("_seconds_total") ? "ratio" : "gauge");
  const more = [];
  if (cell.words && main !== cell.words && cell.worst !== 0) more.push(cell.words);
  if (cell.mean !== null && cell.unit !== "code" && more.length === 0) more.push("mean " + amount(cell.mean, cell.unit));
  return h("td", { class: "use " + cell.level },
    h("button", { type: "button", title: cell.metric + (cell.at ? "\nworst at " + clock(parseTime(cell.at)) : ""), on: { click: () => onPick(cell) } },
      h("b", null, main), h("span", { class: "muted" }, more.join(", ")), cell.at && h("time", null, "at " + second(parseTime(cell.at)))));
}

function useMatrix(rows, onPick) {
  return h("div", { class: "scroll" }, h("table", { class: "use-matrix" },
    h("thead", null, h("tr", null, ["", "utilisation", "saturation", "errors", "least left"].map((t) => h("th", { scope: "col" }, t)))),
    h("tbody", null, rows.map((r) => h("tr", null,
      h("th", { scope: "row" }, KINDS[r.kind] || r.kind, r.name && h("span", { class: "name" }, r.name)),
      useCell(r.utilisation, onPick), useCell(r.saturation, onPick), useCell(r.errors, onPick), useCell(r.headroom, onPick))))));
}

// The lines around the cursor; asked for when it rests.
export function cursorLines(source, node) {
  const list = h("div", { class: "cursor-lines" });
  const title = h("span", { class: "muted" });
  let key = "", soon = 0;
  const show = async () => {
    const at = view.at ?? (view.from + view.until) / 2;
    const from = isoTime(at - LOG_REACH), until = isoTime(at + LOG_REACH);
    try {
      const answer = await source.logs({ node, from, until, limit: 60 });
      const inside = answer.lines.filter((l) => l.at && Math.abs(parseTime(l.at) - at) <= LOG_REACH);
      replace(title, "±15 s around " + clock(at) + (answer.note ? " (" + answer.note + ")" : ""));
      replace(list, inside.length === 0 ? h("p", { class: "muted" }, "no line") : logTable(inside, { node: true }));
    } catch (error) {
      replace(list, h("p", { class: "muted" }, error.message));
    }
  };
  onDraw(() => {
    const now = Math.round((view.at ?? 0) / 1000) + "";
    if (now === key) return;
    key = now;
    clearTimeout(soon);
    soon = setTimeout(show, 350);
  });
  show();
  return h("section", null, h("h2", null, "Lines at the cursor ", title), list);
}

export function logTable(lines, { node }) {
  return h("div", { class: "scroll" }, h("table", { class: "rows log" }, h("tbody", null, lines.map((l) => h("tr", {
    class: "row",
    on: { pointerenter: () => l.at && point(parseTime(l.at)), click: () => go({ screen: "evidence", e: null, entry: l.entry, line: String(l.line) }) },
  },
  h("td", { class: "time" }, l.at ? clock(parseTime(l.at)) : "–"), !node && h("td", { class: "node" }, l.node),
  h("td", { class: "label", title: l.entry + ":" + l.line }, l.label), h("td", { class: "text" }, h("code", null, l.text)))))));
}

export async function nodeScreen(source, at) {
  const review = await source.review();
  const name = review.nodes.some((n) => n.node === at.node) ? at.node : (review.findings.find((f) => f.node) || {}).node || (review.nodes[0] || {}).node;
  if (!name) return h("p", null, "No node was asked.");
  const [node, timeline] = await Promise.all([source.node(name), source.timeline({ node: name })]);
  const grave = ["fatal", "error", "warning", "info"];
  const findings = review.findings.filter((f) => f.node === name).sort((a, b) => grave.indexOf(a.severity) - grave.indexOf(b.severity));
  const gaps = (node.gaps || []).filter((g) => g.from && g.until).map((g) => ({ ...g, from: parseTime(g.from), until: parseTime(g.until) }));
  const charts = h("div", { class: "charts" });
  const extra = at.m ? at.m.split(",") : [];
  const wanted = [...extra.filter((m) => !NODE_CHARTS.some((c) => c.metric === m)).map((metric) => ({ metric })), ...NODE_CHARTS];
  const answer = await source.series(name, wanted.map((c) => c.metric), isoTime(view.all[0]), isoTime(view.all[1]), 900);
  const refine = source.live ? (metric) => (from, until, cols) => source.series(name, [metric], isoTime(from), isoTime(until), cols) : () => null;
  const boxes = new Map();
  for (const spec of wanted) {
    let strands = answer.series.filter((s) => s.metric === spec.metric && s.max.some((v) => v !== null));
    // What stood at nothing all the time is not worth a line: loop devices, idle containers.
    if (strands.length > 1) {
      const top = (s) => s.max.reduce((m, v) => v === null ? m : Math.max(m, v), 0);
      const moving = strands.filter((s) => top(s) > 0);
      strands = (moving.length > 0 ? moving : strands).sort((a, b) => top(b) - top(a)).slice(0, 12);
    }
    if (strands.length === 0) continue;
    const box = chart({
      title: metricTitle(spec.metric), metric: spec.metric, answer, strands, top: spec.top,
      gaps: gaps.filter((g) => !g.source || g.kind === "metrics" && g.source === spec.source), refine: refine(spec.metric),
    });
    boxes.set(spec.metric, box);
    charts.appendChild(box);
  }
  const pick = (cell) => {
    const box = boxes.get(cell.metric);
    if (cell.at) lookAround(parseTime(cell.at), Math.min(view.all[1] - view.all[0], 300000));
    if (box) {
      box.scrollIntoView({ block: "center", behavior: "smooth" });
      box.classList.add("picked");
      setTimeout(() => box.classList.remove("picked"), 1500);
    } else go({ m: cell.metric });
  };
  const rows = timeline.rows.filter((r) => r.node === name && (!at.x || ["fatal", "error"].includes(severityOf(r.severity))));
  const chooser = h("div", { class: "tools" });
  chooser.append(nodePicker(review, name, (n) => go({ node: n })), link("compare", () => go({ screen: "compare", a: name, b: null })),
    link("logs", () => go({ screen: "logs", node: name })), link("timeline", () => go({ screen: "timeline", node: name })));
  if (source.live) chooser.append(metricPicker(source, name));
  const recorded = node.recorded;
  return h("div", { class: "node-screen" }, chooser,
    h("p", { class: "node-line" },
      h("span", { class: "state " + (node.state || "") }, STATES[node.state] || ""),
      recorded && h("span", null, "recorded " + second(parseTime(recorded.from)) + " – " + second(parseTime(recorded.until)) + ", " + recorded.ticks + " ticks"),
      node.boots && node.boots.length > 1 && h("span", { class: "bad" }, node.boots.length + " boots"),
      node.clock && h("span", null, "clock " + (node.clock.ahead_nanos / 1e6).toFixed(1) + " ms ahead, ±" + (node.clock.bound_nanos / 1e6).toFixed(1) + " ms"),
      node.damaged && node.damaged.map(([entry, why]) => h("span", { class: "bad" }, entry + ": " + why))),
    findings.length > 0 && h("ul", { class: "plain node-findings" }, findings.slice(0, 8).map((f) => h("li", null, badge(f.severity), " ", link(f.summary, () => showAt(f)), " ", cites(f.evidence, 3)))),
    node.use && node.use.length > 0 ? useMatrix(node.use, pick) : h("p", { class: "muted" }, node.left ? "The USE matrix of this node is " + source.inArchive + "." : "Nothing of its resources was recorded."),
    charts,
    cursorLines(source, name),
    h("details", null, h("summary", null, counted(rows.length, "row") + " on its timeline"), timelineTable(rows, 200, (row, r) => row.addEventListener("pointerenter", () => point(parseTime(r.datetime))))),
    node.facts && node.facts.length > 0 && h("details", null, h("summary", null, "what this machine is"), h("dl", { class: "facts" }, node.facts.map(([k, v]) => h("div", { class: "fact" }, h("dt", null, k), h("dd", null, v))))),
    node.gaps && node.gaps.length > 0 && h("details", null, h("summary", null, counted(node.gaps.length, "gap")),
      h("ul", { class: "plain" }, node.gaps.slice(0, 200).map((g) => h("li", null, "▨ ", h("b", null, g.reason), " " + (g.source ? g.source + " " : "") + (g.from ? second(parseTime(g.from)) + " for " + duration(parseTime(g.until) - parseTime(g.from)) + " " : ""), g.detail)))));
}

function metricPicker(source, name) {
  const list = h("datalist", { id: "metric-names" });
  const input = h("input", { type: "search", list: "metric-names", placeholder: "chart another metric", "aria-label": "chart another metric", on: {
    focus: async () => {
      if (list.childElementCount > 0) return;
      const answer = await source.metrics(name);
      replace(list, answer.metrics.map((m) => h("option", { value: m.metric }, m.help || "")));
    },
    change: () => input.value && go({ m: input.value }),
  } });
  return h("span", null, input, list);
}
