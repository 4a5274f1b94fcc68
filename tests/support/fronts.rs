//! Real web servers in front of forkhorn, each with a folder of its own: a copy of the project's `examples` and
//! `cgi-bin`, in which the configurations run as they stand. Only the port is changed.
//!
//! The head of each configuration says how forkhorn and the web server are started. Those very lines are run here, so
//! that an example whose instructions are wrong fails a test.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use super::folder::{Folder, copy_tree, project, set_mode};
use super::forkhorn::{BINARY, Forkhorn, Running, require_bridge};
use super::http::{self, Address, Connection, Response, Stream};
use super::process::Supervised;
use super::python;
use super::wait::wait_for;

/// A copy of what a web server needs, and the port it is to use.
#[derive(Debug)]
pub struct Site {
    pub folder: Folder,
    pub port: u16,
}

impl Site {
    /// An empty folder, for configurations that a test writes itself.
    pub fn bare() -> Site {
        let site = Site { folder: Folder::new(), port: free_port() };
        // Servers drop to users of their own, and write there.
        set_mode(&site.folder.folder("run"), 0o777);
        site
    }

    /// With the examples.
    pub fn new() -> Site {
        let site = Site::bare();
        for name in ["examples", "cgi-bin"] {
            copy_tree(&project().join(name), &site.folder.join(name));
        }
        std::os::unix::fs::symlink(python::venv(), site.folder.join(".venv")).expect("a link");
        for configuration in ["nginx", "apache", "lighttpd", "haproxy"] {
            let entries = std::fs::read_dir(site.folder.join("examples").join(configuration));
            for entry in entries.expect("examples of every server").flatten() {
                site.set_port(&entry.path());
            }
        }
        site
    }

    fn set_port(&self, path: &Path) {
        let text = std::fs::read_to_string(path).expect("a configuration");
        let text = text.replace("127.0.0.1:8080", &format!("127.0.0.1:{}", self.port));
        let text = text.replace("server.port = 8080", &format!("server.port = {}", self.port));
        std::fs::write(path, text).expect("a configuration");
    }

    /// Puts the binary where the configurations that start forkhorn by themselves look for it.
    pub fn install_binary(&self) {
        require_bridge();
        let release = self.folder.folder("target/release");
        for name in ["forkhorn", "lib_forkhorn.so"] {
            std::fs::copy(Path::new(BINARY).with_file_name(name), release.join(name)).expect("a copy");
        }
    }

    /// A configuration of our own, where the examples have none; `{port}` and `{folder}` are filled in.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let folder = self.folder.path().display().to_string();
        self.folder.write(name, text.replace("{port}", &self.port.to_string()).replace("{folder}", &folder))
    }

    /// The commands in the comment at the head of an example that start something, one a line. The others, which
    /// prepare the folder, have been run.
    pub fn commands(&self, configuration: &str) -> Vec<String> {
        let text = self.folder.read(configuration);
        let lines = text.lines().take_while(|line| line.starts_with('#'));
        let script: Vec<&str> = lines.filter_map(|line| line.strip_prefix("#     ")).collect();
        let script = script.join("\n").replace("\\\n", " ");
        let commands: Vec<String> =
            script.lines().map(str::to_owned).filter(|line| !self.prepares(line)).collect();
        assert!(!commands.is_empty(), "{configuration} does not say how to start it");
        commands
    }

    /// Runs a line that prepares the folder.
    fn prepares(&self, line: &str) -> bool {
        let is_preparation = ["mkdir ", "chown "].iter().any(|start| line.starts_with(start));
        // Only root can, and need.
        let is_meant = !line.starts_with("chown") || nix::unistd::geteuid().is_root();
        if is_preparation && is_meant {
            let status = Command::new("sh").args(["-c", line]).current_dir(self.folder.path()).status();
            assert!(status.is_ok_and(|status| status.success()), "{line}");
        }
        is_preparation
    }

    /// Starts forkhorn by a line of a configuration.
    #[track_caller]
    pub fn forkhorn(&self, line: &str) -> Running {
        Forkhorn::new().workers(2).command_line(line).directory(self.folder.path()).start()
    }

    /// Starts a web server by a line of a configuration.
    #[track_caller]
    pub fn front(&self, line: &str) -> Front {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {line}")]).current_dir(self.folder.path());
        let name = line.split_whitespace().next().unwrap_or_default();
        let mut server = Supervised::start(name, &command, Stdio::null());
        let address = Address::Tcp(([127, 0, 0, 1], self.port).into());
        wait_for(&format!("{name} accepts connections"), || {
            if let Some(status) = server.try_exit() {
                panic!("{name} has ended: {status}\n{}\n{}", server.log.text(), self.front_logs());
            }
            Stream::try_open(&address).ok()
        });
        Front { address, server, run: self.folder.join("run") }
    }

    fn front_logs(&self) -> String {
        front_logs(&self.folder.join("run"))
    }
}

/// Both of an example's processes; the web server ends first.
#[derive(Debug)]
pub struct Example {
    pub front: Front,
    /// `None` if the web server starts forkhorn.
    _forkhorn: Option<Running>,
    _site: Site,
}

impl Example {
    /// Runs an example as its head says.
    #[track_caller]
    pub fn start(configuration: &str) -> Example {
        let site = Site::new();
        match site.commands(configuration).as_slice() {
            [front] => {
                site.install_binary();
                Example { front: site.front(front), _forkhorn: None, _site: site }
            }
            [forkhorn, front] => {
                let forkhorn = site.forkhorn(forkhorn);
                Example { front: site.front(front), _forkhorn: Some(forkhorn), _site: site }
            }
            other => panic!("{configuration}: {} commands", other.len()),
        }
    }
}

/// A web server that runs.
#[derive(Debug)]
pub struct Front {
    pub address: Address,
    pub server: Supervised,
    run: PathBuf,
}

impl Front {
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        http::get(&self.address, target)
    }

    #[track_caller]
    pub fn request(&self, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Response {
        http::request(&self.address, method, target, fields, body)
    }

    /// What the web server has written about errors, to whatever place.
    pub fn logs(&self) -> String {
        self.server.log.text() + &front_logs(&self.run)
    }

    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::open(&self.address)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let complaints = self.server.stop(Signal::SIGTERM);
        if std::thread::panicking() || !complaints.is_empty() {
            eprintln!(
                "--- log of the web server\n{}\n{}\n--- end of log",
                self.server.log.text(),
                front_logs(&self.run)
            );
        }
        if !std::thread::panicking() {
            assert!(complaints.is_empty(), "{}", complaints.join("; "));
        }
    }
}

/// The error logs that web servers keep in files.
fn front_logs(run: &Path) -> String {
    ["apache-error.log", "lighttpd-error.log"]
        .iter()
        .filter_map(|name| std::fs::read_to_string(run.join(name)).ok())
        .collect()
}

/// A port that nobody uses now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}
