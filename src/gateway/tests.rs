//! Tables: heads as clients and web servers send them, and the variables that come of them.

use std::path::PathBuf;

use super::*;
use crate::config::{Mount, MountTarget};
use crate::protocol::{BodyLength, Field, RequestLine, Version};

mod fastcgi;
mod http;
mod redirect;
mod repeats;
mod routes;

/// An application at the root (0) and at `/app` (1), scripts at `/cgi-bin`, files at `/static`.
fn gateway() -> Gateway {
    with_mounts(&[
        ("/cgi-bin", MountTarget::Cgi(PathBuf::from("/srv/cgi"))),
        ("/static", MountTarget::Static(PathBuf::from("/srv/static"))),
        ("/app", MountTarget::Application(1)),
        ("", MountTarget::Application(0)),
    ])
}

fn with_mounts(mounts: &[(&str, MountTarget)]) -> Gateway {
    let mounts: Vec<Mount> = mounts
        .iter()
        .map(|(prefix, target)| Mount { prefix: (*prefix).to_owned(), target: target.clone() })
        .collect();
    Gateway {
        mounts: route::Mounts::new(&mounts),
        is_https: false,
        document_root: None,
        trusts_remote_user: false,
    }
}

fn endpoint() -> Endpoint {
    let address = |text: &str| text.parse().expect("an address");
    Endpoint::new(Peer::Ip(address("192.0.2.1:4711")), Some(address("127.0.0.1:8000")))
}

fn http_head(method: &str, target: &str, fields: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::default();
    let (method, target) = (head.store(method.as_bytes()), head.store(target.as_bytes()));
    head.line = Some(RequestLine { method, target, version: Version::Http11 });
    push_fields(&mut head, fields);
    head
}

fn fastcgi_head(pairs: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::default();
    push_fields(&mut head, pairs);
    head
}

fn push_fields(head: &mut RequestHead, fields: &[(&str, &str)]) {
    for (name, value) in fields {
        let field = Field { name: head.store(name.as_bytes()), value: head.store(value.as_bytes()) };
        head.fields.push(field);
    }
}

/// The route in a few characters (`app 0`, `cgi /srv/cgi /x.pl`, `static /srv/static`), or the refusal's status.
fn routed(gateway: &Gateway, head: &RequestHead, meta: &mut MetaVariables) -> String {
    shown(gateway.route(head, &endpoint(), meta))
}

fn shown(route: Result<Route, Refusal>) -> String {
    match route {
        Ok(Route::Application(index)) => format!("app {index}"),
        Ok(Route::Cgi(target)) => {
            let (how, script) = match &target.place {
                Place::UrlPath { prefix_length } => ("cgi", &target.url_path[*prefix_length..]),
                Place::Filename(file) => ("cgi file", file.as_slice()),
            };
            format!("{how} {} {}", target.directory.display(), script.escape_ascii())
        }
        Ok(Route::Static(target)) => format!("static {}", target.directory().display()),
        Err(refusal) => refusal.status.to_string(),
    }
}

fn value<'a>(meta: &'a MetaVariables, name: &str) -> Option<&'a str> {
    meta.get(name.as_bytes()).map(|value| std::str::from_utf8(value).expect("UTF-8 in this test"))
}

fn script_name_and_path_info(meta: &MetaVariables) -> (String, String) {
    let shown =
        |name| meta.known(name).map_or_else(|| "none".to_owned(), |value| value.escape_ascii().to_string());
    (shown(KnownName::ScriptName), shown(KnownName::PathInfo))
}
