//! The template's fork: twice, so that the worker's parent becomes the master, which is its subreaper. Also copies that
//! only try something, and end.

#![allow(unsafe_code, reason = "fork(2)")]

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};

/// In which process [`fork_worker`] has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// The caller's own. The worker runs, and its parent is no longer this process.
    Template { worker: i32 },
    /// The new one.
    Worker,
}

/// Copies the calling process into a worker whose parent is the next subreaper up, the master.
///
/// The process in between only forks and exits; it runs no hook and no destructor. When this returns in the template,
/// that process is gone and reaped. In the worker the same may take a moment longer:
/// [`WorkerStart::into_worker`](crate::process::WorkerStart::into_worker) waits for it.
///
/// The interpreter's own hooks belong around the call: `PyOS_BeforeFork` before, `PyOS_AfterFork_Parent` after it in
/// the template and when it fails, `PyOS_AfterFork_Child` in the worker.
///
/// # Errors
/// What pipe2, either fork or waitpid said. No worker exists then.
///
/// # Safety
/// The calling process must be fit to go on after a fork: only one thread, or whoever called has made sure that none of
/// the others holds a lock that the worker will want.
pub unsafe fn fork_worker() -> io::Result<Forked> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: the caller vouches for the state of the process. The child only makes system calls until it exits, or
    // is the worker, for which the caller vouches too.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(reader);
            // SAFETY: as above: the process in between is a copy of one thread.
            let worker = unsafe { libc::fork() };
            if worker == 0 {
                return Ok(Forked::Worker);
            }
            let answer = if worker > 0 { worker } else { -errno() };
            report_and_exit(&writer, answer)
        }
        between => {
            drop(writer);
            let answer = read_answer(reader);
            wait_for(between)?;
            match answer? {
                worker if worker > 0 => Ok(Forked::Template { worker }),
                error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
            }
        }
    }
}

/// Runs `question` in a copy of this process, which then ends, and gives back what it said. For what would change this
/// process for good, such as becoming another user.
///
/// # Errors
/// What pipe2, fork or waitpid said.
pub(crate) fn in_child(question: impl FnOnce() -> String) -> io::Result<String> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: the master has one thread, so that the copy holds no lock that it could wait for.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(reader);
            // A panic must not unwind into what the parent was doing.
            let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(question));
            let _ = std::fs::File::from(writer).write_all(answer.unwrap_or_default().as_bytes());
            // SAFETY: `_exit` only ends the process, without the destructors of the parent's values.
            unsafe { libc::_exit(0) }
        }
        child => {
            drop(writer);
            let mut answer = String::new();
            let result = std::fs::File::from(reader).read_to_string(&mut answer);
            wait_for(child)?;
            result.map(|_| answer)
        }
    }
}

/// Tries something in a copy of this process, which then ends, and gives back what it said: `None` if it has died of it, or
/// was not done within `limit` and so was killed. What it has started itself may live on.
///
/// # Errors
/// What pipe2 or fork said.
///
/// # Safety
/// As for [`fork_worker`].
pub unsafe fn try_in_copy(
    limit: Option<Duration>,
    attempt: impl FnOnce() -> String,
) -> io::Result<Option<String>> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let parent = std::process::id() as i32;
    // SAFETY: the caller vouches for the state of the process.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(reader);
            let said = match crate::process::die_with_master(parent) {
                Ok(()) => attempt(),
                Err(_) => String::new(),
            };
            let _ = std::fs::File::from(writer).write_all((said + END_OF_ANSWER).as_bytes());
            // SAFETY: `_exit` only ends the process, without the destructors of the parent's values.
            unsafe { libc::_exit(0) }
        }
        copy => {
            drop(writer);
            let answer = read_until_end(reader, copy, limit.map(|limit| Instant::now() + limit));
            // SAFETY: `copy` is a child that nobody has waited for, or does not exist any more.
            unsafe { libc::kill(copy, libc::SIGKILL) };
            // It may have been waited for already.
            let _ = wait_for(copy);
            Ok(answer)
        }
    }
}

/// No text that is written for a log has it.
const END_OF_ANSWER: &str = "\0";

/// The end of the pipe does not tell that the copy has ended: what it has started may hold it open.
fn read_until_end(reader: OwnedFd, copy: i32, deadline: Option<Instant>) -> Option<String> {
    /// How often the copy is looked at while it says nothing.
    const LOOK_MILLISECONDS: u8 = 50;
    let mut reader = std::fs::File::from(reader);
    let mut answer = Vec::new();
    let mut wait = LOOK_MILLISECONDS;
    loop {
        let ready = poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], wait);
        if ready == Ok(0) {
            if wait == 0 {
                return None;
            }
            // It may have answered after the wait and before this look: what it has said is read first.
            if has_ended(copy) || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                wait = 0;
            }
        }
        if matches!(ready, Ok(1..)) {
            let mut bytes = [0; 4096];
            match reader.read(&mut bytes) {
                Ok(0) => return None,
                Ok(length) => answer.extend_from_slice(bytes.get(..length)?),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        if answer.ends_with(END_OF_ANSWER.as_bytes()) {
            answer.pop();
            return Some(String::from_utf8_lossy(&answer).into_owned());
        }
    }
}

/// Whether a child has ended, or is none any more. It can be waited for afterwards.
fn has_ended(child: i32) -> bool {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::Pid(nix::unistd::Pid::from_raw(child)), flags), Ok(WaitStatus::StillAlive))
}

fn errno() -> i32 {
    nix::Error::last_raw()
}

/// Ends the process in between: tells the template the worker's pid, or the negated errno.
fn report_and_exit(writer: &OwnedFd, answer: i32) -> ! {
    let bytes = answer.to_ne_bytes();
    // SAFETY: the pointer and the length are those of `bytes`, the descriptor is open. Four bytes go into an empty pipe
    // at once. `_exit` runs no destructor and no atexit handler of the copied process, as it must not.
    unsafe {
        libc::write(writer.as_raw_fd(), bytes.as_ptr().cast(), bytes.len());
        libc::_exit(0)
    }
}

fn read_answer(reader: OwnedFd) -> io::Result<i32> {
    let mut bytes = [0; 4];
    // read_exact goes on after EINTR.
    std::fs::File::from(reader).read_exact(&mut bytes)?;
    Ok(i32::from_ne_bytes(bytes))
}

fn wait_for(pid: i32) -> io::Result<()> {
    loop {
        // SAFETY: waitpid accepts a null status.
        if unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) } == pid {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            // An application that ignores SIGCHLD has its children reaped by the kernel.
            Some(libc::ECHILD) => return Ok(()),
            _ => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends a process of these tests, which must not go on as a second test runner.
    fn exit(code: i32) -> ! {
        // SAFETY: it only ends the process.
        unsafe { libc::_exit(code) }
    }

    #[test]
    fn a_child_answers_and_one_that_panics_says_nothing() {
        assert_eq!(in_child(|| "yes".into()).expect("answered"), "yes");
        let silent = in_child(|| panic!("on purpose"));
        assert_eq!(silent.expect("ended"), "");
    }

    #[test]
    fn what_a_copy_dies_of_or_hangs_in_is_no_answer() {
        let yes = || "yes".to_owned();
        let died = || -> String { exit(3) };
        let hung = || -> String {
            loop {
                nix::unistd::pause();
            }
        };
        // What answers has more time than even a slow machine needs.
        let (limit, long) = (Some(Duration::from_millis(100)), Some(Duration::from_secs(60)));
        // Copies of a process with one thread, as they have to be.
        let answers = in_child(|| {
            let tell = |answer: io::Result<Option<String>>| format!("{:?}", answer.expect("forked"));
            // SAFETY: `in_child` has made a process with one thread.
            unsafe {
                [tell(try_in_copy(long, yes)), tell(try_in_copy(None, died)), tell(try_in_copy(limit, hung))]
                    .join(" ")
            }
        });
        assert_eq!(answers.expect("answered"), "Some(\"yes\") None None");
    }

    #[test]
    fn a_forked_worker_becomes_a_child_of_the_subreaper_and_ends_with_it() {
        let answer = in_child(|| {
            let master = std::process::id() as i32;
            nix::sys::prctl::set_child_subreaper(true).expect("a subreaper");
            // SAFETY: `in_child` has made a process with one thread.
            match unsafe { fork_worker() } {
                Ok(Forked::Worker) => {
                    let is_bound = crate::process::die_with_master(master).is_ok();
                    let signal = nix::sys::prctl::get_pdeathsig().ok().flatten();
                    exit(if is_bound && signal == Some(nix::sys::signal::Signal::SIGKILL) { 7 } else { 1 })
                }
                Ok(Forked::Template { worker }) => {
                    let is_child = crate::sys::is_child(worker);
                    let code = crate::sys::reap(worker).and_then(|status| status.code());
                    format!("{is_child} {code:?}")
                }
                Err(error) => error.to_string(),
            }
        });
        assert_eq!(answer.expect("answered"), "true Some(7)");
    }

    #[test]
    fn a_worker_is_killed_when_its_master_ends() {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
        let answer = in_child(|| {
            let master = std::process::id() as i32;
            nix::sys::prctl::set_child_subreaper(true).expect("a subreaper");
            // SAFETY: `in_child` has made a process with one thread.
            match unsafe { fork_worker() } {
                Ok(Forked::Worker) => {
                    let bound: &[u8] =
                        if crate::process::die_with_master(master).is_ok() { b"!" } else { b"?" };
                    let _ = nix::unistd::write(&writer, bound);
                    loop {
                        nix::unistd::pause();
                    }
                }
                // The master ends only when the worker is bound to it.
                Ok(Forked::Template { .. }) => {
                    let mut said = [0];
                    let _ = nix::unistd::read(&reader, &mut said);
                    String::from_utf8_lossy(&said).into_owned()
                }
                Err(error) => error.to_string(),
            }
        });
        assert_eq!(answer.expect("answered"), "!");
        drop(writer);
        // The end of the pipe: the worker is gone, and its descriptor with it.
        assert_eq!(std::fs::File::from(reader).read(&mut [0]).expect("read"), 0);
    }
}
