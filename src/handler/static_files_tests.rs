use std::io::Read;
use std::os::unix::fs::{FileExt, symlink};

use super::*;
use crate::gateway::MetaVariables;

/// A directory of files: `site` is served, everything beside it is not.
struct Site {
    dir: tempfile::TempDir,
    target: StaticTarget,
}

impl Site {
    fn new() -> Site {
        let dir = tempfile::tempdir().expect("a directory");
        let top = dir.path().canonicalize().expect("it exists");
        for (name, text) in [
            ("secret.txt", "secret"),
            ("site/index.html", "<p>start"),
            ("site/a.txt", "0123456789"),
            ("site/a b\u{e9}/index.html", "<p>inner"),
            ("site/empty/x.css", ""),
            ("site/.hidden", "hidden"),
            ("site/.git/config", "hidden"),
            ("site/cgi-bin/form.pl", "#!/usr/bin/perl"),
        ] {
            let path = top.join(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("made");
            fs::write(path, text).expect("written");
        }
        for (link, to) in [
            ("site/inside.txt", "a.txt"),
            ("site/outside.txt", "../secret.txt"),
            ("site/absolute.txt", top.join("secret.txt").to_str().expect("UTF-8")),
            ("site/up", ".."),
            ("site/circle", "circle"),
            ("site/source.txt", "cgi-bin/form.pl"),
        ] {
            symlink(to, top.join(link)).expect("linked");
        }
        nix::unistd::mkfifo(&top.join("site/fifo"), Mode::S_IRWXU).expect("made");
        let target = StaticTarget::new(top.join("site"), vec![top.join("site/cgi-bin")]);
        Site { dir, target }
    }

    fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> (ResponseHead, Vec<u8>) {
        let mut meta = MetaVariables::default();
        meta.set(b"REQUEST_METHOD", method.as_bytes());
        meta.set(b"SCRIPT_NAME", b"/s");
        meta.set(b"PATH_INFO", path.as_bytes());
        meta.set(b"QUERY_STRING", b"");
        for (name, value) in fields {
            meta.set(name.as_bytes(), value.as_bytes());
        }
        let mut head = ResponseHead::new(500);
        head.push(b"X-Former", b"response").expect("valid");
        let body = match answer(&self.target, &meta, &mut head) {
            StaticBody::None => Vec::new(),
            StaticBody::Bytes(bytes) => bytes.to_vec(),
            StaticBody::File { file, offset, length } => {
                let mut body = vec![0; length as usize];
                file.read_exact_at(&mut body, offset).expect("as long as it was said to be");
                body
            }
        };
        assert_eq!(head.field(b"X-Former"), None);
        (head, body)
    }

    fn status(&self, path: &str) -> u16 {
        self.ask("GET", path, &[]).0.status
    }
}

fn field<'a>(head: &'a ResponseHead, name: &str) -> Option<&'a str> {
    head.field(name.as_bytes()).map(|value| std::str::from_utf8(value).expect("UTF-8"))
}

#[test]
fn a_file_is_sent_with_its_type_length_and_date() {
    let (head, body) = Site::new().ask("GET", "/a.txt", &[]);
    assert_eq!(
        (head.status, body.as_slice(), head.content_length),
        (200, b"0123456789".as_slice(), Some(10))
    );
    assert_eq!(field(&head, "Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(field(&head, "X-Content-Type-Options"), Some("nosniff"));
    let modified = field(&head, "Last-Modified").expect("there");
    assert!(httpdate::parse_http_date(modified).is_ok(), "{modified}");
}

#[test]
fn head_sends_the_same_head_without_the_file() {
    let site = Site::new();
    let (get, _) = site.ask("GET", "/a.txt", &[]);
    let (head, body) = site.ask("HEAD", "/a.txt", &[("HTTP_RANGE", "bytes=0-1")]);
    assert_eq!((head.status, head.content_length, body.len()), (200, Some(10), 0));
    assert_eq!(head.lines(), get.lines());
}

#[test]
fn nothing_but_plain_files_below_the_directory_is_served() {
    let site = Site::new();
    for (path, status) in [
        ("/", 200),
        ("//", 200),
        ("/index.html", 200),
        ("//a.txt", 200),
        ("/inside.txt", 200),
        ("/a b\u{e9}/", 200),
        ("/empty/x.css", 200),
        ("/empty/", 404),
        ("/missing", 404),
        ("/a.txt/", 404),
        ("/a.txt/b", 404),
        ("/outside.txt", 404),
        ("/absolute.txt", 404),
        ("/up/secret.txt", 404),
        ("/up/site/a.txt", 404),
        ("/up/", 404),
        ("/circle", 404),
        ("/fifo", 404),
        ("/../secret.txt", 404),
        ("/./a.txt", 404),
        ("/..", 404),
        ("/.hidden", 404),
        ("/.git/config", 404),
        ("/cgi-bin/form.pl", 404),
        ("//cgi-bin//form.pl", 404),
        ("/cgi-bin/", 404),
        ("/source.txt", 404),
        ("/a.txt\0", 404),
        (&format!("/{}", "x".repeat(300)), 404),
        (&format!("/{}", "x/".repeat(4000)), 404),
    ] {
        assert_eq!(site.status(path), status, "{path}");
    }
    fs::remove_dir_all(site.dir.path().join("site")).expect("removed");
    assert_eq!(site.status("/"), 404);
}

#[test]
fn without_openat2_no_symbolic_link_is_followed() {
    let site = Site::new();
    let directory = OwnedFd::from(File::open(site.target.directory()).expect("open"));
    for (path, is_there) in [
        (".", true),
        ("a.txt", true),
        ("a b\u{e9}/index.html", true),
        ("inside.txt", false),
        ("outside.txt", false),
        ("up/secret.txt", false),
        ("circle", false),
        ("a.txt/b", false),
    ] {
        assert_eq!(open_without_links(&directory, Path::new(path)).is_ok(), is_there, "{path}");
    }
    let file = open_without_links(&directory, Path::new("a.txt")).expect("there");
    let mut text = String::new();
    File::from(file).read_to_string(&mut text).expect("readable");
    assert_eq!(text, "0123456789");
}

#[test]
fn a_directory_is_redirected_to_its_slash_on_the_same_site() {
    let site = Site::new();
    for (script_name, path, query, location) in [
        ("/s", "/empty", "", "/s/empty/"),
        ("/s", "", "", "/s/"),
        ("/s", "/a b\u{e9}", "x=%20&y", "/s/a%20b%C3%A9/?x=%20&y"),
        ("", "//empty", "", "/empty/"),
        ("", "///empty", "a b\r\n\u{e9}\"", "/empty/?a%20b%0D%0A%C3%A9%22"),
    ] {
        let fields = [("SCRIPT_NAME", script_name), ("QUERY_STRING", query)];
        let (head, _) = site.ask("GET", path, &fields);
        assert_eq!((head.status, field(&head, "Location")), (301, Some(location)));
    }
}

#[test]
fn other_methods_are_told_which_ones_are_allowed() {
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "get"] {
        let (head, _) = Site::new().ask(method, "/a.txt", &[]);
        assert_eq!((head.status, field(&head, "Allow")), (405, Some("GET, HEAD")), "{method}");
    }
}

#[test]
fn a_file_that_the_client_has_is_not_sent_again() {
    let site = Site::new();
    let (head, _) = site.ask("GET", "/a.txt", &[]);
    let etag = field(&head, "ETag").expect("there");
    let modified = field(&head, "Last-Modified").expect("there");
    let before = "Thu, 01 Jan 1970 00:00:10 GMT";
    let other = format!("W/\"x\", W/{etag}");
    for (fields, status) in [
        (vec![("HTTP_IF_MODIFIED_SINCE", modified)], 304),
        (vec![("HTTP_IF_MODIFIED_SINCE", before)], 200),
        (vec![("HTTP_IF_MODIFIED_SINCE", "yesterday")], 200),
        (vec![("HTTP_IF_NONE_MATCH", etag)], 304),
        (vec![("HTTP_IF_NONE_MATCH", other.as_str())], 304),
        (vec![("HTTP_IF_NONE_MATCH", "*")], 304),
        (vec![("HTTP_IF_NONE_MATCH", "\"x\"")], 200),
        (vec![("HTTP_IF_NONE_MATCH", "\"x\""), ("HTTP_IF_MODIFIED_SINCE", modified)], 200),
        (vec![("HTTP_IF_NONE_MATCH", etag), ("HTTP_RANGE", "bytes=0-1")], 304),
    ] {
        let (head, body) = site.ask("GET", "/a.txt", &fields);
        assert_eq!(head.status, status, "{fields:?}");
        if status == 304 {
            assert_eq!((body.len(), head.content_length, field(&head, "ETag")), (0, None, Some(etag)));
        }
    }
}

#[test]
fn one_range_is_sent_and_the_rest_is_ignored() {
    let site = Site::new();
    for (range, status, content_range, expected) in [
        ("bytes=0-3", 206, Some("bytes 0-3/10"), "0123"),
        ("Bytes=8-99", 206, Some("bytes 8-9/10"), "89"),
        ("bytes=4-", 206, Some("bytes 4-9/10"), "456789"),
        ("bytes=-3", 206, Some("bytes 7-9/10"), "789"),
        ("bytes=-30", 206, Some("bytes 0-9/10"), "0123456789"),
        ("bytes=0-18446744073709551615", 206, Some("bytes 0-9/10"), "0123456789"),
        ("bytes=10-", 416, Some("bytes */10"), ""),
        ("bytes=-0", 416, Some("bytes */10"), ""),
        ("bytes=3-2", 200, None, "0123456789"),
        ("bytes=0-1,3-4", 200, None, "0123456789"),
        ("bytes=0-99999999999999999999", 200, None, "0123456789"),
        ("bytes=+1-2", 200, None, "0123456789"),
        ("bytes=-", 200, None, "0123456789"),
        ("bytes=", 200, None, "0123456789"),
        ("lines=0-1", 200, None, "0123456789"),
        ("", 200, None, "0123456789"),
    ] {
        let (head, body) = site.ask("GET", "/a.txt", &[("HTTP_RANGE", range)]);
        assert_eq!((head.status, field(&head, "Content-Range")), (status, content_range), "{range}");
        if status != 416 {
            assert_eq!(body, expected.as_bytes(), "{range}");
        }
        assert_eq!(head.content_length, Some(body.len() as u64), "{range}");
    }
    assert_eq!(site.ask("GET", "/empty/x.css", &[("HTTP_RANGE", "bytes=0-")]).0.status, 416);
}

#[test]
fn a_range_of_a_changed_file_is_the_whole_file() {
    let site = Site::new();
    let (head, _) = site.ask("GET", "/a.txt", &[]);
    let (etag, modified) =
        (field(&head, "ETag").expect("there"), field(&head, "Last-Modified").expect("there"));
    for (condition, status) in
        [(etag, 206), (modified, 206), ("\"x\"", 200), ("Thu, 01 Jan 1970 00:00:10 GMT", 200), ("", 200)]
    {
        let fields = [("HTTP_RANGE", "bytes=0-3"), ("HTTP_IF_RANGE", condition)];
        assert_eq!(site.ask("GET", "/a.txt", &fields).0.status, status, "{condition}");
    }
}

#[test]
fn dates_that_http_cannot_tell_are_left_out() {
    let site = Site::new();
    let file = File::options().write(true).open(site.target.directory().join("a.txt")).expect("open");
    for seconds in [-86400_i64, YEAR_10000 as i64] {
        let time = match u64::try_from(seconds) {
            Ok(after) => UNIX_EPOCH + Duration::from_secs(after),
            Err(_) => UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()),
        };
        // A file system may not be able to hold such a date; then there is nothing to test.
        if file.set_modified(time).is_ok()
            && file.metadata().and_then(|data| data.modified()).ok() == Some(time)
        {
            let (head, body) = site.ask("GET", "/a.txt", &[("HTTP_IF_MODIFIED_SINCE", "x")]);
            assert_eq!((head.status, field(&head, "Last-Modified"), body.len()), (200, None, 10));
        }
    }
}

#[test]
fn types_follow_the_extension_in_any_case() {
    for (name, expected) in [
        ("a.html", "text/html; charset=utf-8"),
        ("a.CSS", "text/css; charset=utf-8"),
        ("a.tar.gz", "application/gzip"),
        ("a.svg", "image/svg+xml"),
        ("a.unknown", "application/octet-stream"),
        ("Makefile", "application/octet-stream"),
    ] {
        assert_eq!(content_type(Path::new(name)), expected);
    }
}
