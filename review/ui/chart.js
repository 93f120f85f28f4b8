// Lines on a canvas: of every pixel column the smallest and the largest value, nothing where nothing was read, gaps hatched.

import { h, replace } from "./dom.js";
import { amount, clock, labelText, parseTime, tickLabel } from "./words.js";
import { look, onDraw, point, redraw, view, zoom } from "./state.js";

let themeNow = null;

// The colours of the page, as the style sheet has them.
export function theme() {
  if (themeNow) return themeNow;
  const style = getComputedStyle(document.documentElement);
  const get = (name) => style.getPropertyValue("--" + name).trim();
  themeNow = {
    ink: get("ink"), muted: get("muted"), rule: get("rule"), paper: get("paper"), panel: get("panel"), accent: get("accent"),
    fatal: get("fatal"), error: get("error"), warning: get("warning"), info: get("info"), quiet: get("quiet"), hatch: get("hatch"),
    ramp: [1, 2, 3, 4].map((n) => get("ramp" + n)),
    lines: [1, 2, 3, 4, 5, 6, 7, 8].map((n) => get("line" + n)),
  };
  return themeNow;
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  themeNow = null;
  redraw();
});

export const FONT = "11px system-ui, sans-serif";

// Sizes a canvas to its place in device pixels.
export function fit(canvas) {
  const ratio = Math.min(devicePixelRatio || 1, 2);
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const ctx = canvas.getContext("2d");
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { ctx, width, height, ratio };
}

const STEPS_MS = [10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 1.5e4, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 216e5, 432e5, 864e5];

export function timeStep(span, width) {
  const least = span * 76 / Math.max(width, 1);
  return STEPS_MS.find((step) => step >= least) || STEPS_MS[STEPS_MS.length - 1];
}

// The ticks of the time axis; labels where y is given.
export function drawTimes(ctx, left, width, top, bottom, labelY) {
  const colours = theme();
  const span = view.until - view.from;
  const step = timeStep(span, width);
  ctx.font = FONT;
  ctx.fillStyle = colours.muted;
  ctx.strokeStyle = colours.rule;
  ctx.lineWidth = 1;
  ctx.beginPath();
  ctx.textAlign = "center";
  ctx.textBaseline = "alphabetic";
  for (let at = Math.ceil(view.from / step) * step; at <= view.until; at += step) {
    const x = Math.round(left + (at - view.from) / span * width) + 0.5;
    ctx.moveTo(x, top);
    ctx.lineTo(x, bottom);
    if (labelY && x > left + 24 && x < left + width - 24) ctx.fillText(tickLabel(at, step), x, labelY);
  }
  ctx.stroke();
}

// Diagonal lines: here is nothing, and that is known.
export function drawHatch(ctx, x, y, width, height) {
  ctx.save();
  ctx.beginPath();
  ctx.rect(x, y, width, height);
  ctx.clip();
  ctx.strokeStyle = theme().hatch;
  ctx.lineWidth = 1;
  ctx.beginPath();
  const first = Math.floor((x - height) / 6) * 6;
  for (let at = first; at < x + width; at += 6) {
    ctx.moveTo(at, y + height);
    ctx.lineTo(at + height, y);
  }
  ctx.stroke();
  ctx.restore();
}

export function drawCursor(ctx, left, width, top, bottom) {
  if (view.at === null || view.at < view.from || view.at > view.until) return;
  const x = Math.round(left + (view.at - view.from) / (view.until - view.from) * width) + 0.5;
  ctx.strokeStyle = theme().accent;
  ctx.lineWidth = 1;
  ctx.beginPath();
  ctx.moveTo(x, top);
  ctx.lineTo(x, bottom);
  ctx.stroke();
}

// Wheel, drag, pinch and pointer on a canvas whose time axis begins at left(); wheel alone zooms when wheelZooms.
export function navigable(canvas, left, { wheelZooms, onClick, onScroll }) {
  const timeAt = (x) => view.from + (x - left()) / Math.max(canvas.clientWidth - left(), 1) * (view.until - view.from);
  const pointers = new Map();
  let moved = 0;
  canvas.addEventListener("wheel", (event) => {
    const inside = event.offsetX > left();
    if (event.deltaX !== 0 && Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      const by = event.deltaX / canvas.clientWidth * (view.until - view.from);
      look(view.from + by, view.until + by);
    } else if (inside && (wheelZooms && !event.shiftKey || event.ctrlKey || event.altKey)) {
      event.preventDefault();
      zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 240))), timeAt(event.offsetX));
    } else if (onScroll && onScroll(event.deltaY)) {
      event.preventDefault();
    }
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    moved = 0;
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) {
      if (event.offsetX >= left()) point(timeAt(event.offsetX));
      return;
    }
    const width = Math.max(canvas.clientWidth - left(), 1);
    if (pointers.size === 1) {
      const dx = event.offsetX - before.x, dy = event.offsetY - before.y;
      moved += Math.abs(dx) + Math.abs(dy);
      const by = -dx / width * (view.until - view.from);
      look(view.from + by, view.until + by);
      if (onScroll && event.pointerType === "mouse") onScroll(-dy);
    } else {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const now = Math.abs(event.offsetX - other.x), then = Math.abs(before.x - other.x);
      if (now > 8 && then > 8) zoom(then / now, timeAt((event.offsetX + other.x) / 2));
      moved += 10;
    }
    pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
  });
  const up = (event) => {
    if (pointers.delete(event.pointerId) && moved < 4 && event.type === "pointerup") {
      if (event.offsetX >= left()) point(timeAt(event.offsetX));
      if (onClick) onClick(event.offsetX, event.offsetY);
    }
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("dblclick", () => look(view.all[0], view.all[1]));
}

const AXIS = 15;
const MAX_LEGEND = 6;

// One chart: {title, metric, help, answer, strands, gaps, refine}. refine(from, until, cols) gives a finer answer for a part.
export function chart(spec) {
  const canvas = h("canvas", { class: "chart", tabindex: 0, role: "img", "aria-label": spec.title });
  const value = h("span", { class: "value" });
  const legend = h("div", { class: "legend" });
  const figure = h("figure", { class: "chart-box" },
    h("figcaption", null, h("span", { class: "name", title: spec.metric }, spec.title), value), canvas, legend);
  const of = (strand) => labelText(strand.labels, spec.strands.map((s) => s.labels));
  let fine = null, finding = "";
  const marks = spec.strands.slice(0, MAX_LEGEND).map((strand, n) => {
    const now = h("span", { class: "now" });
    const entry = h("span", { class: "entry", title: Object.entries(strand.labels).map(([k, v]) => k + "=" + v).join("\n") },
      h("i", { class: "swatch swatch" + (n % 8 + 1) }), of(strand) || spec.title, " ", now);
    if (spec.strands.length > 1) legend.appendChild(entry);
    return now;
  });
  if (spec.strands.length > MAX_LEGEND) legend.appendChild(h("span", { class: "muted" }, "+ " + (spec.strands.length - MAX_LEGEND) + " more"));
  navigable(canvas, () => 0, { wheelZooms: false });

  // Of several answers the finest that covers what is shown.
  const pick = () => {
    const inside = (answer) => parseTime(answer.from) <= view.from && parseTime(answer.until) >= view.until;
    return fine && inside(fine.answer) ? fine : spec;
  };
  const refineSoon = () => {
    if (!spec.refine) return;
    const whole = parseTime(spec.answer.until) - parseTime(spec.answer.from);
    const span = view.until - view.from;
    if (span > whole * 0.6) return;
    const key = Math.round(view.from / span * 4) + "/" + Math.round(Math.log2(span) * 2);
    if (key === finding) return;
    finding = key;
    const from = view.from - span, until = view.until + span;
    spec.refine(from, until, Math.min(3000, Math.round(canvas.clientWidth * 3))).then((answer) => {
      const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
      const strands = spec.strands.map((s) => answer.series.find((one) => one.metric === spec.metric && same(one.labels, s.labels)))
        .filter(Boolean);
      if (strands.length === spec.strands.length) fine = { answer, strands };
      redraw();
    }, () => {});
  };

  const draw = () => {
    if (!canvas.isConnected) return;
    const box = canvas.getBoundingClientRect();
    if (box.bottom < -200 || box.top > innerHeight + 200) return;
    refineSoon();
    const { ctx, width, height } = fit(canvas);
    const colours = theme();
    const data = pick();
    const from = parseTime(data.answer.from), until = parseTime(data.answer.until), cols = data.answer.cols;
    const bottom = height - AXIS;
    ctx.clearRect(0, 0, width, height);
    drawTimes(ctx, 0, width, 0, bottom, height - 3);
    const first = Math.max(0, Math.floor((view.from - from) / (until - from) * cols));
    const last = Math.min(cols, Math.ceil((view.until - from) / (until - from) * cols));
    let low = Infinity, high = -Infinity;
    for (const strand of data.strands) {
      for (let n = first; n < last; n += 1) {
        if (strand.max[n] !== null && strand.max[n] > high) high = strand.max[n];
        if (strand.min[n] !== null && strand.min[n] < low) low = strand.min[n];
      }
    }
    const some = high > -Infinity;
    if (spec.top !== undefined && some) high = Math.max(high, spec.top);
    if (low > 0 && (low < high * 0.7 || spec.top !== undefined || low === high)) low = 0;
    if (high <= low) high = low + 1;
    for (const gap of spec.gaps || []) {
      const x = (gap.from - view.from) / (view.until - view.from) * width;
      const end = (gap.until - view.from) / (view.until - view.from) * width;
      if (end > 0 && x < width) drawHatch(ctx, Math.max(0, x), 0, Math.min(width, end) - Math.max(0, x), bottom);
    }
    const y = (v) => bottom - 2 - (v - low) / (high - low) * (bottom - 14);
    data.strands.forEach((strand, n) => drawBand(ctx, strand, colours.lines[n % 8], { from, until, cols, first, last, width, y, fill: data.strands.length < 4 }));
    ctx.font = FONT;
    ctx.fillStyle = colours.muted;
    ctx.textAlign = "left";
    const { unit, kind } = spec.strands[0];
    ctx.fillText(some ? amount(high, unit, kind) : "nothing read here", 2, 10);
    drawCursor(ctx, 0, width, 0, bottom);
    const at = view.at === null ? null : Math.floor((view.at - from) / (until - from) * cols);
    const shown = at !== null && at >= 0 && at < cols ? data.strands.map((s) => near(s, at)) : data.strands.map(() => undefined);
    marks.forEach((mark, n) => replace(mark, shown[n] === undefined ? "" : amount(shown[n], unit, kind)));
    const one = data.strands.length === 1 && shown[0] !== undefined;
    replace(value, one ? amount(shown[0], unit, kind) + " at " + clock(view.at) : "");
  };
  onDraw(draw);
  return figure;
}

// What is read every ten seconds has no value in most columns: the one before counts for a moment.
function near(strand, at) {
  for (let n = at; n >= Math.max(0, at - 6); n -= 1) if (strand.max[n] !== null) return strand.max[n];
  return null;
}

function drawBand(ctx, strand, colour, { from, until, cols, first, last, width, y, fill }) {
  const span = view.until - view.from;
  const x = (n) => (from + (n + 0.5) / cols * (until - from) - view.from) / span * width;
  // A series that is read seldom: its points are joined as long as they come as often as they do.
  const reach = usualStep(strand) * 2.5;
  const begin = Math.max(0, first - Math.ceil(reach)), end = Math.min(cols, last + Math.ceil(reach));
  ctx.strokeStyle = colour;
  ctx.fillStyle = colour;
  ctx.lineWidth = 1.25;
  ctx.beginPath();
  let before = null;
  for (let n = begin; n < end; n += 1) {
    if (strand.max[n] === null) continue;
    const at = x(n), top = y(strand.max[n]);
    if (before === null || n - before > reach) {
      ctx.moveTo(at - 0.5, top);
      ctx.lineTo(at + 0.5, top);
    } else ctx.lineTo(at, top);
    before = n;
  }
  ctx.stroke();
  if (!fill) return;
  ctx.globalAlpha = 0.3;
  const wide = Math.max(1, width / (cols * span / (until - from)));
  for (let n = Math.max(0, first - 1); n < last; n += 1) {
    if (strand.max[n] === null || strand.min[n] === strand.max[n]) continue;
    const top = y(strand.max[n]);
    ctx.fillRect(x(n) - wide / 2, top, wide, Math.max(1, y(strand.min[n]) - top));
  }
  ctx.globalAlpha = 1;
}

// The usual number of columns from one point to the next.
function usualStep(strand) {
  if (strand.step) return strand.step;
  const steps = [];
  let before = null;
  strand.max.forEach((value, n) => {
    if (value === null) return;
    if (before !== null) steps.push(n - before);
    before = n;
  });
  steps.sort((a, b) => a - b);
  strand.step = steps.length ? steps[steps.length >> 1] : 1;
  return strand.step;
}

