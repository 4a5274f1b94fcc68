//! `forkhorn check`: would `forkhorn serve` with the same options come up? Nothing is served, and nothing stays.
//!
//! Options are checked by then. Here follow what workers can reach, listeners, scripts, and the application, which is
//! loaded as `--user` in a template that is thrown away.

mod scripts;

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::{AccessFlags, access};

use super::workers::describe;
use super::{bridge, preflight, sockets, start_message};
use crate::channel::{Channel, ChannelError, Role, ToMaster};
use crate::config::{AccessLogConfig, Address, Config, MountTarget, StartupError};
use crate::hand_off::HandOffQueue;
use crate::logger::printable;
use crate::sys;

/// Says what is well on standard output.
///
/// # Errors
/// The first thing that is not, with the exit code that `serve` would have.
pub fn check(config: &Config) -> Result<(), StartupError> {
    well("the options are right");
    preflight::check(config)?;
    for listener in &config.listeners {
        check_listener(&listener.address)?;
    }
    let mut wrong = Vec::new();
    for mount in &config.mounts {
        if let MountTarget::Cgi(directory) = &mount.target {
            let found = scripts::look(directory, config.cgi.search_path());
            let scripts =
                if found.scripts == 1 { "1 script".to_owned() } else { format!("{} scripts", found.scripts) };
            well(&format!("{scripts} in {}", directory.display()));
            wrong.extend(found.wrong);
        }
    }
    if config.python.is_some() {
        check_application(config)?;
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(StartupError::other(format!("scripts that can't be run:\n{}", wrong.join("\n")))),
    }
}

fn well(what: &str) {
    println!("{}", printable(what));
}

/// That an address is taken is no fault: the running forkhorn may have it.
fn check_listener(address: &Address) -> Result<(), StartupError> {
    match address {
        Address::Tcp(tcp) => match std::net::TcpListener::bind(tcp) {
            Ok(_) => well(&format!("{address} is free")),
            Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => {
                well(&format!("{address} is in use: by the running forkhorn?"));
            }
            Err(error) => return Err(sockets::tcp_error(*tcp, &error)),
        },
        Address::Unix(path) if path.exists() => well(&format!("{address} is there")),
        Address::Unix(path) => {
            let directory = path.parent().unwrap_or(Path::new("/"));
            access(directory, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|error| {
                StartupError::other(format!(
                    "cannot listen on {address}: its directory can't be written ({})",
                    error.desc()
                ))
            })?;
            well(&format!("{address} can be made"));
        }
        Address::Fd(_) => well(&format!("{address} has to be passed by whoever starts forkhorn")),
    }
    Ok(())
}

fn check_application(config: &Config) -> Result<(), StartupError> {
    let failed = |error: io::Error| StartupError::other(format!("cannot start the interpreter: {error}"));
    let limit = config.processes.upgrade_timeout;
    let (pid, channel) = bridge::command(config)?.spawn().map_err(failed)?;
    let loaded = start(&channel, config).and_then(|()| wait(&channel, Instant::now() + limit));
    // One that has closed its channel is about to end by itself, and its status says why.
    if !matches!(loaded, Ok(Outcome::Closed)) || !ends_soon(pid) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
    }
    let status = sys::reap(pid);
    let message = match loaded.map_err(failed)? {
        Outcome::Said(ToMaster::Loaded) => {
            well("the application can be loaded");
            return Ok(());
        }
        Outcome::Said(ToMaster::CannotPreload { reasons }) => {
            well(&format!(
                "the application can be loaded, by each worker for itself: {}",
                reasons.join("; ")
            ));
            return Ok(());
        }
        Outcome::Said(ToMaster::LoadFailed { application, report, advice }) => {
            format!("cannot load application '{application}':\n{}\n{advice}", report.trim_end())
        }
        Outcome::Said(_) => {
            "cannot load the application: the interpreter says what makes no sense".to_owned()
        }
        Outcome::Closed => {
            let how = status.map_or_else(|| "has ended".to_owned(), describe);
            format!("cannot load the application: the interpreter {how} while it loaded")
        }
        Outcome::TooLate => format!(
            "cannot load the application: it has not been loaded after {} s (--upgrade-timeout)",
            limit.as_secs_f64()
        ),
    };
    Err(StartupError::application(message.trim_end()))
}

fn ends_soon(pid: i32) -> bool {
    let deadline = Instant::now() + Duration::from_secs(2);
    while sys::ended_child() != Some(pid) {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

enum Outcome {
    Said(ToMaster),
    Closed,
    TooLate,
}

/// As the master does, but for what only those need who serve.
fn start(channel: &Channel, config: &Config) -> io::Result<()> {
    let mut config = config.clone();
    config.listeners.clear();
    config.access_log = AccessLogConfig::Off;
    let queue = HandOffQueue::open()?;
    channel.send(&start_message(Role::Template { generation: 0 }, &config), &queue.ends())
}

fn wait(channel: &Channel, deadline: Instant) -> io::Result<Outcome> {
    loop {
        match channel.try_receive::<ToMaster>() {
            Ok(Some((message, _))) => return Ok(Outcome::Said(message)),
            Ok(None) => {}
            Err(ChannelError::Closed) => return Ok(Outcome::Closed),
            Err(error) => return Err(io::Error::other(error.to_string())),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Outcome::TooLate);
        }
        // Rounded up: a wait that ends early would be followed by many.
        let step = left.min(Duration::from_secs(60)) + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(step).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(channel.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
