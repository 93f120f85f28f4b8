//! What is tried: one list. Each try says what it is, which piece of the sandbox has to refuse it, and how it is made so that
//! nothing is harmed should it succeed. To add one: a line in [`all`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use libc::c_long;
use rustix::io::Errno;
use rustix::process::{Pid, getppid, test_kill_process};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::scene::Scene;
use super::{Ended, Row, Wanted, raw};
use crate::calls;
use crate::config::Config;
use crate::details::Details;
use crate::host::Host;
use crate::sandbox::plan::{Access, Connects, Landlock, Plan};
use crate::sandbox::standing::Piece;

/// How long a connection is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the tries have to work with.
pub(super) struct Inside<'a> {
    pub(super) config: &'a Config,
    pub(super) scene: &'a Scene,
    pub(super) details: &'a Details,
}

/// Makes every try.
pub(super) fn all(inside: &Inside<'_>) -> Vec<Row> {
    let mut rows = Rows { rows: Vec::new() };
    files(inside, &mut rows);
    programs(inside, &mut rows);
    connections(inside, &mut rows);
    processes(&mut rows);
    kernel(&mut rows);
    needed(inside, &mut rows);
    rows.rows
}

struct Rows {
    rows: Vec<Row>,
}

impl Rows {
    fn row(&mut self, what: &str, wanted: Wanted, ended: Ended) {
        self.rows.push(Row { what: what.to_owned(), wanted, ended });
    }

    /// Something that has to be refused.
    fn forbidden<T>(&mut self, by: Piece, what: &str, tried: io::Result<T>) {
        self.row(what, Wanted::Refused(by), judge(tried.map(drop)));
    }

    /// A system call that is never made: what it says about its arguments shows that it got through.
    fn call(&mut self, what: &str, number: c_long, arguments: [c_long; 3]) {
        let ended = match judge(raw::call(number, arguments).map(drop)) {
            Ended::Allowed(how) if how.contains(&Errno::NOSYS.to_string()) => {
                Ended::NotApplicable("this kernel has no such call".to_owned())
            }
            ended => ended,
        };
        self.row(what, Wanted::Refused(Piece::Calls), ended);
    }

    /// Something that the recorder needs.
    fn needed<T>(&mut self, what: &str, tried: io::Result<T>) {
        let ended = match tried {
            Ok(_) => Ended::Allowed(String::new()),
            Err(error) => Ended::Refused(error.to_string()),
        };
        self.row(what, Wanted::Allowed, ended);
    }
}

/// Only what says that it is not permitted is a refusal; any other error is of somebody who looked at the rest of it.
fn judge(tried: io::Result<()>) -> Ended {
    match tried {
        Ok(()) => Ended::Allowed("it succeeded".to_owned()),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::PERM) => Ended::Refused("EPERM".to_owned()),
            Some(Errno::ACCESS) => Ended::Refused("EACCES".to_owned()),
            // Of Landlock before Linux 5.19, and of two file systems.
            Some(Errno::XDEV) => Ended::Refused("EXDEV: nothing is moved from there to here".to_owned()),
            Some(Errno::ROFS) => Ended::Refused("EROFS: by the mount, before the sandbox was asked".to_owned()),
            _ => Ended::Allowed(format!("nobody refused it: {error}")),
        },
    }
}

fn write_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}

fn files(inside: &Inside<'_>, rows: &mut Rows) {
    let (scene, data) = (inside.scene, inside.config.data_dir.as_path());
    let file = scene.path("file");
    let by = Piece::Files;
    rows.forbidden(by, "write a file that is not the agent's", write_to(&file));
    rows.forbidden(by, "cut a file short", OpenOptions::new().write(true).truncate(true).open(&file));
    rows.forbidden(by, "make a file outside of the data directory", File::create_new(scene.path("new")));
    rows.forbidden(by, "make a directory outside of it", fs::create_dir(scene.path("new")));
    rows.forbidden(by, "remove a file", fs::remove_file(&file));
    rows.forbidden(by, "remove a directory", fs::remove_dir(scene.path("empty")));
    rows.forbidden(by, "rename a file", fs::rename(&file, scene.path("renamed")));
    let own = data.join(OWN);
    if let Err(error) = fs::write(&own, "ours\n") {
        rows.row("move a file out of the data directory", Wanted::Refused(by), Ended::NotApplicable(error.to_string()));
    } else {
        rows.forbidden(by, "move a file out of the data directory", fs::rename(&own, scene.path("moved")));
    }
    rows.forbidden(by, "make a socket in the data directory", UnixListener::bind(data.join("sandbox-check.socket")));
    rows.forbidden(by, "write a setting of the kernel (/proc/sys)", write_to(Path::new("/proc/sys/kernel/hostname")));
    rows.forbidden(by, "write its own score for the OOM killer", write_to(Path::new("/proc/self/oom_score_adj")));
    rows.forbidden(by, "write to a device (/dev/zero)", write_to(Path::new("/dev/zero")));
    let by = Piece::Calls;
    rows.forbidden(by, "link a file into the data directory", fs::hard_link(&file, data.join("sandbox-check.link")));
    rows.forbidden(by, "make a link in the data directory", symlink("/etc", data.join("sandbox-check.link")));
    rows.forbidden(
        by,
        "open a file to others (chmod)",
        rustix::fs::chmod(&file, 0o777.into()).map_err(io::Error::from),
    );
    rows.forbidden(by, "give a file away (chown)", std::os::unix::fs::chown(&file, Some(0), Some(0)));
    rows.call("set an attribute of a file (setxattr)", libc::SYS_setxattr, [0; 3]);
    rows.call("make a device node (mknod)", libc::SYS_mknodat, [-1, 0, 0]);
    rows.call("open a file by its handle, past all directories", libc::SYS_open_by_handle_at, [-1, 0, 0]);
    fs::remove_file(&own).ok();
}

/// A file of ours in the data directory.
const OWN: &str = "sandbox-check.file";

#[expect(clippy::disallowed_methods, reason = "to see that it is refused; and this very program, once more")]
fn run(program: &Path, arguments: &[&str]) -> io::Result<()> {
    let ended = std::process::Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if ended.success() { Ok(()) } else { Err(io::Error::other(ended.to_string())) }
}

fn programs(inside: &Inside<'_>, rows: &mut Rows) {
    let by = Piece::Files;
    let found = ["/bin/true", "/usr/bin/true", "/bin/sh"].into_iter().map(Path::new).find(|path| path.exists());
    match found {
        Some(program) => rows.forbidden(by, "run a program of the machine", run(program, &["-c", ":"])),
        None => {
            let none = Ended::NotApplicable("there is no program here but the agent".to_owned());
            rows.row("run a program of the machine", Wanted::Refused(by), none);
        }
    }
    let own = inside.config.data_dir.join("sandbox-check.program");
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o700).open(&own);
    match written.and_then(|mut file| file.write_all(b"#!/proc/self/exe --version\n")) {
        Ok(()) => rows.forbidden(by, "run a program that was written before", run(&own, &[])),
        Err(error) => {
            let none = Ended::NotApplicable(format!("none can be written: {error}"));
            rows.row("run a program that was written before", Wanted::Refused(by), none);
        }
    }
    fs::remove_file(&own).ok();
    rows.call("run a program by its descriptor (execveat)", libc::SYS_execveat, [-1, 0, 0]);
}

fn connections(inside: &Inside<'_>, rows: &mut Rows) {
    let by = Piece::Connections;
    let other = SocketAddr::from((Ipv4Addr::LOCALHOST, inside.scene.port()));
    if inside.config.connectivity.is_none() || inside.config.collector.is_none() {
        let connected = TcpStream::connect_timeout(&other, PATIENCE);
        rows.forbidden(by, "connect to somebody else than the collector", connected);
    }
    rows.forbidden(by, "take a TCP port", TcpListener::bind("127.0.0.1:0"));
    rows.call("listen", libc::SYS_listen, [-1, 1, 0]);
    rows.call("accept a connection", libc::SYS_accept4, [-1, 0, 0]);
    let by = Piece::Calls;
    let sockets = [
        ("a raw socket", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        ("a socket for whole packets", libc::AF_PACKET, libc::SOCK_RAW, 0),
        ("a socket to a hypervisor (vsock)", libc::AF_VSOCK, libc::SOCK_STREAM, 0),
        ("a socket to the kernel's cryptography", libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
        ("a netlink socket for anything but addresses", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_GENERIC),
    ];
    for (what, family, kind, protocol) in sockets {
        rows.forbidden(by, what, raw::socket(family, kind, protocol));
    }
}

fn processes(rows: &mut Rows) {
    match getppid() {
        Some(parent) => {
            let number = parent.as_raw_nonzero();
            rows.forbidden(
                Piece::Processes,
                "signal a process outside",
                test_kill_process(parent).map_err(io::Error::from),
            );
            let environment = File::open(format!("/proc/{number}/environ")).map(drop);
            rows.forbidden(Piece::Files, "read the environment of a process outside", environment);
            let memory = File::open(format!("/proc/{number}/mem")).map(drop);
            rows.forbidden(Piece::Files, "open the memory of a process outside", memory);
        }
        None => {
            for what in ["signal a process outside", "read the environment of a process outside"] {
                let none = Ended::NotApplicable("the one outside is not in sight (another PID namespace)".to_owned());
                rows.row(what, Wanted::Refused(Piece::Processes), none);
            }
        }
    }
    rows.call("trace a process (ptrace)", libc::SYS_ptrace, [c_long::from(libc::PTRACE_ATTACH), 0, 0]);
    rows.call("read the memory of a process", libc::SYS_process_vm_readv, [0; 3]);
    rows.call("write the memory of a process", libc::SYS_process_vm_writev, [0; 3]);
    rows.call("take a descriptor of a process (pidfd_getfd)", libc::SYS_pidfd_getfd, [-1, -1, 0]);
    rows.call("compare two processes (kcmp)", libc::SYS_kcmp, [0; 3]);
    rows.call("become another user", libc::SYS_setuid, [rustix::process::getuid().as_raw().into(), 0, 0]);
    let by = Piece::Capabilities;
    let regained = capabilities(None).and_then(|had| {
        let mut more = had;
        more.permitted |= CapabilitySet::SYS_ADMIN;
        more.effective |= CapabilitySet::SYS_ADMIN;
        set_capabilities(None, more)
    });
    rows.forbidden(by, "take a capability back (CAP_SYS_ADMIN)", regained.map_err(io::Error::from));
}

fn kernel(rows: &mut Rows) {
    rows.call("make a namespace (unshare)", libc::SYS_unshare, [0; 3]);
    rows.call("enter a namespace (setns)", libc::SYS_setns, [-1, 0, 0]);
    // Which the kernel refuses to put together, after a filter has looked at them.
    let flags = c_long::from(libc::CLONE_NEWUSER | libc::CLONE_FS);
    rows.call("make a namespace with a process (clone)", libc::SYS_clone, [flags, 0, 0]);
    rows.call("mount", libc::SYS_mount, [0; 3]);
    rows.call("unmount", libc::SYS_umount2, [0; 3]);
    rows.call("change the root (pivot_root)", libc::SYS_pivot_root, [0; 3]);
    rows.call("change the root (chroot)", libc::SYS_chroot, [0; 3]);
    rows.call("load a module", libc::SYS_init_module, [0; 3]);
    rows.call("load a module from a file", libc::SYS_finit_module, [-1, 0, 0]);
    rows.call("unload a module", libc::SYS_delete_module, [0; 3]);
    // None would unload the one that is loaded; this many are refused.
    rows.call("load another kernel (kexec)", libc::SYS_kexec_load, [0, 1 << 20, 0]);
    rows.call("reboot", libc::SYS_reboot, [0; 3]);
    rows.call("load a program into the kernel (bpf)", libc::SYS_bpf, [-1, 0, 0]);
    rows.call("watch the processor (perf_event_open)", libc::SYS_perf_event_open, [0; 3]);
    rows.call("use the kernel's keys (keyctl)", libc::SYS_keyctl, [-1, 0, 0]);
    rows.call("handle page faults (userfaultfd)", libc::SYS_userfaultfd, [-1, 0, 0]);
    rows.call("queue calls past the filter (io_uring)", libc::SYS_io_uring_setup, [0; 3]);
    rows.call("swap to a file", libc::SYS_swapon, [0; 3]);
    rows.call("set the host name", libc::SYS_sethostname, [0, -1, 0]);
    rows.call("set the clock", libc::SYS_clock_settime, [-1, 0, 0]);
    rows.forbidden(Piece::Capabilities, "steer the clock (adjtimex)", raw::set_clock_status());
    // To a level that there is not.
    rows.call("quieten the kernel log (syslog)", libc::SYS_syslog, [8, 0, 99]);
    let request = c_long::try_from(libc::TIOCSTI).unwrap_or(-1);
    rows.call("type into a terminal (TIOCSTI)", libc::SYS_ioctl, [-1, request, 0]);
    rows.call("trace all file accesses (fanotify)", libc::SYS_fanotify_init, [-1, -1, 0]);
}

fn needed(inside: &Inside<'_>, rows: &mut Rows) {
    let config = inside.config;
    let read = Host::new(&config.host_root).and_then(|host| host.read("proc/stat", &mut Vec::new(), 1 << 20));
    rows.needed("read the machine (/proc/stat)", read.map_err(io::Error::other));
    rows.needed("write, sync, rename and remove in the data directory", keep(&config.data_dir));
    rows.needed("start a thread", std::thread::Builder::new().spawn(|| ()).map(|thread| thread.join().is_ok()));
    rows.needed("read the state of the clock", calls::clock_state());
    rows.needed("start itself once more, to read GPUs", run(Path::new("/proc/self/exe"), &["gpu-reader"]));
    rows.needed("look up a name (localhost)", ("localhost", 0).to_socket_addrs());
    match Plan::of_recorder(config).access {
        Landlock::Only(Access { connects: Connects::Only(ports), .. }) if !ports.is_empty() => {
            rows.needed("connect to the collector's port", is_open(ports[0]));
        }
        Landlock::Only(Access { connects: Connects::Any, .. }) => {
            rows.needed("connect to any port, to test connectivity", is_open(inside.scene.port()));
        }
        _ => {
            let none = Ended::NotApplicable("no collector is configured".to_owned());
            rows.row("connect to the collector's port", Wanted::Allowed, none);
        }
    }
    details(inside, rows);
    log(rows);
}

/// Whether one may connect to a port of this machine; that somebody listens there is not needed.
fn is_open(port: u16) -> io::Result<()> {
    let there = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpStream::connect_timeout(&there, PATIENCE) {
        // Nobody is there, and the way was open.
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::TimedOut) => Ok(()),
        other => other.map(drop),
    }
}

fn keep(dir: &Path) -> io::Result<()> {
    let (first, second) = (dir.join("sandbox-check.new"), dir.join("sandbox-check.kept"));
    let mut file = File::create(&first)?;
    file.write_all(b"kept")?;
    file.sync_all()?;
    fs::rename(&first, &second)?;
    File::open(dir)?.sync_all()?;
    fs::remove_file(&second)
}

/// What a capability that stays is for. Where the agent was not given it, there is nothing to be tried.
fn details(inside: &Inside<'_>, rows: &mut Rows) {
    const WHAT: &str = "read the I/O of a process outside, by the child for details";
    if !inside.details.are_read_by_a_child() {
        return rows.row(WHAT, Wanted::Allowed, Ended::NotApplicable("there is no such child".to_owned()));
    }
    let pid = getppid().map_or(1, Pid::as_raw_pid).unsigned_abs();
    match inside.details.io(pid, &mut Vec::new()) {
        Some(Err(error)) if error.is_permission() => {
            let why = "the agent was not given CAP_SYS_PTRACE, and may not".to_owned();
            rows.row(WHAT, Wanted::Allowed, Ended::NotApplicable(why));
        }
        Some(Err(error)) if error.is_not_found() => {
            let why = "the one outside is not in sight below the host root".to_owned();
            rows.row(WHAT, Wanted::Allowed, Ended::NotApplicable(why));
        }
        Some(read) => rows.needed(WHAT, read.map_err(io::Error::other)),
        None => {}
    }
}

fn log(rows: &mut Rows) {
    const WHAT: &str = "read the kernel log";
    match calls::kernel_log(&mut [0; 4096]) {
        Err(error) if !has(CapabilitySet::SYSLOG) => {
            let why = format!("the agent was not given CAP_SYSLOG: {error}");
            rows.row(WHAT, Wanted::Allowed, Ended::NotApplicable(why));
        }
        read => rows.needed(WHAT, read),
    }
}

fn has(capability: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}
