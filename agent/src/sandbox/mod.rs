//! What the agent gives up once it is running: capabilities, the right to write, run or connect to anything but what it must
//! (Landlock), and system calls that it never makes (seccomp). None of it can be taken back.
//!
//! What is allowed is data ([`plan`]), the rest applies it. Landlock and capabilities bind the calling thread and those that
//! it starts later, so a sandbox is entered in `main`, before there is any other thread. `casefile-collector local`, which
//! runs an agent and a collector in one process, does not enter one: what the collector must be able to do, listen and write
//! where it is told, would be open to the agent as well. Only its child that reads GPUs does.

mod access;
mod capabilities;
pub mod check;
mod hidden;
pub mod plan;
pub mod standing;
mod syscalls;

use std::path::PathBuf;

use crate::config::Config;
use crate::data_dir::{DataDir, DataDirError};
use crate::details::Details;
use plan::{Landlock, Plan, Wanted};
use standing::{Piece, Standing, State};

/// Enters the sandbox: as much of it as the kernel, and what the process was started in, have. Never fails: what could not
/// be had is told.
pub fn enter(plan: &Plan) -> Standing {
    let mut standing = Standing::default();
    let told = |done: Result<(), String>| done.map_or_else(State::Missing, |()| State::Stands);
    let no_new = rustix::thread::set_no_new_privs(true).map_err(|e| format!("prctl(PR_SET_NO_NEW_PRIVS): {e}"));
    standing.set(Piece::NoNewPrivileges, told(no_new));
    standing.set(Piece::Capabilities, told(capabilities::keep_only(plan.keeps)));
    match &plan.access {
        Landlock::Only(access) => access::restrict(access, &mut standing),
        Landlock::NotMeant => access::leave(&mut standing, &State::NotMeant),
        Landlock::Impossible(why) => access::leave(&mut standing, &State::Missing(why.clone())),
    }
    // Last: the filter knows nothing of what the others need.
    standing.set(Piece::Calls, told(syscalls::restrict(plan.calls)));
    standing
}

/// The sandbox of the child that reads details of processes. It may fail where that of the recorder may, which says so.
pub fn enter_as_detail_reader() {
    let _told_by_the_recorder = enter(&Plan::of_detail_reader());
}

/// The sandbox of the child that reads GPUs, with NVML's library looked for in these places. As above.
pub fn enter_as_gpu_reader(libraries: &[PathBuf]) {
    let _told_by_the_recorder = enter(&Plan::of_gpu_reader(libraries));
}

/// Enters the sandbox of a recorder as the configuration asks for it, before there is any other thread: makes the data
/// directory, starts the child that reads details, and gives up the rest.
///
/// Errors: the data directory cannot be used; or all of the sandbox is required, and there is only some.
pub fn enter_as_recorder(config: &Config) -> Result<(Details, Standing), EnterError> {
    DataDir::open(&config.data_dir)?;
    if config.sandbox == Wanted::Off {
        return Ok((Details::default(), Standing::off("switched off in the configuration")));
    }
    let mut plan = Plan::of_recorder(config);
    let mut details = Details::default();
    if hidden::processes_are_hidden(&config.host_root.join("proc")) {
        plan =
            plan.without_landlock("/proc hides processes (hidepid): under Landlock it would hide them all".to_owned());
    } else {
        match Details::by_child(&config.host_root) {
            Ok(child) => details = child,
            Err(error) => {
                let why = format!("start the process that reads what Landlock would keep from the recorder: {error}");
                plan = plan.without_landlock(why);
            }
        }
    }
    let standing = enter(&plan);
    if config.sandbox == Wanted::Required && !standing.is_whole() {
        return Err(EnterError::NotWhole(Box::new(standing)));
    }
    Ok((details, standing))
}

/// Why a recorder did not enter its sandbox.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Data(#[from] DataDirError),
    /// All of it is required.
    #[error(
        "the sandbox is required and not whole: {}; nothing is recorded (sandbox.enter = \"on\" takes what there is)",
        .0.missing().map(|(piece, why)| format!("{}: {why}", piece.name())).collect::<Vec<_>>().join("; ")
    )]
    NotWhole(Box<Standing>),
}
