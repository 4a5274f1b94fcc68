//! Children that have ended. nix's waitpid refuses real-time signals after it has reaped, so the status stays raw here.

#![allow(unsafe_code, reason = "waitpid(2) and waitid(2)")]

use std::mem;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// Reaps one child that has ended, whoever started it. `None` if there is none.
pub(crate) fn reap() -> Option<(i32, ExitStatus)> {
    loop {
        let mut status = 0;
        // SAFETY: the pointer is to a live integer.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
        match pid {
            1.. => return Some((pid, ExitStatus::from_raw(status))),
            0 => return None,
            _ if nix::Error::last() == nix::Error::EINTR => {}
            _ => return None,
        }
    }
}

/// Whether `pid` is a child of this process, running or not yet reaped: only then is it ours to signal.
pub(crate) fn is_child(pid: i32) -> bool {
    let Ok(id) = libc::id_t::try_from(pid) else { return false };
    if id == 0 {
        return false;
    }
    // SAFETY: siginfo_t is plain data, for which zero is a value.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    // SAFETY: the pointer is to a live siginfo_t; WNOWAIT leaves the child as it is.
    unsafe { libc::waitid(libc::P_PID, id, &mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_children_are_children() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("cat starts");
        let pid = child.id() as i32;
        assert!(is_child(pid));
        for stranger in [0, -1, 1, i32::MIN, std::process::id() as i32] {
            assert!(!is_child(stranger), "{stranger}");
        }
        drop(child.stdin.take());
        child.wait().expect("cat ends");
        assert!(!is_child(pid));
    }
}
