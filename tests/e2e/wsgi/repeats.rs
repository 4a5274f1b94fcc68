//! What is known from one request to the next saves time and changes nothing: each request gets its own environ, and each
//! response its own fields.

use crate::support::Forkhorn;
use crate::support::fastcgi::Request;

/// Tells what it was given, after it has spoilt the environ of the request before.
const TELLS: &str = r#"
import json

seen = []

def application(environ, start_response):
    told = {name: value for name, value in environ.items() if isinstance(value, str)}
    for old in seen:
        old["HTTP_HOST"] = old["REMOTE_PORT"] = "spoilt"
        old.pop("REQUEST_METHOD", None)
    seen[:] = [environ]
    environ["EXTRA"] = "x"
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]
"#;

#[test]
fn requests_with_the_same_head_get_an_environ_each() {
    let forkhorn = Forkhorn::new().code(TELLS).both().start();
    let mut connections: Vec<_> = (0..3).map(|_| forkhorn.connect()).collect();
    let plain: Vec<_> = connections.iter_mut().map(|connection| connection.get("/a").json()).collect();
    for (index, told) in plain.iter().enumerate() {
        assert_eq!(told["REQUEST_METHOD"], "GET");
        assert!(plain[..index].iter().all(|other| other["REMOTE_PORT"] != told["REMOTE_PORT"]), "{plain:?}");
    }
    for round in 0..30 {
        for (connection, plain) in connections.iter_mut().zip(&plain) {
            assert_eq!(&connection.get("/a").json(), plain, "round {round}");
        }
        if round % 7 == 0 {
            // As long as the usual one, and different in one byte.
            let other = connections[round % 3].get("/b").json();
            assert_eq!((&other["PATH_INFO"], &other["REQUEST_URI"]), (&"/b".into(), &"/b".into()));
            let cookie = connections[round % 3].request("GET", "/a", &[("Cookie", "a=1")], b"").json();
            assert_eq!(cookie["HTTP_COOKIE"], "a=1");
            let cookie = connections[round % 3].request("GET", "/a", &[("Cookie", "a=2")], b"").json();
            assert_eq!(cookie["HTTP_COOKIE"], "a=2");
        }
    }
}

#[test]
fn clients_that_share_a_web_server_s_connection_keep_their_ports() {
    let forkhorn = Forkhorn::new().code(TELLS).fastcgi("127.0.0.1:0").start();
    // All lengths: what is compared are whole words.
    for other in (1..=8).map(|length| "x".repeat(length)) {
        let mut peers: Vec<_> = (0..3).map(|_| forkhorn.peer()).collect();
        // Not every head that comes again is kept at once.
        let often = vec![(0, "40001"); 9];
        let clients =
            [(0, "40002"), (1, "40001"), (0, "40003"), (0, "40001"), (0, "4"), (1, "40002"), (2, "40001")];
        for (peer, port) in often.into_iter().chain(clients) {
            let request = Request::new("GET", "/f")
                .keep()
                .without("REMOTE_PORT")
                .param("REMOTE_PORT", port)
                .param("OTHER", &other);
            let told = peers[peer].request(&request).response().json();
            assert_eq!((&told["REMOTE_PORT"], &told["OTHER"]), (&port.into(), &other.as_str().into()));
        }
    }
}

/// Answers with fields that stay, that change in place, and that only look alike.
const FIELDS: &str = r#"
class Text(str):
    def __str__(self):
        return "another"
    encode = None

CONSTANT = ("X-Constant", "1")
SHARED = [CONSTANT, ("X-List", "0")]
LENGTHS = {3: ("Content-Length", "3"), 4: ("Content-Length", "4")}
BAD = ("X-Bad", "a\r\nX-Forged: b")
MANY = [("X-%d" % number, str(number)) for number in range(200)]
SUBCLASS = (Text("X-Text"), Text("text"))
count = 0

def application(environ, start_response):
    global count
    count += 1
    path = environ["PATH_INFO"]
    SHARED[1] = ("X-List", str(count))
    if path == "/bad":
        start_response("200 OK", [CONSTANT, BAD])
    elif path == "/twice":
        start_response("200 OK", [LENGTHS[3], LENGTHS[4]])
    elif path == "/many":
        start_response("200 OK", MANY + [LENGTHS[3]])
    elif path == "/four":
        start_response("200 OK", SHARED + [LENGTHS[4]])
        return [b"four"]
    else:
        start_response("200 OK", SHARED + [SUBCLASS, LENGTHS[3], CONSTANT])
    return [b"abc"]
"#;

#[test]
fn header_tuples_that_come_again_are_sent_as_they_are_now() {
    let forkhorn = Forkhorn::new().code(FIELDS).both().start();
    let mut connection = forkhorn.connect();
    let mut count = 0;
    for round in 0..6 {
        count += 1;
        let response = connection.get("/");
        assert_eq!((response.status, response.text().as_str()), (200, "abc"));
        assert_eq!(response.field("X-List"), Some(count.to_string().as_str()));
        assert_eq!(response.field("X-Text"), Some("text"));
        assert_eq!(response.all("X-Constant"), ["1", "1"]);
        assert_eq!(response.all("Content-Length"), ["3"]);
        count += 1;
        let response = connection.get("/four");
        assert_eq!((response.text().as_str(), response.field("Content-Length")), ("four", Some("4")));
        count += 1;
        let response = connection.get("/many");
        for number in 0..200 {
            assert_eq!(response.field(&format!("X-{number}")), Some(number.to_string().as_str()));
        }
        for wrong in ["/bad", "/twice"] {
            count += 1;
            let response = connection.get(wrong);
            assert_eq!((response.status, response.field("X-Forged")), (500, None), "{wrong}, round {round}");
        }
    }
    let peer = forkhorn.fcgi(&Request::new("GET", "/")).response();
    assert_eq!((peer.all("X-Constant"), peer.field("X-Text")), (vec!["1", "1"], Some("text")));
}
