//! Tables: each output fed whole, byte by byte, and split in two at every place.

use super::*;

const LIMITS: HeaderLimits = HeaderLimits { max_bytes: 1000, max_fields: 10 };

/// What came of an output: the header in one line of text, and the body.
type Parsed = Result<(String, Vec<u8>), String>;

fn parse(pieces: &[&[u8]], nph: bool) -> Parsed {
    let mut parser = HeaderParser::new(LIMITS, nph);
    let mut pieces = pieces.iter();
    while let Some(piece) = pieces.next() {
        if let Some((header, length)) = parser.feed(piece).map_err(|error| error.to_string())? {
            let body = [&piece[length..], &pieces.copied().collect::<Vec<_>>().concat()].concat();
            return Ok((describe(&header), body));
        }
    }
    Err(parser.unfinished().to_string())
}

fn describe(header: &Header) -> String {
    match header {
        Header::LocalRedirect(path) => format!("local {}", path.escape_ascii()),
        Header::Response(head) => {
            let mut text = format!("{} {}", head.status, head.reason().escape_ascii());
            for (name, value) in head.fields() {
                text.push_str(&format!(" | {}: {}", name.escape_ascii(), value.escape_ascii()));
            }
            if let Some(length) = head.content_length {
                text.push_str(&format!(" | length {length}"));
            }
            text
        }
    }
}

/// Parses in every way of splitting; all must agree.
fn parse_all_ways(output: &[u8], nph: bool) -> Parsed {
    let whole = parse(&[output], nph);
    let bytes: Vec<&[u8]> = output.chunks(1).collect();
    assert_eq!(parse(&bytes, nph), whole, "byte by byte: {}", output.escape_ascii());
    for at in 0..=output.len() {
        let (first, second) = output.split_at(at);
        assert_eq!(parse(&[first, second], nph), whole, "split at {at}: {}", output.escape_ascii());
    }
    whole
}

#[test]
fn headers_become_responses_and_local_redirects() {
    for (output, header, body) in [
        (
            b"Content-Type: text/plain\n\nbody".as_slice(),
            "200 OK | Content-Type: text/plain",
            b"body".as_slice(),
        ),
        (b"Content-Type: text/plain\r\n\r\nbody", "200 OK | Content-Type: text/plain", b"body"),
        (b"Content-Type: text/plain\r\n\nbody", "200 OK | Content-Type: text/plain", b"body"),
        (b"Content-Type: text/plain\n\r\nbody", "200 OK | Content-Type: text/plain", b"body"),
        (b"Content-Type:text/plain\n\n\n\nbody", "200 OK | Content-Type: text/plain", b"\n\nbody"),
        (b"Content-Type : text/plain\n\n", "200 OK | Content-Type: text/plain", b""),
        (b"X-Empty:\n\n", "200 OK | X-Empty: ", b""),
        (b"Content-Length: 5\n\nhello", "200 OK | length 5", b"hello"),
        (b"A: 1\nB: 2\nA: 3\n\n", "200 OK | A: 1 | B: 2 | A: 3", b""),
        (
            b"Set-Cookie: a=1; path=/\nSet-Cookie: b=2\n\n",
            "200 OK | Set-Cookie: a=1; path=/ | Set-Cookie: b=2",
            b"",
        ),
        (b"X: caf\xe9 \xc3\xa9\n\n", "200 OK | X: caf\\xe9 \\xc3\\xa9", b""),
        // Status
        (b"Status: 404 Not Found\n\n", "404 Not Found", b""),
        (b"Status: 404\n\n", "404 Not Found", b""),
        (b"status:404 Nothing here\n\n", "404 Nothing here", b""),
        (b"Status: 299 \n\n", "299 ", b""),
        (b"Content-Type: a/b\nStatus: 500 No\n\n", "500 No | Content-Type: a/b", b""),
        (b"Status: 404 A\nStatus: 404 B\n\n", "404 B", b""),
        (b"HTTP/1.0 404 Gone astray\nA: 1\n\n", "404 Gone astray | A: 1", b""),
        (b"HTTP/1.1 204\n\n", "204 No Content", b""),
        // Location
        (b"Location: https://example.org/a?b#c\n\n", "302 Found | Location: https://example.org/a?b#c", b""),
        (b"Location: other.html\n\n", "302 Found | Location: other.html", b""),
        (b"Location: /a#part\n\n", "302 Found | Location: /a#part", b""),
        (b"Status: 301 Moved\nLocation: /a\n\n", "301 Moved | Location: /a", b""),
        (b"Status: 201 Created\nLocation: /new\n\nmade", "201 Created | Location: /new", b"made"),
        (b"Status: 200 OK\nLocation: http://h/\n\n", "200 OK | Location: http://h/", b""),
        (b"Location: /a?b=c\n\n", "local /a?b=c", b""),
        (b"Location: /a\nStatus: 200 OK\n\n", "local /a", b""),
        (b"Location: /a\nContent-Type: text/html\n\nignored", "local /a", b"ignored"),
        (b"Location: //host/path\n\n", "local //host/path", b""),
        (b"Location: /a b\xc3\xa9\n\n", "local /a%20b%C3%A9", b""),
        (b"Location: /a\nLocation: /a\n\n", "local /a", b""),
        // cgitb
        (b"<!--: spam\nContent-Type: text/html\n\n<body>", "200 OK | Content-Type: text/html", b"<body>"),
        // Not the script's to say
        (b"Connection: close\nTransfer-Encoding: chunked\nA: 1\n\n", "200 OK | A: 1", b""),
        (b"Keep-Alive: 1\n\n", "200 OK", b""),
    ] {
        assert_eq!(
            parse_all_ways(output, false),
            Ok((header.to_owned(), body.to_vec())),
            "{}",
            output.escape_ascii()
        );
    }
}

#[test]
fn output_that_is_no_header_is_refused_with_its_line() {
    for (output, why) in [
        (b"".as_slice(), "wrote nothing"),
        (b"Content-Type: text/plain\n", "ended before the empty line"),
        (b"Content-Type: text/plain", "ended before the empty line"),
        (b"\nbody", "begins with an empty line"),
        (b"\r\nbody", "begins with an empty line"),
        (b"<html>\n", "the line '<html>': it is not a header field"),
        (b"A: 1\nTraceback (most recent call last)\n", "'Traceback (most recent call last)'"),
        (b" A: 1\n\n", "not a token"),
        (b"A: 1\n folded\n\n", "' folded': it is not a header field"),
        (b"A: 1\n\tfolded: yes\n\n", "not a token"),
        (b": 1\n\n", "not a token"),
        (b"A B: 1\n\n", "not a token"),
        (b"A: 1\n<!--: spam\n\n", "not a token"),
        (b"A: a\rB: b\n\n", "control character"),
        (b"A: a\r\r\n\n", "control character"),
        (b"A: a\0b\n\n", "control character"),
        (b"A: \x1b[0m\n\n", "'A: \\u{1b}[0m'"),
        (b"Status: 200 a\x0bb\n\n", "control character"),
        (b"Location: /a\0b\n\n", "control character"),
        (b"Location:\n\n", "needs a value"),
        (b"Location: /a\nLocation: /b\n\n", "another Location"),
        (b"Status: 200\nStatus: 404\n\n", "another status"),
        (b"Status: 100 Continue\n\n", "from 200 to 599"),
        (b"Status: 600\n\n", "from 200 to 599"),
        (b"Status: 20\n\n", "from 200 to 599"),
        (b"Status: 2000\n\n", "from 200 to 599"),
        (b"Status: +20 OK\n\n", "from 200 to 599"),
        (b"Status: OK\n\n", "from 200 to 599"),
        (b"Status: \xff\xff\xff\n\n", "from 200 to 599"),
        (b"Status:\n\n", "from 200 to 599"),
        (b"HTTP/1.1\n\n", "from 200 to 599"),
        (b"HTTP/1.1 101 Switching Protocols\n\n", "from 200 to 599"),
        (b"A: 1\nHTTP/1.1 200 OK\n\n", "not a header field"),
        (b"Content-Length: -1\n\n", "not one number"),
        (b"Content-Length: 1\nContent-Length: 2\n\n", "not one number"),
    ] {
        let parsed = parse_all_ways(output, false);
        assert!(
            parsed.as_ref().is_err_and(|error| error.contains(why)),
            "{}: {parsed:?}",
            output.escape_ascii()
        );
    }
}

#[test]
fn limits_hold_before_the_header_is_complete() {
    let long = [b"A: ".as_slice(), &[b'x'; 2000]].concat();
    assert!(parse_all_ways(&long, false).is_err_and(|error| error.contains("longer than 1000 bytes")));
    let many = b"A: 1\n".repeat(20);
    assert!(parse_all_ways(&many, false).is_err_and(|error| error.contains("more than 10 fields")));
    let most = [b"A: 1\n".repeat(10).as_slice(), b"\n"].concat();
    assert!(parse_all_ways(&most, false).is_ok());
}

#[test]
fn long_line_is_shortened_in_the_error() {
    let error = parse(&[&[b"x".repeat(900).as_slice(), b"\n"].concat()], false).expect_err("no colon");
    assert!(error.contains("(700 more bytes)") && error.len() < 400, "{error}");
}

#[test]
fn nph_script_writes_the_whole_head() {
    for (output, header) in [
        (b"HTTP/1.0 200 Fine, thanks\r\nA: 1\r\n\r\n".as_slice(), "200 Fine, thanks | A: 1"),
        (b"HTTP/1.1 301 Moved\nLocation: /a\n\n", "301 Moved | Location: /a"),
        (b"HTTP/1.1 200 OK\nLocation: /a\n\n", "200 OK | Location: /a"),
        (b"HTTP/1.1 200 OK\nStatus: 404\n\n", "200 OK | Status: 404"),
        (b"HTTP/1.1 200 OK\nConnection: close\n\n", "200 OK"),
    ] {
        assert_eq!(parse_all_ways(output, true).map(|(header, _)| header), Ok(header.to_owned()));
    }
    for (output, why) in [
        (b"Content-Type: text/plain\n\n".as_slice(), "begin with a status line"),
        (b"HTTP/1.1 OK\n\n", "from 200 to 599"),
        (b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n", "write the body plainly"),
    ] {
        assert!(
            parse_all_ways(output, true).is_err_and(|error| error.contains(why)),
            "{}",
            output.escape_ascii()
        );
    }
}
