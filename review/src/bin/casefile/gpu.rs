//! `casefile gpu`: the GPUs of nodes at an instant, as `nvidia-smi` would have shown them then.

use anyhow::{Result, bail};
use casefile_proto::ids::NodeName;
use casefile_proto::time::{ClockOffset, WallTime};
use casefile_review::casefile::CaseFile;
use casefile_review::display::safe;
use casefile_review::gpu::pods::Pods;
use casefile_review::gpu::recorded::{Recorded, begins};
use casefile_review::gpu::table;
use casefile_review::gpu::view::View;
use casefile_review::when;

use crate::args::{Format, GpuArgs};
use crate::output::{self, talk};
use crate::{Ended, source};

/// Reads the recordings and shows what they say.
pub(crate) fn run(args: &GpuArgs) -> Result<Ended> {
    let mut casefile = source::open(&args.source)?;
    let end = casefile.incident.window.until();
    let at = args.at.as_deref().map_or(Ok(end), |text| when::time(text, end))?;
    let recordings = casefile.recordings(args.node.as_ref());
    if recordings.is_empty() {
        let whose = args.node.as_ref().map_or_else(String::new, |n| format!(" of node {n}"));
        bail!("the case file holds no recording{whose} (casefile show {} says why)", args.source.file);
    }
    let mut nodes: Vec<_> = recordings.iter().map(|(node, _)| node.clone()).collect();
    nodes.dedup();
    let mut views = Vec::new();
    let mut without = Vec::new();
    for node in nodes {
        match view(&mut casefile, &node, at)? {
            Some(view) => views.push(view),
            None => without.push(node),
        }
    }
    // A node without a GPU is no news beside others that have some.
    let only_absent =
        |v: &View| v.tick.is_none() && v.events.is_empty() && v.trouble.as_ref().is_some_and(|t| t.outcome == "absent");
    if args.node.is_none() && !views.iter().all(only_absent) {
        without.extend(views.extract_if(.., |view| only_absent(view)).map(|view| view.node));
    }
    if !without.is_empty() {
        let names: Vec<_> = without.iter().map(|node| safe(node.as_str())).collect();
        talk!("no GPUs were recorded on {}", names.join(", "));
    }
    if views.is_empty() {
        bail!("no node of this case file has recorded its GPUs (casefile show {} says what it has)", args.source.file);
    }
    let whole = views.iter().all(|view| view.trouble.is_none());
    match args.output.format {
        Format::Table => {
            let texts: Vec<_> = views.iter().map(table::text).collect();
            output::text_out(&texts.join("\n"))?;
        }
        Format::Json => output::one(Format::Json, &views, String::new)?,
        Format::Jsonl => views.iter().try_for_each(|view| output::one(Format::Jsonl, view, String::new))?,
    }
    Ok(if whole { Ended::Done } else { Ended::Partial })
}

/// What one node's recordings say; `None` when the source was never recorded.
fn view(casefile: &mut CaseFile, node: &NodeName, at: WallTime) -> Result<Option<View>> {
    let clock = casefile.coverage.nodes.iter().find(|n| n.node == *node).and_then(|n| n.clock);
    let ahead = clock.and_then(ClockOffset::apart).unwrap_or(0);
    let mut recorded = Recorded::until(at.offset(ahead), Pods::known(casefile, node));
    let mut recordings = Vec::new();
    for (_, entry) in casefile.recordings(Some(node)) {
        let mut recording = casefile.recording(&entry)?;
        recordings.push((begins(&mut recording)?, recording));
    }
    recordings.sort_by_key(|(begins, _)| *begins);
    for (_, recording) in &mut recordings {
        recorded.read(recording)?;
    }
    Ok(recorded.has_source().then(|| recorded.view(node.clone(), ahead)))
}
