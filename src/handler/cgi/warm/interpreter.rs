//! One warm interpreter: started, told how to serve, given requests, and ended.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;

use super::super::locate::FileVersion;
use super::super::output::{Output, Read};
use super::link::{Link, MAX_MESSAGE_BYTES, Said, Theirs, fields};
use super::shebang::Command;
use super::{PYTHON_2_DRIVER, PYTHON_BOOT, PYTHON_DRIVER, WarmChild, WarmSource, perl_driver};
use crate::config::{ScriptLimits, WarmLanguage};
use crate::printable::printable;
use crate::sys::spawn::{self, Child, Program};

/// Time to load its modules.
const LONGEST_START: Duration = Duration::from_secs(60);
/// From the end of a script to the fork of a spare child in its place.
const REFILL_PAUSE: Duration = Duration::from_millis(1);
/// What it says on its standard error is for the log, within reason.
const MAX_LOGGED_BYTES: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Starting,
    Serving,
    /// Takes no more requests; its children go on.
    Retiring,
    Gone,
}

/// How an interpreter is to serve.
pub(super) struct Setup<'a> {
    pub command: &'a Command,
    pub environment: &'a [CString],
    pub limits: ScriptLimits,
    pub modules: &'a [String],
    pub spares: u16,
    /// Place among the kinds, and the address of the socket, for reports of what was loaded.
    pub kind: usize,
    pub report: &'a [u8],
}

/// What is to be run.
pub(crate) struct Run<'a> {
    pub path: &'a CStr,
    pub version: FileVersion,
    pub directory: &'a CStr,
    pub environment: &'a [CString],
    pub standard: [BorrowedFd<'a>; 3],
    pub wants_report: bool,
}

#[derive(Debug)]
pub(super) struct Interpreter {
    pub number: u32,
    language: WarmLanguage,
    pub stage: Stage,
    pub runs: u64,
    /// Requests that it has been given and whose script has not said that it runs.
    pub unstarted: HashSet<u32>,
    /// Those whose exit it has to tell.
    pub running: HashSet<u32>,
    link: Arc<Link>,
    /// For what it says.
    buffer: Vec<u8>,
    /// Version and path of the script that a spare child was given last: the interpreter has not seen it.
    latest: [Vec<u8>; 2],
    child: Child,
    output: Output,
    logged_bytes: usize,
    /// How many spare children wait, and how many more it was asked for.
    spares: u16,
    spares_to_come: u16,
    /// When the missing ones are to be forked.
    refill_at: Option<Instant>,
    started: Instant,
    is_watched: bool,
}

impl Interpreter {
    pub fn start(number: u32, setup: &Setup<'_>, now: Instant) -> io::Result<Self> {
        let (link, theirs) = Link::pair(setup.spares > 0)?;
        let (output, their_output) = spawn::pipe()?;
        spawn::set_nonblocking(output.as_fd())?;
        tell(&link, setup, &theirs)?;
        let child = spawn_interpreter(setup, &theirs, &their_output)?;
        Ok(Interpreter {
            number,
            language: setup.command.language,
            stage: Stage::Starting,
            runs: 0,
            unstarted: HashSet::new(),
            running: HashSet::new(),
            link: Arc::new(link),
            buffer: Vec::new(),
            latest: Default::default(),
            child,
            output: Output::new(output),
            logged_bytes: 0,
            spares: 0,
            spares_to_come: 0,
            refill_at: None,
            started: now,
            is_watched: false,
        })
    }

    /// Once: what is to be watched for reading.
    pub fn sources(&mut self) -> Vec<(WarmSource, BorrowedFd<'_>)> {
        if std::mem::replace(&mut self.is_watched, true) {
            return Vec::new();
        }
        let channel = Some((WarmSource::Channel(self.number), self.link.descriptor()));
        let output = self.output.descriptor().map(|fd| (WarmSource::Output(self.number), fd));
        // Spare children hold its ends of both: its own end is not seen there.
        let exit = self.child.exit_fd().map(|fd| (WarmSource::Output(self.number), fd));
        [channel, output, exit].into_iter().flatten().collect()
    }

    /// Gives it a request. `None`: it can't take it, and nothing has happened.
    pub fn run(&mut self, id: u32, run: &Run<'_>) -> Option<WarmChild> {
        let message = message(self.language, id, run);
        if message.len() > MAX_MESSAGE_BYTES {
            return None;
        }
        let is_sent = match self.spares {
            0 => self.link.send(&message, &run.standard),
            _ => self.link.send_to_spare(&message, &run.standard),
        };
        if let Err(error) = is_sent {
            log::debug!("a warm interpreter takes no request now: {error}");
            return None;
        }
        if self.spares > 0 {
            self.spares -= 1;
            self.latest = [run.version.to_string().into_bytes(), run.path.to_bytes().to_vec()];
        }
        self.runs += 1;
        self.unstarted.insert(id);
        Some(WarmChild::new(id, self.link.clone()))
    }

    /// The next thing it says. `Ok(None)`: nothing now.
    pub fn receive(&mut self, user: u32) -> Result<Option<(Said, i32)>, Ended> {
        match self.link.receive(&mut self.buffer, user) {
            Ok(Some(said)) => Ok(Some(said)),
            Ok(None) => Err(Ended),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => {
                log::debug!("the channel to a warm interpreter: {error}");
                Err(Ended)
            }
        }
    }

    /// Logs what it has written to its standard output or error: nothing, as a rule.
    pub fn log_output(&mut self, name: &str) {
        self.output.set_ready();
        while let Read::Bytes(bytes) = self.output.read() {
            for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                self.logged_bytes = self.logged_bytes.saturating_add(line.len());
                if self.logged_bytes <= MAX_LOGGED_BYTES {
                    log::warn!("warm {name}: {}", printable(line, MAX_LOGGED_BYTES));
                }
            }
        }
    }

    /// Another spare child waits.
    pub fn add_spare(&mut self) {
        self.spares = self.spares.saturating_add(1);
        self.spares_to_come = self.spares_to_come.saturating_sub(1);
    }

    /// Those that wait, or will in a moment.
    pub fn spares_left(&self) -> u16 {
        self.spares.saturating_add(self.spares_to_come)
    }

    /// A script has ended: when its answer is on its way, there is time to fork.
    pub fn refill_soon(&mut self, wanted: u16, now: Instant) {
        if self.stage == Stage::Serving && self.spares_left() < wanted {
            self.refill_at = self.refill_at.or(Some(now + REFILL_PAUSE));
        }
    }

    pub fn refill_at(&self) -> Option<Instant> {
        self.refill_at
    }

    /// Has it fork as many spare children as are missing.
    pub fn fill_spares(&mut self, wanted: u16, is_calm: bool) {
        self.refill_at = None;
        let missing = wanted.saturating_sub(self.spares_left());
        if missing == 0 || self.stage != Stage::Serving {
            return;
        }
        let pace: &[u8] = if is_calm { b"calm" } else { b"hurry" };
        let missing_text = missing.to_string();
        let [version, path] = &self.latest;
        match self.link.send(&fields(&[b"S", missing_text.as_bytes(), pace, version, path]), &[]) {
            Ok(()) => self.spares_to_come += missing,
            Err(error) => log::debug!("a warm interpreter takes no message: {error}"),
        }
    }

    /// Reaps a child that is nobody's request.
    pub fn reap(&self, id: u32, pid: i32) {
        self.link.ask(id, pid);
    }

    pub fn pid(&self) -> i32 {
        self.child.pid().as_raw()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.wait(false).is_some()
    }

    pub fn is_late(&self, now: Instant) -> bool {
        self.stage == Stage::Starting && now >= self.started + LONGEST_START
    }

    pub fn start_deadline(&self) -> Option<Instant> {
        (self.stage == Stage::Starting).then(|| self.started + LONGEST_START)
    }

    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// Ends it, and the spare children that wait in its group. Scripts go on: each leads a group of its own.
    pub fn end(&mut self) {
        if self.stage != Stage::Gone {
            self.stage = Stage::Gone;
            self.link.give_up();
            self.child.signal_group(Signal::SIGKILL);
        }
    }
}

/// Its channel is closed.
pub(super) struct Ended;

impl Drop for Interpreter {
    fn drop(&mut self) {
        self.end();
        // It was sent KILL: this takes no time.
        while self.child.wait(true).is_none() {
            std::thread::yield_now();
        }
    }
}

/// Puts the driver and its setup into the channel, before anybody reads.
fn tell(link: &Link, setup: &Setup<'_>, theirs: &Theirs) -> io::Result<()> {
    let driver = match setup.command.language {
        WarmLanguage::Python => [PYTHON_DRIVER, PYTHON_2_DRIVER].join("\0"),
        WarmLanguage::Perl => perl_driver(),
    };
    link.send(driver.as_bytes(), &[])?;
    let hex: String = setup.report.iter().map(|byte| format!("{byte:02x}")).collect();
    let lines = [
        ("argv0", setup.command.name.as_bytes()),
        ("flag", setup.command.flag.as_deref().map(CStr::to_bytes).unwrap_or_default()),
        ("index", setup.kind.to_string().as_bytes()),
        ("report", hex.as_bytes()),
        ("modules", setup.modules.join(" ").as_bytes()),
    ]
    .map(|(name, value)| [name.as_bytes(), b"=", value].concat());
    let spares: Vec<BorrowedFd<'_>> = theirs.spares.iter().map(AsFd::as_fd).collect();
    link.send(&fields(&lines.each_ref().map(Vec::as_slice)), &spares)
}

fn spawn_interpreter(setup: &Setup<'_>, theirs: &Theirs, output: &OwnedFd) -> io::Result<Child> {
    let mut arguments: Vec<&CStr> = setup.command.flag.as_deref().into_iter().collect();
    let boot;
    let (channel, output) = (theirs.channel.as_fd(), output.as_fd());
    // What the loader would look up when it is needed first, each copy would look up anew.
    let environment: Vec<CString> =
        setup.environment.iter().cloned().chain([c"LD_BIND_NOW=1".into()]).collect();
    let standard = match setup.command.language {
        WarmLanguage::Python => {
            boot = python_boot()?;
            arguments.push(c"/proc/self/fd/0");
            [boot.as_fd(), channel, output]
        }
        WarmLanguage::Perl => {
            arguments.extend([PERL_BOOT, c"/dev/null"]);
            [channel, output, output]
        }
    };
    spawn::spawn(&Program {
        path: &setup.command.path,
        name: &setup.command.name,
        arguments: &arguments,
        environment: &environment,
        directory: c"/",
        limits: setup.limits,
        standard,
    })
}

/// A program in a file, as scripts are: the interpreter prepares itself otherwise for `-c`. It leaves no name behind in
/// the module that is to be the script's.
fn python_boot() -> io::Result<OwnedFd> {
    let file = spawn::above_standard(memfd_create(c"forkhorn", MFdFlags::MFD_CLOEXEC)?)?;
    let mut rest = PYTHON_BOOT.as_bytes();
    while !rest.is_empty() {
        let written = nix::unistd::write(&file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(file)
}

/// Runs before the first byte of the program is read. Not by `eval`, whose uses are counted: a script sees their number.
const PERL_BOOT: &CStr = c"-M5.006;BEGIN{sysread STDIN,my$s,99999;my@l=split/^/,$s;unshift@INC,sub{shift@INC;sub{$_=@l?shift@l:'';length$_?1:0}};require'forkhorn_warm.pl';delete$INC{'forkhorn_warm.pl'};Forkhorn::Warm::start()}BEGIN{Forkhorn::Warm::serve()}";

fn message(language: WarmLanguage, id: u32, run: &Run<'_>) -> Vec<u8> {
    let learn = if run.wants_report { 'l' } else { '-' };
    let mut message = format!("R\0{id}\0{learn}{}", run.version).into_bytes();
    for field in [run.path, run.directory] {
        message.push(0);
        message.extend_from_slice(field.to_bytes());
    }
    for variable in run.environment.iter().map(|variable| variable.as_bytes()) {
        message.push(0);
        let sign = variable.iter().position(|&byte| byte == b'=').unwrap_or(variable.len());
        let (name, value) = variable.split_at(sign);
        match language {
            WarmLanguage::Perl => message.extend_from_slice(variable),
            WarmLanguage::Python => {
                message.extend_from_slice(name);
                message.push(0);
                message.extend_from_slice(value.get(1..).unwrap_or_default());
            }
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_request_names_what_is_run_and_gives_python_names_and_values_apart() {
        let null = std::fs::File::open("/dev/null").expect("it is there");
        let environment = [c"A=1=2".to_owned(), c"EMPTY=".to_owned()];
        let version = FileVersion::from_parts(1_700_000_000_000_000_001, 81, 7);
        let mut run = Run {
            path: c"/cgi/x",
            version,
            directory: c"/cgi",
            environment: &environment,
            standard: [null.as_fd(); 3],
            wants_report: true,
        };
        let python = message(WarmLanguage::Python, 12, &run);
        assert_eq!(python, b"R\x0012\0l1700000000000000001.81.7\0/cgi/x\0/cgi\0A\x001=2\0EMPTY\0");
        run.wants_report = false;
        let perl = message(WarmLanguage::Perl, 12, &run);
        assert_eq!(perl, b"R\x0012\0-1700000000000000001.81.7\0/cgi/x\0/cgi\0A=1=2\0EMPTY=");
    }
}
