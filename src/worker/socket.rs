//! A connection's socket: TCP or Unix, read into a shared buffer, written from an [`Output`].

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::sendfile::sendfile64;
use socket2::SockRef;

use crate::protocol::{Output, Piece};
use crate::sys;

/// Pieces of one writev(2): a block of 1 MiB is 17 records of FastCGI, each with its header.
const MOST_SLICES: usize = 40;
/// Bytes of one sendfile(2), so that one fast reader of a large file does not hold the loop.
const MOST_FILE_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// Nothing is left.
    All,
    /// The peer has to read first; an event will come.
    Blocked,
    /// More could be written at once: come back after the others have had their turn.
    Yielded,
}

/// What the peer has closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hangup {
    No,
    /// It sends no more. Over TCP nobody can tell whether it still reads.
    Half,
    /// It neither sends nor reads.
    Full,
}

impl Socket {
    /// Asks the kernel; waits for nothing.
    pub fn hangup(&self) -> Hangup {
        // nix has no name for this flag, and gives none of the others where it is set.
        let read_closed = PollFlags::from_bits_retain(libc::POLLRDHUP);
        match self.poll_now(read_closed) {
            Some(flags) if flags.is_empty() => Hangup::No,
            Some(_) => Hangup::Full,
            None => match self.poll_now(PollFlags::empty()) {
                Some(flags) if flags.is_empty() => Hangup::Half,
                _ => Hangup::Full,
            },
        }
    }

    fn poll_now(&self, wanted: PollFlags) -> Option<PollFlags> {
        let mut asked = [PollFd::new(self.as_fd(), wanted)];
        match poll(&mut asked, PollTimeout::ZERO) {
            Ok(1..) => asked[0].revents(),
            _ => Some(PollFlags::empty()),
        }
    }

    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Socket::Tcp(stream) => stream.register(registry, token, interest),
            Socket::Unix(stream) => stream.register(registry, token, interest),
        }
    }

    pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.deregister(registry),
            Socket::Unix(stream) => stream.deregister(registry),
        }
    }

    /// `Ok(None)`: nothing there yet. `Ok(Some(0))`: the peer sends no more.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            let result = match self {
                Socket::Tcp(stream) => stream.read(buffer),
                Socket::Unix(stream) => stream.read(buffer),
            };
            return match result {
                Ok(count) => Ok(Some(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    /// The same to the end of `buffer`, as far as it has room, except for what stands between the runs: see
    /// [`sys::append_runs`].
    pub fn append_runs(
        &mut self,
        buffer: &mut Vec<u8>,
        runs: impl Iterator<Item = usize> + Clone,
        (between, gap): (&mut [u8], usize),
    ) -> io::Result<Option<usize>> {
        loop {
            return match sys::append_runs(self.as_fd(), buffer, runs.clone(), (&mut *between, gap)) {
                Ok(count) => Ok(Some(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    /// Writes what waits, as far as the peer takes it.
    pub fn write_output(&mut self, output: &mut Output) -> io::Result<Written> {
        let mut file_bytes = 0;
        while let Some(piece) = output.front() {
            let result = match piece {
                Piece::File { .. } if file_bytes >= MOST_FILE_BYTES => return Ok(Written::Yielded),
                Piece::File { file, offset, length } => {
                    let wanted = length.min(MOST_FILE_BYTES) as usize;
                    match sendfile64(&*self, file, Some(&mut (offset as i64)), wanted) {
                        // A file that became shorter than announced: what was promised can't be sent.
                        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                        Ok(sent) => Ok(sent),
                        Err(error) => Err(error.into()),
                    }
                }
                Piece::Bytes(bytes) if output.is_single() => self.write_bytes(bytes),
                Piece::Bytes(_) => self.write_slices(output),
            };
            match result {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    file_bytes += count as u64;
                    output.consume(count as u64);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Written::Blocked),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Written::All)
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Unix(stream) => stream.write(bytes),
        }
    }

    fn write_slices(&mut self, output: &Output) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); MOST_SLICES];
        let (filled, is_followed_by_file) = output.slices(&mut slices);
        let slices = &slices[..filled];
        match self {
            // The file's first bytes go into the same segment: the peer is woken once, and a segment less is made.
            Socket::Tcp(stream) if is_followed_by_file => {
                SockRef::from(&*stream).send_vectored_with_flags(slices, libc::MSG_MORE | libc::MSG_NOSIGNAL)
            }
            Socket::Tcp(stream) => stream.write_vectored(slices),
            Socket::Unix(stream) => stream.write_vectored(slices),
        }
    }

    /// Bytes that were written and that the peer has not taken from the kernel.
    pub fn unread_by_peer(&self) -> u64 {
        sys::unread_by_peer(self.as_fd())
    }

    /// Acknowledges what has been read, and from now on what will be read, at once; until something is written.
    pub fn acknowledge(&self) {
        if let Socket::Tcp(stream) = self
            && let Err(error) = SockRef::from(stream).set_tcp_quickack(true)
        {
            log::debug!("TCP_QUICKACK can't be set: {error}");
        }
    }

    /// Sends no more, still reads: a lingering close (RFC 9112 §9.6) begins with it.
    pub fn shutdown_write(&self) {
        // The peer may be gone already; then there is nothing left to shut down.
        let _ = match self {
            Socket::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(std::net::Shutdown::Write),
        };
    }

    /// The close that follows is a reset, which no peer can take for a complete answer.
    pub fn reset_on_close(&self) {
        let _ = SockRef::from(self).set_linger(Some(std::time::Duration::ZERO));
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as Client};
    use std::sync::Arc;

    use super::*;
    use crate::worker::tests::until;

    #[test]
    fn what_was_read_is_acknowledged_although_no_answer_goes_out() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut client = Client::connect(listener.local_addr().expect("bound")).expect("accepted");
        client.set_nodelay(true).expect("a socket");
        let (stream, _) = listener.accept().expect("a connection");
        stream.set_nonblocking(true).expect("a socket");
        let mut socket = Socket::Tcp(TcpStream::from_std(stream));
        let receive = |socket: &mut Socket| {
            until(|| socket.read(&mut [0; 16]).expect("open"));
        };
        // Questions and answers, until the kernel takes the one for the acknowledgement of the other.
        until(|| {
            client.write_all(b"question").expect("taken");
            receive(&mut socket);
            assert_eq!(socket.write_bytes(b"answer").expect("taken"), 6);
            client.read_exact(&mut [0; 6]).expect("an answer");
            (!SockRef::from(&socket).tcp_quickack().expect("TCP")).then_some(())
        });
        client.write_all(b"the first half").expect("taken");
        receive(&mut socket);
        socket.acknowledge();
        assert!(SockRef::from(&socket).tcp_quickack().expect("TCP"));
    }

    #[test]
    fn a_file_leaves_in_one_segment_with_the_head_before_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut client = Client::connect(listener.local_addr().expect("bound")).expect("accepted");
        let (stream, _) = listener.accept().expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        stream.set_nonblocking(true).expect("a socket");
        let mut socket = Socket::Tcp(TcpStream::from_std(stream));
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(b"content").expect("room");
        let mut output = Output::default();
        output.copy(b"head, ");
        output.file(Arc::new(file), 0, 7);
        assert_eq!(socket.write_output(&mut output).expect("taken"), Written::All);
        let mut received = [0; 13];
        client.read_exact(&mut received).expect("all of it");
        assert_eq!(&received, b"head, content");
        assert_eq!(sys::data_segments_sent(socket.as_fd()), 1);
    }
}
