//! Landlock: which files may be read, written, run and controlled, which TCP ports connected to, which processes signalled.
//!
//! A kernel has some of it or all; what it does not have is told piece by piece.

use std::path::PathBuf;

use ::landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use super::plan::{Access, Connects};
use super::standing::{Piece, Standing, State};

/// What is asked for, of the newest kernel that we know; an older one gives what it has.
const NEWEST: ABI = ABI::V6;

/// What Landlock holds.
const PIECES: [Piece; 3] = [Piece::Files, Piece::Connections, Piece::Processes];

/// Applies it and says what stands.
pub(super) fn restrict(access: &Access, standing: &mut Standing) {
    let found = apply(access).map(|status| effective(&status));
    for (piece, state) in judge(found) {
        let open = piece == Piece::Connections && access.connects == Connects::Any;
        standing.set(piece, if open { State::NotMeant } else { state });
    }
}

/// No piece of it.
pub(super) fn leave(standing: &mut Standing, state: &State) {
    for piece in PIECES {
        standing.set(piece, state.clone());
    }
}

fn apply(access: &Access) -> Result<RestrictionStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = write_rights();
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::ReadDir | AccessFs::IoctlDev;
    let run = AccessFs::Execute | AccessFs::ReadFile;
    // What is not handled is not restricted.
    let (net, ports): (_, &[u16]) = match &access.connects {
        Connects::Only(ports) => (AccessNet::from_all(NEWEST), ports),
        Connects::Any => (AccessNet::BindTcp.into(), &[]),
    };
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(net)?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for (paths, rights) in
        [(&access.reads, read), (&access.writes, read | write), (&access.runs, run), (&access.devices, device)]
    {
        rules = allow(rules, paths, rights)?;
    }
    for port in ports {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    rules.restrict_self()
}

/// All that is done to files and directories of ours: no links, devices, pipes or sockets are made there.
fn write_rights() -> BitFlags<AccessFs> {
    AccessFs::WriteFile
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
        | AccessFs::Truncate
}

fn allow(
    mut rules: RulesetCreated,
    paths: &[PathBuf],
    rights: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    for path in paths {
        // What is not there cannot be allowed; who would read it finds out.
        let Ok(handle) = PathFd::new(path) else { continue };
        // Rights to a directory make no sense for a file, and the kernel says so.
        let rights = if path.is_dir() { rights } else { rights & AccessFs::from_file(NEWEST) };
        rules = rules.add_rule(PathBeneath::new(handle, rights))?;
    }
    Ok(rules)
}

/// The version of Landlock that is in force, or why none is.
fn effective(status: &RestrictionStatus) -> Result<ABI, &'static str> {
    match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => Ok(effective_abi),
        LandlockStatus::NotEnabled => Err("Landlock is in this kernel and not switched on (lsm=landlock,…)"),
        _ => Err("this kernel has no Landlock, or a filter of system calls hides it"),
    }
}

/// What a version means for each piece.
fn judge<E: std::error::Error>(found: Result<Result<ABI, &'static str>, E>) -> [(Piece, State); 3] {
    let abi = match found {
        Ok(Ok(abi)) => abi,
        Ok(Err(why)) => return missing(why),
        Err(error) => return missing(&format!("Landlock: {error}")),
    };
    let lacks = |what: &str| format!("this kernel has version {} of Landlock: {what}", abi as i32);
    let files = match abi {
        ABI::V1 => State::Partly(lacks("files may be cut short, devices controlled; none moved between directories")),
        ABI::V2 => State::Partly(lacks("files may be cut short, devices controlled")),
        ABI::V3 | ABI::V4 => State::Partly(lacks("devices may be controlled")),
        _ => State::Stands,
    };
    let connections =
        if abi < ABI::V4 { State::Missing(lacks("any address may be connected to")) } else { State::Stands };
    let processes = if abi < ABI::V6 { State::Missing(lacks("any process may be signalled")) } else { State::Stands };
    [(Piece::Files, files), (Piece::Connections, connections), (Piece::Processes, processes)]
}

fn missing(why: &str) -> [(Piece, State); 3] {
    PIECES.map(|piece| (piece, State::Missing(why.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(abi: ABI) -> [State; 3] {
        judge::<RulesetError>(Ok(Ok(abi))).map(|(_, state)| state)
    }

    #[test]
    fn what_a_kernel_has_of_landlock_is_told_piece_by_piece() {
        assert_eq!(states(ABI::V6), [State::Stands, State::Stands, State::Stands]);
        assert!(matches!(states(ABI::V5), [State::Stands, State::Stands, State::Missing(_)]));
        assert!(matches!(states(ABI::V4), [State::Partly(_), State::Stands, State::Missing(_)]));
        let [files, connections, _] = states(ABI::V1);
        assert!(matches!((&files, &connections), (State::Partly(_), State::Missing(_))), "{files:?} {connections:?}");
    }

    #[test]
    fn without_landlock_no_piece_of_it_stands() {
        let none = judge::<RulesetError>(Ok(Err("this kernel has none")));
        assert!(none.iter().all(|(_, state)| *state == State::Missing("this kernel has none".to_owned())), "{none:?}");
    }

    #[test]
    fn nothing_that_is_written_may_be_run_or_be_a_device() {
        for never in [AccessFs::Execute, AccessFs::MakeChar, AccessFs::MakeBlock, AccessFs::IoctlDev, AccessFs::MakeSym]
        {
            assert!(!write_rights().contains(never), "{never:?}");
        }
    }
}
