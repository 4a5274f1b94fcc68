//! Has each application thread write its own stack, in a handler that interrupts it wherever it is, in C too.
//!
//! faulthandler's own handler does not tell when it has written everything. So a thread gets another signal, whose
//! handler raises that of faulthandler, which comes at once, and then writes to an eventfd.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::{Pid, getpid, gettid};

/// Real-time signal, counted from SIGRTMIN, at which a thread writes its stack.
const SIGNAL_OFFSET: i32 = 13;

/// A thread that has not answered for so long sits in the kernel, or has blocked the signal. The worker waits meanwhile.
const PATIENCE: Duration = Duration::from_millis(200);

/// faulthandler's signal, and the eventfd, for the handler.
static WRITE: AtomicI32 = AtomicI32::new(0);
static ANSWER: AtomicI32 = AtomicI32::new(-1);

pub struct Threads {
    /// As the kernel numbers them.
    ids: Mutex<Vec<Pid>>,
    answer: EventFd,
}

impl Threads {
    /// `write` is the signal at which a thread writes its stack.
    pub fn prepare(write: c_int) -> io::Result<Self> {
        let answer = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        WRITE.store(write, Relaxed);
        ANSWER.store(answer.as_fd().as_raw_fd(), Relaxed);
        install()?;
        Ok(Threads { ids: Mutex::default(), answer })
    }

    pub fn add_this_one(&self) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).push(gettid());
    }

    /// What all have written; `ask` is given what makes one of them write, and gives back what that was.
    pub fn each(
        &self,
        ask: impl Fn(&dyn Fn() -> io::Result<()>) -> io::Result<String>,
    ) -> io::Result<String> {
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut all = String::new();
        for id in ids {
            match ask(&|| self.ask(id)) {
                Ok(text) => all.push_str(&format!("Thread {id}, {text}")),
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(error) => all.push_str(&format!("Thread {id} does not tell where it is: {error}\n")),
            }
        }
        Ok(all)
    }

    /// The thread has written when this returns.
    fn ask(&self, id: Pid) -> io::Result<()> {
        // Of one that has come too late the last time.
        let _ = self.answer.read();
        signal_thread(id)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::ZERO);
            match poll(&mut [PollFd::new(self.answer.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn signal() -> c_int {
    libc::SIGRTMIN() + SIGNAL_OFFSET
}

fn install() -> io::Result<()> {
    // SAFETY: a sigaction of zeros is a valid one, of no flags and an empty mask. The handler only does what a handler may.
    // Calls that it interrupts go on after it where they can.
    let result = unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = on_signal as extern "C" fn(c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigaction(signal(), &action, ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn on_signal(_signal: c_int) {
    let one = 1_u64;
    // SAFETY: raise and write may be called in a handler, and what the interrupted code knows of errno is put back. The
    // descriptor is that of the eventfd, which is closed with the process.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::raise(WRITE.load(Relaxed));
        libc::write(ANSWER.load(Relaxed), ptr::from_ref(&one).cast(), size_of::<u64>());
        *errno = before;
    }
}

fn signal_thread(id: Pid) -> io::Result<()> {
    // SAFETY: the call takes numbers only. A thread of this process that has ended meanwhile is not found, or another one
    // runs the handler.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, getpid().as_raw(), id.as_raw(), signal()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
