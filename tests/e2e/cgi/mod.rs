//! CGI scripts (RFC 3875): one module for what they get, one for what they answer, one for how they run and end.

mod answers;
mod errors;
mod git;
mod limits;
mod processes;
mod request;

use std::collections::BTreeMap;

use crate::support::{Forkhorn, Response};

/// What `dump.pl` says about itself.
#[derive(Debug, Default)]
pub struct Dump {
    pub env: BTreeMap<String, String>,
    pub arguments: Vec<String>,
    pub directory: String,
    pub descriptors: Vec<String>,
    pub process: String,
    pub identity: String,
    pub body: Vec<u8>,
}

impl Dump {
    #[track_caller]
    pub fn of(response: &Response) -> Dump {
        assert_eq!(response.status, 200, "{}", response.text());
        let mut dump = Dump::default();
        let entries = response.body.strip_suffix(b"\0").expect("a complete dump");
        // The body comes last, and may hold NULs itself.
        let mut rest = entries;
        while !rest.is_empty() {
            let end = match rest[0] {
                b'B' => rest.len(),
                _ => rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len()),
            };
            let (kind, value) = (rest[0], &rest[2..end]);
            let text: String = value.iter().map(|byte| char::from(*byte)).collect();
            match kind {
                b'E' => {
                    let (name, value) = text.split_once('=').expect("a variable");
                    dump.env.insert(name.to_owned(), value.to_owned());
                }
                b'A' => dump.arguments.push(text),
                b'C' => dump.directory = text,
                b'F' => dump.descriptors.push(text),
                b'G' => dump.process = text,
                b'U' => dump.identity = text,
                b'B' => dump.body = value.to_vec(),
                kind => panic!("an entry of kind {kind}"),
            }
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        dump
    }

    #[track_caller]
    pub fn var(&self, name: &str) -> &str {
        self.env.get(name).unwrap_or_else(|| panic!("there is no {name} in {:?}", self.env))
    }
}

/// The fixture scripts under `/cgi-bin`, over both protocols.
fn scripts() -> Forkhorn {
    Forkhorn::new().cgi_fixtures().both()
}

/// One script that prints what `lines` of shell print.
fn script(lines: &str) -> Forkhorn {
    Forkhorn::new().script("x.sh", format!("#!/bin/sh\n{lines}\n")).cgi_folder()
}
