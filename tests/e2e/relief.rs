//! A worker whose only application thread is busy is not deaf: everything that needs no Python goes on.

use std::fs;
use std::path::PathBuf;

use crate::support::fastcgi::{self, Request};
use crate::support::http::request_bytes;
use crate::support::{Forkhorn, Running, wait_until};

/// `/busy` keeps the only thread until the file `release` is there; `/chunks` yields blocks for ever a slow reader.
const APPLICATION: &str = r#"
import os, time

FOLDER = os.path.dirname(os.path.abspath(__file__))

def application(environ, start_response):
    path = environ["PATH_INFO"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/busy":
        open(os.path.join(FOLDER, "entered"), "w").close()
        while not os.path.exists(os.path.join(FOLDER, "release")):
            if environ["QUERY_STRING"] == "sleep":
                time.sleep(0.002)
            else:
                sum(range(1000))
        return [b"released"]
    return [str(len(environ["wsgi.input"].read())).encode()]
"#;

fn busy(how: &str) -> (Running, crate::support::http::Connection, PathBuf) {
    let forkhorn =
        Forkhorn::new().both().script("hello", "#!/bin/sh\nprintf 'Content-Type: a/b\\n\\nscript'\n");
    let site = forkhorn.folder.folder("site");
    fs::write(site.join("large"), vec![b'x'; 30_000_000]).expect("room");
    let forkhorn = forkhorn.cgi_folder().mount_path("--static", "/static", &site).code(APPLICATION).start();
    let folder = forkhorn.folder.path().to_path_buf();
    let mut client = forkhorn.connect();
    client.send(request_bytes("GET", &format!("/busy?{how}"), &[], b""));
    wait_until("the application runs", || folder.join("entered").exists());
    (forkhorn, client, folder)
}

/// With Python's lock given up while it waits, and with a loop that gives it up only when it is asked for.
const WAYS: [&str; 2] = ["sleep", "compute"];

#[test]
fn scripts_files_and_uploads_go_on_while_python_is_busy() {
    for how in WAYS {
        let (forkhorn, mut client, folder) = busy(how);
        // New connections are accepted; a script runs from its start to its end; a file is sent.
        assert_eq!(forkhorn.get("/cgi-bin/hello").text(), "script", "{how}");
        assert_eq!(forkhorn.get("/static/large").body.len(), 30_000_000, "{how}");
        assert_eq!(
            forkhorn.fcgi(&Request::new("GET", "/cgi-bin/hello")).response().text(),
            "script",
            "{how}"
        );
        // A large upload on another connection is taken in whole: had nobody read, this would block.
        let mut upload = forkhorn.connect();
        upload.send(request_bytes("POST", "/length", &[], &vec![b'x'; 10_000_000]));
        fs::write(folder.join("release"), "").expect("room");
        assert_eq!(client.read_response().text(), "released", "{how}");
        assert_eq!(upload.read_response().text(), "10000000", "{how}");
    }
}

#[test]
fn a_slow_download_and_an_abort_are_seen_while_python_is_busy() {
    for how in WAYS {
        let forkhorn = Forkhorn::new().both();
        let site = forkhorn.folder.folder("site");
        fs::write(site.join("large"), vec![b'x'; 30_000_000]).expect("room");
        let script = "#!/bin/sh\necho $$ > pid\nexec sleep 1000\n";
        let forkhorn = forkhorn.script("sleep", script).cgi_folder().mount_path("--static", "/static", &site);
        let forkhorn = forkhorn.code(APPLICATION).start();
        let folder = forkhorn.folder.path().to_path_buf();
        // Begun before the application is busy, read to its end while it is.
        let mut download = forkhorn.connect();
        download.send(request_bytes("GET", "/static/large", &[], b""));
        assert!(!download.peek().is_empty());
        let mut client = forkhorn.connect();
        client.send(request_bytes("GET", &format!("/busy?{how}"), &[], b""));
        wait_until("the application runs", || folder.join("entered").exists());
        assert_eq!(download.read_response().body.len(), 30_000_000, "{how}");
        // A script whose request is aborted ends.
        let mut peer = forkhorn.peer();
        peer.send(Request::new("GET", "/cgi-bin/sleep").keep().bytes());
        let pid_file = folder.join("cgi-bin/pid");
        wait_until("the script runs", || {
            fs::read_to_string(&pid_file).is_ok_and(|text| text.ends_with('\n'))
        });
        let pid = fs::read_to_string(&pid_file).expect("just read").trim().to_owned();
        peer.send(fastcgi::record(fastcgi::ABORT_REQUEST, 1, b""));
        wait_until("the script has ended", || !PathBuf::from(format!("/proc/{pid}")).exists());
        fs::write(folder.join("release"), "").expect("room");
        assert_eq!(client.read_response().text(), "released", "{how}");
    }
}

#[test]
fn several_threads_of_one_worker_are_in_python_at_once() {
    let forkhorn = Forkhorn::new().args(["--threads", "3"]).code(APPLICATION).start();
    let folder = forkhorn.folder.path().to_path_buf();
    let mut clients: Vec<_> = (0..2)
        .map(|_| {
            let mut client = forkhorn.connect();
            client.send(request_bytes("GET", "/busy?sleep", &[], b""));
            client
        })
        .collect();
    wait_until("the application runs", || folder.join("entered").exists());
    // The third thread answers while two are held.
    for _ in 0..20 {
        assert_eq!(forkhorn.get("/other").text(), "0");
    }
    fs::write(folder.join("release"), "").expect("room");
    for client in &mut clients {
        assert_eq!(client.read_response().text(), "released");
    }
}

#[test]
fn a_client_that_sends_ahead_is_answered_while_another_thread_waits() {
    let forkhorn = Forkhorn::new().args(["--threads", "2"]).code(APPLICATION).start();
    let mut client = forkhorn.connect();
    for _ in 0..20 {
        client.send(request_bytes("GET", "/other", &[], b"").repeat(4));
        for _ in 0..4 {
            assert_eq!(client.read_response().text(), "0");
        }
    }
}
