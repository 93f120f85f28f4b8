//! The GPUs of a node at an instant as a person reads them: much as `nvidia-smi` shows them, with processes and events.
//!
//! Every text of the node is made safe here. `-` is what was not read.

use std::fmt::Write;

use casefile_proto::time::WallTime;
use casefile_proto::units::Bytes;
use comfy_table::{Table, presets};

use super::events::{From, GpuEvent};
use super::pods::Pod;
use super::view::{Gpu, Trouble, View};
use super::words;
use crate::display::safe;
use crate::signatures::logged::Author;
use crate::signatures::pci::PciAddress;

/// What was not read.
const NOTHING: &str = "-";

/// A node's GPUs.
pub fn text(view: &View) -> String {
    let mut out = head(view);
    if view.gpus.is_empty() {
        out.push_str("no GPU was read\n");
    } else {
        out.push_str(&state(&view.gpus));
        out.push('\n');
        out.push_str(&more(&view.gpus));
    }
    notes(view, &mut out);
    out.push_str(&processes(&view.gpus));
    out.push_str(&events(view));
    out
}

fn head(view: &View) -> String {
    let mut out = format!("{}  at {}\n", safe(view.node.as_str()), view.asked);
    if let Some(trouble) = &view.trouble {
        missing(trouble, view.tick, &mut out);
    } else if let Some(tick) = view.tick.filter(|tick| *tick != view.asked) {
        line(&mut out, &format!("read at {tick}"));
    }
    let mut parts = Vec::new();
    if let Some(driver) = &view.driver {
        for (name, version) in
            [("driver", &driver.driver_version), ("NVML", &driver.nvml_version), ("CUDA", &driver.cuda_version)]
        {
            parts.push(format!("{name} {}", if version.is_empty() { NOTHING.to_owned() } else { safe(version) }));
        }
    }
    let seen: Vec<_> =
        view.seen_by.iter().map(|(by, count)| format!("{} {count}", safe(by).replace('_', " "))).collect();
    if !seen.is_empty() {
        let same = view.seen_by.values().all(|count| view.seen_by.values().next() == Some(count));
        parts.push(format!("GPUs seen by {}{}", seen.join(", "), if same { "" } else { ": THESE DIFFER" }));
    }
    if !parts.is_empty() {
        line(&mut out, &parts.join(" · "));
    }
    out.push('\n');
    out
}

fn missing(trouble: &Trouble, tick: Option<WallTime>, out: &mut String) {
    let since = trouble.since.map(|since| format!(" since {since}")).unwrap_or_default();
    let why = trouble.why.iter().map(|why| format!("; {}", safe(why))).collect::<String>();
    match (trouble.nothing, tick) {
        // What is shown is recent enough, though what came after it was no success; or it is of the instant, but not all of it.
        (false, Some(tick)) => line(out, &format!("{}{since}{why}; read at {tick}", trouble.outcome)),
        (_, Some(tick)) => {
            line(out, &format!("NOTHING WAS READ{since}: {}{why}", trouble.outcome));
            line(out, &format!("WHAT FOLLOWS IS OF {tick}, the last that was read"));
        }
        (_, None) => line(out, &format!("NOTHING WAS READ{since}: {}{why}; nor was anything before", trouble.outcome)),
    }
}

fn state(gpus: &[Gpu]) -> String {
    let mut table = table(&["GPU", "NAME", "BUS", "TEMP", "PERF", "POWER", "MEMORY", "UTIL", "ECC", "STATE"]);
    for gpu in gpus {
        let v = |name: &str| number(gpu, name, "DCGM_FI_DEV_");
        table.add_row([
            marked(gpu),
            or_nothing(&gpu.model),
            bus(gpu),
            unit(v("GPU_TEMP"), " C"),
            v("PSTATE").map_or_else(|| NOTHING.to_owned(), |p| format!("P{p:.0}")),
            of(v("POWER_USAGE"), v("ENFORCED_POWER_LIMIT").or_else(|| v("POWER_MGMT_LIMIT")), " W"),
            of(v("FB_USED"), v("FB_TOTAL"), " MiB"),
            unit(v("GPU_UTIL"), " %"),
            unit(v("ECC_DBE_VOL_TOTAL"), ""),
            standing(gpu),
        ]);
    }
    finish(&table)
}

fn more(gpus: &[Gpu]) -> String {
    let mut table = table(&[
        "GPU",
        "SM CLOCK",
        "MEM CLOCK",
        "HELD BACK BY",
        "MEM TEMP",
        "MEM UTIL",
        "FAN",
        "PCIE",
        "REPLAYS",
        "PERSIST",
        "COMPUTE",
        "MIG",
    ]);
    for gpu in gpus {
        let v = |name: &str| number(gpu, name, "DCGM_FI_DEV_");
        let code = |name: &str, word: fn(i64) -> String| {
            v(name).and_then(words::whole).map_or_else(|| NOTHING.to_owned(), word)
        };
        let link = |generation: &str, width: &str| Some(format!("gen{:.0} x{:.0}", v(generation)?, v(width)?));
        let pcie = link("PCIE_LINK_GEN", "PCIE_LINK_WIDTH");
        let best = link("PCIE_MAX_LINK_GEN", "PCIE_MAX_LINK_WIDTH");
        table.add_row([
            marked(gpu),
            of(v("SM_CLOCK"), v("MAX_SM_CLOCK"), " MHz"),
            of(v("MEM_CLOCK"), v("MAX_MEM_CLOCK"), " MHz"),
            gpu.held_back_by.clone().unwrap_or_else(|| NOTHING.to_owned()),
            unit(v("MEMORY_TEMP"), " C"),
            unit(v("MEM_COPY_UTIL"), " %"),
            unit(v("FAN_SPEED"), " %"),
            match (pcie, best) {
                (Some(now), Some(best)) => format!("{now} of {best}"),
                (now, best) => now.or(best.map(|best| format!("- of {best}"))).unwrap_or_else(|| NOTHING.to_owned()),
            },
            unit(v("PCIE_REPLAY_COUNTER"), ""),
            code("PERSISTENCE_MODE", words::switch),
            code("COMPUTE_MODE", words::compute_mode),
            code("MIG_MODE", words::switch),
        ]);
    }
    finish(&table)
}

/// What somebody who looks at a broken node must not overlook, GPU by GPU.
fn notes(view: &View, out: &mut String) {
    let mut all = Vec::new();
    for gpu in &view.gpus {
        let mut note = |what: String| all.push(format!("GPU {} {}: {what}", marked(gpu), bus(gpu)));
        if !gpu.answers() {
            let values = match gpu.as_of {
                Some(as_of) => format!("all else that is shown of it is of {as_of}, when it last answered"),
                None => "it never answered in this recording".to_owned(),
            };
            note(format!("since {}: {}; {values}", gpu.state_since, safe(&gpu.state_text)));
        }
        let v = |name: &str| number(gpu, name, "DCGM_FI_DEV_");
        let set = |name: &str| v(name).is_some_and(|value| value != 0.0);
        for (name, what) in [
            ("ROW_REMAP_FAILURE", "remapping of memory rows has failed"),
            ("ROW_REMAP_PENDING", "memory rows wait for a reset to be remapped"),
            ("RETIRED_PENDING", "memory pages wait for a reboot to be retired"),
            ("THRESHOLD_SRM", "SRAM errors passed what is allowed"),
        ] {
            if set(name) {
                note(what.to_owned());
            }
        }
        let counted = [
            ("ECC_DBE_VOL_TOTAL", "uncorrected ECC errors since the driver was loaded"),
            ("ECC_DBE_AGG_TOTAL", "uncorrected ECC errors in its life"),
            ("UNCORRECTABLE_REMAPPED_ROWS", "memory rows remapped for uncorrected errors"),
        ];
        let counts = counted
            .iter()
            .filter(|(name, _)| set(name))
            .filter_map(|(name, what)| Some(format!("{what}: {:.0}", v(name)?)));
        let counts: Vec<_> = counts.collect();
        if !counts.is_empty() {
            note(counts.join(", "));
        }
        // The generation falls when the GPU is idle, the lanes do not.
        if let (Some(now), Some(most)) = (v("PCIE_LINK_WIDTH"), v("PCIE_MAX_LINK_WIDTH"))
            && now < most
        {
            note(format!("its PCIe link has {now:.0} of {most:.0} lanes"));
        }
        let own = |name: &str| number(gpu, name, "casefile_gpu_").and_then(words::whole);
        if let Some(action) = own("recovery_action").filter(|action| *action != 0) {
            note(format!("the driver asks to {}", words::recovery_action(action)));
        }
        // 0: not supported; 3: done.
        if let Some(fabric) = own("fabric_state").filter(|state| ![0, 3].contains(state)) {
            note(format!("registration with the NVLink fabric: {}", words::fabric_state(fabric)));
        }
    }
    if !all.is_empty() {
        out.push('\n');
        all.iter().for_each(|note| line(out, note));
    }
}

fn processes(gpus: &[Gpu]) -> String {
    let mut rows = table(&["GPU", "PID", "TYPE", "PROCESS", "MEMORY", "POD", "CONTAINER"]);
    for gpu in gpus {
        for process in &gpu.processes {
            rows.add_row([
                marked(gpu),
                or_nothing(&process.pid),
                or_nothing(&process.kind),
                or_nothing(&process.name),
                process.memory_bytes.map_or_else(|| NOTHING.to_owned(), bytes_text),
                process.pod.as_ref().map_or_else(|| NOTHING.to_owned(), pod),
                // As short as container tools show it.
                or_nothing(process.container.get(..12).unwrap_or(&process.container)),
            ]);
        }
    }
    if rows.is_empty() { "\nno process held a GPU\n".to_owned() } else { format!("\n{}", finish(&rows)) }
}

fn events(view: &View) -> String {
    let mut out = String::from("\n");
    let forged = view.events.iter().filter(|e| e.is_forged()).count();
    let forged = if forged == 0 { String::new() } else { format!(", {forged} more written by programs") };
    let more = if view.more == 0 { String::new() } else { format!(", {} of them not listed", view.more) };
    let after = if view.after == 0 { String::new() } else { format!("; {} after it", view.after) };
    let _infallible = writeln!(out, "events of GPUs up to then: {}{more}{forged}{after}", view.counted);
    for event in &view.events {
        let _infallible = writeln!(out, "{}", event_text(event));
    }
    out
}

fn event_text(event: &GpuEvent) -> String {
    let mut parts = vec![event.time.to_string()];
    parts.push(match &event.from {
        From::Kernel { author: Author::Program } => "kernel log, WRITTEN BY A PROGRAM".to_owned(),
        From::Kernel { .. } => "kernel".to_owned(),
        From::PreviousBoot { .. } => "kernel, an earlier boot".to_owned(),
        From::Nvml => "nvml".to_owned(),
    });
    match (&event.gpu, &event.pci) {
        (Some(gpu), Some(pci)) => parts.push(format!("GPU {} {pci}", safe(gpu))),
        (None, Some(pci)) => parts.push(pci.to_string()),
        _ => {}
    }
    if let (Some(numbered), Some(code)) = (event.numbered, event.code) {
        parts.push(format!("{numbered} {code}"));
    }
    parts.extend(event.name.as_ref().map(|name| safe(name)));
    if event.continues {
        parts.push("(continued)".to_owned());
    }
    match (&event.process, event.pid) {
        (Some(name), Some(pid)) => parts.push(format!("process {} ({pid})", safe(name))),
        (None, Some(pid)) => parts.push(format!("pid {pid}")),
        (Some(name), None) => parts.push(format!("process {}", safe(name))),
        (None, None) => {}
    }
    parts.extend(event.pod.as_ref().map(|p| format!("pod {}", pod(p))));
    if !event.users.is_empty() {
        parts.push(format!("on it: {}", event.users.iter().map(pod).collect::<Vec<_>>().join(", ")));
    }
    let text: Vec<_> = event.text.lines().map(|line| format!("    {}", safe(line))).collect();
    format!("{}\n{}", parts.join("  "), text.join("\n"))
}

fn pod(pod: &Pod) -> String {
    safe(pod.label())
}

fn index(gpu: &Gpu) -> String {
    or_nothing(&gpu.index)
}

/// The index, with a star where what is shown is not of the tick: a line below says of when.
fn marked(gpu: &Gpu) -> String {
    format!("{}{}", index(gpu), if gpu.answers() { "" } else { "*" })
}

fn bus(gpu: &Gpu) -> String {
    PciAddress::parse(&gpu.pci_bus_id).map_or_else(|| or_nothing(&gpu.pci_bus_id), |pci| pci.to_string())
}

fn standing(gpu: &Gpu) -> String {
    gpu.state.map_or_else(|| "NOT SAID".to_owned(), words::state_word)
}

fn number(gpu: &Gpu, name: &str, family: &str) -> Option<f64> {
    gpu.values.get(&format!("{family}{name}")).copied()
}

fn unit(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| format!("{value:.0}{unit}"))
}

fn of(now: Option<f64>, most: Option<f64>, what: &str) -> String {
    match (now, most) {
        (Some(now), Some(most)) => format!("{now:.0} / {most:.0}{what}"),
        (Some(now), None) => format!("{now:.0}{what}"),
        (None, Some(most)) => format!("{NOTHING} / {most:.0}{what}"),
        (None, None) => NOTHING.to_owned(),
    }
}

fn bytes_text(bytes: f64) -> String {
    words::whole(bytes)
        .and_then(|n| u64::try_from(n).ok())
        .map_or_else(|| format!("{bytes:.0} B"), |n| Bytes(n).to_string())
}

fn or_nothing(text: &str) -> String {
    if text.is_empty() { NOTHING.to_owned() } else { safe(text) }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table
}

fn finish(table: &Table) -> String {
    table.lines().map(|l| l.trim_end().to_owned() + "\n").collect()
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}
