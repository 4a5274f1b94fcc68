//! The tools of these tests, tried on servers that are not ours: what they say about forkhorn can then be believed.

use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::support::fastcgi::{self, Peer, Request};
use crate::support::fronts::Site;
use crate::support::http::{Address, Connection};
use crate::support::process::Supervised;
use crate::support::{Folder, log, wait_until};

const CGI_SCRIPT: &str = "#!/bin/sh\n\
    echo 'Status: 201 Made'; echo 'Content-Type: text/plain'; echo\n\
    echo \"$REQUEST_METHOD $QUERY_STRING\"; cat\n";

/// fcgiwrap with its listening socket on descriptor 0, as spawn-fcgi starts it.
fn fcgiwrap(folder: &Folder) -> (Supervised, Address) {
    let path = folder.join("fcgiwrap.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let server = Supervised::start(
        "fcgiwrap",
        &Command::new("/usr/sbin/fcgiwrap"),
        Stdio::from(std::os::fd::OwnedFd::from(listener)),
    );
    (server, Address::Unix(path))
}

fn script_request(folder: &Folder) -> Request {
    let script = folder.script("made.sh", CGI_SCRIPT);
    Request::new("POST", "/made.sh?a=1").param("SCRIPT_FILENAME", &script.display().to_string())
}

#[test]
fn our_fastcgi_peer_is_understood_by_fcgiwrap() {
    let folder = Folder::new();
    let (mut server, address) = fcgiwrap(&folder);
    let body = vec![b'x'; 100_000];
    let request = script_request(&folder).param("HTTP_X_LONG", &"y".repeat(5000)).body(body.clone()).keep();
    let mut peer = Peer::open(&address);
    for step in [32 * 1024, 999] {
        peer.send(request.bytes_in_steps(step));
        let response = peer.answer(1).response();
        assert_eq!((response.status, response.reason.as_str()), (201, "Made"));
        assert_eq!(response.body, [b"POST a=1\n".as_slice(), &body].concat());
    }
    drop(peer);
    assert_eq!(server.stop(Signal::SIGTERM), [""; 0]);
}

#[test]
fn our_http_client_reads_what_nginx_makes_of_fcgiwrap() {
    let site = Site::bare();
    let (mut wrapper, address) = fcgiwrap(&site.folder);
    let Address::Unix(socket) = &address else { unreachable!() };
    crate::support::folder::set_mode(socket, 0o666);
    site.folder.script("made.sh", CGI_SCRIPT);
    site.write(
        "nginx.conf",
        "daemon off; pid run/nginx.pid; error_log stderr; events {}\n\
         http { access_log off; client_body_temp_path run/b; fastcgi_temp_path run/f; proxy_temp_path run/p;\n\
         scgi_temp_path run/s; uwsgi_temp_path run/u;\n\
         server { listen 127.0.0.1:{port}; location / { include /etc/nginx/fastcgi_params;\n\
         fastcgi_param SCRIPT_FILENAME {folder}/made.sh; fastcgi_pass unix:{folder}/fcgiwrap.sock; } } }\n",
    );
    let front = site.front("nginx -p \"$PWD\" -c \"$PWD/nginx.conf\"");
    let mut connection = Connection::open(&front.address);
    for _ in 0..2 {
        let response = connection.request("POST", "/x?q", &[], b"a body");
        assert_eq!(response.status, 201);
        assert_eq!(response.field("Transfer-Encoding"), Some("chunked"));
        assert_eq!(response.text(), "POST q\na body");
        assert!(response.complete);
    }
    let response = connection.request("HEAD", "/x", &[("Connection", "close")], b"");
    assert_eq!((response.status, response.body.len()), (201, 0));
    assert!(connection.is_closed());
    drop(front);
    assert_eq!(wrapper.stop(Signal::SIGTERM), [""; 0]);
}

#[test]
fn a_process_that_outlives_its_server_is_found_and_ended() {
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 1000 & until grep -q sleep /proc/$!/comm; do :; done; echo started; wait"]);
    let mut server = Supervised::start("sh", &command, Stdio::null());
    server.log.wait_for("started");
    let complaints = server.stop_within(Signal::SIGKILL, std::time::Duration::from_millis(50));
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains("sleep"), "{complaints:?}");
    wait_until("the left process is gone", || crate::support::process::family(server.pid()).is_empty());
}

#[test]
fn name_value_pairs_are_encoded_as_the_specification_says() {
    for (name, value, expected) in [
        ("a", "b", b"\x01\x01ab".to_vec()),
        ("FOO", "", b"\x03\x00FOO".to_vec()),
        ("n", &*"v".repeat(127), [b"\x01\x7fn".to_vec(), vec![b'v'; 127]].concat()),
        ("n", &*"v".repeat(128), [b"\x01\x80\0\0\x80n".to_vec(), vec![b'v'; 128]].concat()),
    ] {
        let encoded = fastcgi::pair(name.as_bytes(), value.as_bytes());
        assert_eq!(encoded, expected);
        assert_eq!(fastcgi::parse_pairs(&encoded)[name], value);
    }
    assert_eq!(
        fastcgi::record(fastcgi::STDIN, 258, b"abc"),
        b"\x01\x05\x01\x02\x00\x03\x05\x00abc\xaa\xaa\xaa\xaa\xaa"
    );
}

#[test]
fn patterns_match_lines_of_the_log() {
    for (pattern, line, expected) in [
        ("worker 0 generation * ready", "INFO worker 0 generation 12 ready", true),
        ("worker 0 generation * ready", "worker 0 generation 12", false),
        ("b*a", "a b", false),
        ("a*a", "a", false),
        ("", "anything", true),
    ] {
        assert_eq!(log::matches(line, pattern), expected, "{pattern} in {line}");
    }
}
