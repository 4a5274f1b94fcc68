//! Listening sockets: several at once, of every kind, opened by us or handed to us.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;

use crate::support::fastcgi::{self, Request};
use crate::support::http;
use crate::support::{Address, Folder, Forkhorn};

#[test]
fn several_listeners_of_both_protocols_serve_at_once() {
    let forkhorn = Forkhorn::new().wsgi("probe.py");
    let (one, two) = (forkhorn.folder.join("one.sock"), forkhorn.folder.join("two.sock"));
    let forkhorn = forkhorn
        .http("127.0.0.1:0")
        .fastcgi("127.0.0.1:0")
        .http(&format!("unix:{}", one.display()))
        .fastcgi(&format!("unix:{}", two.display()))
        .http("[::1]:0")
        .start();
    assert_eq!((forkhorn.all_http().len(), forkhorn.all_fastcgi().len()), (3, 2));
    for address in forkhorn.all_http() {
        assert_eq!(http::get(address, "/pid").status, 200, "{address:?}");
    }
    for address in forkhorn.all_fastcgi() {
        assert_eq!(
            fastcgi::request(address, &Request::new("GET", "/pid")).response().status,
            200,
            "{address:?}"
        );
    }
}

#[test]
fn a_unix_socket_has_the_mode_that_the_operator_names() {
    for (options, mode) in [
        (&[][..], 0o660),
        (&["--socket-mode", "600"], 0o600),
        (&["--socket-mode", "666", "--umask", "077"], 0o666),
    ] {
        let forkhorn = Forkhorn::new().wsgi("probe.py");
        let socket = forkhorn.folder.join("x.sock");
        let forkhorn = options.iter().fold(forkhorn, |forkhorn, option| forkhorn.arg(*option));
        // Whatever the mask of whoever starts it.
        let forkhorn = forkhorn.wrapper(["sh", "-c", "umask 0; exec \"$@\"", "sh"]);
        let forkhorn = forkhorn.fastcgi(&format!("unix:{}", socket.display())).start();
        let permissions = std::fs::metadata(&socket).expect("the socket").permissions().mode();
        assert_eq!(permissions & 0o777, mode, "{options:?}");
        assert_eq!(forkhorn.fcgi(&Request::new("GET", "/pid")).response().status, 200);
    }
}

#[test]
fn a_stale_unix_socket_is_replaced_and_a_live_one_is_an_error() {
    let forkhorn = Forkhorn::new().wsgi("probe.py");
    let socket = forkhorn.folder.join("x.sock");
    drop(UnixListener::bind(&socket).expect("a socket"));
    let address = format!("unix:{}", socket.display());
    let forkhorn = forkhorn.http(&address).start();
    assert_eq!(forkhorn.get("/pid").status, 200);
    let inode = std::fs::metadata(&socket).expect("a socket").ino();
    let (code, log) = Forkhorn::new().wsgi("probe.py").http(&address).run_to_exit();
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("x.sock"), "{log}");
    // The one that lives is untouched.
    assert_eq!(std::fs::metadata(&socket).expect("a socket").ino(), inode);
    assert_eq!(forkhorn.get("/pid").status, 200);
}

#[test]
fn a_file_that_is_no_socket_is_never_removed() {
    let folder = Folder::new();
    let path = folder.write("precious", "data");
    let (code, log) =
        Forkhorn::new().wsgi("probe.py").http(&format!("unix:{}", path.display())).run_to_exit();
    assert_eq!(code, 1, "{log}");
    assert_eq!(folder.read("precious"), "data");
}

#[test]
fn without_a_listener_named_it_is_port_8000_of_this_machine() {
    // Taken by us, or by somebody else already: either way forkhorn can't have it, and says which one it wanted.
    let _taken = TcpListener::bind("127.0.0.1:8000");
    let (code, log) = Forkhorn::new().wsgi("probe.py").no_listener().run_to_exit();
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("127.0.0.1:8000"), "{log}");
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let (code, log) = Forkhorn::new().wsgi("probe.py").http(&address).run_to_exit();
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("forkhorn: ") && log.contains(&address), "{log}");
}

#[test]
fn a_listening_socket_on_descriptor_0_is_taken_over() {
    for by_fastcgi in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = Address::Tcp(listener.local_addr().expect("an address"));
        let forkhorn = Forkhorn::new().wsgi("probe.py").stdin(OwnedFd::from(listener)).workers(2);
        let forkhorn = if by_fastcgi { forkhorn.fastcgi("fd:0") } else { forkhorn.http("fd:0") }.start();
        for _ in 0..3 {
            match by_fastcgi {
                true => assert_eq!(
                    fastcgi::request(&address, &Request::new("GET", "/pid")).response().status,
                    200
                ),
                false => assert_eq!(http::get(&address, "/pid").status, 200),
            }
        }
        drop(forkhorn);
    }
}

#[test]
fn the_socket_of_a_web_server_is_left_where_it_is() {
    let folder = Folder::new();
    let path = folder.join("front.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let forkhorn = Forkhorn::new().wsgi("probe.py").stdin(OwnedFd::from(listener)).fastcgi("fd:0").start();
    let address = Address::Unix(path.clone());
    assert_eq!(fastcgi::request(&address, &Request::new("GET", "/pid")).response().status, 200);
    drop(forkhorn);
    assert!(path.exists());
}

#[test]
fn spawn_fcgi_starts_it() {
    let folder = Folder::new();
    let path = folder.join("spawned.sock");
    let socket = path.display().to_string();
    let forkhorn = Forkhorn::new().wsgi("probe.py").fastcgi("fd:0");
    let forkhorn = forkhorn.wrapper(["spawn-fcgi", "-n", "-s", &socket, "-M", "0600", "--"]).start();
    let address = Address::Unix(path);
    assert_eq!(fastcgi::request(&address, &Request::new("GET", "/pid")).response().status, 200);
    assert_eq!(forkhorn.family().iter().filter(|process| process.name == "spawn-fcgi").count(), 0);
}

/// As systemd starts it: a listening socket is descriptor 3, the count and the pid are in the environment.
fn started_by_systemd() -> (Forkhorn, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = Address::Tcp(listener.local_addr().expect("an address"));
    let hand_over =
        "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS; exec \"$@\"";
    let forkhorn = Forkhorn::new().wsgi("probe.py").stdin(OwnedFd::from(listener));
    (forkhorn.wrapper(["sh", "-c", hand_over, "sh"]), address)
}

#[test]
fn descriptors_of_systemd_are_taken_over() {
    let (forkhorn, address) = started_by_systemd();
    let _forkhorn = forkhorn.http("fd:3").start();
    assert_eq!(http::get(&address, "/pid").status, 200);
    let facts = http::get(&address, "/facts").json();
    assert!(
        facts["environ"].get("LISTEN_PID").is_none(),
        "the application would take the sockets for its own"
    );
}

#[test]
fn descriptors_of_systemd_are_found_without_being_named() {
    let (forkhorn, address) = started_by_systemd();
    let _forkhorn = forkhorn.no_listener().start();
    assert_eq!(http::get(&address, "/pid").status, 200);
}

#[test]
fn a_descriptor_that_is_no_listening_socket_is_an_error() {
    for descriptor in ["fd:0", "fd:77"] {
        let (code, log) = Forkhorn::new().wsgi("probe.py").http(descriptor).run_to_exit();
        assert_eq!(code, 1, "{log}");
        assert!(log.contains(descriptor), "{log}");
    }
}

#[test]
fn all_workers_share_the_connections() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").workers(3).start();
    let target = super::wait_target(&forkhorn);
    // Each request keeps its worker busy: the next one is taken by another.
    let mut busy = Vec::new();
    for count in 1..=3 {
        let mut connection = forkhorn.connect();
        connection.send(http::request_bytes("GET", &target, &[], b""));
        busy.push(connection);
        let ran = || {
            forkhorn.folder.read("at").lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
        };
        crate::support::wait_until("another worker is busy", || ran().len() == count);
    }
    forkhorn.folder.write("go", "");
    for mut connection in busy {
        assert_eq!(connection.read_response().text(), "waited\n");
    }
}
