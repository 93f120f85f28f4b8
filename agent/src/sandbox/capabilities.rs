//! Drops capabilities: out of the sets of the process, of what it could pass on, and of what could ever come back.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities,
};

/// As many as a set has room for; the kernel says where its own list ends.
const MOST: u32 = 64;

/// Keeps of the capabilities that this thread has only these. Without those of a capability to do so the bounding set stays
/// as it is, which is of no use to anybody under `no_new_privs`: a program that is started has no more than we have.
pub(super) fn keep_only(keeps: CapabilitySet) -> Result<(), String> {
    for number in 0..MOST {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if keeps.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) | Err(Errno::PERM) => {}
            // The kernel has no more of them.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(format!("prctl(PR_CAPBSET_DROP): {errno}")),
        }
    }
    // A kernel before 4.3 has no such set, and nothing in it.
    match clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(errno) => return Err(format!("prctl(PR_CAP_AMBIENT): {errno}")),
    }
    let had = capabilities(None).map_err(|errno| format!("capget: {errno}"))?;
    let stays = had.permitted & keeps;
    let sets = CapabilitySets { effective: stays, permitted: stays, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(|errno| format!("capset: {errno}"))
}
