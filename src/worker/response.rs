//! What an application says back: checked, framed and written while it runs.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

use crate::protocol::ResponseHead;

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Taken, but the peer reads slowly: call [`Response::wait`] before the next write.
    Full,
    /// The client is gone, the answer has been sent for the application (time-out), or its Content-Length is
    /// reached: stop, and close the iterable.
    Stop,
}

/// One response of an application.
///
/// The head is filled first (`head().start(…)`, `head().push(…)`) and goes out with the first block of the body, or
/// with `finish`. Content-Length, HEAD, 204 and 304 are seen to here: blocks past the announced length are dropped and
/// logged, a body that ends short breaks the connection.
pub struct Response<'a> {
    head: &'a mut ResponseHead,
}

impl Response<'_> {
    /// The head, until it is sent; its buffers are reused from request to request.
    pub fn head(&mut self) -> &mut ResponseHead {
        self.head
    }

    /// The head has gone out: it can't be changed any more.
    pub fn is_head_sent(&self) -> bool {
        false
    }

    /// Sends a block of the body, and the head before the first one. Copied. An empty block sends only the head.
    pub fn write(&mut self, _block: &[u8]) -> Flow {
        Flow::Continue
    }

    /// The same for a block that can be kept until it is written.
    pub fn write_shared(&mut self, _block: Bytes) -> Flow {
        Flow::Continue
    }

    /// Sends `length` bytes of a regular file from `offset`, without a copy where the protocol allows it.
    pub fn write_file(&mut self, _file: Arc<File>, _offset: u64, _length: u64) -> Flow {
        Flow::Continue
    }

    /// Blocks until the peer has read enough, or is gone. Call it detached from the interpreter.
    pub fn wait(&self) -> Flow {
        Flow::Continue
    }

    /// Head, the whole body and the end at once, in one write. Sets Content-Length if the application did not.
    pub fn finish_with(&mut self, _body: &[u8]) {}

    /// The same for a body that can be kept until it is written.
    pub fn finish_with_shared(&mut self, _body: Bytes) {}

    /// The body is complete.
    pub fn finish(&mut self) {}

    /// The application is at fault: 500 if nothing has been sent, else a broken connection. The caller has logged why.
    pub fn fail(&mut self) {}

    /// The process must serve no further request (its memory ran out, or the application asked for its end): the worker
    /// drains once this response is done, and the master replaces it.
    pub fn retire_worker(&mut self, _reason: &str) {}

    /// The client has closed its connection, aborted, or was answered by a time-out.
    pub fn is_client_gone(&self) -> bool {
        false
    }
}
