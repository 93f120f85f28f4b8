//! Which pieces of the sandbox stand, and why the others do not: for the log, the recording and `sandbox-check`.

use serde::{Deserialize, Serialize};

/// One piece of the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Piece {
    /// `no_new_privs`: no program that is started has more rights than the agent.
    NoNewPrivileges,
    /// Capabilities that no source uses are gone.
    Capabilities,
    /// Landlock: files are written, run and controlled only where the agent must.
    Files,
    /// Landlock, Linux 6.7: TCP goes out to the collector only, and nothing is listened on.
    Connections,
    /// Landlock, Linux 6.12: no signal to any process but its own children.
    Processes,
    /// seccomp: system calls that the agent never makes are refused.
    Calls,
}

/// Whether a piece stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", content = "why", rename_all = "kebab-case")]
pub enum State {
    /// All of it.
    Stands,
    /// Some of it: what this kernel has.
    Partly(String),
    /// None of it, and why.
    Missing(String),
    /// It is no part of this sandbox.
    NotMeant,
}

impl State {
    /// In one word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Stands => "stands",
            Self::Partly(_) => "partly",
            Self::Missing(_) => "missing",
            Self::NotMeant => "not-meant",
        }
    }

    /// What is missing and why; empty where nothing is.
    pub fn why(&self) -> &str {
        match self {
            Self::Partly(why) | Self::Missing(why) => why,
            Self::Stands | Self::NotMeant => "",
        }
    }
}

impl Piece {
    /// Every piece, in the order in which they are told. To add one: a variant, its name here, and what sets it in
    /// [`super::enter`].
    pub const ALL: [Self; 6] =
        [Self::NoNewPrivileges, Self::Capabilities, Self::Files, Self::Connections, Self::Processes, Self::Calls];

    /// Its name, in the log, the recording and the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoNewPrivileges => "no-new-privileges",
            Self::Capabilities => "capabilities",
            Self::Files => "files",
            Self::Connections => "connections",
            Self::Processes => "processes",
            Self::Calls => "calls",
        }
    }
}

/// The whole sandbox, piece by piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    states: [State; Piece::ALL.len()],
}

impl Default for Standing {
    fn default() -> Self {
        Self::off("it was not entered")
    }
}

impl Standing {
    /// No piece of it, for one reason.
    pub fn off(why: &str) -> Self {
        Self { states: Piece::ALL.map(|_| State::Missing(why.to_owned())) }
    }

    pub(super) fn set(&mut self, piece: Piece, state: State) {
        self.states[piece as usize] = state;
    }

    /// How one piece is.
    pub fn of(&self, piece: Piece) -> &State {
        &self.states[piece as usize]
    }

    /// Every piece with its state.
    pub fn pieces(&self) -> impl Iterator<Item = (Piece, &State)> {
        Piece::ALL.into_iter().zip(&self.states)
    }

    /// The pieces that do not stand as they should, with the reason: none when all is well.
    pub fn missing(&self) -> impl Iterator<Item = (Piece, &str)> {
        self.pieces().filter_map(|(piece, state)| match state {
            State::Partly(why) | State::Missing(why) => Some((piece, why.as_str())),
            State::Stands | State::NotMeant => None,
        })
    }

    /// Whether every piece stands.
    pub fn is_whole(&self) -> bool {
        self.missing().next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_whole_only_when_every_piece_stands() {
        let mut standing = Standing::default();
        assert_eq!(standing.missing().count(), Piece::ALL.len());
        for piece in Piece::ALL {
            assert!(!standing.is_whole());
            standing.set(piece, State::Stands);
            assert_eq!(standing.of(piece), &State::Stands);
        }
        assert!(standing.is_whole());
        standing.set(Piece::Files, State::Partly("an old kernel".to_owned()));
        assert_eq!(standing.missing().collect::<Vec<_>>(), [(Piece::Files, "an old kernel")]);
    }

    #[test]
    fn the_pieces_are_listed_in_their_own_order() {
        assert!(Piece::ALL.iter().enumerate().all(|(place, piece)| *piece as usize == place));
    }
}
