//! One running script: body in, events out.
//!
//! Nothing here waits. The caller registers [`ScriptRun::sources`] with an edge-triggered poll, calls
//! [`on_ready`](ScriptRun::on_ready) and [`on_deadline`](ScriptRun::on_deadline), and after each call of any method takes
//! [`poll_event`](ScriptRun::poll_event) until it gives `None`.
//!
//! The response ends when the script exits, even if a child that it left behind holds its output open, or when its output
//! is closed. The run lives on until the process is reaped.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::sys::signal::Signal;

use super::super::HandlerError;
use super::header::{Header, HeaderError, HeaderLimits, HeaderParser};
use super::input::Input;
use super::label::{Label, name};
use super::output::{Output, Read};
use super::pipes::{Pipes, Theirs};
use super::process::Process;
use super::stderr::Stderr;
use super::warm::{Notice, Warm};
use super::{Script, diagnosis, environment};
use crate::cli::ScriptStderr;
use crate::config::{CgiConfig, ScriptLimits};
use crate::gateway::{KnownName, MetaVariables};
use crate::printable::printable;
use crate::protocol::{ResponseHead, parse_content_length};
use crate::sys::spawn::{self, Exit, Program};

/// A process's output and its exit are seen one after the other. So long the end of the output waits for the exit, which
/// tells a complete response from a broken one; a script that closes its output and works on costs its client no more.
const EXIT_WAIT: Duration = Duration::from_millis(50);

/// What the caller watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipe {
    /// To be watched for writing, the others for reading.
    Stdin,
    Stdout,
    Stderr,
    /// Readable once the process has ended.
    Exit,
}

impl Pipe {
    pub const ALL: [Pipe; 4] = [Pipe::Stdin, Pipe::Stdout, Pipe::Stderr, Pipe::Exit];
}

/// What a script says. `Head` or `LocalRedirect` comes first, if neither fails; after `End`, `LocalRedirect` or `Failed`
/// nothing comes.
#[derive(Debug)]
pub enum ScriptEvent {
    /// `content_length` is what the script says, and not checked. HEAD, 204 and 304 are not seen to.
    Head(ResponseHead),
    Body(Bytes),
    /// Standard error output, already logged; only if it is configured.
    Stderr(Bytes),
    /// The response is complete.
    End,
    /// RFC 3875 §6.2.2. What the script writes besides is discarded.
    LocalRedirect(Vec<u8>),
    /// Not logged yet. Without a head before it: answer `status()`; after one: the response must be seen to be broken.
    Failed(HandlerError),
}

#[derive(Debug)]
enum Response {
    Header(HeaderParser),
    Body,
    Over,
}

/// A script's process, its pipes, and the response that is made of them.
#[derive(Debug)]
pub struct ScriptRun {
    script: Script,
    /// What a report of ours calls it; the caller adds the request.
    name: String,
    /// What the log calls it, with the request.
    label: Label,
    process: Process,
    exit: Option<Exit>,
    input: Input,
    output: Output,
    is_output_paused: bool,
    stderr: Stderr,
    response: Response,
    /// Came with the end of the header, or at the end.
    next: Option<ScriptEvent>,
    limits: ScriptLimits,
    timeout: Option<Duration>,
    started: Instant,
    times_out_at: Option<Instant>,
    /// The script waits for its client since then, which does not count.
    waits_since: Option<Instant>,
    /// The output has ended, the exit is awaited until then.
    ends_at: Option<Instant>,
    /// As of the last call that told it.
    now: Instant,
    /// What it takes to start the script the classic way, until a warm interpreter has.
    cold: Option<Cold>,
}

#[derive(Debug)]
struct Cold {
    environment: Vec<CString>,
    standard: Theirs,
}

impl ScriptRun {
    /// Starts the script. Whether it gets a pipe for its body is told by CONTENT_LENGTH, which must be true by now.
    ///
    /// # Errors
    /// The process can't be started; the text names cause and cure.
    pub fn spawn(
        script: &Script,
        meta: &MetaVariables,
        cgi: &CgiConfig,
        limits: HeaderLimits,
        warm: Option<&mut Warm>,
        now: Instant,
    ) -> Result<ScriptRun, HandlerError> {
        let has_body = meta.known(KnownName::ContentLength).and_then(parse_content_length).unwrap_or(0) > 0;
        let pipes = Pipes::open(has_body).map_err(HandlerError::unavailable)?;
        let environment = environment(meta, cgi);
        let handed = warm.and_then(|warm| warm.run(script, &environment, pipes.theirs.standard(), now));
        let (process, cold) = match handed {
            Some(child) => (Process::warm(child, now), Some(Cold { environment, standard: pipes.theirs })),
            None => (start(script, &environment, pipes.theirs.standard(), cgi.limits, now)?, None),
        };
        let name = name(script, process.id());
        let label = Label::new(&name, meta);
        let mut run = ScriptRun {
            input: Input::new(pipes.input),
            output: Output::new(pipes.output),
            stderr: Stderr::new(pipes.stderr, label.clone(), cgi.stderr == ScriptStderr::Fastcgi),
            script: script.clone(),
            name,
            label,
            process,
            exit: None,
            is_output_paused: false,
            response: Response::Header(HeaderParser::new(limits, script.is_nph())),
            next: None,
            limits: cgi.limits,
            timeout: cgi.timeout,
            started: now,
            times_out_at: cgi.timeout.and_then(|timeout| now.checked_add(timeout)),
            waits_since: None,
            ends_at: None,
            now,
            cold,
        };
        run.watch_client();
        Ok(run)
    }

    /// What to register, once. They are closed as the run goes on, which also removes them from an epoll.
    pub fn sources(&self) -> impl Iterator<Item = (Pipe, BorrowedFd<'_>)> {
        Pipe::ALL.into_iter().filter_map(|pipe| Some((pipe, self.descriptor(pipe)?)))
    }

    pub fn descriptor(&self, pipe: Pipe) -> Option<BorrowedFd<'_>> {
        match pipe {
            Pipe::Stdin => self.input.descriptor(),
            Pipe::Stdout => self.output.descriptor(),
            Pipe::Stderr => self.stderr.descriptor(),
            Pipe::Exit => self.process.exit_descriptor(),
        }
    }

    /// By which a warm interpreter's notices name it.
    pub(crate) fn warm_id(&self) -> Option<u32> {
        self.process.warm_id()
    }

    /// What a warm interpreter says about it. True: there is a new descriptor for [`Pipe::Exit`].
    pub(crate) fn on_notice(&mut self, notice: Notice, now: Instant) -> bool {
        self.now = now;
        match notice {
            Notice::Started(pid) => {
                // The interpreter has the other limits, and its copies with it. Its own time must not count.
                spawn::limit_cpu(pid, &self.limits);
                // Our ends of what it has now are closed: so its end is seen.
                self.cold = None;
                self.process.on_notice(notice);
                self.name = name(&self.script, self.process.id());
                self.label.rename(&self.name);
                self.stderr.rename(&self.name);
                log::debug!(target: "script", request:% = self.label.id; "{}: runs in a copy of a warm interpreter", self.label);
                return true;
            }
            Notice::Lost if self.cold.is_some() => return self.start_cold(),
            Notice::Failed(errno) if self.cold.take().is_some() => {
                self.process.forget();
                let error = std::io::Error::from_raw_os_error(errno);
                self.fail(diagnosis::spawn_failure(&self.script, &error));
            }
            Notice::Ends { pid, exit, cpu_time } => {
                if !self.is_response_over() && self.process.on_ends(pid, cpu_time) {
                    self.on_exit(exit);
                }
                return false;
            }
            _ => self.process.on_notice(notice),
        }
        self.look_at_process();
        false
    }

    /// The warm interpreter that was to run it has gone before it did.
    fn start_cold(&mut self) -> bool {
        let Some(cold) = self.cold.take() else { return false };
        if self.is_response_over() || !self.process.is_running() {
            // Nobody waits for it any more.
            self.process.forget();
            return false;
        }
        match start(&self.script, &cold.environment, cold.standard.standard(), self.limits, self.now) {
            Ok(process) => {
                self.process.forget();
                self.process = process;
                self.name = name(&self.script, self.process.id());
                self.label.rename(&self.name);
                self.stderr.rename(&self.name);
                true
            }
            Err(error) => {
                self.process.forget();
                self.fail(error);
                false
            }
        }
    }

    fn fail(&mut self, error: HandlerError) {
        if !self.is_response_over() {
            self.finish_response(Some(ScriptEvent::Failed(error)));
        }
        self.input.close();
    }

    /// A piece of the body. Kept until the script takes it, or dropped if it takes no more.
    pub fn feed(&mut self, chunk: Bytes) {
        self.input.feed(chunk);
        self.watch_client();
    }

    /// `length` bytes of a spooled body, from its begin.
    pub fn feed_file(&mut self, file: Arc<File>, length: u64) {
        self.input.feed_file(file, length);
        self.watch_client();
    }

    /// The body is complete.
    pub fn finish_input(&mut self) {
        self.input.finish();
        self.watch_client();
    }

    /// False while enough of the body waits for the script: let the client wait too. True also where the script takes no
    /// more, since the rest of the body is then read and dropped.
    pub fn wants_input(&self) -> bool {
        self.input.wants_more()
    }

    /// A pipe has become ready, or the process has ended.
    pub fn on_ready(&mut self, pipe: Pipe, now: Instant) {
        self.now = now;
        match pipe {
            Pipe::Stdin => self.input.write(),
            Pipe::Stdout => self.output.set_ready(),
            Pipe::Stderr => {
                self.stderr.set_ready();
                self.stderr.read();
            }
            Pipe::Exit => self.look_at_process(),
        }
        self.watch_client();
    }

    /// What the script says next. `None`: nothing now; nothing ever, once the response is over.
    pub fn poll_event(&mut self) -> Option<ScriptEvent> {
        loop {
            if let Some(bytes) = self.stderr.next_event()
                && (self.next.is_some() || !self.is_response_over())
            {
                return Some(ScriptEvent::Stderr(bytes));
            }
            if let Some(event) = self.next.take() {
                return Some(event);
            }
            if self.is_response_over() || self.is_output_paused || self.ends_at.is_some() {
                return None;
            }
            match self.output.read() {
                Read::Bytes(bytes) => match self.take_output(bytes) {
                    Some(event) => return Some(event),
                    None => continue,
                },
                Read::Wait => return None,
                Read::End if self.exit.is_some() => self.conclude(),
                Read::End => {
                    self.ends_at = Some(self.now + EXIT_WAIT);
                    return None;
                }
            }
        }
    }

    /// True: the peer reads slowly, leave the output where it is. After false, take events again.
    pub fn set_output_paused(&mut self, paused: bool) {
        self.is_output_paused = paused;
        self.watch_client();
    }

    /// Nobody wants the response any more: ends the whole process group. No event comes.
    pub fn cancel(&mut self, why: &str, now: Instant) {
        self.now = now;
        if self.process.is_running() {
            log::info!(target: "script", request:% = self.label.id; "{}: told to end: {why}", self.label);
        }
        self.finish_response(None);
        self.input.close();
        self.process.end(now);
    }

    /// All of the response that is wanted has come: what the script writes further is lost, but it may go on. No event
    /// comes.
    pub fn release(&mut self, now: Instant) {
        self.now = now;
        self.finish_response(None);
    }

    /// When [`on_deadline`](Self::on_deadline) wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        let counts = self.process.is_running() && self.waits_since.is_none();
        let times_out_at = self.times_out_at.filter(|_| counts);
        let more_stderr = self.stderr.is_ready().then_some(self.now);
        [times_out_at, self.ends_at, more_stderr, self.process.deadline()].into_iter().flatten().min()
    }

    pub fn on_deadline(&mut self, now: Instant) {
        self.now = now;
        if self.stderr.is_ready() {
            self.stderr.read();
        }
        self.look_at_process();
        let counts = self.process.is_running() && self.waits_since.is_none();
        if counts && self.times_out_at.is_some_and(|at| now >= at) {
            self.time_out();
        }
        if self.ends_at.is_some_and(|at| now >= at) {
            self.conclude();
        }
        self.process.on_deadline(now);
    }

    /// It was told to end and has, but children of it may be left for a moment.
    pub(crate) fn is_remnant(&self) -> bool {
        self.process.is_remnant()
    }

    /// The process is reaped, and its last event taken: the run may be dropped.
    pub fn is_over(&self) -> bool {
        self.process.is_over() && self.is_response_over() && self.next.is_none()
    }

    /// How the process has ended, and how much time of a processor it and the children that it has waited for have used.
    pub(crate) fn outcome(&self) -> (Option<Exit>, Option<Duration>) {
        (self.exit, self.process.cpu_time())
    }

    /// As on a kernel without pidfd.
    #[cfg(test)]
    pub(super) fn forget_exit_descriptor(&mut self) {
        self.process.forget_exit_descriptor();
    }

    /// Stops the script's time while it can't go on because of its client: a slow reader, or a slow sender of whose body
    /// nothing is left. Both have time limits of their own (`--send-timeout`, `--body-timeout`).
    fn watch_client(&mut self) {
        let waits = !self.is_response_over() && (self.is_output_paused || self.input.is_starved());
        match (waits, self.waits_since) {
            (true, None) => self.waits_since = Some(Instant::now()),
            (false, Some(since)) => {
                self.waits_since = None;
                self.times_out_at = self.times_out_at.map(|at| at + since.elapsed());
            }
            _ => {}
        }
    }

    fn is_response_over(&self) -> bool {
        matches!(self.response, Response::Over)
    }

    fn take_output(&mut self, mut bytes: Bytes) -> Option<ScriptEvent> {
        let Response::Header(parser) = &mut self.response else { return Some(ScriptEvent::Body(bytes)) };
        match parser.feed(&bytes) {
            Ok(None) => None,
            Ok(Some((Header::Response(head), length))) => {
                self.response = Response::Body;
                let body = bytes.split_off(length);
                self.next = (!body.is_empty()).then_some(ScriptEvent::Body(body));
                Some(ScriptEvent::Head(head))
            }
            Ok(Some((Header::LocalRedirect(path), _))) => {
                self.finish_response(None);
                Some(ScriptEvent::LocalRedirect(path))
            }
            Err(error) => {
                let error = self.bad_output(&error);
                self.finish_response(None);
                Some(ScriptEvent::Failed(error))
            }
        }
    }

    fn look_at_process(&mut self) {
        if let Some(exit) = self.process.poll_exit(self.now) {
            self.on_exit(exit);
        }
    }

    /// Nothing comes any more but what is in the pipes.
    fn on_exit(&mut self, exit: Exit) {
        self.exit = Some(exit);
        self.input.close();
        self.stderr.finish();
        self.output.end_after_what_waits();
        if self.is_response_over() {
            self.log_late_exit(exit);
        } else if self.ends_at.is_some() {
            self.conclude();
        }
    }

    /// The output has ended, and so has the process, or it takes its time.
    fn conclude(&mut self) {
        self.ends_at = None;
        let event = match (&self.response, self.exit) {
            (Response::Over, _) => return,
            (Response::Header(parser), _) => ScriptEvent::Failed(self.bad_output(&parser.unfinished())),
            (Response::Body, Some(Exit::Signal(signal))) => ScriptEvent::Failed(HandlerError::new(
                502,
                self.report(&format!("{} in the middle of its response", Died(Exit::Signal(signal)))),
            )),
            (Response::Body, exit) => {
                if let Some(exit @ Exit::Status(1..)) = exit {
                    log::warn!(target: "script", request:% = self.label.id; "{}: {} after its response", self.label, Died(exit));
                }
                ScriptEvent::End
            }
        };
        self.finish_response(Some(event));
    }

    fn time_out(&mut self) {
        let seconds = self.timeout.unwrap_or_default().as_secs_f64();
        let text = self
            .report(&format!("over its {seconds} seconds (--cgi-timeout): its process group is told to end"));
        if self.is_response_over() {
            log::warn!(target: "script", request:% = self.label.id; "{text}; its response had ended before");
        } else {
            self.finish_response(Some(ScriptEvent::Failed(HandlerError::new(504, text))));
        }
        self.input.close();
        self.process.end(self.now);
    }

    /// Nothing more is read from the script's output. What it has not read of its body it may read yet, if that is all
    /// here.
    fn finish_response(&mut self, last: Option<ScriptEvent>) {
        self.response = Response::Over;
        self.next = last;
        self.ends_at = None;
        self.output.close();
        if !self.input.is_finished() {
            self.input.close();
        }
        self.watch_client();
    }

    fn bad_output(&self, error: &HeaderError) -> HandlerError {
        HandlerError::new(502, self.report(&error.to_string()))
    }

    /// What happened, with everything that helps to see why.
    fn report(&self, what: &str) -> String {
        let mut text = format!("script {}: {what}", self.name);
        if let Some(exit) = self.exit {
            if !matches!(self.response, Response::Body) {
                text.push_str(&format!("; it {}", Died(exit)));
            }
            text.push_str(&format!(" after {:.3} s", self.elapsed()));
        }
        let tail = self.stderr.tail();
        if let Some(hint) = diagnosis::hint(&self.script, self.exit, tail, &self.limits) {
            text.push_str("; ");
            text.push_str(&hint);
        }
        let mut lines = tail.trim_ascii_end().split(|&byte| byte == b'\n').peekable();
        if !tail.is_empty() && lines.peek().is_some() {
            text.push_str("; its standard error ended with:");
            lines.for_each(|line| {
                text.push_str("\n    ");
                text.push_str(&printable(line.trim_ascii_end(), usize::MAX));
            });
        }
        text
    }

    fn log_late_exit(&self, exit: Exit) {
        let (label, seconds) = (&self.label, self.elapsed());
        log::debug!(target: "script", request:% = label.id; "{label}: {} after {seconds:.3} s, its response had ended before", Died(exit));
    }

    fn elapsed(&self) -> f64 {
        self.now.saturating_duration_since(self.started).as_secs_f64()
    }
}

fn start(
    script: &Script,
    environment: &[CString],
    standard: [BorrowedFd<'_>; 3],
    limits: ScriptLimits,
    now: Instant,
) -> Result<Process, HandlerError> {
    let child = spawn::spawn(&Program {
        path: script.exec_path(),
        name: script.argv0(),
        arguments: &[],
        environment,
        directory: script.directory(),
        limits,
        standard,
    })
    .map_err(|error| diagnosis::spawn_failure(script, &error))?;
    Ok(Process::new(child, now))
}

/// `exited with status 1`, `was killed by SIGSEGV`.
struct Died(Exit);

impl std::fmt::Display for Died {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Exit::Status(status) => write!(f, "exited with status {status}"),
            Exit::Signal(number) => match Signal::try_from(number) {
                Ok(signal) => write!(f, "was killed by {signal}"),
                Err(_) => write!(f, "was killed by signal {number}"),
            },
            Exit::Unknown => write!(f, "ended, its exit status was taken by somebody else"),
        }
    }
}
