//! What `health-check`, `collect-logs` and `analyze-resources` are told: over a case file, or live.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::source::Place;
use super::{CollectorArgs, LogFormat, Output, selected};

/// What is looked at.
#[derive(Args, Debug, Clone)]
pub(crate) struct LookArgs {
    /// A case file, or an incident such as INC-000123. Without it the collector is asked: a small incident is opened, sealed, fetched
    /// into the private cache and looked at, and stays as evidence of what was seen.
    #[arg(value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub(crate) file: Option<Place>,
    /// How long the nodes are waited for when the collector is asked, such as 30s. Without it: the collector's own.
    #[arg(long, value_name = "LENGTH", conflicts_with = "file")]
    pub(crate) deadline: Option<String>,
    /// Which collector.
    #[command(flatten)]
    pub(crate) collector: CollectorArgs,
}

pub(super) const HEALTH_EXAMPLES: &str = "\
Examples:
  casefile health-check                          the cluster now, with what it warned of in the last 15 minutes
  casefile health-check --since 1h               and in the last hour
  casefile health-check INC-000123               as it was at the end of an incident's window
  casefile health-check FILE -o json | jq .wrong every problem and warning of a case file

Problems: pods that do not run, nodes that are not ready, services that nobody answers. Warnings: everything else that is worth a look.

Exit codes: 0 healthy · 1 error · 2 usage · 3 problems · 4 warnings only · 5 nothing wrong was seen, but not everything could be looked at";

/// What `health-check` is told.
#[derive(Args, Debug)]
pub(crate) struct HealthArgs {
    /// What is looked at.
    #[command(flatten)]
    pub(crate) look: LookArgs,
    /// How far back warnings and restarts are looked at when the collector is asked: 15m (ago), 03:12Z. Of a case file it is its window.
    #[arg(long, value_name = "TIME", default_value = "15m", conflicts_with = "file")]
    pub(crate) since: String,
    /// Before that, test only this target of the collector's configuration, by its name or URL, from every node; may be given
    /// several times. Without it: every target that the configuration lists.
    #[arg(long = "target", value_name = "T", conflicts_with = "file")]
    pub(crate) targets: Vec<String>,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: Output,
}

pub(super) const COLLECT_LOGS_EXAMPLES: &str = "\
Examples:
  casefile collect-logs -n shop                          all pods of a namespace, the last hour, merged by time
  casefile collect-logs -n shop --pod api-0 --since 10m  one pod
  casefile collect-logs --unit kubelet --since 30m       a unit of every node's journal
  casefile collect-logs -n shop -o logs/                 a file for each container, in a directory
  casefile collect-logs FILE -n shop --since 5m          out of a case file: the last five minutes of its window

Each line has time, node and namespace/pod/container before it; casefile logs picks and marks more finely.

Exit codes: 0 all of it · 1 error · 2 usage · 3 the case file is damaged · 5 parts are missing (which is said on standard error)";

/// What `collect-logs` is told.
#[derive(Args, Debug)]
pub(crate) struct CollectLogsArgs {
    /// What is looked at.
    #[command(flatten)]
    pub(crate) look: LookArgs,
    /// Logs of the pods of this namespace; may be given again.
    #[arg(short = 'n', long = "namespace", value_name = "NS", value_parser = selected, required_unless_present = "units")]
    pub(crate) namespaces: Vec<String>,
    /// Only of this pod, by its whole name; may be given again.
    #[arg(long = "pod", value_name = "NAME", value_parser = selected, requires = "namespaces")]
    pub(crate) pods: Vec<String>,
    /// The journal of this unit, with or without .service; may be given again.
    #[arg(long = "unit", value_name = "NAME", value_parser = selected)]
    pub(crate) units: Vec<String>,
    /// From this time on: 1h (ago, or before the end of a case file), 2026-11-23T03:12:00Z, 03:12Z. Without it: the last hour, or the
    /// whole of a case file.
    #[arg(short = 's', long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Up to this time, which is not in it.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Write a file for each log into this directory, which is made, and list them; without it, all to standard output.
    #[arg(short = 'o', long = "output", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) into: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = LogFormat::Table, value_name = "FORM")]
    pub(crate) format: LogFormat,
}

pub(super) const RESOURCES_EXAMPLES: &str = "\
Examples:
  casefile analyze-resources --service api-gateway -n shop       every pod behind a service, the last half hour
  casefile analyze-resources --workload deployment/api --since 2h
  casefile analyze-resources FILE --pod hungry                   one pod of a case file
  casefile analyze-resources FILE --workload api --before 03:09Z against what lies before that time
  casefile analyze-resources INC-000123 --service api -o json

Use is compared with the part of the window before the first anomaly, or with its first half; what with what is said above the
tables. `-` was not read or is not known, `none` is a request or limit that the pod does not have.

Exit codes: 0 done · 1 error · 2 usage · 5 something of it is not known";

/// What `analyze-resources` is told.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["services", "workloads", "pods"]))]
pub(crate) struct ResourcesArgs {
    /// What is looked at.
    #[command(flatten)]
    pub(crate) look: LookArgs,
    /// The pods behind this service; may be given again.
    #[arg(long = "service", value_name = "NAME", value_parser = selected)]
    pub(crate) services: Vec<String>,
    /// The pods of this workload, such as api or deployment/api; may be given again.
    #[arg(long = "workload", value_name = "NAME", value_parser = selected)]
    pub(crate) workloads: Vec<String>,
    /// This pod, by its whole name; may be given again.
    #[arg(long = "pod", value_name = "NAME", value_parser = selected)]
    pub(crate) pods: Vec<String>,
    /// Only of this namespace.
    #[arg(short = 'n', long, value_name = "NS", value_parser = selected)]
    pub(crate) namespace: Option<String>,
    /// How far back is looked when the collector is asked: 30m (ago), 03:12Z. Of a case file it is its window.
    #[arg(long, value_name = "TIME", default_value = "30m", conflicts_with = "file")]
    pub(crate) since: String,
    /// What lies before this time is what it is compared with: 5m (before the end), 03:12Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) before: Option<String>,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: Output,
}
