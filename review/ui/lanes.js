// Many strips under one time axis, drawn pixel by pixel: 200 nodes move as one picture.

import { drawCursor, drawHatch, drawTimes, fit, FONT, theme } from "./chart.js";
import { view } from "./state.js";

// A colour of the style sheet as one pixel (#rrggbb; ABGR as the memory has it).
function pixel(colour, part) {
  const n = parseInt(colour.slice(1), 16), a = part === undefined ? 1 : part;
  const paper = parseInt(theme().paper.slice(1), 16);
  const mix = (shift) => Math.round((n >> shift & 255) * a + (paper >> shift & 255) * (1 - a));
  return (255 << 24 | mix(0) << 16 | mix(8) << 8 | mix(16)) >>> 0;
}

export const AXIS_HEIGHT = 20;

// The strips and marks of a screen. rows: [{y, height, kind: "strip"|"heat", data: {from, until, cols, max}, full, high, worst}],
// in the order of y; y counts from below the axis.
export class Lanes {
  constructor(canvas) {
    this.canvas = canvas;
    this.image = null;
    this.scroll = 0;
    this.gutter = 0;
  }

  // Draws the strips; returns the context and the sizes for what stands on top of them.
  strips(rows) {
    const { ctx, width, height, ratio } = fit(this.canvas);
    const w = this.canvas.width, tall = this.canvas.height;
    if (!this.image || this.image.width !== w || this.image.height !== tall) {
      this.image = new ImageData(w, tall);
      this.pixels = new Uint32Array(this.image.data.buffer);
    }
    const colours = theme();
    const paint = {
      quiet: pixel(colours.quiet), high: pixel(colours.warning), worst: pixel(colours.fatal), floor: pixel(colours.rule, 0.6),
      ramp: ramp(colours),
    };
    this.pixels.fill(pixel(colours.paper));
    const left = Math.round(this.gutter * ratio);
    for (const row of rows) {
      const top = Math.round((AXIS_HEIGHT + row.y - this.scroll) * ratio), bottom = Math.round((AXIS_HEIGHT + row.y + row.height - this.scroll) * ratio);
      if (bottom <= AXIS_HEIGHT * ratio || top >= tall || !row.data) continue;
      this.strip(row, left, w, Math.max(top, 0), Math.min(bottom, tall), paint);
    }
    ctx.setTransform(1, 0, 0, 1, 0, 0);
    ctx.putImageData(this.image, 0, 0);
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    return { ctx, width, height };
  }

  strip(row, left, right, top, bottom, paint) {
    const { data, full, high, worst } = row;
    const { max } = data;
    const pixels = this.pixels, w = this.image.width, tall = bottom - top;
    const perPixel = (view.until - view.from) / (right - left);
    const scale = data.cols / (data.until - data.from);
    const heat = row.kind === "heat";
    for (let x = left; x < right; x += 1) {
      let a = ((view.from + (x - left) * perPixel) - data.from) * scale;
      let b = a + perPixel * scale;
      if (b <= 0 || a >= data.cols) continue;
      a = a < 0 ? 0 : Math.floor(a);
      b = b > data.cols ? data.cols : Math.ceil(b);
      let value = null;
      for (let n = a; n < b; n += 1) if (max[n] !== null && (value === null || max[n] > value)) value = max[n];
      // What is read seldom stands until it is read again, as long as it usually takes.
      for (let n = a - 1; value === null && n >= 0 && n > a - 1 - (data.reach || 0); n -= 1) value = max[n];
      if (value === null) continue;
      let part = value / full;
      part = part < 0 ? 0 : part > 1 ? 1 : part;
      if (heat) {
        const colour = paint.ramp[Math.round(part * 255)];
        for (let y = top; y < bottom; y += 1) pixels[y * w + x] = colour;
        continue;
      }
      const colour = value >= worst ? paint.worst : value >= high ? paint.high : paint.quiet;
      const from = bottom - Math.round(part * tall);
      for (let y = from; y < bottom; y += 1) pixels[y * w + x] = colour;
      if (from === bottom) pixels[(bottom - 1) * w + x] = paint.floor;
    }
  }

  // The axis, which stays while the lanes are scrolled.
  axis(ctx, width, height) {
    ctx.fillStyle = theme().paper;
    ctx.fillRect(0, 0, width, AXIS_HEIGHT);
    ctx.save();
    ctx.globalAlpha = 0.55;
    drawTimes(ctx, this.gutter, width - this.gutter, AXIS_HEIGHT, height, 0);
    ctx.restore();
    drawTimes(ctx, this.gutter, width - this.gutter, AXIS_HEIGHT - 4, AXIS_HEIGHT, AXIS_HEIGHT - 7);
    drawCursor(ctx, this.gutter, width - this.gutter, AXIS_HEIGHT - 4, height);
  }

  x(at, width) {
    return this.gutter + (at - view.from) / (view.until - view.from) * (width - this.gutter);
  }

  hatch(ctx, gap, y, tall, width) {
    const a = Math.max(this.gutter, this.x(gap.from, width)), b = Math.min(width, this.x(gap.until, width));
    const top = Math.max(AXIS_HEIGHT, AXIS_HEIGHT + y - this.scroll), bottom = AXIS_HEIGHT + y + tall - this.scroll;
    if (b - a < 0.5 || bottom <= top) return;
    drawHatch(ctx, a, top, Math.max(b - a, 2), bottom - top);
  }
}

let rampOf = "", rampNow = null;

// From paper to what stands out most: brightness alone tells it, whatever colours a person sees.
function ramp(colours) {
  const key = colours.ramp.join();
  if (key === rampOf) return rampNow;
  const parts = colours.ramp.map((c) => parseInt(c.slice(1), 16));
  rampNow = new Uint32Array(256);
  for (let n = 0; n < 256; n += 1) {
    const place = n / 255 * (parts.length - 1), k = Math.min(parts.length - 2, Math.floor(place)), part = place - k;
    const mix = (shift) => Math.round((parts[k] >> shift & 255) * (1 - part) + (parts[k + 1] >> shift & 255) * part);
    rampNow[n] = (255 << 24 | mix(0) << 16 | mix(8) << 8 | mix(16)) >>> 0;
  }
  rampOf = key;
  return rampNow;
}

// A severity as a shape of its own: ● fatal, ▲ error, △ warning, ○ info.
export function drawShape(ctx, severity, x, y, size) {
  const colours = theme();
  ctx.fillStyle = colours[severity];
  ctx.strokeStyle = colours[severity];
  ctx.lineWidth = 1.6;
  ctx.beginPath();
  if (severity === "fatal" || severity === "info") {
    ctx.arc(x, y, severity === "fatal" ? size : size * 0.8, 0, 7);
  } else {
    ctx.moveTo(x, y - size);
    ctx.lineTo(x + size * 1.05, y + size * 0.85);
    ctx.lineTo(x - size * 1.05, y + size * 0.85);
    ctx.closePath();
  }
  if (severity === "fatal" || severity === "error") {
    ctx.fill();
    ctx.strokeStyle = colours.paper;
    ctx.lineWidth = 1;
    ctx.stroke();
  } else {
    ctx.fillStyle = colours.paper;
    ctx.fill();
    ctx.stroke();
  }
}

export function drawText(ctx, text, x, y, most, colour, bold) {
  ctx.font = bold ? "600 " + FONT : FONT;
  ctx.fillStyle = colour;
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  let shown = text;
  while (shown.length > 1 && ctx.measureText(shown).width > most) shown = shown.slice(0, -2) + "…";
  ctx.fillText(shown, x, y);
}
