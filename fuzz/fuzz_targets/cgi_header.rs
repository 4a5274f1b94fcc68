//! Any output of a script, in any split, gives a header that can be sent or an error: never a panic, never another result
//! for another split, never a field that deceives the peer.

#![no_main]

use forkhorn::handler::cgi::{Header, HeaderLimits, HeaderParser};
use forkhorn::protocol::{ResponseHead, is_field_value, is_hop_by_hop, is_token};
use libfuzzer_sys::fuzz_target;

const LIMITS: HeaderLimits = HeaderLimits { max_bytes: 512, max_fields: 12 };

// The first byte chooses the kind of script and the split, the rest is its output.
fuzz_target!(|data: &[u8]| {
    let [choice, output @ ..] = data else { return };
    let nph = choice & 1 == 1;
    let whole = parse(output, output.len().max(1), nph);
    assert_eq!(
        whole,
        parse(output, usize::from(choice >> 1) + 1, nph),
        "the split of the output changed its header"
    );
    let Ok(Some((header, length))) = whole else { return };
    assert!(length <= LIMITS.max_bytes);
    assert!(output[..length].ends_with(b"\n"));
    match header {
        Seen::Response(head) => check(&head),
        Seen::LocalRedirect(path) => {
            assert!(!nph && path.starts_with(b"/"));
            assert!(path.iter().all(|byte| (0x21..=0x7e).contains(byte) && *byte != b'#'));
        }
    }
});

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Response(Parts),
    LocalRedirect(Vec<u8>),
}

#[derive(Debug, PartialEq, Eq)]
struct Parts {
    status: u16,
    reason: Vec<u8>,
    lines: Vec<u8>,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    content_length: Option<u64>,
}

/// The header and its length; `None` where the output ends before it, which is an error of its own.
fn parse(output: &[u8], step: usize, nph: bool) -> Result<Option<(Seen, usize)>, String> {
    let mut parser = HeaderParser::new(LIMITS, nph);
    let mut fed = 0;
    for piece in output.chunks(step) {
        if let Some((header, length)) = parser.feed(piece).map_err(|error| checked(error.to_string()))? {
            let seen = match header {
                Header::Response(head) => Seen::Response(parts(&head)),
                Header::LocalRedirect(path) => Seen::LocalRedirect(path),
            };
            return Ok(Some((seen, fed + length)));
        }
        fed += piece.len();
        assert!(fed <= LIMITS.max_bytes, "more was taken than the limit allows");
    }
    checked(parser.unfinished().to_string());
    Ok(None)
}

/// What goes to the log is one line.
fn checked(text: String) -> String {
    assert!(!text.chars().any(|character| character.is_control() && character != '\t'), "{text:?}");
    text
}

fn parts(head: &ResponseHead) -> Parts {
    Parts {
        status: head.status,
        reason: head.reason().to_vec(),
        lines: head.lines().to_vec(),
        fields: head.fields().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
        content_length: head.content_length,
    }
}

fn check(head: &Parts) {
    assert!((200..=599).contains(&head.status));
    assert!(is_field_value(&head.reason));
    assert!(head.fields.len() <= LIMITS.max_fields);
    for (name, value) in &head.fields {
        assert!(is_token(name) && is_field_value(value) && !is_hop_by_hop(name));
        assert!(!name.eq_ignore_ascii_case(b"content-length"));
    }
    let lines: Vec<u8> = head
        .fields
        .iter()
        .flat_map(|(name, value)| [name, b": ".as_slice(), value, b"\r\n"].concat())
        .collect();
    assert_eq!(lines, head.lines, "a line holds more than its field");
}
