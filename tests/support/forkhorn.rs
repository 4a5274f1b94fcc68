//! The real binary: started with free ports and a folder of its own, watched through its log, stopped at the end of
//! the test. Whatever it leaves behind, and an end that is not clean, fails the test.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use nix::sys::signal::Signal;

use super::fastcgi;
use super::folder::{Folder, fixture};
use super::http::{self, Address, Response};
use super::process::{Supervised, family};
use super::python;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_forkhorn");

/// Runs the binary to its end: its exit code, what it printed, and its errors.
pub fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(BINARY)
        .args(arguments)
        .env_remove("VIRTUAL_ENV")
        .env("PATH", python::search_path())
        .output()
        .expect("the binary");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// Variables that would change what forkhorn does.
const FOREIGN_VARIABLES: [&str; 15] = [
    "VIRTUAL_ENV",
    "FORKHORN_CONFIG",
    "FORKHORN_UPGRADE",
    "FORKHORN_PYTHON",
    "FORKHORN_WORKERS",
    "FORKHORN_THREADS",
    "FORKHORN_LOG",
    "FCGI_WEB_SERVER_ADDRS",
    "FORKHORN_CONTROL",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONUNBUFFERED",
    "LISTEN_FDS",
    "LISTEN_PID",
];

/// How forkhorn is to be started. Without a listener it gets one HTTP listener on a free port, and one worker.
#[derive(Debug)]
pub struct Forkhorn {
    pub folder: Folder,
    app: Option<OsString>,
    command_line: Option<String>,
    plain: bool,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    wrapper: Vec<OsString>,
    stdin: Option<OwnedFd>,
    workers: u16,
    /// `--workers`, where that is not a number.
    pool: Option<&'static str>,
    listeners: usize,
    no_listener: bool,
    python: Option<PathBuf>,
    any_python: bool,
    directory: Option<PathBuf>,
    log_level: &'static str,
}

impl Forkhorn {
    pub fn new() -> Self {
        Forkhorn {
            folder: Folder::new(),
            app: None,
            command_line: None,
            plain: false,
            args: Vec::new(),
            envs: Vec::new(),
            wrapper: Vec::new(),
            stdin: None,
            workers: 1,
            pool: None,
            listeners: 0,
            no_listener: false,
            python: None,
            any_python: false,
            directory: None,
            log_level: "debug",
        }
    }

    /// An application of `tests/fixtures/wsgi`, with `:callable` if need be.
    pub fn wsgi(self, name: &str) -> Self {
        let path = fixture("wsgi").join(name);
        self.app(path)
    }

    /// An application as the command line takes it.
    pub fn app(mut self, app: impl Into<OsString>) -> Self {
        self.app = Some(app.into());
        self
    }

    /// An application that is written here.
    pub fn code(self, code: &str) -> Self {
        let path = self.folder.write("app.py", code);
        self.app(path)
    }

    /// A whole command line for the shell, `forkhorn serve …`; workers and log level are added.
    pub fn command_line(mut self, line: &str) -> Self {
        self.listeners = line.matches("--http ").count() + line.matches("--fastcgi ").count();
        self.command_line = Some(line.to_owned());
        self
    }

    /// The same, but nothing is added: it is to have one worker.
    pub fn plain_command_line(mut self, line: &str) -> Self {
        self.plain = true;
        self.no_listener().command_line(line)
    }

    pub fn workers(mut self, count: u16) -> Self {
        self.workers = count;
        self
    }

    /// A pool that grows and shrinks; it begins with one worker.
    pub fn pool(mut self, size: &'static str) -> Self {
        self.pool = Some(size);
        self
    }

    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn args<const N: usize>(self, args: [&str; N]) -> Self {
        args.into_iter().fold(self, Forkhorn::arg)
    }

    pub fn http(self, address: &str) -> Self {
        self.listen("--http", address)
    }

    pub fn fastcgi(self, address: &str) -> Self {
        self.listen("--fastcgi", address)
    }

    /// Both protocols, each on a free port.
    pub fn both(self) -> Self {
        self.http("127.0.0.1:0").fastcgi("127.0.0.1:0")
    }

    /// No option that names a listener.
    pub fn no_listener(mut self) -> Self {
        self.no_listener = true;
        self
    }

    fn listen(mut self, option: &str, address: &str) -> Self {
        self.listeners += 1;
        self.args([option, address])
    }

    /// `tests/fixtures/cgi-bin` under `/cgi-bin`.
    pub fn cgi_fixtures(self) -> Self {
        let directory = fixture("cgi-bin");
        self.mount_path("--cgi", "/cgi-bin", &directory)
    }

    /// A script in a folder of this test, which is mounted under `/cgi-bin` by [`Forkhorn::cgi_folder`].
    pub fn script(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.folder.script(&format!("cgi-bin/{name}"), content);
        self
    }

    pub fn cgi_folder(self) -> Self {
        let directory = self.folder.folder("cgi-bin");
        self.mount_path("--cgi", "/cgi-bin", &directory)
    }

    pub fn mount_path(self, option: &str, prefix: &str, directory: &Path) -> Self {
        let mut value = OsString::from(format!("{prefix}="));
        value.push(directory);
        self.arg(option).arg(value)
    }

    pub fn python(mut self, path: impl Into<PathBuf>) -> Self {
        self.python = Some(path.into());
        self
    }

    /// No `--python`: forkhorn has to find one.
    pub fn python_by_itself(mut self) -> Self {
        self.any_python = true;
        self
    }

    pub fn env(mut self, key: &str, value: impl Into<OsString>) -> Self {
        self.envs.push((key.into(), value.into()));
        self
    }

    /// Starts `wrapper forkhorn serve …`; the wrapper has to exec.
    pub fn wrapper<const N: usize>(mut self, wrapper: [&str; N]) -> Self {
        self.wrapper = wrapper.map(OsString::from).to_vec();
        self
    }

    pub fn stdin(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.stdin = Some(descriptor.into());
        self
    }

    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    pub fn log_level(mut self, level: &'static str) -> Self {
        self.log_level = level;
        self
    }

    /// Starts it, and waits until all its workers are ready.
    #[track_caller]
    pub fn start(self) -> Running {
        let mut running = self.launch();
        running.wait_for_start();
        running
    }

    /// Starts it, and does not wait.
    #[track_caller]
    pub fn launch(mut self) -> Running {
        if self.listeners == 0 && !self.no_listener {
            self = self.http("127.0.0.1:0");
        }
        let stdin = self.stdin.take().map_or_else(Stdio::null, Stdio::from);
        let server = Supervised::start("forkhorn", &self.command(), stdin);
        Running {
            folder: self.folder,
            server,
            http: Vec::new(),
            fastcgi: Vec::new(),
            workers: self.workers,
            listeners: self.listeners,
            exit: ExpectedExit::Clean,
        }
    }

    /// Starts it where it can't serve, and waits for its end.
    #[track_caller]
    pub fn run_to_exit(self) -> (i32, String) {
        let mut running = self.launch();
        let status = running.wait_exit();
        let code =
            status.code().unwrap_or_else(|| panic!("forkhorn was ended by signal {:?}", status.signal()));
        super::wait::poll(super::wait::DEADLINE, || running.server.log.is_complete().then_some(()));
        (code, running.server.log.text())
    }

    fn command(&self) -> Command {
        let mut command = match &self.command_line {
            Some(line) => self.shell(line),
            None => self.serve(),
        };
        for name in FOREIGN_VARIABLES {
            command.env_remove(name);
        }
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.envs(self.envs.iter().map(|(key, value)| (key, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }

    fn shell(&self, line: &str) -> Command {
        require_bridge();
        let mut command = Command::new("sh");
        let more = match self.plain {
            true => String::new(),
            false => format!(" --workers {} --log-level {}", self.workers, self.log_level),
        };
        command.arg("-c").arg(format!("exec {line}{more}"));
        let binaries = Path::new(BINARY).parent().expect("a folder").to_owned();
        let path = std::iter::once(binaries).chain(std::env::split_paths(python::search_path()));
        command.env("PATH", std::env::join_paths(path).expect("a PATH"));
        command
    }

    fn serve(&self) -> Command {
        let mut words = self.wrapper.clone();
        words.push(BINARY.into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("serve").args(&self.app);
        command.env("PATH", python::search_path());
        let workers = self.pool.map_or_else(|| self.workers.to_string(), str::to_owned);
        command.args(["--workers", &workers, "--log-level", self.log_level]);
        let needs_python = self.app.is_some() || self.args.iter().any(|arg| arg == "--mount");
        if needs_python {
            require_bridge();
            if let Some(python) = self.python.as_deref().or((!self.any_python).then(python::default_python)) {
                command.arg("--python").arg(python);
            }
        }
        command.args(&self.args);
        command
    }
}

/// The extension module lies beside the binary.
pub fn require_bridge() {
    let module = Path::new(BINARY).with_file_name("lib_forkhorn.so");
    assert!(
        module.exists(),
        "{} is missing: run `cargo build --workspace` first, as scripts/test does",
        module.display()
    );
}

/// How a running forkhorn is expected to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedExit {
    /// With 0, after TERM from us if it has not ended before.
    Clean,
    /// However it likes; nothing may be left behind all the same.
    Any,
}

#[derive(Debug)]
pub struct Running {
    pub folder: Folder,
    pub server: Supervised,
    http: Vec<Address>,
    fastcgi: Vec<Address>,
    workers: u16,
    listeners: usize,
    exit: ExpectedExit,
}

impl Running {
    #[track_caller]
    fn wait_for_start(&mut self) {
        let ready = (0..self.workers).map(|slot| format!("worker {slot} generation 0 ready"));
        for pattern in ready {
            super::wait::wait_for(&pattern, || {
                let ended = self.server.try_exit();
                assert!(ended.is_none(), "forkhorn has ended at start: {ended:?}");
                self.server.log.contains(&pattern).then_some(())
            });
        }
        for count in 1..=self.listeners {
            let line = self.server.log.wait_for_nth("listening on ", count);
            self.note_listener(&line);
        }
    }

    fn note_listener(&mut self, line: &str) {
        let said = line.split_once("listening on ").map(|(_, said)| said).unwrap_or_default();
        // In an object of JSON, the message ends at a quotation mark.
        let mut words = said.split([' ', '"']);
        let (Some(protocol), Some(place)) = (words.next(), words.next()) else { return };
        let address = match place.strip_prefix("unix:") {
            Some(path) => Address::Unix(path.into()),
            None => match place.parse() {
                Ok(address) => Address::Tcp(address),
                Err(_) => return,
            },
        };
        match protocol {
            "http" => self.http.push(address),
            _ => self.fastcgi.push(address),
        }
    }

    /// The first HTTP listener.
    #[track_caller]
    pub fn http(&self) -> &Address {
        self.http.first().expect("an HTTP listener")
    }

    /// The first FastCGI listener.
    #[track_caller]
    pub fn fastcgi(&self) -> &Address {
        self.fastcgi.first().expect("a FastCGI listener")
    }

    pub fn all_http(&self) -> &[Address] {
        &self.http
    }

    pub fn all_fastcgi(&self) -> &[Address] {
        &self.fastcgi
    }

    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        http::get(self.http(), target)
    }

    #[track_caller]
    pub fn request(&self, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Response {
        http::request(self.http(), method, target, fields, body)
    }

    #[track_caller]
    pub fn connect(&self) -> http::Connection {
        http::Connection::open(self.http())
    }

    #[track_caller]
    pub fn fcgi(&self, request: &fastcgi::Request) -> fastcgi::Answer {
        fastcgi::request(self.fastcgi(), request)
    }

    #[track_caller]
    pub fn peer(&self) -> fastcgi::Peer {
        fastcgi::Peer::open(self.fastcgi())
    }

    #[track_caller]
    pub fn wait_for_log(&self, pattern: &str) -> String {
        self.server.log.wait_for(pattern)
    }

    /// The `count`th line that matches, counted from 1.
    #[track_caller]
    pub fn wait_for_nth_log(&self, pattern: &str, count: usize) -> String {
        self.server.log.wait_for_nth(pattern, count)
    }

    /// All lines that have come.
    pub fn log(&self) -> Vec<String> {
        self.server.log.lines()
    }

    pub fn pid(&self) -> i32 {
        self.server.pid()
    }

    pub fn signal(&self, signal: Signal) {
        self.server.signal(signal);
    }

    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        self.exit = ExpectedExit::Any;
        self.server.wait_exit()
    }

    /// From here on, the end need not be clean.
    pub fn may_end(&mut self) {
        self.exit = ExpectedExit::Any;
    }

    /// Every process below the master: the template, workers, scripts and their children.
    pub fn family(&self) -> Vec<super::process::ProcessEntry> {
        family(self.pid())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut complaints = self.server.stop(Signal::SIGTERM);
        let status = self.server.ended();
        if self.exit == ExpectedExit::Clean && status.is_none_or(|status| status.code() != Some(0)) {
            complaints.push(format!("forkhorn ended with {status:?}"));
        }
        if self.server.log.contains("panicked at") {
            complaints.push("forkhorn has panicked".to_owned());
        }
        if std::thread::panicking() || !complaints.is_empty() {
            eprintln!("--- log of forkhorn\n{}\n--- end of log", self.server.log.text());
        }
        if !std::thread::panicking() {
            assert!(complaints.is_empty(), "{}", complaints.join("; "));
        }
    }
}
