//! A body that is collected before its request is handled: in memory, then in a file without a name.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::gateway::Body;

/// Grows with its chunks; past the threshold everything lies in a temporary file.
#[derive(Debug, Default)]
pub(crate) struct BodyBuffer {
    memory: BytesMut,
    /// The only chunk so far: a body that came in one piece is never copied.
    single: Option<Bytes>,
    file: Option<File>,
    length: u64,
}

impl BodyBuffer {
    /// Fails when the file can't be made or written: a full disk, for one.
    pub fn push(&mut self, chunk: Bytes, threshold: u64, dir: &Path) -> io::Result<()> {
        self.length += chunk.len() as u64;
        if let Some(file) = &mut self.file {
            return file.write_all(&chunk);
        }
        if self.length > threshold {
            let mut file = tempfile::tempfile_in(dir)?;
            file.write_all(&self.take_memory())?;
            file.write_all(&chunk)?;
            self.file = Some(file);
        } else if self.length == chunk.len() as u64 {
            self.single = Some(chunk);
        } else {
            if let Some(first) = self.single.take() {
                self.memory.extend_from_slice(&first);
            }
            self.memory.extend_from_slice(&chunk);
        }
        Ok(())
    }

    /// A body of `length` bytes, more than none, that lies in a file from its beginning on.
    pub fn spooled(file: File, length: u64) -> Self {
        BodyBuffer { file: Some(file), length, ..BodyBuffer::default() }
    }

    /// In bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    pub fn finish(mut self) -> Body {
        match self.file.take() {
            Some(file) => Body::File { file: Arc::new(file), length: self.length },
            None if self.length == 0 => Body::Empty,
            None => Body::Memory(self.take_memory()),
        }
    }

    fn take_memory(&mut self) -> Bytes {
        self.single.take().unwrap_or_else(|| std::mem::take(&mut self.memory).freeze())
    }
}

impl From<Bytes> for BodyBuffer {
    fn from(body: Bytes) -> Self {
        BodyBuffer { length: body.len() as u64, single: Some(body), ..BodyBuffer::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn bodies_are_whole_in_memory_and_past_the_threshold_in_a_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for chunks in
            [&["a"][..], &["ab", "cd"], &["abcd", "e"], &["abcdef"], &["a", "b", "c", "d", "e", "f"]]
        {
            let whole = chunks.concat();
            let mut buffer = BodyBuffer::default();
            for chunk in chunks {
                buffer.push(Bytes::from_static(chunk.as_bytes()), 4, dir.path()).expect("room");
            }
            let body = buffer.finish();
            assert_eq!(body.len(), whole.len() as u64);
            match body {
                Body::Memory(bytes) => {
                    assert_eq!((bytes.as_ref(), whole.len() <= 4), (whole.as_bytes(), true))
                }
                Body::File { file, length } => {
                    let mut read = vec![0; length as usize];
                    file.read_exact_at(&mut read, 0).expect("the whole body");
                    assert_eq!((read.as_slice(), whole.len() > 4), (whole.as_bytes(), true));
                }
                Body::Empty => panic!("{chunks:?} is not empty"),
            }
        }
        assert!(BodyBuffer::default().finish().is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
    }

    #[test]
    fn a_file_that_cannot_be_made_is_an_error() {
        let mut buffer = BodyBuffer::default();
        buffer.push(Bytes::from_static(b"abc"), 2, Path::new("/nonexistent")).expect_err("no such directory");
    }
}
