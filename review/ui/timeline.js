// Everything on one time axis, lane by lane: findings, kernel lines, pressure, GPUs, Kubernetes, people; and where nothing was recorded.

import { h, link, replace } from "./dom.js";
import { clock, counted, duration, glyph, parseTime, severityOf } from "./words.js";
import { go, look, onDraw, point, redraw, state, view } from "./state.js";
import { navigable, theme } from "./chart.js";
import { AXIS_HEIGHT, drawShape, drawText, Lanes } from "./lanes.js";
import { timelineTable } from "./verdict.js";

// The strips of a node: a metric, where it is full, from where it is worth a look, and whose gaps are its gaps.
const NODE_STRIPS = [
  { label: "CPU", metric: "cpu_busy_ratio", full: 1, high: 0.8, worst: 0.95, source: "cpu" },
  { label: "memory", metric: "memory_used_ratio", full: 1, high: 0.8, worst: 0.95, source: "memory" },
  { label: "wait CPU", metric: "node_pressure_cpu_waiting_seconds_total", full: 1, high: 0.1, worst: 0.5, source: "pressure" },
  { label: "wait memory", metric: "node_pressure_memory_waiting_seconds_total", full: 1, high: 0.1, worst: 0.5, source: "pressure" },
  { label: "wait I/O", metric: "node_pressure_io_waiting_seconds_total", full: 1, high: 0.1, worst: 0.5, source: "pressure" },
];
const GPU_STRIP = { metric: "DCGM_FI_DEV_GPU_UTIL", full: 100, high: 101, worst: 101, source: "gpu" };
const PRESSURES = NODE_STRIPS.slice(2).map((s) => s.metric);

const HEAD = 20;
const STRIP = 11;
const ROWS_SHOWN = 250;
const RANK = { fatal: 0, error: 1, warning: 2, info: 3 };
const SHARED = [["human", "people"], ["connectivity", "connectivity"], ["kubernetes", "Kubernetes"], ["event", "events"], ["finding", "findings"], ["kernel", "kernel"]];

export function asData(answer, one) {
  let step = 0, before = null, count = 0;
  one.max.forEach((value, n) => {
    if (value === null) return;
    if (before !== null && n - before < 60) {
      step += n - before;
      count += 1;
    }
    before = n;
  });
  return { from: parseTime(answer.from), until: parseTime(answer.until), cols: answer.cols, max: one.max, reach: count ? Math.ceil(step / count * 1.5) - 1 : 0 };
}

// The lanes of a review: first what is about no node, then the nodes, the worst first.
export function laneModel(review, rows) {
  const parsed = rows.map((r) => ({ ...r, at: parseTime(r.datetime), end: parseTime(r.until), sev: severityOf(r.severity) })).filter((r) => r.at !== null);
  const gaps = review.gaps.filter((g) => g.from && g.until).map((g) => ({ ...g, from: parseTime(g.from), until: parseTime(g.until) }));
  const worst = new Map();
  for (const f of review.findings) if (f.node) worst.set(f.node, Math.min(worst.get(f.node) ?? 9, RANK[f.severity]));
  const shared = SHARED.map(([desc, label]) => ({
    kind: "line", label, rows: parsed.filter((r) => r.timestamp_desc === desc && (!r.node || desc === "human" || desc === "kubernetes")),
  })).filter((lane) => lane.rows.length > 0);
  const names = review.nodes.map((n) => n.node).sort((a, b) => (worst.get(a) ?? 9) - (worst.get(b) ?? 9) || (a < b ? -1 : 1));
  const byNode = new Map(names.map((n) => [n, []]));
  for (const r of parsed) if (byNode.has(r.node) && r.timestamp_desc !== "gap" && r.timestamp_desc !== "human") byNode.get(r.node).push(r);
  const states = new Map(review.nodes.map((n) => [n.node, n.state]));
  const nodes = names.map((node, n) => ({
    kind: "node", label: node, node, rows: byNode.get(node), worst: worst.get(node) ?? 9, state: states.get(node),
    open: (worst.get(node) ?? 9) <= 1 && n < 8 || names.length <= 3,
    strips: NODE_STRIPS.map((s) => ({ ...s, data: null })), folded: { label: "", full: 1, high: 0.1, worst: 0.5, data: null },
    gaps: gaps.filter((g) => g.node === node), asked: false,
  }));
  return { shared, nodes, rows: parsed, gaps };
}

export function layOut(model, faultsOnly) {
  let y = 2;
  const blocks = [];
  for (const lane of model.shared) {
    blocks.push(lane);
    lane.y = y;
    lane.height = HEAD;
    y += HEAD + 2;
  }
  for (const node of model.nodes) {
    if (faultsOnly && node.worst > 1) continue;
    blocks.push(node);
    node.y = y;
    let inner = y + HEAD;
    const strips = node.open ? node.strips : [node.folded];
    node.shown = strips;
    for (const strip of strips) {
      strip.y = inner;
      strip.height = node.open ? STRIP : 6;
      inner += strip.height + (node.open ? 2 : 0);
    }
    node.height = inner - y;
    y = inner + (node.open ? 8 : 4);
  }
  return { blocks, height: y };
}

// The canvas with its lanes. fetchSeries(node, metrics) answers as a source does.
export function lanesView(model, fetchSeries, { onRow, faultsOnly, tall }) {
  const canvas = h("canvas", { class: "lanes", tabindex: 0, role: "img", "aria-label": "timeline of all nodes; the table below says the same in words" });
  const tip = h("div", { class: "tip", hidden: true });
  const box = h("div", { class: "lanes-box" }, canvas, tip);
  const lanes = new Lanes(canvas);
  let plan = layOut(model, faultsOnly());
  const room = () => Math.max(40, canvas.clientHeight - AXIS_HEIGHT);
  const scrollBy = (by) => {
    const before = lanes.scroll;
    lanes.scroll = Math.max(0, Math.min(plan.height - room(), before + by));
    if (lanes.scroll !== before) redraw();
    return lanes.scroll !== before;
  };
  const again = () => {
    plan = layOut(model, faultsOnly());
    canvas.style.setProperty("height", Math.max(120, Math.min(plan.height + AXIS_HEIGHT + 4, tall())) + "px");
    lanes.scroll = Math.max(0, Math.min(plan.height - room(), lanes.scroll));
    redraw();
  };
  const blockAt = (y) => plan.blocks.find((b) => y >= b.y && y < b.y + b.height + 2);
  const nearRows = (block, x, width) => {
    const near = block.rows.filter((r) => Math.abs(lanes.x(r.at, width) - x) < 7);
    return near.sort((a, b) => RANK[a.sev] - RANK[b.sev] || a.at - b.at);
  };
  navigable(canvas, () => lanes.gutter, {
    wheelZooms: true,
    onScroll: scrollBy,
    onClick: (x, y) => {
      const block = blockAt(y - AXIS_HEIGHT + lanes.scroll);
      if (!block) return;
      if (x < lanes.gutter) {
        if (block.kind === "node") {
          block.open = !block.open;
          again();
        }
        return;
      }
      const [row] = nearRows(block, x, canvas.clientWidth);
      if (row) onRow(row);
      else if (block.node) onRow({ node: block.node });
    },
  });
  canvas.addEventListener("pointermove", (event) => {
    const y = event.offsetY - AXIS_HEIGHT + lanes.scroll;
    const block = blockAt(y);
    const rows = block && event.offsetX >= lanes.gutter ? nearRows(block, event.offsetX, canvas.clientWidth) : [];
    const strip = block && block.shown && block.shown.find((s) => y >= s.y && y < s.y + s.height);
    const gap = block && (block.gaps || []).find((g) => view.at !== null && view.at >= g.from && view.at < g.until && (!g.source || !strip || g.source === strip.source));
    tip.hidden = rows.length === 0 && !gap;
    canvas.style.setProperty("cursor", event.offsetX < lanes.gutter || rows.length > 0 ? "pointer" : "crosshair");
    if (tip.hidden) return;
    replace(tip, rows.slice(0, 5).map((r) => h("p", null, h("span", { class: "sev " + r.sev }, glyph(r.sev)), " ", h("b", null, clock(r.at)), " ", r.message)),
      rows.length > 5 && h("p", { class: "muted" }, "and " + (rows.length - 5) + " more"),
      gap && h("p", null, "▨ ", h("b", null, gap.reason), gap.source ? " (" + gap.source + ")" : "", " ", gap.detail));
    const wide = Math.min(420, canvas.clientWidth - 16);
    tip.style.setProperty("max-width", wide + "px");
    tip.style.setProperty("left", Math.max(4, Math.min(event.offsetX + 12, canvas.clientWidth - wide - 8)) + "px");
    tip.style.setProperty("top", event.offsetY + 16 + "px");
  });
  canvas.addEventListener("pointerleave", () => {
    tip.hidden = true;
  });

  // A node's strips are asked for when it comes into sight; finer ones when there is more to see.
  const ask = (node) => {
    const span = view.until - view.from, whole = view.all[1] - view.all[0];
    const level = node.open ? Math.max(0, Math.floor(Math.log2(whole / span) - 0.6)) : 0;
    const key = (node.open ? "open" : "folded") + level + (level > 0 ? "/" + Math.round(view.from / span * 2) : "");
    if (node.asked === key) return;
    node.asked = key;
    const part = level > 0 ? [view.from - span, view.until + span] : view.all;
    const metrics = node.open ? [...NODE_STRIPS.map((s) => s.metric), GPU_STRIP.metric] : PRESSURES;
    fetchSeries(node.node, metrics, part[0], part[1], level > 0 ? 2400 : 1200).then((answer) => {
      if (node.open) {
        for (const strip of node.strips) {
          const one = answer.series.find((s) => s.metric === strip.metric && !strip.gpu);
          if (strip.metric !== GPU_STRIP.metric && one) strip.data = asData(answer, one);
        }
        const gpus = answer.series.filter((s) => s.metric === GPU_STRIP.metric);
        const had = node.strips.length;
        node.strips = [...node.strips.filter((s) => !s.gpu), ...gpus.map((one) => ({ ...GPU_STRIP, gpu: true, label: "GPU " + (one.labels.gpu || ""), data: asData(answer, one) }))];
        if (had !== node.strips.length) again();
      } else {
        const all = answer.series.map((one) => asData(answer, one));
        if (all.length > 0) {
          const max = all[0].max.map((_, n) => all.reduce((top, one) => one.max[n] === null ? top : Math.max(top ?? -Infinity, one.max[n]), null));
          node.folded.data = { ...all[0], max };
        }
      }
      redraw();
    }, () => {});
  };

  const draw = () => {
    if (!canvas.isConnected) return;
    lanes.gutter = canvas.clientWidth < 600 ? 92 : 176;
    const seen = plan.blocks.filter((b) => b.y + b.height >= lanes.scroll && b.y <= lanes.scroll + room());
    for (const block of seen) if (block.kind === "node") ask(block);
    const { ctx, width, height } = lanes.strips(seen.flatMap((b) => b.kind === "node" ? b.shown : []));
    const colours = theme();
    ctx.save();
    ctx.beginPath();
    ctx.rect(0, AXIS_HEIGHT, width, height - AXIS_HEIGHT);
    ctx.clip();
    for (const block of seen) drawBlock(ctx, lanes, block, width, colours);
    ctx.restore();
    lanes.axis(ctx, width, height);
    if (plan.height > room()) {
      const part = room() / plan.height;
      ctx.fillStyle = colours.muted;
      ctx.globalAlpha = 0.4;
      ctx.fillRect(lanes.gutter - 4, AXIS_HEIGHT + lanes.scroll / plan.height * room(), 3, Math.max(20, part * room()));
      ctx.globalAlpha = 1;
    }
  };
  onDraw(draw);
  queueMicrotask(again);
  const open = (node) => {
    const found = model.nodes.find((n) => n.node === node);
    if (!found) return;
    found.open = true;
    again();
    lanes.scroll = Math.max(0, Math.min(plan.height - room(), found.y - 40));
    redraw();
  };
  return { box, canvas, again, open, lanes };
}

function drawBlock(ctx, lanes, block, width, colours) {
  const top = AXIS_HEIGHT + block.y - lanes.scroll, middle = top + HEAD / 2;
  const chosen = block.node && block.node === state().node;
  if (block.kind === "node") {
    ctx.strokeStyle = colours.rule;
    ctx.beginPath();
    ctx.moveTo(0, Math.round(top) - 1.5);
    ctx.lineTo(width, Math.round(top) - 1.5);
    ctx.stroke();
    if (chosen) {
      ctx.fillStyle = colours.accent;
      ctx.fillRect(0, top, 3, block.height);
    }
    drawText(ctx, block.open ? "▾" : "▸", 6, middle, 14, colours.muted);
  }
  const severe = ["fatal", "error", "warning", "info"][block.worst];
  drawText(ctx, block.label, block.kind === "node" ? 20 : 8, middle, lanes.gutter - (severe ? 44 : 28), colours.ink, block.kind === "node" && (severe || chosen));
  if (severe) drawShape(ctx, severe, lanes.gutter - 14, middle, 5);
  for (const strip of block.shown || []) {
    if (strip.label) drawText(ctx, strip.label, 20, AXIS_HEIGHT + strip.y + strip.height / 2 - lanes.scroll, lanes.gutter - 26, colours.muted);
  }
  for (const gap of block.gaps || []) {
    if (!gap.source) lanes.hatch(ctx, gap, block.y, block.height, width);
    else if (gap.kind === "metrics") {
      // What is said of one GPU is a gap of that one alone.
      const [, gpu] = /\bGPU (\d+)\b/.exec(gap.detail) || [];
      for (const strip of block.shown) if (strip.source === gap.source && (gpu === undefined || strip.label === "GPU " + gpu)) lanes.hatch(ctx, gap, strip.y, strip.height, width);
    }
  }
  // Ticks below, shapes above; the worst last, so that nothing lies on it.
  const from = lanes.gutter - 6;
  const ordered = block.byRank || (block.byRank = [...block.rows].sort((a, b) => RANK[b.sev] - RANK[a.sev] || a.at - b.at));
  for (const row of ordered) {
    const x = lanes.x(row.at, width);
    if (x < from || x > width + 6) continue;
    if (row.timestamp_desc === "kernel" && row.sev === "info") {
      ctx.fillStyle = colours.muted;
      ctx.fillRect(x - 0.5, middle + 1, 1, 6);
    } else if (row.timestamp_desc === "finding" || row.sev !== "info") {
      drawShape(ctx, row.sev, x, middle, row.timestamp_desc === "finding" ? 6 : 4);
    } else {
      ctx.fillStyle = row.timestamp_desc === "human" ? colours.accent : colours.muted;
      ctx.fillRect(x - 2.5, middle - 2.5, 5, 5);
    }
  }
}

export async function timelineScreen(source, at) {
  const review = await source.review();
  const timeline = await source.timeline();
  const model = laneModel(review, timeline.rows);
  for (const mark of bookmarks()) model.rows.push({ ...mark, timestamp_desc: "human", sev: "info", severity: "INFO", node: "", datetime: mark.datetime, message: "⚑ " + mark.note });
  const marked = bookmarks();
  if (marked.length > 0) {
    let people = model.shared.find((lane) => lane.label === "people");
    if (!people) model.shared.unshift(people = { kind: "line", label: "people", rows: [] });
    people.rows = [...people.rows, ...model.rows.filter((r) => r.note)];
  }
  model.rows.sort((a, b) => a.at - b.at);
  const list = h("div", { class: "row-list" });
  const span = h("span", { class: "muted" });
  const lanes = lanesView(model, (...asked) => source.series(asked[0], asked[1], new Date(asked[2]).toISOString(), new Date(asked[3]).toISOString(), asked[4]), {
    onRow: (row) => {
      if (row.at) point(row.at);
      go({ node: row.node || null }, true);
      if (row.evidence) go({ screen: "evidence", e: row.evidence });
      else listNow();
    },
    faultsOnly: () => Boolean(state().x),
    tall: () => Math.max(260, innerHeight * 0.58),
  });
  if (at.node) queueMicrotask(() => lanes.open(at.node));
  let key = "", soon = 0;
  const listNow = () => {
    const faults = state().x;
    const inside = model.rows.filter((r) => (r.end ?? r.at) >= view.from && r.at <= view.until && (!faults || r.sev === "fatal" || r.sev === "error"));
    let shown = inside;
    // Of too many, those that say most; in the order of time.
    if (inside.length > ROWS_SHOWN) {
      const most = [...inside].sort((a, b) => RANK[a.sev] - RANK[b.sev] || a.at - b.at).slice(0, ROWS_SHOWN);
      shown = most.sort((a, b) => a.at - b.at);
    }
    replace(span, clock(view.from) + " – " + clock(view.until) + " (" + duration(view.until - view.from) + "), " + counted(inside.length, "row")
      + (shown.length < inside.length ? "; the gravest " + shown.length + " are listed, zoom in for all" : ""));
    replace(list, timelineTable(shown, ROWS_SHOWN, (row, r) => {
      row.addEventListener("pointerenter", () => point(r.at));
      row.addEventListener("click", () => {
        point(r.at);
        go({ node: r.node || null }, true);
        if (r.node) lanes.open(r.node);
      });
    }));
  };
  const later = () => {
    const now = view.from + "/" + view.until;
    if (now === key) return;
    key = now;
    clearTimeout(soon);
    soon = setTimeout(listNow, 160);
  };
  onDraw(later);
  listNow();
  return h("div", { class: "timeline-screen" },
    h("div", { class: "tools" },
      link("whole window", () => look(view.all[0], view.all[1])),
      link(at.x ? "show all" : "faults only", () => go({ x: at.x ? null : "1" })),
      h("span", { class: "legend key" }, ["fatal", "error", "warning", "info"].map((s) => h("span", { class: "sev " + s }, glyph(s) + " " + s)), h("span", null, "▨ not recorded"), h("span", { class: "muted wide" }, "wheel zooms, dragging moves; a name opens its lanes"))),
    lanes.box,
    h("h2", null, "In view ", span), list);
}

// Bookmarks live in the address, so that they travel with a link: b=TIME!note|TIME!note.
export function bookmarks() {
  return (state().b || "").split("|").filter(Boolean).map((part) => {
    const [time, ...note] = part.split("!");
    return { datetime: time, at: parseTime(time), note: note.join("!") };
  }).filter((mark) => mark.at !== null);
}

