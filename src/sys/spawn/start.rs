//! From clone(2) to execve(2): a process that is no copy of ours, so that neither the size of the heap nor a Python
//! interpreter in it matters, as posix_spawn(3) does it, and with the limits that posix_spawn(3) can't set.
//!
//! Until it runs its program, the new process uses our memory, on a stack of its own, while the thread that starts it
//! stands still (CLONE_VM and CLONE_VFORK). So it makes system calls and nothing else: all that it needs is prepared in a
//! [`Plan`], where it also leaves the error that kept it from its program.

#![allow(unsafe_code, reason = "clone(2), and what happens between it and execve(2)")]

use std::ffi::{c_char, c_int, c_void};
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::{Program, inherited_descriptors};
use crate::config::ScriptLimits;

/// Of the new process, until execve(2) gives it another. Its few calls need a hundredth of it.
const STACK_BYTES: usize = 64 * 1024;

/// Starts the program and waits until it runs, or can't.
pub(super) fn start(program: &Program<'_>) -> io::Result<Pid> {
    let mut plan = Plan::new(program)?;
    // u128 is aligned as every processor wants its stack to be.
    let mut stack = Box::<[u128]>::new_uninit_slice(STACK_BYTES / size_of::<u128>());
    let top = stack.as_mut_ptr_range().end;
    // A handler of ours that ran in the new process would change our memory from there.
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    // SAFETY: `run` gets the plan, which outlives it: this thread stands still until the new process has called execve(2)
    // or _exit(2), and then it uses neither plan nor stack any more. `top` is the end of a stack that nobody else uses.
    let pid = Errno::result(unsafe {
        libc::clone(
            run,
            top.cast::<c_void>(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw mut plan).cast::<c_void>(),
        )
    });
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    let pid = Pid::from_raw(pid?);
    if plan.error == 0 {
        return Ok(pid);
    }
    // It has ended, or does so now; somebody else may have waited for it.
    let _ = waitpid(pid, None);
    Err(io::Error::from_raw_os_error(plan.error))
}

/// What the new process does, and what came of it.
struct Plan {
    path: *const c_char,
    argv: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    directory: *const c_char,
    standard: [RawFd; 3],
    /// Descriptors that execve(2) would leave open; `None` where the kernel closes all that are not standard.
    left_open: Option<Vec<RawFd>>,
    /// Soft and hard.
    limits: Vec<(Resource, rlim_t, rlim_t)>,
    nice: c_int,
    /// An errno; 0 if the program runs.
    error: c_int,
}

impl Plan {
    fn new(program: &Program<'_>) -> io::Result<Self> {
        let mut environment: Vec<*const c_char> =
            program.environment.iter().map(|variable| variable.as_ptr()).collect();
        environment.push(ptr::null());
        let mut argv = vec![program.name.as_ptr()];
        argv.extend(program.arguments.iter().map(|argument| argument.as_ptr()));
        argv.push(ptr::null());
        Ok(Plan {
            path: program.path.as_ptr(),
            argv,
            environment,
            directory: program.directory.as_ptr(),
            standard: program.standard.map(|fd| fd.as_raw_fd()),
            left_open: if has_close_range() { None } else { Some(inherited_descriptors()?) },
            limits: limits(&program.limits)?,
            nice: program.limits.nice.into(),
            error: 0,
        })
    }

    /// Becomes the program. Returns only if that is not possible.
    ///
    /// # Safety
    /// To be called in the process that [`start`] makes: it changes signal handlers and closes descriptors.
    unsafe fn execute(&self) -> nix::Result<()> {
        // SAFETY: zero is a valid sigaction: SIG_DFL, no flags.
        let default: libc::sigaction = unsafe { zeroed() };
        for signal in 1..=libc::SIGRTMAX() {
            // Handlers too, before signals can come: they are in our memory. Rust and CPython ignore SIGPIPE; programs
            // expect its default. SAFETY: valid for reads; those that can't be changed answer EINVAL.
            unsafe { libc::sigaction(signal, &default, ptr::null_mut()) };
        }
        // 0: a new group with the process's own number.
        nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        for (target, fd) in (0..).zip(self.standard) {
            // SAFETY: takes two numbers; each source lies above 2, so that none is overwritten before its turn.
            Errno::result(unsafe { libc::dup2(fd, target) })?;
        }
        // SAFETY: NUL-terminated, and outlives this process's use of it.
        Errno::result(unsafe { libc::chdir(self.directory) })?;
        self.close_others();
        for (resource, soft, hard) in &self.limits {
            setrlimit(*resource, *soft, *hard)?;
        }
        if self.nice > 0 {
            // SAFETY: takes a number. To be nicer is always allowed.
            unsafe { libc::nice(self.nice) };
        }
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        // SAFETY: the path is NUL-terminated, both arrays end with a null pointer, and all outlive the call.
        unsafe { libc::execve(self.path, self.argv.as_ptr(), self.environment.as_ptr()) };
        Err(Errno::last())
    }

    /// Our own descriptors are all closed on exec, but a library of the application may have opened some that are not.
    fn close_others(&self) {
        let Some(left_open) = &self.left_open else {
            // SAFETY: takes numbers; nobody in this process uses any of these descriptors.
            unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
            return;
        };
        for fd in left_open {
            // SAFETY: nobody in this process uses it.
            unsafe { libc::close(*fd) };
        }
    }
}

/// The new process's first and only function.
extern "C" fn run(plan: *mut c_void) -> c_int {
    // SAFETY: `start` passes a plan that nobody touches meanwhile, and this is the process that it has made.
    let error = unsafe {
        let plan = &*plan.cast::<Plan>();
        plan.execute().err().unwrap_or(Errno::EIO)
    };
    // SAFETY: as above; the reference is gone.
    unsafe { (*plan.cast::<Plan>()).error = error as c_int };
    // SAFETY: ends this process without any of our exit handlers.
    unsafe { libc::_exit(127) }
}

/// What is to be set: never more than the worker itself may have, which only root could grant.
fn limits(wanted: &ScriptLimits) -> nix::Result<Vec<(Resource, rlim_t, rlim_t)>> {
    // A core dump would lie beside the script, with all that it knew.
    let mut all = vec![(Resource::RLIMIT_CORE, 0, 0)];
    for (resource, value, grace) in [
        (Resource::RLIMIT_AS, wanted.memory_bytes, 0),
        // XCPU at the soft limit can be told from the KILL at the hard one.
        (Resource::RLIMIT_CPU, wanted.cpu_seconds, 1),
        (Resource::RLIMIT_NPROC, wanted.processes, 0),
        (Resource::RLIMIT_FSIZE, wanted.file_bytes, 0),
        (Resource::RLIMIT_NOFILE, wanted.files, 0),
    ] {
        let Some(value) = value else { continue };
        let (_, most) = getrlimit(resource)?;
        let limit = |value: u64| rlim_t::try_from(value).unwrap_or(rlim_t::MAX).min(most);
        all.push((resource, limit(value), limit(value.saturating_add(grace))));
    }
    Ok(all)
}

/// Limits the processor time of a process of ours that runs already: what it has used by now counts too.
pub(crate) fn limit_cpu(pid: i32, limits: &ScriptLimits) {
    let all = self::limits(limits).unwrap_or_default();
    let of_cpu = all.into_iter().find(|(resource, ..)| *resource == Resource::RLIMIT_CPU);
    let Some((_, soft, hard)) = of_cpu else { return };
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` is valid for reads, and null means that the former one is not wanted.
    let result = unsafe { libc::prlimit(pid, libc::RLIMIT_CPU, &limit, ptr::null_mut()) };
    if let Err(error) = Errno::result(result) {
        log::debug!("the processor time of process {pid} is not limited: {error}");
    }
}

/// Linux 5.9 and newer.
fn has_close_range() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        // SAFETY: takes numbers; no descriptor has this one.
        unsafe { libc::syscall(libc::SYS_close_range, libc::c_uint::MAX, libc::c_uint::MAX, 0) == 0 }
    })
}
