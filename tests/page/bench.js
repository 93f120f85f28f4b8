// 200 nodes × 1 h × 1 Hz × 5 strips, panned and zoomed through the page's own lanes; the result stands in window.figures.

import { asData, laneModel, lanesView } from "/ui/timeline.js";
import { Lanes } from "/ui/lanes.js";
import { look, onDraw, setWindow, startState, view } from "/ui/state.js";

const NODES = 200, SECONDS = 3600, FRAMES = 240;
const from = Date.parse("2026-11-23T02:44:00Z"), until = from + SECONDS * 1000;
const iso = (ms) => new Date(ms).toISOString();

// The same numbers each time.
let seed = 7;
const random = () => (seed = seed * 1103515245 + 12345 & 0x7fffffff) / 0x7fffffff;

const nodes = Array.from({ length: NODES }, (_, n) => ({ node: "node-" + String(n).padStart(3, "0"), state: "answered", sources: [] }));
const rows = [], gaps = [];
for (const { node } of nodes) {
  for (let n = 0; n < 20; n += 1) rows.push({ datetime: iso(from + random() * SECONDS * 1000), timestamp_desc: n < 3 ? "finding" : "kernel", message: "x", node, severity: ["FATAL", "ERROR", "WARN", "INFO"][n % 4], id: "x" });
  if (random() < 0.1) gaps.push({ node, source: null, kind: null, reason: "node-silent", from: iso(from + 3e6), until: iso(until), detail: "" });
}
const metrics = new Map();

async function series(node, wanted) {
  const list = wanted.filter((m) => !m.startsWith("DCGM")).map((metric) => {
    const key = node + metric;
    if (!metrics.has(key)) {
      let level = random();
      metrics.set(key, Array.from({ length: SECONDS }, () => level = Math.min(1, Math.max(0, level + (random() - 0.5) * 0.1))));
    }
    return { node, metric, labels: {}, unit: "ratio", kind: "derived", max: metrics.get(key), min: metrics.get(key) };
  });
  return { from: iso(from), until: iso(until), cols: SECONDS, series: list };
}

startState();
setWindow(from, until);
const model = laneModel({ nodes, gaps, findings: [] }, rows);
// ?heat: every node in sight at once, as the cluster's heat map draws them; otherwise the timeline, as much as a screen has room for.
let canvas;
if (location.search === "?heat") {
  canvas = document.createElement("canvas");
  canvas.className = "lanes";
  canvas.style.height = innerHeight - 40 + "px";
  document.getElementById("screen").append(canvas);
  const lanes = new Lanes(canvas);
  lanes.gutter = 150;
  const tall = (innerHeight - 64) / NODES;
  const rows = [];
  for (const [n, { node }] of nodes.entries()) {
    const answer = await series(node, ["x"]);
    rows.push({ y: n * tall, height: tall, kind: "heat", full: 1, high: 2, worst: 2, data: asData(answer, answer.series[0]) });
  }
  onDraw(() => {
    const { ctx, width, height } = lanes.strips(rows);
    lanes.axis(ctx, width, height);
  });
} else {
  for (const node of model.nodes) node.open = true;
  const lanes = lanesView(model, series, { onRow: () => {}, faultsOnly: () => false, tall: () => innerHeight - 40 });
  canvas = lanes.canvas;
  document.getElementById("screen").append(lanes.box);
}

const wait = () => new Promise((done) => requestAnimationFrame(done));
for (let n = 0; n < 60; n += 1) {
  look(from + n, until + n);
  await wait();
}
const times = [], drawn = [];
let before = performance.now();
for (let n = 0; n < FRAMES; n += 1) {
  const span = SECONDS * 1000 * (0.3 + 0.2 * Math.sin(n / 40));
  const start = from + (SECONDS * 1000 - span) * (0.5 + 0.5 * Math.sin(n / 60));
  const begin = performance.now();
  look(start, start + span);
  for (const run of view.runs) run();
  drawn.push(performance.now() - begin);
  await wait();
  const now = performance.now();
  times.push(now - before);
  before = now;
}
times.sort((a, b) => a - b);
drawn.sort((a, b) => a - b);
const at = (list, part) => list[Math.floor(list.length * part)];
window.figures = { frames: FRAMES, fps: 1000 / (times.reduce((a, b) => a + b, 0) / times.length), frame_p50: at(times, 0.5), frame_p95: at(times, 0.95), draw_p50: at(drawn, 0.5), draw_p95: at(drawn, 0.95), width: canvas.width, height: canvas.height };
