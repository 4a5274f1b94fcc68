//! What a child process says on its standard output and error, line by line.

use std::io::{BufRead, BufReader, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use super::wait::DEADLINE;

#[derive(Debug, Default)]
pub struct CapturedLog {
    lines: Mutex<Vec<String>>,
    grew: Condvar,
    /// Pipes that may still bring something.
    open: AtomicUsize,
}

impl CapturedLog {
    /// Reads on a thread of its own until the last writer has closed the pipe.
    pub fn follow(self: &Arc<Self>, pipe: impl Read + Send + 'static) {
        let log = Arc::clone(self);
        self.open.fetch_add(1, Ordering::SeqCst);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(pipe);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                log.lock().push(text);
                log.grew.notify_all();
                line.clear();
            }
            log.open.fetch_sub(1, Ordering::SeqCst);
        });
    }

    /// The first line that matches; waits for it. In `pattern`, `*` stands for anything.
    #[track_caller]
    pub fn wait_for(&self, pattern: &str) -> String {
        self.wait_for_nth(pattern, 1)
    }

    /// The `count`th line that matches, counted from 1.
    #[track_caller]
    pub fn wait_for_nth(&self, pattern: &str, count: usize) -> String {
        let deadline = Instant::now() + DEADLINE;
        let mut lines = self.lock();
        loop {
            if let Some(found) = lines.iter().filter(|line| matches(line, pattern)).nth(count - 1) {
                return found.clone();
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                // The caller's Drop prints the log.
                drop(lines);
                panic!("the log has no line {count} that matches: {pattern}");
            };
            lines = self.grew.wait_timeout(lines, left).expect("no reader panics").0;
        }
    }

    pub fn count(&self, pattern: &str) -> usize {
        self.lock().iter().filter(|line| matches(line, pattern)).count()
    }

    pub fn contains(&self, pattern: &str) -> bool {
        self.count(pattern) > 0
    }

    pub fn lines(&self) -> Vec<String> {
        self.lock().clone()
    }

    /// Whether everything has been read that will ever come.
    pub fn is_complete(&self) -> bool {
        self.open.load(Ordering::SeqCst) == 0
    }

    pub fn text(&self) -> String {
        self.lock().join("\n")
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().expect("no reader panics")
    }
}

/// Whether the pieces of `pattern` between its `*` stand in `line`, in order.
pub fn matches(line: &str, pattern: &str) -> bool {
    let mut rest = line;
    pattern.split('*').all(|piece| match rest.find(piece) {
        Some(at) => {
            rest = &rest[at + piece.len()..];
            true
        }
        None => false,
    })
}
