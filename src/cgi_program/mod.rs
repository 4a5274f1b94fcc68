//! `forkhorn cgi`: a WSGI application as a CGI program, for hosts that offer nothing else. One request, then the process
//! ends.
//!
//! [`run`] becomes the user's own interpreter, which loads the bridge; that calls [`Program::take`], loads the
//! application, and serves a worker's event loop with one connection. CGI is FastCGI with one request: [`relay`] stands
//! in the web server's place and translates the environment and standard input into records, and the records of the
//! answer into standard output. So an application meets the same rules here as in the pool, and answers the same bytes.

mod relay;

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::channel::Channel;
use crate::cli::CgiProgram;
use crate::config::{Config, StartupError};
use crate::hand_off::HandOffQueue;
use crate::logger;
use crate::master::bridge::{Bridge, boot};
use crate::process::{WorkerExit, WorkerStart};
use crate::scoreboard::{BoardView, Layout, Population};
use crate::worker::Worker;
use relay::End;

/// What a request over its time gets on top, for its stacks to be logged.
const REPORT_TIME: Duration = Duration::from_secs(1);

/// The web server gets an answer, the reason goes to its error log. `{answer:?}` is a Python literal too.
fn fail_with_answer() -> String {
    let answer = relay::INTERNAL_ERROR;
    format!(
        r#"
import sys

def fail(report, advice):
    sys.stderr.write("%s\nforkhorn: %s\n" % (report, advice))
    sys.stdout.write({answer:?})
    sys.stdout.flush()
    sys.exit(3)
"#
    )
}

/// Arguments after those of [`Bridge::arguments`]: a descriptor, and where in its file the configuration begins.
const RUN: &str = "
import os
settings = os.pread(int(sys.argv[5]), 1 << 24, int(sys.argv[6]))
os.close(int(sys.argv[5]))
sys.exit(bridge().cgi(settings))
";

/// Becomes the interpreter that answers the request which the environment describes.
///
/// # Errors
/// What keeps it from starting; the web server has got an answer then. On success it does not return.
pub fn run(options: CgiProgram) -> Result<(), StartupError> {
    let Err(error) = exec(options);
    let is_request = std::env::var_os("GATEWAY_INTERFACE").is_some();
    if is_request && let Err(error) = io::stdout().write_all(relay::INTERNAL_ERROR.as_bytes()) {
        log::debug!("{error}");
    }
    Err(error)
}

fn exec(options: CgiProgram) -> Result<Infallible, StartupError> {
    if std::env::var_os("REQUEST_METHOD").is_none() {
        return Err(StartupError::usage(
            "there is no request in the environment: a web server starts this program for each request (CGI); to try it, \
             set REQUEST_METHOD=GET and PATH_INFO=/",
        ));
    }
    let config = Config::resolve_cgi_program(options, std::env::var_os("SCRIPT_NAME"))?;
    let python = config.python.as_ref().ok_or_else(|| StartupError::usage("there is no application"))?;
    let bridge = Bridge::find();
    let (settings, code_bytes) = settings(&config)
        .map_err(|error| StartupError::other(format!("cannot pass the options on: {error}")))?;
    let descriptor = settings.as_raw_fd();
    let mut command = Command::new(&python.interpreter);
    // Lists of processes show a line, not the whole of the code.
    command.arg("-c").arg(format!("import os; exec(os.pread({descriptor}, {code_bytes}, 0))"));
    command.args(bridge.arguments(&config));
    command.args([OsString::from(descriptor.to_string()), OsString::from(code_bytes.to_string())]);
    command.envs(python.env.iter().map(|(name, value)| (name, value)));
    if let Some(directory) = &python.chdir {
        command.current_dir(directory);
    }
    let error = command.exec();
    Err(StartupError::other(format!("cannot run {}: {error}", python.interpreter.display())))
}

/// A file without a name that the interpreter inherits: its code, then the configuration. The command line would show
/// the configuration to everybody on the machine. Also how many bytes the code has.
fn settings(config: &Config) -> io::Result<(File, usize)> {
    let code = boot(&fail_with_answer(), RUN);
    let mut file = File::from(memfd_create(c"forkhorn-cgi", MFdFlags::empty())?);
    file.write_all(code.as_bytes())?;
    file.write_all(&serde_json::to_vec(config)?)?;
    file.rewind()?;
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok((file, code.len()))
}

/// The request that this process answers, in the interpreter.
pub struct Program {
    pub config: Arc<Config>,
    /// Nobody writes into it but the application's answer.
    stdout: File,
    stdin: File,
    /// The master's end of the worker's channel: there is no master, and it is never read.
    _master: Channel,
}

impl Program {
    /// Takes standard input and output. What the application prints from now on goes to standard error, which web
    /// servers log.
    ///
    /// # Errors
    /// `settings` are not those that [`run`] has passed, or a descriptor is missing.
    pub fn take(settings: &[u8]) -> io::Result<(Program, WorkerStart)> {
        let config: Arc<Config> = Arc::new(serde_json::from_slice(settings)?);
        logger::init(&config, "cgi");
        let (stdin, stdout) = (copy(&io::stdin())?, copy(&io::stdout())?);
        nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
        nix::unistd::dup2_stdout(io::stderr())?;
        let (master, channel) = Channel::pair()?;
        // Nobody reads it.
        let (view, board) = BoardView::create(Layout::of(&config))?;
        // The web server may start another process for another request at the same time.
        view.tell_population(Population { serving: 1, most: u16::MAX });
        let start = WorkerStart {
            config: config.clone(),
            slot: 0,
            generation: 0,
            listeners: Vec::new(),
            hand_off: HandOffQueue::open()?,
            access_log: None,
            channel,
            board: Some(board),
            master_pid: nix::unistd::getppid().as_raw(),
        };
        Ok((Program { config, stdout, stdin, _master: master }, start))
    }

    /// Gives the worker its one request, and ends it once the answer is written.
    ///
    /// # Errors
    /// The connection or the thread can't be made.
    pub fn serve(self, worker: &Arc<Worker>) -> io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        worker.adopt(theirs)?;
        let (worker, timeout) = (worker.clone(), self.config.processes.timeout);
        let begin = Instant::now();
        let relay = move || {
            // The whole of it: the channel must not close before the end.
            let program = self;
            let end = relay::relay(&ours, &program.stdin, &program.stdout, std::env::vars_os());
            // An application that still runs learns that nobody waits any more.
            drop(ours);
            drop(program.stdout);
            match end {
                End::Complete => worker.end(WorkerExit::Done),
                End::NotAnswered => worker.end(WorkerExit::Failed),
                End::NotTaken(error) => {
                    log::info!("the answer was not taken: {error}");
                    worker.end(WorkerExit::Failed);
                }
                // A web server may take an exit status for an opinion, and the answer for a whole one.
                End::BrokenOff => die(),
            }
            let Some(timeout) = timeout else { return };
            std::thread::sleep((timeout + REPORT_TIME).saturating_sub(begin.elapsed()));
            // Stuck: the client was answered 504, or a clean-up after the answer takes as long as a request may. The
            // interpreter's own ways to end would wait for it.
            die();
        };
        std::thread::Builder::new().name("forkhorn-relay".into()).spawn(relay).map(drop)
    }

    /// The application can't be loaded; the log has the reason.
    pub fn refuse(mut self) {
        // Nobody is left to be told if this fails.
        let _ = self.stdout.write_all(relay::INTERNAL_ERROR.as_bytes());
    }
}

fn die() {
    let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
}

fn copy(descriptor: &impl AsFd) -> io::Result<File> {
    let copy: OwnedFd = descriptor.as_fd().try_clone_to_owned()?;
    Ok(copy.into())
}
