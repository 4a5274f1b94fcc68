//! Children that have ended. nix's waitpid refuses real-time signals after it has reaped, so the status stays raw here.

#![allow(unsafe_code, reason = "waitpid(2) and waitid(2)")]

use std::mem;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// A child that has ended, whoever started it, left as it is: its pid is still its own. `None` if there is none.
pub(crate) fn ended_child() -> Option<i32> {
    // SAFETY: siginfo_t is plain data, for which zero is a value.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the pointer is to a live siginfo_t.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, &mut info, options) };
    // SAFETY: waitid has filled the structure in, or left the zero that means "none" (waitid(2)).
    let pid = unsafe { info.si_pid() };
    (result == 0 && pid > 0).then_some(pid)
}

/// Waits for one child to end, and reaps it. `None` if it is not a child.
pub(crate) fn reap(pid: i32) -> Option<ExitStatus> {
    loop {
        let mut status = 0;
        // SAFETY: the pointer is to a live integer.
        if unsafe { libc::waitpid(pid, &mut status, 0) } == pid {
            return Some(ExitStatus::from_raw(status));
        }
        if nix::Error::last() != nix::Error::EINTR {
            return None;
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
        assert_ne!(ended_child(), Some(pid));
        for stranger in [0, -1, 1, i32::MIN, std::process::id() as i32] {
            assert!(!is_child(stranger), "{stranger}");
        }
        drop(child.stdin.take());
        child.wait().expect("cat ends");
        assert!(!is_child(pid));
    }

    #[test]
    fn the_status_of_a_child_killed_by_a_real_time_signal_is_read() {
        // nix's WaitStatus has no word for these.
        let mut command = std::process::Command::new("sh");
        let mut child = command.args(["-c", "kill -40 $$; sleep 1000"]).spawn().expect("sh starts");
        let status = reap(child.id() as i32).expect("reaped");
        assert_eq!(status.signal(), Some(40));
        child.wait().expect_err("nothing is left to wait for");
    }
}
