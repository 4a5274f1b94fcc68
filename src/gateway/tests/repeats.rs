//! Requests that come again get what they would get if each were the first.

use super::*;

fn shown_variables(meta: &MetaVariables) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    meta.iter().map(|(name, value)| (text(name.as_bytes()), text(value))).collect()
}

fn repeated(mut head: RequestHead) -> RequestHead {
    head.repeats = true;
    head
}

/// Both ways, and whether the request shares its variables with others.
fn compare(gateway: &Gateway, head: &RequestHead, endpoint: &Endpoint, repeats: &mut Repeats) -> bool {
    let head = repeated(head.clone());
    let (mut plain, mut meta) = (MetaVariables::default(), MetaVariables::default());
    let expected = shown(gateway.route(&head, endpoint, &mut plain));
    assert_eq!(shown(gateway.route_repeated(&head, endpoint, &mut meta, repeats)), expected);
    assert_eq!(shown_variables(&meta), shown_variables(&plain));
    meta.origin().is_some()
}

fn endpoints() -> Vec<Endpoint> {
    let parse = |text: &str| text.parse().expect("an address");
    vec![
        endpoint(),
        Endpoint::new(Peer::Ip(parse("192.0.2.1:4712")), Some(parse("127.0.0.1:8000"))),
        Endpoint::new(Peer::Ip(parse("[2001:db8::1]:9")), Some(parse("127.0.0.1:8000"))),
        Endpoint::new(Peer::Ip(parse("192.0.2.1:4711")), Some(parse("127.0.0.1:8001"))),
        Endpoint::new(Peer::Unix, None),
    ]
}

#[test]
fn heads_of_all_kinds_are_routed_as_if_they_came_once() {
    let gateway = gateway();
    let nginx = [("SCRIPT_NAME", "/app/x"), ("REQUEST_METHOD", "GET"), ("REMOTE_ADDR", "192.0.2.7")];
    let fastcgi = |more: &[(&str, &str)]| fastcgi_head(&[&nginx[..], more].concat());
    let mut heads = vec![
        http_head("GET", "/a?b", &[("Host", "x"), ("Cookie", "a=1")]),
        http_head("GET", "/a?b", &[("Host", "x"), ("Cookie", "a=2")]),
        http_head("GET", "/app/a", &[]),
        http_head("GET", "/a%", &[("Host", "x")]),
        http_head("GET", "/cgi-bin/a", &[("Host", "x")]),
        http_head("GET", "/static/a", &[("Host", "x")]),
        http_head("GET", "/", &[("Host", "x"), ("A", "1"), ("A", "2")]),
        fastcgi(&[("REMOTE_PORT", "40001")]),
        fastcgi(&[("REMOTE_PORT", "40002")]),
        fastcgi(&[("REMOTE_PORT", "4000")]),
        fastcgi(&[("REMOTE_PORT", "400\0\0")]),
        fastcgi(&[("REMOTE_PORT", "40003"), ("REMOTE_PORT", "40004")]),
        fastcgi(&[("REMOTE_PORT", "40005"), ("REMOTE_PORT", "40004")]),
        fastcgi(&[("REMOTE_PORT", ""), ("UNIQUE_ID", "a")]),
        fastcgi_head(&[("REQUEST_METHOD", "GET"), ("REMOTE_PORT", "40001")]),
    ];
    let mut with_body = http_head("POST", "/a", &[("Host", "x"), ("Content-Length", "5")]);
    with_body.body = BodyLength::Known(5);
    heads.push(with_body);
    let mut repeats = Repeats::default();
    let mut shared = 0;
    for _ in 0..40 {
        for head in &heads {
            for endpoint in endpoints() {
                shared += usize::from(compare(&gateway, head, &endpoint, &mut repeats));
            }
        }
    }
    assert!(shared > 0, "some of them were known");
    for head in &heads[3..6] {
        assert!((0..20).all(|_| !compare(&gateway, head, &endpoint(), &mut Repeats::default())));
    }
}

#[test]
fn requests_of_one_origin_share_what_they_had_in_the_beginning() {
    let (gateway, mut repeats) = (gateway(), Repeats::default());
    let head = repeated(http_head("GET", "/a", &[("Host", "x")]));
    let mut route = |endpoint: &Endpoint| {
        let mut meta = MetaVariables::default();
        gateway.route_repeated(&head, endpoint, &mut meta, &mut repeats).expect("routed");
        meta
    };
    let (one, mut other) = (route(&endpoints()[0]), route(&endpoints()[1]));
    let origin = one.origin().expect("kept");
    assert_eq!(other.origin(), Some(origin));
    let [of_one, of_other] = [&one, &other].map(shown_variables);
    assert_eq!(of_one[..origin.variables], of_other[..origin.variables]);
    assert_ne!(of_one, of_other);
    other.push(KnownName::UniqueId, b"added");
    assert_eq!(other.origin(), Some(origin));
    for change in [
        |meta: &mut MetaVariables| meta.set(b"HTTP_HOST", b"y"),
        |meta: &mut MetaVariables| meta.set_known(KnownName::ContentLength, b"1"),
        |meta: &mut MetaVariables| meta.remove(b"HTTP_HOST"),
        |meta: &mut MetaVariables| meta.clear(),
    ] {
        let mut changed = one.clone();
        change(&mut changed);
        assert_eq!(changed.origin(), None);
    }
    assert_ne!(route(&endpoints()[3]).origin(), Some(origin), "another address was connected to");
}
