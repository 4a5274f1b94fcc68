//! What can't be copied is found and named, with the module that has brought it.

use std::path::PathBuf;
use std::process::Command;

use crate::support::process::process;
use crate::support::{Forkhorn, wait_until};

/// Answers `PID of the process that loaded; PID of the worker`.
const APPLICATION: &str = "
import os
LOADED_IN = os.getpid()

def application(environ, start_response):
    start_response('200 OK', [])
    return [f'{LOADED_IN}; {os.getpid()}'.encode()]
";

const CULPRIT: &str = "
import _thread, os, select, socket, sqlite3, subprocess, sys, threading, time

def refresh():
    time.sleep(3600)

threading.Thread(target=refresh, name='cache-refresh', daemon=True).start()
timer = threading.Timer(3600, refresh)
timer.daemon = True
timer.start()
_thread.start_new_thread(time.sleep, (3600,))
server = socket.create_server(('127.0.0.1', 0))
client = socket.create_connection(server.getsockname())
local = socket.socket(socket.AF_UNIX)
address = os.environ['FOLDER'] + f'/{os.getpid()}.socket'
local.bind(address)
local.listen()
caller = socket.socket(socket.AF_UNIX)
caller.connect(address)
pipe = os.pipe()
events = select.epoll()
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)'], stdin=subprocess.DEVNULL)
with open(os.environ['FOLDER'] + '/children', 'a') as file:
    file.write(f'{child.pid}\\n')
database = sqlite3.connect(os.environ['FOLDER'] + '/shop.db')
database.execute('create table if not exists article (name)')
database.commit()
";

#[test]
fn what_speaks_against_a_copy_is_named_with_its_module() {
    let forkhorn = Forkhorn::new();
    let folder = forkhorn.folder.path().to_owned();
    forkhorn.folder.write("culprit.py", CULPRIT);
    let code = format!("import culprit, socketserver\n{APPLICATION}");
    let forkhorn = forkhorn.env("FOLDER", folder).code(&code).start();
    let text = forkhorn.get("/").text();
    let (loaded_in, worker) = text.split_once("; ").expect("two pids");
    assert_eq!(loaded_in, worker, "each worker loads");
    forkhorn.wait_for_log("each worker loads the application itself*--preload always copies nevertheless");
    for pattern in [
        "| the thread \"cache-refresh\" runs culprit.refresh (a daemon, started while culprit was imported)",
        "| the thread \"Thread-*\" runs threading.Timer.run (a daemon, started while culprit was imported)",
        "| a thread of native code runs (*_thread.start_new_thread, started while culprit was imported)",
        "| a socket at 127.0.0.1:* is open (descriptor *, opened while culprit was imported)",
        "| a socket to 127.0.0.1:*, from 127.0.0.1:*, is open (descriptor *",
        "| a socket at *.socket is open (descriptor *",
        "| a socket to *.socket is open (descriptor *",
        "| a pipe is open (descriptors * and *, opened while culprit was imported)",
        "| a set of events (epoll) is open (descriptor *",
        "| the SQLite database */shop.db is open (descriptor *",
        "| the child process * runs (\"*import time; time.sleep(3600)*\")",
    ] {
        assert!(forkhorn.server.log.contains(pattern), "{pattern}");
    }
    let children = forkhorn.folder.read("children");
    let pids: Vec<i32> = children.lines().map(|line| line.parse().expect("a pid")).collect();
    assert_eq!(pids.len(), 2, "one of the template, one of the worker");
    wait_until("the child of what was thrown away is gone", || process(pids[0]).is_none());
    assert!(process(pids[1]).is_some(), "the worker's own runs");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pids[1]), nix::sys::signal::Signal::SIGKILL)
        .expect("it runs");
}

#[test]
fn what_may_be_shared_or_is_gone_is_no_obstacle() {
    let code = format!(
        "
import os, socket, subprocess, sys, threading
joined = threading.Thread(target=int)
joined.start()
joined.join()
socket.create_server(('127.0.0.1', 0)).close()
for end in os.pipe():
    os.close(end)
ended = subprocess.run([sys.executable, '-c', ''])
not_waited_for = subprocess.Popen([sys.executable, '-c', ''], stdin=subprocess.DEVNULL)
os.waitid(os.P_PID, not_waited_for.pid, os.WEXITED | os.WNOWAIT)
kept = [open(__file__), open(__file__ + '.log', 'a'), open(__file__ + '.data', 'w+b'), open('/dev/urandom', 'rb'),
        open('/dev/null', 'w'), os.memfd_create('shared')]
kept[2].write(b'some data, but no database')
kept[2].flush()
{APPLICATION}"
    );
    let forkhorn = Forkhorn::new().code(&code).start();
    let text = forkhorn.get("/").text();
    let (loaded_in, worker) = text.split_once("; ").expect("two pids");
    assert_ne!(loaded_in, worker, "it is copied");
    assert!(!forkhorn.server.log.contains("each worker loads"));
}

/// A library with a thread that waits, as those of computing libraries do.
const LIBRARY: &str = "
#include <pthread.h>
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static void *work(void *nothing) {
    pthread_mutex_lock(&mutex);
    for (;;) pthread_cond_wait(&never, &mutex);
    return nothing;
}
__attribute__((constructor)) static void start(void) {
    pthread_t thread;
    pthread_create(&thread, 0, work, 0);
}
";

#[test]
fn threads_of_a_library_are_named_by_it_and_those_of_openblas_need_not_be_copied() {
    for (name, shared) in [("libtelemetry.so.1", false), ("libscipy_openblas64_-1234.so", true)] {
        let forkhorn = Forkhorn::new();
        let library = compile(&forkhorn, name);
        forkhorn.folder.write(
            "telemetry.py",
            format!("import ctypes\nctypes.CDLL({:?})", library.display().to_string()),
        );
        let forkhorn = forkhorn.code(&format!("import telemetry\n{APPLICATION}")).start();
        let text = forkhorn.get("/").text();
        let (loaded_in, worker) = text.split_once("; ").expect("two pids");
        assert_eq!(loaded_in != worker, shared, "{name}");
        if !shared {
            let reason =
                "a thread of native code runs (*of libtelemetry.so.1, started while telemetry was imported)";
            assert!(forkhorn.server.log.contains(reason), "{reason}");
        }
    }
}

fn compile(forkhorn: &Forkhorn, name: &str) -> PathBuf {
    let source = forkhorn.folder.write("library.c", LIBRARY);
    let library = forkhorn.folder.join(name);
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-pthread", "-o"]).arg(&library).arg(&source);
    assert!(compiler.status().expect("a C compiler").success(), "{compiler:?}");
    library
}

#[test]
fn locks_that_a_copy_would_wait_for_in_vain_are_named() {
    let code = format!(
        "
import threading, time
LOCK, FREE, OWN, PLAIN = threading.RLock(), threading.RLock(), threading.RLock(), threading.Lock()

class Cache:
    def __init__(self):
        self.lock = threading.Lock()

CACHE = Cache()
held = threading.Event()

def hold():
    with LOCK, CACHE.lock:
        held.set()
        time.sleep(3600)

threading.Thread(target=hold, daemon=True).start()
held.wait()
OWN.acquire()
{APPLICATION}"
    );
    let forkhorn = Forkhorn::new().code(&code).args(["--preload", "always"]).start();
    let text = forkhorn.get("/").text();
    let (loaded_in, worker) = text.split_once("; ").expect("two pids");
    assert_ne!(loaded_in, worker, "it is copied nevertheless");
    let lines = forkhorn.server.log.lines();
    let locks: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("  | the lock ")).collect();
    assert_eq!(
        locks,
        [
            "app.LOCK is held, and stays so in each worker",
            "app.CACHE.lock is held, and stays so in each worker"
        ]
    );
}

#[test]
fn the_import_system_is_as_it_was_before() {
    let code = "
from importlib.machinery import ExtensionFileLoader, SourceFileLoader
WATCHED = SourceFileLoader.exec_module.__qualname__

def application(environ, start_response):
    start_response('200 OK', [])
    loaders = (SourceFileLoader.exec_module, ExtensionFileLoader.exec_module, ExtensionFileLoader.create_module)
    return [' '.join([WATCHED, *(method.__qualname__ for method in loaders)]).encode()]
";
    let plain = "_LoaderBasics.exec_module ExtensionFileLoader.exec_module ExtensionFileLoader.create_module";
    for (preload, watched) in [("auto", "wrap."), ("never", "_LoaderBasics.")] {
        let forkhorn = Forkhorn::new().code(code).args(["--preload", preload]).start();
        let text = forkhorn.get("/").text();
        let (while_loading, after) = text.split_once(' ').expect("several names");
        assert!(while_loading.starts_with(watched), "--preload {preload}: {text}");
        assert_eq!(after, plain, "--preload {preload}");
    }
}
