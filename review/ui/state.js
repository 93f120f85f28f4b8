// What is looked at: the part of the address behind the #, so that a link shows another person the same.

import { isoTime, parseTime } from "./words.js";

const watchers = new Set();
let current = {};

function readFragment() {
  const values = {};
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) values[name] = value;
  return values;
}

function writeFragment(values) {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== null && value !== undefined && value !== "" && value !== false) parts.set(name, value);
  }
  return "#" + parts.toString().replaceAll("%3A", ":").replaceAll("%7E", "~").replaceAll("%2F", "/");
}

// The token of a link is taken out of the address before anything else happens.
export function takeToken() {
  const values = readFragment();
  if (!values.token) return null;
  const token = values.token;
  delete values.token;
  history.replaceState(null, "", writeFragment(values));
  return token;
}

export function startState() {
  current = readFragment();
  addEventListener("hashchange", () => {
    const before = current;
    current = readFragment();
    for (const run of [...watchers]) run(current, before);
  });
}

export function state() {
  return current;
}

export function onState(run) {
  watchers.add(run);
}

// Changes some of it. A screen is a step in the browser's history; a cursor or a zoom is not.
export function go(changes, quiet) {
  const before = current;
  current = { ...current, ...changes };
  for (const name of Object.keys(current)) if (current[name] === null || current[name] === "") delete current[name];
  const fragment = writeFragment(current);
  if (fragment !== location.hash) {
    if (quiet) history.replaceState(null, "", fragment);
    else history.pushState(null, "", fragment);
  }
  if (!quiet) for (const run of [...watchers]) run(current, before);
}

// The window of time that all charts show, and the instant under the cursor.
export const view = { from: 0, until: 1, all: [0, 1], at: null, runs: new Set(), queued: false };

export function setWindow(from, until) {
  view.all = [from, until];
  const [a, b] = String(current.t || "").split("~").map(parseTime);
  if (a !== null && b !== null && a !== undefined && b !== undefined && a < b) [view.from, view.until] = [a, b];
  else [view.from, view.until] = [from, until];
  view.at = a !== null && b === undefined ? a : null;
}

let savedSoon = 0;

export function look(from, until) {
  const [first, last] = view.all;
  const most = (last - first) * 1.1;
  const length = Math.min(Math.max(until - from, 20), most);
  const slack = length * 0.5;
  const middle = Math.min(Math.max((from + until) / 2, first - slack + length / 2), last + slack - length / 2);
  view.from = middle - length / 2;
  view.until = middle + length / 2;
  redraw();
  clearTimeout(savedSoon);
  savedSoon = setTimeout(() => {
    const whole = view.from <= first && view.until >= last;
    go({ t: whole ? null : isoTime(view.from) + "~" + isoTime(view.until) }, true);
  }, 300);
}

export function lookAround(at, span) {
  view.at = at;
  look(at - span / 2, at + span / 2);
}

export function zoom(factor, around) {
  const at = around === undefined || around === null ? (view.at ?? (view.from + view.until) / 2) : around;
  const inside = at >= view.from && at <= view.until ? at : (view.from + view.until) / 2;
  look(inside - (inside - view.from) * factor, inside + (view.until - inside) * factor);
}

export function pan(part) {
  const by = (view.until - view.from) * part;
  look(view.from + by, view.until + by);
}

export function point(at) {
  if (view.at === at) return;
  view.at = at;
  redraw();
}

export function redraw() {
  if (view.queued) return;
  view.queued = true;
  requestAnimationFrame(() => {
    view.queued = false;
    for (const run of view.runs) run();
  });
}

// Charts of a screen that is gone draw no more.
export function onDraw(run) {
  view.runs.add(run);
}

export function clearDraw() {
  view.runs.clear();
}
