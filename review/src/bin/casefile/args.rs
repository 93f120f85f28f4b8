//! The command line: every verb, flag and example. Help, completions and man pages all come from here.

pub(crate) mod collect;
mod collector;
pub(crate) mod compare;
pub(crate) mod demo;
mod export;
mod page;
pub(crate) mod past;
pub(crate) mod review;
pub(crate) mod runbook;
pub(crate) mod source;
pub(crate) mod test_connectivity;

use std::path::PathBuf;

use casefile_proto::convert::MAX_SOURCE_NAME;
use casefile_proto::ids::{IncidentId, NodeName};
use casefile_proto::incident::Severity;
use casefile_proto::item::EntryPath;
use casefile_proto::scope::Selection;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

pub(crate) use collector::CollectorArgs;
use compare::{CompareArgs, DiffArgs};
pub(crate) use export::ExportArgs;
pub(crate) use page::{PageArgs, ReportArgs, ReviewArgs};
use past::{DfArgs, DmesgArgs, SarArgs, SsArgs, TableArgs, TopArgs};
use source::SourceArgs;

const EXAMPLES: &str = "\
Examples:
  casefile collect --since 30m --wait            seal the last 30 minutes of every node, and follow it
  casefile collect --around 03:12Z±15m --node n7 only one node, around an instant
  casefile collect --since 1h -n shop -l app=api the nodes and logs of these pods; also --service, --workload
  casefile show INC-000123_….tar.gz              what is in it, and what is missing, worst first
  casefile review INC-000123_….tar.gz            verdict, timeline, logs and charts of it, in the browser
  casefile verify INC-000123_….tar.gz            intact and signed by whom?
  casefile logs FILE --grep 'oom|segfault'       all logs of all nodes, in the order in which it happened
  casefile series FILE node_load1                one metric over the window
  casefile gpu FILE --at 03:11:40Z               the GPUs then, as nvidia-smi would have shown them
  casefile check INC-000123_….tar.gz             every check: what was found, and what nobody can tell
  casefile timeline FILE --around 03:12Z±90s     what happened then, of all nodes, on one clock
  casefile top FILE --at 03:11:40Z               processes then; also vmstat, iostat, sar, dmesg, ss, df
  casefile compare FILE n7 n8                    what is different on n7; casefile diff: and what changed on it
  casefile test-connectivity --target api        is it the node or the target? from every node, now
  casefile export FILE --to parquet              tables for DuckDB; also for Prometheus, Perfetto, lnav, …
  casefile health-check                          the cluster now; also collect-logs and analyze-resources
  casefile explain mem.oom.memcg                 what a record of the kernel means, and whose opinion that is; also: xid 79
  casefile redact --explain < app.log            what would the agents mask in this text?
  casefile replay /var/lib/casefile/agent/ring   a node's own recording, with everything else down

Exit codes: 0 done · 1 error · 2 usage · 3 damage or errors found · 4 warnings only · 5 done, but evidence is missing";

/// Opens incidents, fetches their case files, and reads them: also offline, with every server down.
#[derive(Parser, Debug)]
#[command(name = "casefile", version, after_help = EXAMPLES, arg_required_else_help = true, max_term_width = 110)]
pub(crate) struct Cli {
    /// The verb.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// How to print.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct Output {
    /// How to print what was asked for.
    #[arg(short = 'o', long = "output", value_enum, default_value_t = Format::Table, value_name = "FORM")]
    pub(crate) format: Format,
}

/// How data is printed on standard output.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Jsonl,
}

const REDACT_EXAMPLES: &str = "\
Examples:
  kubectl logs api-0 | casefile redact --explain            what would an agent mask in it?
  casefile redact --rules ours.toml < sample.log            with rules of our own
  casefile redact --list                                    every rule, and what it masks";

const GPU_EXAMPLES: &str = "\
Examples:
  casefile gpu FILE                               at the end of the window
  casefile gpu FILE --at 03:11:40Z --node gpu-17  one node, at an instant
  casefile gpu FILE --at 5m -o json               five minutes before the end, every series that was read

`-` is what was not read. A GPU that does not answer keeps what was last known of it, and the time of that stands below.";

/// What `gpu` is told.
#[derive(Args, Debug)]
pub(crate) struct GpuArgs {
    /// What is read.
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// At this instant: 03:11:40Z, 2026-11-23T03:11:40Z, 5m (before the end of the window). Without it: the end of the window.
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<String>,
    /// Only this node.
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<NodeName>,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: Output,
}

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  casefile explain mem.oom.memcg                            a signature by its id
  casefile explain OOMKilling                               by what others call it: node-problem-detector, EKS, gpud, DCGM
  casefile explain mem.oom                                  every signature of which the id begins so
  casefile explain xid 79                                   GPU has fallen off the bus: and now?
  casefile explain sxid 20034                               an error of an NVSwitch
  dmesg | casefile explain                                  every line that is known, once
  casefile logs FILE --source kernel | casefile explain     the same from a case file
  casefile explain --list                                   every id, with what it is
  casefile explain --pack ours.toml --list                  with signatures of your own, which are checked as a whole";

/// What is to be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// An error of a GPU, by number: `NVRM: Xid (PCI:0000:84:00): 79, …`.
    Xid,
    /// An error of an NVSwitch, by number: `nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, …`.
    Sxid,
    /// A signature, by id or by what others call it.
    Name(String),
}

fn what(text: &str) -> Result<What, String> {
    match text {
        "xid" => Ok(What::Xid),
        "sxid" => Ok(What::Sxid),
        "" => Err("it is empty".to_owned()),
        number if number.bytes().all(|b| b.is_ascii_digit()) => {
            Err(format!("a number of what? `xid {number}` is an error of a GPU, `sxid {number}` one of an NVSwitch"))
        }
        name => Ok(What::Name(name.to_owned())),
    }
}

/// What `explain` is told.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// A signature's id or the beginning of ids, what others call it, or `xid` or `sxid` with a number behind it. Without it,
    /// lines of a log are read from standard input. As JSON a name gives a list: others may call several things so.
    #[arg(value_parser = what, requires_ifs = [("xid", "code"), ("sxid", "code")])]
    pub(crate) what: Option<What>,
    /// The number of an Xid or SXid.
    #[arg(value_name = "NUMBER")]
    pub(crate) code: Option<u32>,
    /// List all ids instead.
    #[arg(long, conflicts_with = "what")]
    pub(crate) list: bool,
    /// A file of signatures of your own, in the form of ours; they are tried before ours. May be given again.
    #[arg(long = "pack", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) packs: Vec<PathBuf>,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: Output,
}

/// What can become a pseudonym, the same one wherever it stands.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pseudonym {
    /// IP addresses; those of one subnet stay in one.
    Addresses,
    /// Host names.
    Hosts,
    /// User names.
    Users,
}

use demo::DemoArgs;
use review::{CheckArgs, CiteArgs, FindingsArgs, TimelineArgs};
use runbook::{CollectLogsArgs, HealthArgs, ResourcesArgs};
use test_connectivity::TestConnectivityArgs;

/// What can be done.
#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// Open an incident: gather a window from the nodes and seal it.
    #[command(after_help = collect::EXAMPLES)]
    Collect(Box<CollectArgs>),
    /// List incidents, newest first.
    Incidents {
        /// Which collector.
        #[command(flatten)]
        collector: CollectorArgs,
        /// The most to list.
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: u32,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// List the nodes that the collector knows, and how fresh what it has of them is.
    Nodes {
        /// Which collector.
        #[command(flatten)]
        collector: CollectorArgs,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Fetch the case file of a sealed incident; goes on where an earlier, interrupted one stopped.
    Download {
        /// The incident, such as INC-000123.
        incident: IncidentId,
        /// Which of its archives, from 1, when nodes that came back have amended it; without it, the newest.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        revision: Option<u32>,
        /// Where to; without it, its own name in this directory. `-` is standard output.
        #[arg(short = 'o', long = "output", value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
        /// How to print what was fetched.
        #[arg(long, value_enum, default_value_t = Format::Table, value_name = "FORM")]
        format: Format,
        /// Which collector.
        #[command(flatten)]
        collector: CollectorArgs,
    },
    /// Check every byte of a case file, and its signature. Exits with 3 when anything is wrong.
    Verify {
        /// The case file.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Keys to believe: an allowed-signers file as ssh-keygen reads it (`casefile-collector key` prints such a line).
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        signers: Option<PathBuf>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// What is in a case file, and what is missing: worst first.
    Show {
        /// What is read.
        #[command(flatten)]
        source: SourceArgs,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Open the page of a case file in the browser: verdict, timeline, nodes, logs, every claim with its bytes.
    #[command(after_help = page::REVIEW_EXAMPLES)]
    Review(ReviewArgs),
    /// Write the report of a case file again: one page for any browser, without a network.
    Report(ReportArgs),
    /// List the entries of a case file.
    Ls {
        /// The case file.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Write one entry to standard output, byte for byte.
    Cat {
        /// The case file.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// The entry, as `casefile ls` prints it.
        entry: EntryPath,
    },
    /// Unpack a case file into a new directory of its own name; nothing is ever written outside it.
    Extract {
        /// The case file.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Where that directory is made; DIR must exist.
        #[arg(long, value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
        into: PathBuf,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// One metric over the window; without METRIC, the metrics that there are.
    Series {
        /// What is read.
        #[command(flatten)]
        source: SourceArgs,
        /// The metric, such as node_load1.
        metric: Option<String>,
        /// Only this node.
        #[arg(long)]
        node: Option<NodeName>,
        /// Only series with this label, such as cpu=0; may be given again.
        #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// The records of all logs of all nodes, in the order in which they happened.
    #[command(after_help = LOGS_EXAMPLES)]
    Logs(Box<LogsArgs>),
    /// A case file in the forms of other tools: DuckDB, Prometheus, Perfetto, lnav, Timesketch, spreadsheets; or the draft of a
    /// post-mortem.
    #[command(after_help = export::EXAMPLES)]
    Export(Box<ExportArgs>),
    /// The GPUs of a node at an instant, as nvidia-smi would have shown them, with processes, pods and what had happened by then.
    /// Exits with 5 when the instant, or a part of it, was not read.
    #[command(after_help = GPU_EXAMPLES)]
    Gpu(GpuArgs),
    /// What a record of the kernel, of NVIDIA's driver or of the kubelet means: offline, with what to do, whose opinion that is and
    /// as of when. Without a name it reads lines from standard input. Exits with 1 when nothing was explained.
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArgs),
    /// Make a synthetic incident of twelve nodes and look at it: no cluster, no root.
    #[command(after_help = demo::DEMO_EXAMPLES)]
    Demo(DemoArgs),
    /// Run every check over a case file: what was found, what was not there, what nobody can tell.
    #[command(after_help = review::CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// The findings of a case file, worst first, each with what it rests on.
    #[command(after_help = review::FINDINGS_EXAMPLES)]
    Findings(FindingsArgs),
    /// What happened, in the order of time: records, events, findings, gaps, people.
    #[command(after_help = review::TIMELINE_EXAMPLES)]
    Timeline(TimelineArgs),
    /// Is it the node or the target? DNS, TCP, TLS and HTTP from every node to a target of the collector's list, as a matrix. Exits
    /// with 3 when a node does not reach it, with 5 when one could not test.
    #[command(after_help = test_connectivity::EXAMPLES)]
    TestConnectivity(TestConnectivityArgs),
    /// A line that cites a piece of evidence, for a chat or a post-mortem.
    #[command(after_help = review::CITE_EXAMPLES)]
    Cite(CiteArgs),
    /// Processes at an instant, or pods and containers, as top would have shown them then.
    #[command(after_help = past::TOP_EXAMPLES)]
    Top(Box<TopArgs>),
    /// Run queue, memory, swap, I/O and CPU over time, as vmstat would have shown them.
    #[command(after_help = past::VMSTAT_EXAMPLES)]
    Vmstat(Box<TableArgs>),
    /// What each disk did over time, as iostat -x would have shown it.
    #[command(after_help = past::IOSTAT_EXAMPLES)]
    Iostat(Box<TableArgs>),
    /// CPU, memory, paging, disks, network, load or pressure over time, as sar would have shown them.
    #[command(after_help = past::SAR_EXAMPLES)]
    Sar(Box<SarArgs>),
    /// The kernel's log, as dmesg would have shown it.
    #[command(after_help = past::DMESG_EXAMPLES)]
    Dmesg(Box<DmesgArgs>),
    /// The sockets at collection time, and how many there were over time, as ss would have shown them.
    #[command(after_help = past::SS_EXAMPLES)]
    Ss(Box<SsArgs>),
    /// How full the file systems were at an instant, as df would have shown it.
    #[command(after_help = past::DF_EXAMPLES, disable_help_flag = true)]
    Df(Box<DfArgs>),
    /// What is different on one node than on another: series by effect size, and what the machines are.
    #[command(after_help = compare::COMPARE_EXAMPLES)]
    Compare(Box<CompareArgs>),
    /// What changed on a node: since an instant against right before it, or against another case file.
    #[command(after_help = compare::DIFF_EXAMPLES)]
    Diff(Box<DiffArgs>),
    /// How the cluster is: pods that do not run, nodes that are not ready, recent warnings. Live, or over a case file.
    #[command(after_help = runbook::HEALTH_EXAMPLES)]
    HealthCheck(HealthArgs),
    /// The logs of a namespace, a pod or a unit, merged by time. Live, or out of a case file.
    #[command(after_help = runbook::COLLECT_LOGS_EXAMPLES)]
    CollectLogs(Box<CollectLogsArgs>),
    /// What the pods behind a service ask for and what they use, against before. Live, or over a case file.
    #[command(after_help = runbook::RESOURCES_EXAMPLES)]
    AnalyzeResources(Box<ResourcesArgs>),
    /// Mask the secrets in a text, as the agents do: standard input to standard output. Rules are tried here before a
    /// cluster's agents get them.
    #[command(after_help = REDACT_EXAMPLES)]
    Redact {
        /// Say what would be masked, where, and by which rule, instead of the text. Never shows a secret.
        #[arg(long)]
        explain: bool,
        /// List the rules instead of reading anything.
        #[arg(long, conflicts_with = "explain")]
        list: bool,
        /// A file of rules besides those that every agent has, in our own format or that of gitleaks; may be given again.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        rules: Vec<PathBuf>,
        /// What becomes a pseudonym; may be given again.
        #[arg(long = "pseudonyms", value_enum, value_name = "WHAT")]
        pseudonyms: Vec<Pseudonym>,
        /// How to print what is explained or listed.
        #[command(flatten)]
        output: Output,
    },
    /// Read a ring or last-words directory with everything else down.
    Replay {
        /// The directory with the segments.
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
        /// One metric, instead of the overview.
        #[arg(long, value_name = "METRIC")]
        series: Option<String>,
        /// Only series with this label, such as cpu=0; may be given again.
        #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label, requires = "series")]
        labels: Vec<(String, String)>,
        /// The events (kernel lines, sources that came and went), instead of the overview.
        #[arg(long, conflicts_with = "series")]
        events: bool,
        /// Which window of it; everything without one.
        #[command(flatten)]
        window: ReplayWindow,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Print a completion script for a shell.
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory.
    #[command(hide = true)]
    Man {
        /// The directory, which must exist.
        dir: PathBuf,
    },
}

const LOGS_EXAMPLES: &str = "\
Examples:
  casefile logs FILE --around 03:12Z±30s              everything that was logged around an instant
  casefile logs FILE -n shop --pod '^api' -c main      one deployment, as with stern
  casefile logs FILE -i 'oom|segfault' --source kernel what the kernel said of it
  casefile logs FILE --unit kubelet --tail 50          the last words of a unit
  casefile logs FILE -n shop -o raw | jq .             texts only, byte for byte

Times are the nodes' times moved to the collector's clock, in UTC; `!` after a container marks its standard error; further
lines of a record are indented. --since, --until and --around count lengths back from the end of the window.";

/// How records are printed.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Jsonl,
    /// The texts alone, byte for byte; escaped on a terminal.
    Raw,
}

/// When to colour.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always, such as for `less -R`.
    Always,
    /// Never.
    Never,
}

/// What `logs` is told. The flags that stern has mean here what they mean there.
#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// What is read.
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Only this node; may be given again.
    #[arg(long = "node", value_name = "NAME")]
    pub(crate) nodes: Vec<NodeName>,
    /// Only this log source (kernel, journal, files, pods); may be given again. `journal-entries` is the journal once more, as
    /// JSON with all fields.
    #[arg(long = "source", value_name = "NAME")]
    pub(crate) sources: Vec<String>,
    /// Only this unit of the journal, with or without .service; may be given again.
    #[arg(long = "unit", value_name = "NAME")]
    pub(crate) units: Vec<String>,
    /// Only pods of this namespace; may be given again.
    #[arg(short = 'n', long = "namespace", value_name = "NAME")]
    pub(crate) namespaces: Vec<String>,
    /// Only pods whose name this regular expression matches; may be given again.
    #[arg(long = "pod", value_name = "RE")]
    pub(crate) pods: Vec<regex::Regex>,
    /// Not pods whose name this regular expression matches; may be given again.
    #[arg(long = "exclude-pod", value_name = "RE")]
    pub(crate) exclude_pods: Vec<regex::Regex>,
    /// Only containers whose name this regular expression matches; may be given again.
    #[arg(short = 'c', long = "container", value_name = "RE")]
    pub(crate) containers: Vec<regex::Regex>,
    /// Not containers whose name this regular expression matches; may be given again.
    #[arg(short = 'E', long = "exclude-container", value_name = "RE")]
    pub(crate) exclude_containers: Vec<regex::Regex>,
    /// Only records that this regular expression matches; given again: that one of them matches.
    #[arg(short = 'i', long = "include", visible_alias = "grep", value_name = "RE")]
    pub(crate) include: Vec<regex::bytes::Regex>,
    /// No record that this regular expression matches; may be given again.
    #[arg(short = 'e', long = "exclude", value_name = "RE")]
    pub(crate) exclude: Vec<regex::bytes::Regex>,
    /// Mark what this regular expression matches; may be given again. What --include matches is marked anyway.
    #[arg(short = 'H', long = "highlight", value_name = "RE")]
    pub(crate) highlight: Vec<regex::bytes::Regex>,
    /// From this time on: 5m (before the end of the window), 2026-11-23T03:12:00Z, 03:12Z.
    #[arg(short = 's', long, value_name = "TIME", conflicts_with = "around")]
    pub(crate) since: Option<String>,
    /// Up to this time, which is not in it.
    #[arg(long, value_name = "TIME", conflicts_with = "around")]
    pub(crate) until: Option<String>,
    /// A window around an instant, such as 03:12Z±30s.
    #[arg(long, value_name = "TIME±LENGTH")]
    pub(crate) around: Option<String>,
    /// Of each log only so many records from its end; -1: all.
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    pub(crate) tail: i64,
    /// Times with -o raw too; the other forms always have them.
    #[arg(short = 't', long)]
    pub(crate) timestamps: bool,
    /// When to colour.
    #[arg(long, value_enum, default_value_t = Colour::Auto, value_name = "WHEN")]
    pub(crate) color: Colour,
    /// How to print.
    #[arg(short = 'o', long = "output", value_enum, default_value_t = LogFormat::Table, value_name = "FORM")]
    pub(crate) format: LogFormat,
}

/// A window that may be left out.
#[derive(Args, Debug)]
pub(crate) struct ReplayWindow {
    /// From this time on: 10m (ago), 2026-11-23T03:12:00Z, 03:12Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Up to this time, which is not in it.
    #[arg(long, value_name = "TIME", requires = "since")]
    pub(crate) until: Option<String>,
}

/// What `collect` is told.
#[derive(Args, Debug)]
pub(crate) struct CollectArgs {
    /// From this time on: 30m (ago), 2026-11-23T03:12:00Z, 03:12Z.
    #[arg(long, value_name = "TIME", required_unless_present = "around", conflicts_with = "around")]
    pub(crate) since: Option<String>,
    /// Up to this time, which is not in it; may lie ahead (+5m). Without it: now.
    #[arg(long, value_name = "TIME", conflicts_with = "around")]
    pub(crate) until: Option<String>,
    /// A window around an instant, such as 03:12Z±15m.
    #[arg(long, value_name = "TIME±LENGTH")]
    pub(crate) around: Option<String>,
    /// Only this node; may be given again. Without it: every node that the collector knows.
    #[arg(long = "node", value_name = "NAME")]
    pub(crate) nodes: Vec<NodeName>,
    /// Only pod logs of this namespace, and the nodes that ran its pods; may be given again. Everything else of those is still
    /// collected.
    #[arg(short = 'n', long = "namespace", value_name = "NAME", value_parser = selected)]
    pub(crate) namespaces: Vec<String>,
    /// Only logs of this pod, by its whole name, and the node that it ran on; may be given again. Everything else of that is still
    /// collected.
    #[arg(long = "pod", value_name = "NAME", value_parser = selected)]
    pub(crate) pods: Vec<String>,
    /// Pods and nodes in the cluster's words.
    #[command(flatten)]
    pub(crate) cluster: collect::InCluster,
    /// Only this unit of the journal, with or without .service; may be given again. Everything else is still collected.
    #[arg(long = "unit", value_name = "NAME", value_parser = selected)]
    pub(crate) units: Vec<String>,
    /// Only this source, log source or table (recording, inventory, state, kernel, pods, …); may be given again.
    #[arg(long = "source", value_name = "NAME", value_parser = source)]
    pub(crate) sources: Vec<String>,
    /// One line for people; made from window and nodes when left out.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) title: String,
    /// Why this evidence is wanted; kept in the case file.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    /// How bad it is.
    #[arg(long, default_value = "sev3")]
    pub(crate) severity: Severity,
    /// The runbook that applies.
    #[arg(long, value_name = "NAME")]
    pub(crate) runbook: Option<String>,
    /// How long to wait for the nodes after the window has ended, such as 60s. Without it: the collector's own.
    #[arg(long, value_name = "LENGTH")]
    pub(crate) deadline: Option<String>,
    /// Follow it until it is sealed, then show its coverage. Exits with 5 when evidence is missing.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Which collector.
    #[command(flatten)]
    pub(crate) collector: CollectorArgs,
    /// How to print.
    #[command(flatten)]
    pub(crate) output: Output,
}

fn selected(name: &str) -> Result<String, String> {
    named(name, Selection::MAX_NAME)
}

fn source(name: &str) -> Result<String, String> {
    named(name, MAX_SOURCE_NAME)
}

fn named(name: &str, at_most: usize) -> Result<String, String> {
    match name.len() {
        0 => Err("a name has at least one letter".to_owned()),
        len if len <= at_most => Ok(name.to_owned()),
        len => Err(format!("a name has at most {at_most} bytes, and this has {len}")),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.trim_matches('"').to_owned())),
        _ => Err("say NAME=VALUE, such as cpu=0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
