// Numbers, times and severities as people read them. Times are milliseconds since 1970; a missing value is never a zero.

let local = false;

export function setLocal(on) {
  local = on;
}

export function zoneName() {
  if (!local) return "UTC";
  const minutes = -new Date().getTimezoneOffset();
  const part = (n) => String(Math.floor(Math.abs(n))).padStart(2, "0");
  return "UTC" + (minutes < 0 ? "−" : "+") + part(minutes / 60) + ":" + part(minutes % 60);
}

// RFC 3339, with as many digits as there are.
export function parseTime(text) {
  const parts = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)$/.exec(text || "");
  if (!parts) return null;
  const whole = Date.parse(parts[1] + parts[3]);
  return Number.isNaN(whole) ? null : whole + (parts[2] ? Number("0." + parts[2]) * 1000 : 0);
}

export function isoTime(ms) {
  return new Date(Math.round(ms)).toISOString();
}

function clockParts(ms) {
  const date = new Date(ms);
  const two = (n) => String(n).padStart(2, "0");
  const get = (name) => local ? date["get" + name]() : date["getUTC" + name]();
  return {
    day: get("FullYear") + "-" + two(get("Month") + 1) + "-" + two(get("Date")),
    minute: two(get("Hours")) + ":" + two(get("Minutes")),
    second: two(get("Seconds")),
    milli: String(get("Milliseconds")).padStart(3, "0"),
  };
}

// 03:11:42.118
export function clock(ms) {
  if (ms === null || ms === undefined) return "–";
  const t = clockParts(ms);
  return t.minute + ":" + t.second + "." + t.milli;
}

// 03:11:42
export function second(ms) {
  if (ms === null || ms === undefined) return "–";
  const t = clockParts(ms);
  return t.minute + ":" + t.second;
}

// 2026-11-23 03:11:42
export function stamp(ms) {
  if (ms === null || ms === undefined) return "–";
  const t = clockParts(ms);
  return t.day + " " + t.minute + ":" + t.second;
}

export function tickLabel(ms, step) {
  const t = clockParts(ms);
  if (step >= 86400000) return t.day;
  if (step >= 60000) return t.minute;
  return step >= 1000 ? t.minute + ":" + t.second : ":" + t.second + "." + t.milli;
}

// 29m 37s
export function duration(ms) {
  if (ms < 1000) return Math.round(ms) + " ms";
  const s = Math.round(ms / 1000);
  const parts = [[Math.floor(s / 86400), "d"], [Math.floor(s / 3600) % 24, "h"], [Math.floor(s / 60) % 60, "m"], [s % 60, "s"]];
  const shown = parts.filter(([n]) => n > 0).slice(0, 2).map(([n, unit]) => n + unit);
  return shown.join(" ") || "0s";
}

function digits(value) {
  const size = Math.abs(value);
  if (size >= 100 || Number.isInteger(value)) return String(Math.round(value));
  if (size >= 10) return value.toFixed(1);
  if (size >= 1) return value.toFixed(2);
  return size === 0 ? "0" : value.toPrecision(2);
}

function scaled(value, base, names) {
  let n = 0;
  while (Math.abs(value) >= base && n < names.length - 1) {
    value /= base;
    n += 1;
  }
  return digits(value) + " " + names[n];
}

const BINARY = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

// A value of this unit; of a counter it is a rate.
export function amount(value, unit, kind) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const rate = kind === "counter";
  switch (unit) {
    case "bytes": return scaled(value, 1024, BINARY) + (rate ? "/s" : "");
    case "bytes/second": return scaled(value, 1024, BINARY) + "/s";
    case "mebibytes": return scaled(value * 1048576, 1024, BINARY);
    case "seconds":
      if (rate) return digits(value * 100) + " %";
      if (value !== 0 && Math.abs(value) < 0.001) return digits(value * 1e6) + " µs";
      return Math.abs(value) < 1 ? digits(value * 1000) + " ms" : digits(value) + " s";
    case "ratio": return digits(value * 100) + " %";
    case "percent": return digits(value) + " %";
    case "celsius": return digits(value) + " °C";
    case "watts": return digits(value) + " W";
    case "hertz": return scaled(value, 1000, ["Hz", "kHz", "MHz", "GHz"]);
    case "megahertz": return digits(value) + " MHz";
    case "code": return digits(value);
    default:
      return (Math.abs(value) >= 10000 ? scaled(value, 1000, ["", "k", "M", "G", "T"]) : digits(value)).trim() + (rate ? "/s" : "");
  }
}

export function counted(n, one, many) {
  return n + " " + (n === 1 ? one : many || one + "s");
}

export const SEVERITIES = ["fatal", "error", "warning", "info"];

const GLYPHS = { fatal: "●", error: "▲", warning: "△", info: "○" };
const SHORT = { FATAL: "fatal", ERROR: "error", WARN: "warning", WARNING: "warning", INFO: "info" };

export function severityOf(text) {
  return SHORT[String(text).toUpperCase()] || "info";
}

export function glyph(severity) {
  return GLYPHS[severity] || "○";
}

export const STATES = {
  "answered": "answered",
  "trimmed": "cut short",
  "last-words": "last words only",
  "silent": "silent",
};

// What a metric is called where there is little room.
const TITLES = {
  cpu_busy_ratio: "CPU busy",
  memory_used_ratio: "memory used",
  filesystem_used_ratio: "file system used",
  disk_busy_ratio: "disk busy",
  disk_wait_seconds: "disk wait",
  disk_bytes_per_second: "disk throughput",
  network_bytes_per_second: "network throughput",
  network_drops_per_second: "network drops",
  node_pressure_cpu_waiting_seconds_total: "CPU pressure, some",
  node_pressure_memory_waiting_seconds_total: "memory pressure, some",
  node_pressure_memory_stalled_seconds_total: "memory pressure, full",
  node_pressure_io_waiting_seconds_total: "I/O pressure, some",
  node_pressure_io_stalled_seconds_total: "I/O pressure, full",
  node_load1: "load, 1 min",
  node_procs_running: "tasks running",
  node_procs_blocked: "tasks blocked",
  node_memory_MemAvailable_bytes: "memory available",
  node_memory_Dirty_bytes: "dirty memory",
  node_vmstat_pgmajfault: "major faults",
  node_vmstat_oom_kill: "OOM kills",
  container_memory_rss: "container memory, anonymous",
  container_memory_usage_bytes: "container memory",
  container_cpu_usage_seconds_total: "container CPU",
  DCGM_FI_DEV_GPU_UTIL: "GPU utilisation",
  DCGM_FI_DEV_GPU_TEMP: "GPU temperature",
  DCGM_FI_DEV_POWER_USAGE: "GPU power",
  DCGM_FI_DEV_FB_USED: "GPU memory used",
  casefile_gpu_state: "GPU state",
};

export function metricTitle(metric) {
  return TITLES[metric] || metric;
}

// The labels that tell one strand of a chart from another, short.
export function labelText(labels, all) {
  const names = Object.keys(labels).filter((name) => !all || all.some((other) => other[name] !== labels[name]));
  const preferred = ["gpu", "mountpoint", "device", "id", "cpu", "mode"].find((name) => names.includes(name));
  if (preferred) return preferred === "gpu" ? "GPU " + labels.gpu : shortPath(labels[preferred]);
  return names.map((name) => name + "=" + labels[name]).join(" ");
}

function shortPath(text) {
  return text.length > 44 ? "…" + text.slice(-43) : text;
}
