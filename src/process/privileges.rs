//! From root to the user of `--user`: groups, then group, then user, each read back; on any doubt the process must end.

use std::io;

use nix::sys::prctl;
use nix::unistd::{Gid, Uid, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid, setuid};

use crate::config::Identity;

/// Becomes `identity` for good. Does nothing but check if the process is that already.
///
/// Afterwards the process can't be traced or dumped by others of the same user: it may still hold what root gave it,
/// such as the listeners.
///
/// # Errors
/// Which step failed. The process may be half way between two identities: exit.
pub fn drop_privileges(identity: &Identity) -> io::Result<()> {
    let uid = Uid::from_raw(identity.uid);
    let gid = Gid::from_raw(identity.gid);
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    if is(uid, gid, &groups)? {
        return finish(uid);
    }
    // The user last: it is what allows the others.
    setgroups(&groups).map_err(|error| failed("set the groups", error))?;
    setresgid(gid, gid, gid).map_err(|error| failed("set the group", error))?;
    setresuid(uid, uid, uid).map_err(|error| failed("set the user", error))?;
    if !is(uid, gid, &groups)? {
        return Err(io::Error::other(
            "can't drop privileges: the kernel reports another identity than was set",
        ));
    }
    finish(uid)
}

fn finish(uid: Uid) -> io::Result<()> {
    if !uid.is_root() && setuid(Uid::from_raw(0)).is_ok() {
        return Err(io::Error::other("can't drop privileges: the process could become root again"));
    }
    prctl::set_dumpable(false).map_err(|error| failed("forbid core dumps", error))
}

/// Real, effective and saved ids and all groups.
fn is(uid: Uid, gid: Gid, groups: &[Gid]) -> io::Result<bool> {
    let uids = getresuid()?;
    let gids = getresgid()?;
    let sorted = |groups: &[Gid]| {
        let mut all: Vec<u32> = groups.iter().map(|gid| gid.as_raw()).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    Ok([uids.real, uids.effective, uids.saved].iter().all(|found| *found == uid)
        && [gids.real, gids.effective, gids.saved].iter().all(|found| *found == gid)
        && sorted(&getgroups()?) == sorted(groups))
}

fn failed(what: &str, error: nix::Error) -> io::Error {
    io::Error::other(format!("can't drop privileges: can't {what}: {}", error.desc()))
}
