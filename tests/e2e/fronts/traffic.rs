//! What goes through a web server: bodies of every size and framing, many requests at once, errors.

use super::{Way, fronted, fronted_by};
use crate::support::http::Connection;

#[test]
fn bodies_go_both_ways_through_every_server() {
    let body: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    for way in Way::ALL {
        let fronted = fronted(way, &[]);
        let mut connection = fronted.front.connect();
        for length in [0, 1, 1000, 70_000, 3_000_000] {
            let response = connection.request("POST", "/m/echo", &[], &body[..length]);
            assert_eq!((response.status, response.complete), (200, true), "{way:?} {length}");
            assert!(
                response.body == body[..length],
                "{way:?}: {length} bytes came back as {}",
                response.body.len()
            );
        }
        let response = connection.get("/big?bytes=10000000");
        assert_eq!((response.body.len(), response.complete), (10_000_000, true), "{way:?}");
    }
}

#[test]
fn chunked_uploads_reach_the_application_through_every_server() {
    for way in Way::ALL {
        let fronted = fronted(way, &[]);
        let mut connection = fronted.front.connect();
        // HAProxy 2.6 refuses what does not fit its buffer of 16 KiB.
        let size = if way == Way::HaProxy { 0x200 } else { 0x4000 };
        let chunk = format!("{size:x}\r\n{}\r\n", "x".repeat(size));
        let request = format!(
            "POST /m/length HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
            chunk.repeat(20)
        );
        connection.send(&request);
        let response = connection.read_response();
        assert_eq!(response.status, 200, "{way:?}");
        assert_eq!(response.json()["length"], 20 * size, "{way:?}: {}", response.text());
        connection.send(request.replace("/m/length", "/cgi-bin/dump.pl"));
        let dump = crate::cgi::Dump::of(&connection.read_response());
        assert_eq!(
            (dump.body.len(), dump.var("CONTENT_LENGTH")),
            (20 * size, (20 * size).to_string().as_str()),
            "{way:?}"
        );
    }
}

#[test]
fn statuses_and_methods_come_through_every_server() {
    for way in Way::ALL {
        let fronted = fronted(way, &[]);
        let mut connection = fronted.front.connect();
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            assert_eq!(
                connection.request(method, "/m/environ", &[], b"").json()["REQUEST_METHOD"],
                method,
                "{way:?}"
            );
        }
        let head = connection.request("HEAD", "/m/big?bytes=5000", &[], b"");
        assert_eq!((head.status, head.body.len()), (200, 0), "{way:?}");
        let response = connection.get("/m/fail");
        assert_eq!(response.status, 500, "{way:?}");
        assert!(!response.text().contains("secret"), "{way:?}");
        assert_eq!(fronted.front.get("/m/pid").status, 200, "{way:?}");
    }
}

/// lighttpd as docs/lighttpd.md has it: else it collects the answer, and takes its end for a good one. Apache keeps the
/// connection of a broken answer open for as long as an idle one.
fn streaming(way: Way) -> String {
    match way {
        _ if way.is_apache() => way.configuration() + "KeepAliveTimeout 1\n",
        Way::Lighttpd => way.configuration() + "server.stream-response-body = 1\n",
        _ => way.configuration(),
    }
}

#[test]
fn an_answer_that_breaks_off_does_not_look_whole_behind_any_server() {
    for way in Way::ALL {
        let fronted = fronted_by(way, &streaming(way), &[]);
        // Less than any server's buffers hold, and more.
        for blocks in [0, 40] {
            let mut connection: Connection = fronted.front.connect();
            let go = fronted.site.folder.join(&format!("go-{blocks}"));
            // lighttpd takes an end that comes together with the head for a good one, so that is waited for here.
            let until = (way == Way::Lighttpd).then(|| format!("&until={}", go.display()));
            let query = format!("blocks={blocks}{}", until.as_deref().unwrap_or_default());
            connection.send(format!("GET /m/fail_late?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            if until.is_some() {
                assert!(!connection.peek().is_empty(), "{way:?}");
                std::fs::write(&go, "").expect("a file");
            }
            let got = connection.try_read("GET");
            let whole = got.is_ok_and(|response| response.complete && response.status == 200);
            // mod_fcgid passes on what it has got, and takes the end of the connection for a good one.
            let is_deaf = way == Way::ModFcgid && blocks > 0;
            assert!(!whole || is_deaf, "{way:?} {blocks}: a broken answer looks whole");
        }
        assert_eq!(fronted.front.get("/m/pid").status, 200, "{way:?}");
    }
}

#[test]
fn many_clients_at_once_each_get_their_own_answer() {
    for way in Way::ALL {
        let fronted = fronted(way, &["--threads", "2"]);
        std::thread::scope(|scope| {
            for client in 0..6 {
                let front = &fronted.front;
                scope.spawn(move || {
                    let mut connection = front.connect();
                    for number in 0..25 {
                        let body = format!("client {client} request {number} ").repeat(1 + number * 20);
                        let response = connection.request("POST", "/m/echo", &[], body.as_bytes());
                        assert_eq!(response.text(), body, "{way:?}");
                        if response.field("Connection") == Some("close") {
                            connection = front.connect();
                        }
                    }
                });
            }
        });
        let log = fronted.forkhorn.as_ref().map(|forkhorn| forkhorn.server.log.text()).unwrap_or_default();
        assert!(!log.contains(" ERROR "), "{way:?}");
    }
}

#[test]
fn a_reload_behind_nginx_fails_no_request() {
    let fronted = fronted(Way::Nginx, &[]);
    let forkhorn = fronted.forkhorn.as_ref().expect("nginx starts nothing");
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = fronted.front.connect();
                    for _ in 0..150 {
                        let response = connection.get("/m/pid");
                        assert_eq!(response.status, 200, "{}", response.text());
                    }
                })
            })
            .collect();
        for generation in 1..4 {
            forkhorn.signal(nix::sys::signal::Signal::SIGHUP);
            forkhorn.wait_for_log(&format!("worker 1 generation {generation} ready"));
        }
        for client in clients {
            client.join().expect("no request fails");
        }
    });
}
