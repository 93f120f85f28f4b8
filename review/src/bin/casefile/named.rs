//! By which name this was called: `casefile`, or `kubectl-casefile`, which kubectl calls for `kubectl casefile`.
//!
//! The same program; what it prints names the commands as whoever typed them would type the next one.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::OnceLock;

use clap::{Command, CommandFactory};

use crate::args::Cli;

/// The name of the file that kubectl looks for.
pub(crate) const PLUGIN: &str = "kubectl-casefile";

/// What is typed then.
const TYPED: &str = "kubectl casefile";

const PLUGIN_HELP: &str = "
As a plugin of kubectl: nothing is read of a kubeconfig. Where no --collector is said, the collector is looked for where
  kubectl -n casefile port-forward svc/casefile-collector 7443
makes it reachable, https://127.0.0.1:7443. CASEFILE_COLLECTOR and CASEFILE_TOKEN_FILE say both once and for all.";

static CALLED: OnceLock<Called> = OnceLock::new();

/// By which name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Called {
    /// Its own.
    Casefile,
    /// As a plugin of kubectl.
    Plugin,
}

impl Called {
    /// By what stands first on the command line.
    pub(crate) fn by(first: Option<&OsStr>) -> Self {
        let name = first.and_then(|first| Path::new(first).file_name());
        if name.is_some_and(|name| name == PLUGIN) { Self::Plugin } else { Self::Casefile }
    }

    /// Remembers it for what is said later.
    pub(crate) fn remember(self) {
        // Only `main` does, once.
        let _ = CALLED.set(self);
    }

    /// The name of the program, for files and scripts.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Casefile => "casefile",
            Self::Plugin => PLUGIN,
        }
    }

    /// As it is typed.
    pub(crate) const fn typed(self) -> &'static str {
        match self {
            Self::Casefile => "casefile",
            Self::Plugin => TYPED,
        }
    }

    /// The definition of the command line, in this name.
    pub(crate) fn command(self) -> Command {
        match self {
            Self::Casefile => Cli::command(),
            Self::Plugin => {
                let own = Cli::command().name(PLUGIN).display_name(PLUGIN).bin_name(TYPED);
                let all = renamed(own);
                let help = all.get_after_help().map(ToString::to_string).unwrap_or_default();
                all.after_help(format!("{help}\n{PLUGIN_HELP}"))
            }
        }
    }
}

/// By which name this was called.
pub(crate) fn called() -> Called {
    CALLED.get().copied().unwrap_or(Called::Casefile)
}

/// A text for people, in which commands are as they are typed.
pub(crate) fn spoken(text: &str) -> String {
    match called() {
        Called::Casefile => text.to_owned(),
        Called::Plugin => as_plugin(text),
    }
}

/// The same with the examples of it and of everything below it renamed.
fn renamed(command: Command) -> Command {
    let names: Vec<_> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let command = names.into_iter().fold(command, |command, name| command.mut_subcommand(name, renamed));
    match command.get_after_help().map(ToString::to_string) {
        Some(help) => command.after_help(as_plugin(&help)),
        None => command,
    }
}

/// Each `casefile VERB`, as it is typed; `casefile-collector` and paths stay.
fn as_plugin(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("casefile") {
        let (before, found) = rest.split_at(at);
        let after = &found["casefile".len()..];
        let begins =
            out.chars().chain(before.chars()).next_back().is_none_or(|c| c.is_whitespace() || "(`'\"|;".contains(c));
        let verb = after.strip_prefix(' ').and_then(|after| after.chars().next());
        let command = begins && verb.is_some_and(|c| c.is_ascii_lowercase() || c == '-');
        let typed = out.ends_with("kubectl ") || before.ends_with("kubectl ");
        out.push_str(before);
        out.push_str(if command && !typed { TYPED } else { "casefile" });
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_get_another_name() {
        assert_eq!(as_plugin("next: casefile download INC-1"), "next: kubectl casefile download INC-1");
        assert_eq!(
            as_plugin("casefile nodes; (casefile incidents lists them)"),
            "kubectl casefile nodes; (kubectl casefile incidents lists them)"
        );
        for same in [
            "casefile-collector local",
            "/var/lib/casefile/agent x",
            "kubectl casefile nodes",
            "a casefile",
            "casefile: no",
        ] {
            assert_eq!(as_plugin(same), same);
        }
    }

    #[test]
    fn the_command_line_is_consistent_in_both_names() {
        for called in [Called::Casefile, Called::Plugin] {
            called.command().debug_assert();
        }
        assert_eq!(Called::by(Some(OsStr::new("/usr/local/bin/kubectl-casefile"))), Called::Plugin);
        for other in [Some("casefile"), Some("kubectl-casefile-x"), Some("/"), None] {
            assert_eq!(Called::by(other.map(OsStr::new)), Called::Casefile);
        }
    }
}
