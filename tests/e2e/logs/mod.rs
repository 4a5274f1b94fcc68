//! What the log and the access log say.

mod access;
mod json;
mod request_id;

/// What stands in the brackets of a line about a request.
fn id_of(line: &str) -> &str {
    let id = line.split_once(": [").and_then(|(_, rest)| rest.split_once("] "));
    id.unwrap_or_else(|| panic!("the line has no request id: {line}")).0
}
