// Where the data comes from: out of the report itself, or from a collector or `casefile review`. Both answer the same questions.

import { parseTime } from "./words.js";

export class Embedded {
  constructor(data) {
    this.data = data;
    this.live = false;
    this.inArchive = "not in this report; it is in the archive: casefile review FILE opens it whole";
  }

  async review() {
    return this.data.review;
  }

  async timeline() {
    return this.data.timeline;
  }

  async node(node) {
    return this.data.nodes[node] || { node, use: [], sources: [], gaps: [], facts: [], left: true };
  }

  async metrics(node) {
    const seen = new Map();
    for (const one of this.data.series.list) {
      if (one.node === node && !seen.has(one.metric)) seen.set(one.metric, { metric: one.metric, unit: one.unit, kind: one.kind });
    }
    return { metrics: [...seen.values()] };
  }

  async series(node, metrics) {
    const { from, until, cols, list } = this.data.series;
    const wanted = new Set(metrics);
    const series = list.filter((one) => one.node === node && wanted.has(one.metric)).map((one) => this.columns(one, cols));
    return { from, until, cols, series };
  }

  // Columns stand in the report as two characters each, 4,096 steps between the smallest and the largest value of the series.
  columns(one, cols) {
    if (!one.min) {
      one.min = unpack(one.q, cols, one.lo, one.hi);
      one.max = one.p ? unpack(one.p, cols, one.lo, one.hi) : one.min;
    }
    return one;
  }

  async logs({ node, grep }) {
    const pattern = grep ? new RegExp(grep, "i") : null;
    const lines = this.data.logs.lines.filter((line) => (!node || line.node === node) && (!pattern || pattern.test(line.text)));
    return { lines, note: this.data.logs.note };
  }

  async templates({ node, grep }) {
    const pattern = grep ? new RegExp(grep, "i") : null;
    const all = this.data.templates;
    const templates = all.templates.filter((t) => (!node || t.nodes.includes(node)) && (!pattern || pattern.test(t.sample)));
    return { ...all, templates };
  }

  async evidence(ref) {
    const cited = this.data.evidence[ref];
    if (!cited) throw new Error(ref + " is " + this.inArchive);
    return cited;
  }

  async lines(entry, line) {
    for (const cited of Object.values(this.data.evidence)) {
      const around = cited.around;
      if (around && around.entry === entry && around.lines.some((l) => l.line === line)) return around;
    }
    throw new Error(entry + " line " + line + " is " + this.inArchive);
  }

  async compare(a, b) {
    const known = this.data.compare.find((one) => one.a === a && one.b === b);
    if (!known) throw new Error(a + " against " + b + " is " + this.inArchive);
    return known;
  }

  pairs() {
    return this.data.compare.map((one) => [one.a, one.b]);
  }

  async heat(metric) {
    const { from, until, cols, list } = this.data.series;
    const rows = new Map(this.data.review.nodes.map((n) => [n.node, new Array(cols).fill(null)]));
    let unit = "count", kind = "gauge";
    for (const one of list) {
      if (one.metric !== metric || !rows.has(one.node)) continue;
      unit = one.unit;
      kind = one.kind;
      const row = rows.get(one.node);
      this.columns(one, cols).max.forEach((value, n) => {
        if (value !== null && (row[n] === null || value > row[n])) row[n] = value;
      });
    }
    return { metric, unit, kind, from, until, cols, nodes: [...rows].map(([node, values]) => ({ node, values })) };
  }

  async postmortem() {
    return this.data.postmortem;
  }
}

const STEPS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

function unpack(text, cols, lo, hi) {
  const out = new Array(cols).fill(null);
  for (let n = 0; n < cols; n += 1) {
    const high = STEPS.indexOf(text[2 * n]), low = STEPS.indexOf(text[2 * n + 1]);
    if (high >= 0 && low >= 0) out[n] = lo + (hi - lo) * (high * 64 + low) / 4095;
  }
  return out;
}

const TOKEN_KEY = "casefile-token";

export class Api {
  constructor(base, token) {
    this.base = base;
    this.live = true;
    this.incident = null;
    if (token) sessionStorage.setItem(TOKEN_KEY, token);
    this.token = sessionStorage.getItem(TOKEN_KEY);
    this.kept = new Map();
  }

  setToken(token) {
    this.token = token;
    sessionStorage.setItem(TOKEN_KEY, token);
  }

  headers(more) {
    return this.token ? { Authorization: "Bearer " + this.token, ...more } : { ...more };
  }

  async fetch(path, options) {
    let answer;
    try {
      answer = await fetch(this.base + path, { ...options, headers: this.headers(options && options.headers), cache: "no-store" });
    } catch {
      throw new Error("no answer from " + location.host + ": is it running, and is this machine connected to it?");
    }
    if (!answer.ok) {
      const text = await answer.text();
      let why = text.slice(0, 300);
      try {
        const said = JSON.parse(text);
        why = said.error?.message || said.detail || said.error || said.title || said.message || why;
      } catch {
        // It is not JSON: the text itself is what was said.
      }
      const error = new Error(typeof why === "string" ? why || "status " + answer.status : JSON.stringify(why));
      error.status = answer.status;
      throw error;
    }
    return answer;
  }

  async json(path, options) {
    return (await this.fetch(path, options)).json();
  }

  // What a sealed case file says does not change: it is asked once.
  page(path, values) {
    const parts = new URLSearchParams();
    for (const [name, value] of Object.entries(values || {})) {
      if (value !== null && value !== undefined && value !== "") parts.set(name, value);
    }
    const query = parts.toString();
    const address = "/incidents/" + encodeURIComponent(this.incident) + "/page/" + path + (query ? "?" + query : "");
    if (!this.kept.has(address)) {
      if (this.kept.size > 400) this.kept.delete(this.kept.keys().next().value);
      const asked = this.json(address);
      asked.catch(() => this.kept.delete(address));
      this.kept.set(address, asked);
    }
    return this.kept.get(address);
  }

  review() { return this.page("review"); }
  timeline(values) { return this.page("timeline", values); }
  node(node) { return this.page("node", { node }); }
  metrics(node) { return this.page("metrics", { node }); }
  logs(values) { return this.page("logs", values); }
  templates(values) { return this.page("logs", { ...values, collapse: 1 }); }
  evidence(ref) { return this.page("evidence", { ref, around: 20 }); }
  lines(entry, line, around) { return this.page("lines", { entry, line, around: around || 20 }); }
  compare(a, b, from, until) { return this.page("compare", { a, b, from, until }); }
  heat(metric, from, until, cols) { return this.page("heat", { metric, from, until, cols }); }
  postmortem() { return this.page("postmortem"); }

  async series(node, metrics, from, until, cols) {
    const answer = await this.page("series", { node, metric: metrics.join(","), from, until, cols });
    for (const one of answer.series) one.max = one.max || one.min;
    return answer;
  }

  pairs() { return null; }

  // The live page.
  incidents() { return this.json("/incidents"); }
  nodes() { return this.json("/nodes"); }
  collect(body) {
    return this.json("/incidents", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  }

  // Server-sent events over fetch: EventSource cannot carry a token. each(event, data) until the stream ends.
  async events(path, each, signal) {
    const answer = await this.fetch(path, { headers: { Accept: "text/event-stream" }, signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      const blocks = rest.split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        let name = "message", data = "";
        for (const line of block.split(/\r?\n/)) {
          if (line.startsWith("event:")) name = line.slice(6).trim();
          if (line.startsWith("data:")) data += line.slice(5).trimStart();
        }
        if (data) each(name, JSON.parse(data));
      }
    }
  }
}

// Which column of an answer an instant lies in, or null.
export function columnAt(answer, at) {
  const from = parseTime(answer.from), until = parseTime(answer.until);
  const n = Math.floor((at - from) / (until - from) * answer.cols);
  return n >= 0 && n < answer.cols ? n : null;
}
