//! Where a collector is, whom to believe there, and who asks: the flags of every verb that talks to one.

use std::path::PathBuf;

use casefile_identity::token::Pin;
use clap::{Args, ValueHint};

/// Which collector to talk to.
#[derive(Args, Debug, Clone)]
pub(crate) struct CollectorArgs {
    /// The collector's address; without it, the one that `casefile-collector local` wrote below --data.
    #[arg(long, help_heading = "Collector", env = "CASEFILE_COLLECTOR", value_name = "URL", value_hint = ValueHint::Url)]
    pub(crate) collector: Option<String>,
    /// A token in a file [$CASEFILE_TOKEN holds one itself]: of that collector, or of its cluster, as `kubectl create token`
    /// makes them; without it, that of the owner of --data.
    #[arg(long, help_heading = "Collector", env = "CASEFILE_TOKEN_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,
    /// Which collector to trust, with a token of the cluster, which does not say it: 64 digits, in the cluster those that
    /// `kubectl -n casefile get configmap casefile-authority -o jsonpath={.data.pin}` prints.
    #[arg(long, help_heading = "Collector", env = "CASEFILE_PIN", value_name = "PIN")]
    pub(crate) pin: Option<Pin>,
    /// The same, in a file.
    #[arg(long, help_heading = "Collector", env = "CASEFILE_PIN_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) pin_file: Option<PathBuf>,
    /// The data directory of a collector on this machine; its files say where it listens and that you are its owner.
    #[arg(long, help_heading = "Collector", env = "CASEFILE_DATA", value_name = "DIR", default_value = "casefile-data", value_hint = ValueHint::DirPath)]
    pub(crate) data: PathBuf,
}
