//! `--warm-up`: requests that the application answers before anybody else can ask.

use serde_json::Value;

use crate::support::Forkhorn;

/// Notes every request; `/seen` tells what came before.
const APPLICATION: &str = "
import ctypes, json, os, signal, socket, threading, time
LOADED_IN = os.getpid()
SEEN, KEPT, CLOSED, SOCKETS = [], [], [], []
signal.signal(signal.SIGALRM, handler := lambda *_: None)

class Body:
    def __init__(self, blocks):
        self.blocks = blocks
    def __iter__(self):
        return iter(self.blocks)
    def close(self):
        CLOSED.append(True)

def forever():
    while True:
        yield b'x'
        time.sleep(0.001)

def stubborn():
    for _ in range(2):
        try:
            time.sleep(3600)
        except BaseException as error:
            KEPT.append(type(error).__name__)

def application(environ, start_response):
    path = environ['PATH_INFO']
    if path == '/seen':
        start_response('200 OK', [])
        alarm = signal.getsignal(signal.SIGALRM) is handler and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        return [json.dumps({'seen': SEEN, 'pid': os.getpid(), 'loaded_in': LOADED_IN, 'closed': len(CLOSED), 'alarm': alarm,
                            'warm_up': environ.get('forkhorn.warm_up'), 'kept': KEPT}).encode()]
    SEEN.append({'pid': os.getpid()} | {name: value for name, value in environ.items()
                                         if isinstance(value, (str, bool))})
    assert environ['forkhorn.client_gone']() is False
    if path == '/raises':
        raise ValueError('a fault while warming up')
    if path == '/exits':
        raise SystemExit(3)
    if path == '/silent':
        return Body([])
    if path == '/hangs':
        time.sleep(3600)
    if path == '/dies':
        os._exit(7)
    if path == '/hangs_in_c':
        mutex, lock = ctypes.create_string_buffer(256), ctypes.PyDLL(None).pthread_mutex_lock
        lock(mutex), lock(mutex)
    if path == '/stubborn':
        stubborn()
    if path == '/connects':
        SOCKETS.append(socket.create_server(('127.0.0.1', 0)))
        threading.Thread(target=time.sleep, args=(3600,), name='pool', daemon=True).start()
    write = start_response('503 Not Yet' if path == '/unready' else '200 OK', [('Content-Type', 'text/plain')])
    write(b'abc')
    return Body(forever() if path == '/endless' else [b'de', b'', b'f'])
";

fn warm(requests: &[&str]) -> Forkhorn {
    requests
        .iter()
        .fold(Forkhorn::new().code(APPLICATION), |forkhorn, request| forkhorn.arg("--warm-up").arg(*request))
}

#[test]
fn the_template_answers_requests_before_it_is_copied() {
    let requests = ["/a/b%20c?d=e", "http://shop.example:81/x", "https://shop.example/y", "/mounted/z"];
    let forkhorn = warm(&requests);
    let mount = format!("/mounted={}", forkhorn.folder.join("app.py").display());
    let forkhorn = forkhorn.args(["--mount", &mount]).start();
    let answer = forkhorn.get("/seen").json();
    let seen = answer["seen"].as_array().expect("a list");
    assert_eq!(seen.len(), 4, "{answer}");
    for (request, expected) in seen.iter().zip([
        ["", "/a/b c", "d=e", "localhost", "http", "localhost", "80"],
        ["", "/x", "", "shop.example:81", "http", "shop.example", "81"],
        ["", "/y", "", "shop.example", "https", "shop.example", "443"],
        ["/mounted", "/z", "", "localhost", "http", "localhost", "80"],
    ]) {
        let names = [
            "SCRIPT_NAME",
            "PATH_INFO",
            "QUERY_STRING",
            "HTTP_HOST",
            "wsgi.url_scheme",
            "SERVER_NAME",
            "SERVER_PORT",
        ];
        assert_eq!(names.map(|name| request[name].as_str().expect(name)), expected);
        assert_eq!(
            (request["REQUEST_METHOD"].as_str(), request["REMOTE_ADDR"].as_str()),
            (Some("GET"), Some("127.0.0.1"))
        );
        assert_eq!(request["forkhorn.warm_up"], true);
        assert_ne!(request["pid"], answer["pid"], "it was made in the template");
    }
    assert_eq!(answer["closed"], 4);
    assert_eq!(answer["warm_up"], Value::Null, "a client's request is none");
    for request in requests {
        forkhorn.wait_for_log(&format!("INFO *--warm-up {request}: 200, 6 bytes in * ms"));
    }
}

#[test]
fn a_worker_that_loads_for_itself_is_warmed_up_before_it_serves() {
    let forkhorn = warm(&["/a"]).args(["--preload", "never"]).workers(2).start();
    let answer = forkhorn.get("/seen").json();
    assert_eq!(answer["seen"].as_array().map(Vec::len), Some(1), "{answer}");
    assert_eq!(answer["seen"][0]["pid"], answer["pid"]);
    assert_eq!(forkhorn.server.log.count("--warm-up /a: 200"), 2);
    let lines = forkhorn.server.log.lines();
    let first = |pattern: &str| lines.iter().position(|line| line.contains(pattern));
    assert!(first("--warm-up /a: 200") < first("generation 0 ready"), "{lines:?}");
}

#[test]
fn whatever_goes_wrong_while_warming_up_is_logged_and_the_start_goes_on() {
    let requests = [
        "/raises",
        "/exits",
        "/silent",
        "/unready",
        "/hangs",
        "/endless",
        "/stubborn",
        "/%zz",
        "/static/x",
        "/last",
    ];
    let forkhorn = warm(&requests);
    let folder = forkhorn.folder.folder("files");
    let forkhorn =
        forkhorn.mount_path("--static", "/static", &folder).args(["--warm-up-timeout", "0.2"]).start();
    for pattern in [
        "WARN *--warm-up /raises: the application raised an exception",
        "  | ValueError: a fault while warming up",
        "WARN *--warm-up /exits: the application raised an exception",
        "WARN *--warm-up /silent: the application raised an exception",
        "WARN *--warm-up /unready: 503, 6 bytes in",
        "WARN *--warm-up /hangs: there was no answer within 0.2 s",
        "WARN *--warm-up /endless: there was no answer within 0.2 s",
        "INFO *--warm-up /stubborn: 200, 6 bytes in",
        "WARN *--warm-up /%zz: * (400)",
        "WARN *--warm-up /static/x: no application is mounted there",
        "INFO *--warm-up /last: 200",
    ] {
        assert!(forkhorn.server.log.contains(pattern), "{pattern}");
    }
    let answer = forkhorn.get("/seen").json();
    assert_eq!(answer["seen"].as_array().map(Vec::len), Some(8), "{answer}");
    assert_eq!(answer["closed"], 5, "silent, unready, endless, stubborn, last: {answer}");
    assert_eq!(answer["kept"], serde_json::json!(["WarmUpTimeout", "WarmUpTimeout"]), "it is raised again");
    assert_eq!(answer["alarm"], true, "the application's handler of SIGALRM is back, and the timer off");
}

#[test]
fn what_a_warm_up_opens_is_named_and_then_each_worker_warms_up_itself() {
    let forkhorn = warm(&["/connects"]).start();
    forkhorn.wait_for_log(
        "--warm-up is left to each worker, because a copy of what it leaves behind would not work",
    );
    for pattern in [
        "| the thread \"pool\" runs time.sleep (a daemon, started during --warm-up /connects)",
        "| a socket at 127.0.0.1:* is open (descriptor *, opened during --warm-up /connects)",
    ] {
        assert!(forkhorn.server.log.contains(pattern), "{pattern}");
    }
    let answer = forkhorn.get("/seen").json();
    assert_eq!(answer["seen"].as_array().map(Vec::len), Some(1), "{answer}");
    assert_eq!(answer["seen"][0]["pid"], answer["pid"]);
    assert_ne!(answer["loaded_in"], answer["pid"], "what is loaded is copied nevertheless");
    assert_eq!(forkhorn.server.log.count("--warm-up /connects: 200"), 1);
}

#[test]
fn with_preload_always_the_template_is_warmed_up_whatever_that_opens() {
    let forkhorn = warm(&["/connects"]).args(["--preload", "always"]).start();
    forkhorn
        .wait_for_log("| a socket at 127.0.0.1:* is open (descriptor *, opened during --warm-up /connects)");
    let answer = forkhorn.get("/seen").json();
    assert_eq!(answer["seen"][0]["pid"], answer["loaded_in"]);
}

#[test]
fn a_warm_up_that_kills_its_process_or_never_ends_keeps_nobody_from_serving() {
    for request in ["/dies", "/hangs_in_c"] {
        let forkhorn = warm(&["/first", request]).args(["--warm-up-timeout", "0.1"]).start();
        forkhorn.wait_for_log(
            "--warm-up is left out: a process that has tried it has died, or did not come to an end",
        );
        let answer = forkhorn.get("/seen").json();
        assert_eq!(answer["seen"].as_array().map(Vec::len), Some(0), "{request}: {answer}");
        assert_ne!(answer["loaded_in"], answer["pid"], "{request}");
    }
}

#[test]
fn what_is_no_request_is_an_error_of_usage() {
    for (request, expected) in [("x", "--warm-up x: expected a path"), ("http:///", "expected a host")] {
        let (code, log) = warm(&[request]).run_to_exit();
        assert!(code == 2 && log.contains(expected), "{code}: {log}");
    }
    let forkhorn = Forkhorn::new().cgi_fixtures().args(["--warm-up", "/"]);
    let (code, log) = forkhorn.run_to_exit();
    assert!(code == 2 && log.contains("no application"), "{code}: {log}");
}
