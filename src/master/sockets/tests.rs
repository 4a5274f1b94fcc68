use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use super::*;

fn unix_at(path: &Path) -> Result<(OwnedFd, OwnedPath), StartupError> {
    unix::open(path, 0o660, None, 16)
}

#[test]
fn port_0_becomes_a_real_one_that_accepts() {
    let socket = open_tcp("127.0.0.1:0".parse().expect("address"), &[], 16).expect("open");
    let address = socket.local_addr().ok().and_then(|bound| bound.as_socket()).expect("bound");
    assert_ne!(address.port(), 0);
    TcpStream::connect(address).expect("connected");
}

#[test]
fn connections_that_come_before_a_worker_is_there_send_without_delay_too() {
    let socket = TcpListener::from(open_tcp("127.0.0.1:0".parse().expect("address"), &[], 16).expect("open"));
    socket.set_nonblocking(false).expect("a socket");
    let _client = TcpStream::connect(socket.local_addr().expect("bound")).expect("connected");
    let (accepted, _) = socket.accept().expect("a connection");
    assert!(accepted.nodelay().expect("TCP"));
}

#[test]
fn a_port_that_is_taken_is_named_with_what_to_do() {
    let other = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = other.local_addr().expect("address");
    let error = tcp_error(address, &open_tcp(address, &[], 16).expect_err("taken"));
    assert_eq!(error.exit_code(), 1);
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("cannot listen on {address}: another process listens there")),
        "{text}"
    );
    assert!(text.contains(&format!("'sport = :{}'", address.port())), "{text}");
}

#[test]
fn two_listeners_of_one_port_are_told_apart_from_a_port_that_others_have() {
    let any: SocketAddr = "0.0.0.0:8000".parse().expect("address");
    let one: SocketAddr = "127.0.0.1:8000".parse().expect("address");
    let taken = io::Error::from_raw_os_error(libc::EADDRINUSE);
    let both = [Address::Tcp(any), Address::Tcp(one)];
    for address in [any, one] {
        let error = own_conflict(address, &both, &taken).expect("the other one");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("0.0.0.0:8000") && error.to_string().contains("127.0.0.1:8000"));
        assert!(own_conflict(address, &both[..1], &taken).is_none() || address == one);
        assert!(own_conflict(address, &both, &io::Error::from_raw_os_error(libc::EACCES)).is_none());
    }
    let others = [Address::Tcp(one), Address::Tcp("0.0.0.0:8001".parse().expect("address"))];
    assert!(own_conflict(one, &others, &taken).is_none());
}

#[test]
fn a_socket_has_its_mode_and_is_removed_at_the_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s");
    for mode in [0o660, 0o600, 0o666, 0o777] {
        let (listener, name) = unix::open(&path, mode, None, 16).expect("open");
        assert_eq!(fs::symlink_metadata(&path).expect("there").permissions().mode() & 0o777, mode);
        UnixStream::connect(&path).expect("connected");
        drop(listener);
        drop(name);
        assert!(!path.exists());
    }
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_an_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s");
    let live = UnixListener::bind(&path).expect("bound");
    let error = unix_at(&path).expect_err("live").to_string();
    assert!(
        error.ends_with(&format!("another process (pid {}) listens on it", std::process::id())),
        "{error}"
    );
    drop(live);
    let (_listener, _name) = unix_at(&path).expect("stale");
    UnixStream::connect(&path).expect("connected");
}

#[test]
fn a_live_socket_whose_queue_is_full_is_an_error_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s");
    let (_listener, _name) = unix::open(&path, 0o600, None, 0).expect("open");
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).expect("socket");
        socket.connect(&SockAddr::unix(&path).expect("address")).map(|()| socket)
    };
    let mut queued = Vec::new();
    while let Ok(socket) = connect() {
        queued.push(socket);
    }
    assert!(unix_at(&path).expect_err("live").to_string().contains("another process seems to use it"));
    assert!(path.exists());
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s");
    fs::write(&path, "precious").expect("written");
    assert!(unix_at(&path).expect_err("a file").to_string().contains("is not a socket"));
    assert_eq!(fs::read_to_string(&path).expect("still there"), "precious");
    fs::remove_file(&path).expect("removed");
    std::os::unix::fs::symlink(dir.path().join("target"), &path).expect("linked");
    assert!(unix_at(&path).expect_err("a link").to_string().contains("is not a socket"));
    fs::remove_file(&path).expect("removed");
    let _datagram = UnixDatagram::bind(&path).expect("bound");
    assert!(unix_at(&path).expect_err("datagrams").to_string().contains("seems to use it"));
    let error = unix_at(&dir.path().join("missing/s")).expect_err("no directory").to_string();
    let told =
        format!("its directory does not exist; run: mkdir -p {}", dir.path().join("missing").display());
    assert!(error.ends_with(&told), "{error}");
}

#[test]
fn the_socket_of_another_process_is_not_removed_at_the_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s");
    let (_listener, name) = unix_at(&path).expect("open");
    fs::remove_file(&path).expect("removed");
    let _other = UnixListener::bind(&path).expect("bound");
    drop(name);
    assert!(path.exists());
}

#[test]
fn root_gives_the_socket_to_the_user_of_the_workers() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s");
    let owner = crate::config::Identity { user_name: None, uid: 65534, gid: 65533, groups: vec![65533] };
    let (_listener, _name) = unix::open(&path, 0o660, Some(&owner), 16).expect("open");
    let found = fs::symlink_metadata(&path).expect("there");
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (65534, 65533, 0o660));
}

#[test]
fn an_inherited_descriptor_must_be_a_listening_stream_socket() {
    // As a parent would leave them: open, and owned by nobody here.
    let inherit = |descriptor: OwnedFd| std::os::fd::IntoRawFd::into_raw_fd(descriptor);
    let error = |number: i32| take_inherited(number).expect_err("refused").to_string();

    let unbound = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
    assert!(error(inherit(unbound.into())).ends_with("it is a socket, but not a listening one"));
    let datagram = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("socket");
    assert!(error(inherit(datagram.into())).ends_with("it is not a stream socket"));
    let file = fs::File::open("/dev/null").expect("open");
    assert!(error(inherit(file.into())).contains("it is not a socket"));
    assert!(error(i32::MAX).ends_with("forkhorn was started without this descriptor"));

    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("address");
    let number = inherit(listener.into());
    let descriptor = take_inherited(number).expect("taken");
    assert!(descriptor.as_raw_fd() > 2);
    TcpStream::connect(address).expect("connected");
    let status = nix::fcntl::fcntl(&descriptor, nix::fcntl::FcntlArg::F_GETFL).expect("flags");
    assert_ne!(status & libc::O_NONBLOCK, 0);
    assert_eq!(bound_to(&Address::Fd(number), &descriptor), format!(" ({address})"));
}
