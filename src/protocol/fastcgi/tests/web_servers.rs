//! What web servers really send: each `.bin` in `tests/fixtures/fastcgi` was recorded from one (nginx 1.22, Apache 2.4.71
//! with mod_proxy_fcgi, lighttpd 1.4.69, HAProxy 2.6), and its `.expect` tells the events.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// Feeds a recording, answers each request when its body is complete, and writes down what was seen.
fn describe(stream: &[u8], step: usize) -> String {
    let mut peer = Peer::new(Limits::default());
    let mut told = String::new();
    for piece in stream.chunks(step) {
        let mut seen = peer.feed_whole(piece);
        for event in seen.drain(..) {
            match event {
                Seen::Request(id, pairs, length) => {
                    writeln!(told, "request {id}, body {length:?}").expect("a String takes all");
                    for (name, value) in pairs {
                        writeln!(told, "  {name}={value}").expect("a String takes all");
                    }
                }
                Seen::Body(id, bytes) => {
                    // Pieces follow each other on one line, so that the split makes no difference.
                    if !told.ends_with('>') {
                        write!(told, "body {id} >").expect("a String takes all");
                    }
                    told.pop();
                    write!(told, "{}>", String::from_utf8_lossy(&bytes)).expect("a String takes all");
                }
                Seen::BodyEnd(id) => {
                    if told.ends_with('>') {
                        told.pop();
                        told.push('\n');
                    }
                    writeln!(told, "body end {id}").expect("a String takes all");
                    peer.answer(id, 200, b"ok");
                }
                other => writeln!(told, "{other:?}").expect("a String takes all"),
            }
        }
    }
    let end = if peer.connection.wants_close() { "closes" } else { "is kept" };
    writeln!(told, "the connection {end}").expect("a String takes all");
    told
}

fn recordings() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/fastcgi");
    let mut found: Vec<_> = fs::read_dir(folder)
        .expect("the folder of the fixtures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
        .collect();
    found.sort();
    found
}

#[test]
fn recordings_of_web_servers_are_understood_whole_and_byte_by_byte() {
    let recordings = recordings();
    assert!(recordings.len() >= 9, "recordings of four web servers");
    for path in recordings {
        let stream = fs::read(&path).expect("a recording");
        let expected = fs::read_to_string(path.with_extension("expect")).unwrap_or_default();
        // A recording of several requests on one connection is not fed whole: the web server waited for each answer.
        let steps = if path.to_string_lossy().contains("three") { [1, 2, 7] } else { [stream.len(), 1, 100] };
        for step in steps {
            let told = describe(&stream, step);
            assert_eq!(told, expected, "{}, {step} bytes at a time: it tells\n{told}", path.display());
        }
    }
}
