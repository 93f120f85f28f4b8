// The cluster at a glance: nodes by time, one metric; what stands out is one row or one column.

import { h, link, replace } from "./dom.js";
import { amount, clock, isoTime, metricTitle, parseTime } from "./words.js";
import { go, onDraw, redraw, view } from "./state.js";
import { drawHatch, navigable, theme } from "./chart.js";
import { AXIS_HEIGHT, drawText, Lanes } from "./lanes.js";
import { asData } from "./timeline.js";

const HEAT_METRICS = [
  "cpu_busy_ratio", "memory_used_ratio", "node_pressure_cpu_waiting_seconds_total", "node_pressure_memory_waiting_seconds_total",
  "node_pressure_io_waiting_seconds_total", "disk_busy_ratio", "disk_wait_seconds", "network_bytes_per_second", "network_drops_per_second",
  "filesystem_used_ratio", "node_load1", "DCGM_FI_DEV_GPU_UTIL",
];

export async function heatScreen(source, at) {
  const review = await source.review();
  const metric = at.hm || "node_pressure_memory_waiting_seconds_total";
  const canvas = h("canvas", { class: "lanes", tabindex: 0, role: "img", "aria-label": "heat map of " + metricTitle(metric) });
  const told = h("p", { class: "muted told" }, "reading …");
  const lanes = new Lanes(canvas);
  const choose = h("select", { "aria-label": "metric", on: { change: () => go({ hm: choose.value }) } },
    [...new Set([...HEAT_METRICS, metric])].map((m) => h("option", { value: m, selected: m === metric }, metricTitle(m))));
  let answer = null, rows = [], full = 1;
  const gaps = review.gaps.filter((g) => !g.source && g.from && g.until).map((g) => ({ ...g, from: parseTime(g.from), until: parseTime(g.until) }));
  const tallOf = () => Math.max(6, Math.min(26, Math.floor((innerHeight * 0.6 - AXIS_HEIGHT) / Math.max(1, rows.length))));
  const lay = () => {
    const tall = tallOf();
    rows.forEach((row, n) => {
      row.y = 2 + n * (tall + 1);
      row.height = tall;
    });
    canvas.style.setProperty("height", AXIS_HEIGHT + 6 + rows.length * (tall + 1) + "px");
  };
  const rowAt = (y) => rows.find((r) => y - AXIS_HEIGHT >= r.y && y - AXIS_HEIGHT <= r.y + r.height);
  const scale = h("canvas", { class: "heat-scale", "aria-hidden": "true" });
  const top = h("span", null), legend = h("span", { class: "legend" }, "0", scale, top);
  navigable(canvas, () => lanes.gutter, { wheelZooms: true, onClick: (x, y) => {
    const row = rowAt(y);
    if (row) go({ screen: "node", node: row.node });
  } });
  canvas.addEventListener("pointermove", (event) => {
    const row = rowAt(event.offsetY);
    if (!row || !answer || event.offsetX < lanes.gutter) return;
    const n = Math.floor((view.at - row.data.from) / (row.data.until - row.data.from) * row.data.cols);
    const value = row.data.max[n] ?? null;
    replace(told, h("b", null, row.node), " at " + clock(view.at) + ": ", value === null ? "nothing was read" : amount(value, answer.unit, answer.kind));
  });
  onDraw(() => {
    if (!canvas.isConnected || !answer) return;
    lanes.gutter = canvas.clientWidth < 600 ? 84 : 150;
    const { ctx, width, height } = lanes.strips(rows);
    const colours = theme();
    const each = Math.max(1, Math.ceil(11 / (rows.length > 1 ? rows[1].y - rows[0].y : 20)));
    rows.forEach((row, n) => {
      if (n % each === 0) drawText(ctx, row.node, 6, AXIS_HEIGHT + row.y + row.height / 2, lanes.gutter - 12, colours.ink);
      for (const gap of gaps) if (gap.node === row.node) lanes.hatch(ctx, gap, row.y, row.height, width);
      if (row.nothing) drawHatch(ctx, lanes.gutter, AXIS_HEIGHT + row.y, width - lanes.gutter, row.height);
    });
    lanes.axis(ctx, width, height);
  });
  onDraw(() => {
    if (!scale.isConnected) return;
    const ctx = scale.getContext("2d");
    const colours = theme();
    const gradient = ctx.createLinearGradient(0, 0, scale.width, 0);
    colours.ramp.forEach((c, n) => gradient.addColorStop(n / 3, c));
    ctx.fillStyle = gradient;
    ctx.fillRect(0, 0, scale.width, scale.height);
  });
  const load = async () => {
    try {
      answer = await source.heat(metric, isoTime(view.all[0]), isoTime(view.all[1]), 1200);
      if (metric.endsWith("_seconds_total")) answer.kind = "counter";
      const highest = answer.nodes.reduce((t, n) => n.values.reduce((m, v) => v === null ? m : Math.max(m, v), t), 0);
      full = answer.unit === "percent" ? 100 : answer.unit === "ratio" ? 1 : highest || 1;
      rows = answer.nodes.map((n) => ({ node: n.node, kind: "heat", full, high: Infinity, worst: Infinity, data: asData(answer, { max: n.values }), nothing: n.values.every((v) => v === null) }));
      replace(top, amount(full, answer.unit, answer.kind));
      replace(told, highest === 0 ? "nothing moved, or nothing was read" : "the brightest row is not always the cause; a row opens its node");
      lay();
      redraw();
    } catch (error) {
      replace(told, error.message);
    }
  };
  load();
  return h("div", { class: "heat-screen" }, h("div", { class: "tools" }, choose, legend, link("by severity on the timeline", () => go({ screen: "timeline" }))), told, h("div", { class: "lanes-box" }, canvas));
}
