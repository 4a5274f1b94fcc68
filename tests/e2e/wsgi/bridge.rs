//! The bridge in its details: what is refused, what is kept and used again, and what speaks against a copy.

use std::fs;
use std::io::Write;
use std::net::TcpStream;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};

use crate::support::http::Address;
use crate::support::wait::DEADLINE;
use crate::support::{Forkhorn, Running, wait_until};

fn misbehaving() -> Forkhorn {
    let forkhorn = Forkhorn::new().wsgi("misbehaving.py");
    let notes = forkhorn.folder.write("notes", "");
    forkhorn.env("NOTES", notes)
}

fn notes(forkhorn: &Running) -> String {
    fs::read_to_string(forkhorn.folder.join("notes")).expect("the notes")
}

#[test]
fn every_head_that_can_not_be_sent_is_refused_while_the_application_can_still_answer() {
    let forkhorn = misbehaving().start();
    let names = forkhorn.get("/names").text();
    assert!(names.lines().count() > 20, "{names}");
    for name in names.lines() {
        let caught = forkhorn.get(&format!("/refused_and_caught?what={name}"));
        assert_eq!(caught.status, 200, "{name}");
        assert!(caught.text().starts_with("refused by "), "{name}: {}", caught.text());
    }
}

#[test]
fn the_body_reads_like_a_file_in_memory_however_it_is_kept() {
    let forkhorn = Forkhorn::new().wsgi("echo.py").args(["--spool-threshold", "20000"]).start();
    let body = body_of(90_000);
    for size in [0, 1, 4, 77, 20_000, 20_001, 90_000] {
        for calls in [
            "read,read,readline",
            "read:5,readline,read:0,read:-1,read:none",
            "readline,readline:3,readline:0,readline:100,readline:-1,readline:none,read:17000,readline,list",
            "readlines:10,readlines:0,readlines:-1,read",
            "next,next,next,readlines:30000,next,close,read:40000,next,readlines",
            "read:16383,readline,read:16384,readline,read:70000,next,read",
            "list,list,next,readline",
        ] {
            let target = format!("/?size={size}&calls={calls}");
            let answer = forkhorn.request("POST", &target, &[], &body[..size]);
            assert_eq!((answer.status, answer.text().as_str()), (200, "same"), "{target}");
        }
    }
}

/// As `body_of` of echo.py makes it.
fn body_of(size: usize) -> Vec<u8> {
    let lines =
        [b"one\n\n".as_slice(), b"a longer line with \xff and \x00\r\n", &[b'x'; 70], b"\n", b"no end"];
    lines.concat().into_iter().cycle().take(size).collect()
}

#[test]
fn what_an_application_keeps_of_a_request_never_serves_another() {
    let forkhorn = misbehaving().start();
    assert_eq!(forkhorn.request("POST", "/kept", &[], b"first body").text(), "first");
    for _ in 0..2 {
        let later = forkhorn.get("/kept");
        assert_eq!(later.text(), "the request of this start_response has ended");
        assert!(later.field("X-Wrong").is_none());
    }
    assert_eq!(forkhorn.request("POST", "/kept_input", &[], b"other").text(), "POST first body");
}

#[test]
fn blocks_that_run_code_when_they_go_do_not_stop_the_worker() {
    // The sleep lets another thread go on, which must find the worker's state unlocked.
    let code = "
import time

class Block(bytes):
    def __del__(self):
        time.sleep(0.0005)

def application(environ, start_response):
    start_response('200 OK', [])
    return (Block(1 << 20) for _ in range(32))
";
    let forkhorn = Forkhorn::new().code(code).args(["--threads", "3"]).start();
    let Address::Tcp(address) = forkhorn.http() else { panic!("not over TCP") };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // A small window: most blocks are written in several parts, the last one together with the next block.
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
                socket.set_recv_buffer_size(1 << 16).expect("a window");
                socket.set_read_timeout(Some(DEADLINE)).expect("a limit");
                socket.connect(&(*address).into()).expect("a connection");
                let mut stream = TcpStream::from(socket);
                stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("sent");
                let length =
                    std::io::copy(&mut stream, &mut std::io::sink()).expect("an answer that goes on");
                assert!(length > 32 << 20, "{length} bytes");
            });
        }
    });
}

#[test]
fn a_response_belongs_to_the_thread_of_its_request() {
    let text = misbehaving().start().get("/start_on_other_thread").text();
    assert_eq!(text, "the response belongs to the thread that runs its request");
}

#[test]
fn the_checker_of_the_standard_library_is_silent_on_every_way_to_answer() {
    let forkhorn = Forkhorn::new().wsgi("validate.py").start();
    for word in [
        "block",
        "length",
        "blocks",
        "generator",
        "write",
        "only_write",
        "body",
        "errors",
        "file",
        "memory_file",
    ] {
        let answer = forkhorn.get(&format!("/{word}"));
        assert_eq!((answer.status, answer.text()), (200, format!("{word}: done")));
        assert_eq!(forkhorn.request("HEAD", &format!("/{word}"), &[], b"").status, 200, "{word}");
    }
    for (word, status) in [("replaced", 500), ("no_content", 204), ("not_modified", 304), ("nothing", 200)] {
        assert_eq!(forkhorn.get(&format!("/{word}")).status, status, "{word}");
    }
    let body = b"abc\ndef\nghijklm\nno end";
    assert_eq!(forkhorn.request("POST", "/body", &[], body).body, body);
    assert!(!forkhorn.server.log.text().contains("Traceback"));
}

#[test]
fn files_are_sent_as_they_are_read() {
    let forkhorn = misbehaving();
    let content: Vec<u8> = b"0123456789".iter().copied().cycle().take(300_000).collect();
    let path = forkhorn.folder.write("file", &content);
    let forkhorn = forkhorn.start();
    let path = path.display();
    for (rest, expected) in
        [("", &content[..]), ("&skip=7", &content[7..]), ("&skip=7&length=5", &content[7..12])]
    {
        let answer = forkhorn.get(&format!("/file?path={path}{rest}"));
        assert_eq!((answer.body.as_slice(), answer.complete), (expected, true), "{rest}");
        assert_eq!(answer.field("Content-Length"), Some(expected.len().to_string().as_str()));
    }
    let nothing_left = forkhorn.get(&format!("/file?path={path}&skip=300000"));
    assert_eq!((nothing_left.status, nothing_left.body.len(), nothing_left.complete), (200, 0, true));
    let too_short = forkhorn.get(&format!("/file?path={path}&skip=299998&length=5"));
    assert!(!too_short.complete, "three announced bytes are missing");
    // Its descriptor is that of the packed file.
    assert_eq!(forkhorn.get("/gzip_file").text(), "unpacked");
    assert_eq!(forkhorn.get("/pipe_file").text(), "through a pipe");
    assert_eq!(forkhorn.get("/text_file").status, 500);
}

#[test]
fn an_iterable_is_not_asked_for_more_than_was_announced() {
    let forkhorn = misbehaving().start();
    let answer = forkhorn.get("/long_body_lazily");
    assert_eq!((answer.text().as_str(), answer.complete), ("exact", true));
    wait_until("the iterable is closed", || notes(&forkhorn) == "closed\n");
}

#[test]
fn signal_handlers_of_the_application_run_in_a_request_and_between_two() {
    let forkhorn = misbehaving().start();
    assert_eq!(forkhorn.get("/own_signal").text(), "seen 1");
    let worker: i32 = forkhorn.get("/signal_between").text().parse().expect("a pid");
    kill(Pid::from_raw(worker), Signal::SIGUSR1).expect("it is alive");
    wait_until("the handler runs", || notes(&forkhorn) == "signal seen\n");
}

#[test]
fn process_lists_show_one_readable_line() {
    let forkhorn = misbehaving().start();
    let family = forkhorn.family();
    assert_eq!(family.len(), 2, "{family:?}");
    for process in family {
        let line = fs::read_to_string(format!("/proc/{}/cmdline", process.pid)).expect("it is alive");
        let line = line.trim_end_matches('\0');
        assert!(line.starts_with("forkhorn: ") && line.contains("misbehaving.py"), "{line}");
        assert!(!line.contains(['\0', '\n']), "{line}");
    }
}

#[test]
fn processes_of_the_application_do_not_disturb_the_worker() {
    let forkhorn = misbehaving().start();
    for _ in 0..2 {
        assert_eq!(forkhorn.get("/fork_process").text(), "child exited with 9");
        assert_eq!(forkhorn.get("/run_subprocess").text(), "from a subprocess\n");
    }
    for method in ["fork", "spawn", "forkserver"] {
        assert_eq!(forkhorn.get(&format!("/pool?method={method}")).text(), "[0, 1, 4, 9, 16]", "{method}");
    }
    assert_eq!(forkhorn.get("/asyncio_run").text(), "from asyncio");
}

#[test]
fn an_application_can_not_forge_a_line_of_the_log() {
    let forkhorn = misbehaving().start();
    forkhorn.get("/errors");
    forkhorn.get("/raise_early");
    forkhorn.get("/raise_unprintable");
    forkhorn.wait_for_log("*Unprintable: <*>*");
    let lines = forkhorn.server.log.lines();
    assert!(lines.iter().any(|line| line.ends_with("] half a line")), "{lines:?}");
    assert!(lines.iter().any(|line| line.ends_with("] the last one without an end")), "{lines:?}");
    for line in lines.iter().filter(|line| line.contains("FORGED")) {
        assert!(!line.starts_with("FORGED") && !line.contains('\u{1b}'), "{line}");
    }
}

#[test]
fn what_speaks_against_a_copy_is_named() {
    for (kind, reason) in [
        ("daemon", Some("the thread \"loaded-thread\" runs")),
        ("socket", Some("a socket to 127.0.0.1:")),
        ("socketpair", Some("one of a pair of sockets is open")),
        ("udp", Some("a socket at 0.0.0.0:0 is open")),
        ("joined", None),
        ("closed", None),
        ("", None),
    ] {
        let forkhorn = Forkhorn::new().wsgi("unsafe_to_copy.py").env("UNSAFE", kind).start();
        let text = forkhorn.get("/").text();
        let [loaded_in, worker, hooks] = text.split("; ").collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert_eq!(
            (loaded_in == worker, hooks == "before,child"),
            (reason.is_some(), reason.is_none()),
            "{kind}: {text}"
        );
        if let Some(reason) = reason {
            assert!(forkhorn.server.log.text().contains(reason), "{kind}");
        }
    }
}
