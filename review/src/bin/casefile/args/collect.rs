//! What `collect` is told of pods and nodes in the cluster's words, with the meanings that kubectl gives them.

use casefile_proto::scope::{ClusterSelection, Selection};
use clap::Args;

use super::named;

/// Examples of `collect`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  casefile collect --since 30m --wait                       every node, and follow it until it is sealed
  casefile collect --since 1h -n shop                       the nodes that ran pods of a namespace, and the logs of those
  casefile collect --since 30m -n shop -l app=api           the same of pods with these labels: a=b, a!=b, a in (b,c), !a
  casefile collect --since 30m -n shop --service api        the pods behind a service
  casefile collect --since 30m --workload deployment/api    the pods of a deployment, those that are gone included
  casefile collect --around 03:12Z±15m --pod api-7d9f-x2    one pod, and the node that it ran on
  casefile collect --since 10m --node-selector pool=gpu     nodes with these labels; --node NAME is one by its name

Which pods those were in the window, the collector knows from its record of the cluster. Without one it knows names alone:
then -n and --pod choose logs on every node, and the others are refused.";

/// Pods and nodes in the cluster's words.
#[derive(Args, Debug, Default)]
pub(crate) struct InCluster {
    /// Only pods with these labels, as kubectl writes it, and the nodes that they ran on.
    #[arg(
        short = 'l',
        long = "selector",
        help_heading = "In the cluster's words",
        value_name = "LABELS",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) selector: String,
    /// Only pods behind this service, and the nodes that they ran on; may be given again.
    #[arg(long = "service", help_heading = "In the cluster's words", value_name = "NAME", value_parser = name)]
    pub(crate) services: Vec<String>,
    /// Only pods of this deployment, statefulset, daemonset, job, cronjob or replicaset, and the nodes that they ran on; may be given
    /// again.
    #[arg(long = "workload", help_heading = "In the cluster's words", value_name = "KIND/NAME", value_parser = name)]
    pub(crate) workloads: Vec<String>,
    /// Only nodes with these labels.
    #[arg(
        long = "node-selector",
        help_heading = "In the cluster's words",
        value_name = "LABELS",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) node_selector: String,
}

impl InCluster {
    /// All of it, with the namespaces and pods that were named.
    pub(crate) fn selection(&self, namespaces: &[String], pods: &[String]) -> ClusterSelection {
        ClusterSelection {
            namespaces: namespaces.to_vec(),
            selector: self.selector.clone(),
            services: self.services.clone(),
            workloads: self.workloads.clone(),
            pods: pods.to_vec(),
            node_selector: self.node_selector.clone(),
        }
    }
}

fn name(text: &str) -> Result<String, String> {
    named(text, Selection::MAX_NAME)
}
