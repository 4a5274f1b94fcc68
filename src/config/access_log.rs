//! The form of the access log's lines, parsed once: `combined`, `common`, `json`, `json:FIELD,…`, or a text with fields
//! in braces.

use serde::{Deserialize, Serialize};

use super::StartupError;

/// What Apache and nginx write by default.
const COMMON: &str =
    r#"{remote_addr} - {remote_user} [{time_clf}] "{method} {target} {protocol}" {status} {bytes_out}"#;
const COMBINED: &str = r#"{remote_addr} - {remote_user} [{time_clf}] "{method} {target} {protocol}" {status} {bytes_out} "{referer}" "{user_agent}""#;

/// What `json` means. Without CPU time, which costs two system calls for each request of an application.
const JSON: &str = "time,request_id,remote_addr,remote_user,method,target,protocol,host,status,bytes_in,bytes_out,referer,\
                    user_agent,duration_us,queue_us,handler,mount,script_exit,worker,generation,pid,kept";

/// How a line is put together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessLogFormat {
    Text(Vec<Piece>),
    /// An object with these members, in this order.
    Json(Vec<NamedField>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    Text(String),
    /// `quoted`: between quotation marks, so that spaces of the value can't be mistaken for the end of it.
    Field {
        field: Field,
        quoted: bool,
    },
}

/// A field, and what the operator calls it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedField {
    pub name: String,
    pub field: Field,
}

/// In what a duration is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    Seconds,
    Milliseconds,
    Microseconds,
}

/// What a line can say of a request and its response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Field {
    Time,
    TimeClf,
    TimeUnix,
    RemoteAddr,
    RemotePort,
    RemoteUser,
    Method,
    Target,
    Path,
    Query,
    Protocol,
    Scheme,
    Host,
    Status,
    BytesIn,
    BytesOut,
    Referer,
    UserAgent,
    RequestId,
    /// From the complete head to the end of the response.
    Duration(Unit),
    /// In which the complete request waited for an application thread, or a script for its turn.
    Queue(Unit),
    /// Of the application's thread, or of the script.
    Cpu(Unit),
    Worker,
    Generation,
    Pid,
    Handler,
    Mount,
    ScriptExit,
    Kept,
    /// A meta-variable.
    Variable(String),
}

/// Every field but `header:NAME` and `var:NAME`.
const FIELDS: [(&str, Field); 35] = [
    ("time", Field::Time),
    ("time_clf", Field::TimeClf),
    ("time_unix", Field::TimeUnix),
    ("remote_addr", Field::RemoteAddr),
    ("remote_port", Field::RemotePort),
    ("remote_user", Field::RemoteUser),
    ("method", Field::Method),
    ("target", Field::Target),
    ("path", Field::Path),
    ("query", Field::Query),
    ("protocol", Field::Protocol),
    ("scheme", Field::Scheme),
    ("host", Field::Host),
    ("status", Field::Status),
    ("bytes_in", Field::BytesIn),
    ("bytes_out", Field::BytesOut),
    ("referer", Field::Referer),
    ("user_agent", Field::UserAgent),
    ("request_id", Field::RequestId),
    ("duration_s", Field::Duration(Unit::Seconds)),
    ("duration_ms", Field::Duration(Unit::Milliseconds)),
    ("duration_us", Field::Duration(Unit::Microseconds)),
    ("queue_s", Field::Queue(Unit::Seconds)),
    ("queue_ms", Field::Queue(Unit::Milliseconds)),
    ("queue_us", Field::Queue(Unit::Microseconds)),
    ("cpu_s", Field::Cpu(Unit::Seconds)),
    ("cpu_ms", Field::Cpu(Unit::Milliseconds)),
    ("cpu_us", Field::Cpu(Unit::Microseconds)),
    ("worker", Field::Worker),
    ("generation", Field::Generation),
    ("pid", Field::Pid),
    ("handler", Field::Handler),
    ("mount", Field::Mount),
    ("script_exit", Field::ScriptExit),
    ("kept", Field::Kept),
];

impl AccessLogFormat {
    /// # Errors
    /// What is wrong with the text, and the name that comes closest.
    pub(super) fn parse(text: &str) -> Result<Self, StartupError> {
        let parsed = match text {
            "combined" => pieces(COMBINED).map(Self::Text),
            "common" => pieces(COMMON).map(Self::Text),
            "json" => named_fields(JSON).map(Self::Json),
            _ => match text.strip_prefix("json:") {
                Some(list) => named_fields(list).map(Self::Json),
                None => pieces(text).map(Self::Text),
            },
        };
        parsed.map_err(|why| StartupError::usage(format!("--access-log-format: {why}")))
    }

    /// Whether somebody has to measure the application's CPU time.
    pub fn wants_cpu_time(&self) -> bool {
        self.fields().any(|field| matches!(field, Field::Cpu(_)))
    }

    /// Whether the clock has to be read at the end of a response.
    pub fn wants_duration(&self) -> bool {
        self.fields().any(|field| matches!(field, Field::Duration(_)))
    }

    fn fields(&self) -> impl Iterator<Item = &Field> {
        let (pieces, named) = match self {
            AccessLogFormat::Text(pieces) => (pieces.as_slice(), [].as_slice()),
            AccessLogFormat::Json(named) => ([].as_slice(), named.as_slice()),
        };
        let of_pieces = pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Field { field, .. } => Some(field),
        });
        of_pieces.chain(named.iter().map(|named| &named.field))
    }
}

fn pieces(format: &str) -> Result<Vec<Piece>, String> {
    if format.contains(|character: char| character.is_control() && character != '\t') {
        return Err("a line can't hold control characters".to_owned());
    }
    let (mut pieces, mut text, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        match character {
            '{' | '}' if characters.as_str().starts_with(character) => {
                characters.next();
                text.push(character);
            }
            '}' => {
                return Err(format!("'{format}' has a }} without a {{; write }}}} for the character itself"));
            }
            '{' => {
                let (name, rest) = characters.as_str().split_once('}').ok_or_else(|| {
                    format!("'{format}' has a {{ without a }}; write {{{{ for the character itself")
                })?;
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::Field { field: field(name)?, quoted });
                characters = rest.chars();
            }
            '"' => {
                quoted = !quoted;
                text.push(character);
            }
            _ => text.push(character),
        }
    }
    if pieces.is_empty() {
        return Err(format!(
            "'{format}' is neither combined, common nor json, and has no field in braces, such as {{remote_addr}}"
        ));
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

fn named_fields(list: &str) -> Result<Vec<NamedField>, String> {
    let mut named: Vec<NamedField> = Vec::new();
    for name in list.split(',') {
        if named.iter().any(|other| other.name == name) {
            return Err(format!("the field {name} is named twice"));
        }
        named.push(NamedField { name: name.to_owned(), field: field(name)? });
    }
    Ok(named)
}

fn field(name: &str) -> Result<Field, String> {
    if let Some((_, field)) = FIELDS.iter().find(|(known, _)| *known == name) {
        return Ok(field.clone());
    }
    match name.split_once(':') {
        Some(("header", header)) => header_variable(header).map(Field::Variable),
        Some(("var", variable)) if is_word(variable) => Ok(Field::Variable(variable.to_owned())),
        Some(("var", variable)) => Err(format!("'{variable}' is not the name of a meta-variable")),
        _ => {
            let closest = FIELDS
                .iter()
                .map(|(known, _)| (strsim::jaro_winkler(name, known), *known))
                .max_by(|(a, _), (b, _)| a.total_cmp(b));
            let closest = closest.map(|(_, known)| known).unwrap_or_default();
            Err(format!("there is no field {{{name}}}; did you mean {{{closest}}}?"))
        }
    }
}

/// RFC 3875 §4.1: these two have names of their own.
fn header_variable(name: &str) -> Result<String, String> {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(format!("'{name}' is not the name of a field that becomes a meta-variable"));
    }
    let variable = name.to_ascii_uppercase().replace('-', "_");
    match variable.as_str() {
        "CONTENT_TYPE" | "CONTENT_LENGTH" => Ok(variable),
        _ => Ok(format!("HTTP_{variable}")),
    }
}

fn is_word(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(format: &str) -> Vec<Piece> {
        match AccessLogFormat::parse(format).expect(format) {
            AccessLogFormat::Text(pieces) => pieces,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_format_is_text_and_fields() {
        let quoted = |field| Piece::Field { field, quoted: true };
        let plain = |field| Piece::Field { field, quoted: false };
        assert_eq!(
            text("{{{remote_addr}}} \"{header:X-Forwarded-For}\"\t{var:APP_ENV}%"),
            [
                Piece::Text("{".into()),
                plain(Field::RemoteAddr),
                Piece::Text("} \"".into()),
                quoted(Field::Variable("HTTP_X_FORWARDED_FOR".into())),
                Piece::Text("\"\t".into()),
                plain(Field::Variable("APP_ENV".into())),
                Piece::Text("%".into()),
            ]
        );
        assert_eq!(text("{header:content-type}"), [plain(Field::Variable("CONTENT_TYPE".into()))]);
        assert_eq!(text("{cpu_ms}"), [plain(Field::Cpu(Unit::Milliseconds))]);
    }

    #[test]
    fn what_is_costly_is_done_only_for_formats_that_say_it() {
        for (format, cpu, duration) in [
            ("combined", false, false),
            ("common", false, false),
            ("json", false, true),
            ("json:cpu_us,status", true, false),
            ("{duration_s} {cpu_s}", true, true),
        ] {
            let format = AccessLogFormat::parse(format).expect(format);
            assert_eq!((format.wants_cpu_time(), format.wants_duration()), (cpu, duration));
        }
    }

    #[test]
    fn a_mistake_is_named() {
        for (format, why) in [
            ("", "neither"),
            ("combind", "neither combined"),
            ("{remote_adr}", "did you mean {remote_addr}?"),
            ("{durationus}", "did you mean {duration_us}?"),
            ("{}", "no field {}"),
            ("{status", "{ without a }"),
            ("status}", "} without a {"),
            ("{status}\n", "control characters"),
            ("{header:X Y}", "'X Y' is not"),
            ("{header:}", "'' is not"),
            ("{var:A-B}", "'A-B' is not"),
            ("json:status,", "no field {}"),
            ("json:status,status", "twice"),
            ("json:stat", "did you mean {status}?"),
        ] {
            let error = AccessLogFormat::parse(format).expect_err(format);
            assert_eq!(error.exit_code(), 2);
            let text = error.to_string();
            assert!(text.starts_with("--access-log-format: ") && text.contains(why), "{text}");
        }
    }
}
