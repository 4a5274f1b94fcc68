//! Meta-variables of a FastCGI request: the web server's name-value pairs, made uniform.
//!
//! A pair says something about the request and never anything about forkhorn. It chooses no code, user, interpreter or
//! option; SCRIPT_FILENAME can only pick among the scripts below the configured directories.
//!
//! | pairs | what becomes of them |
//! | --- | --- |
//! | names that are not `[A-Za-z_][A-Za-z0-9_]*` | dropped, among them `wsgi.*` |
//! | HTTP_PROXY, HTTP_CONTENT_LENGTH, HTTP_CONTENT_TYPE, HTTP_TRANSFER_ENCODING | dropped |
//! | PATH and LD_* (Apache sends its own) | dropped |
//! | GATEWAY_INTERFACE, SCRIPT_NAME, PATH_INFO, PATH_TRANSLATED, CONTENT_LENGTH, HTTPS, REQUEST_SCHEME | computed |
//! | empty CONTENT_TYPE, SERVER_NAME, SERVER_PORT, … | as if they were not there |
//! | REMOTE_USER, REDIRECT_REMOTE_USER | only with a type of authentication beside it, or `--trust-remote-user` |
//! | AUTH_TYPE of HAProxy, and so REMOTE_USER | only with `--trust-remote-user` |
//! | UNIQUE_ID | passed if it is acceptable as a request's id, else dropped |
//! | a name that comes twice | HTTP_*: joined or refused as HTTP fields are; else the last one, as `fastcgi_param` means |
//! | everything else | passed: SSL_*, REDIRECT_*, and what the operator has the web server send |
//!
//! REQUEST_URI stays as the web server sends it. Where the URL path comes from is told in [`Told::path`].

use super::fields::{Repeated, is_withheld};
use super::meta_variables::{Pushed, Stored};
use super::target::{Target, parse_authority};
use super::unique_id::is_acceptable;
use super::{CgiTarget, Endpoint, Gateway, KnownName, MetaVariables, Refusal, Route, path};
use crate::protocol::{BodyLength, RequestHead, Span, is_token};

impl Gateway {
    pub(super) fn route_fastcgi(
        &self,
        head: &RequestHead,
        endpoint: &Endpoint,
        meta: &mut MetaVariables,
        keep: impl FnOnce(&mut MetaVariables, &Route),
    ) -> Result<Route, Refusal> {
        let told = Told::read(head);
        let route = self.name_fastcgi(&told, head, endpoint, meta);
        if let Ok(route) = &route {
            keep(meta, route);
        }
        // Last, and also for a request that is refused: see `route_http`.
        told.push_remote(endpoint, meta);
        told.push_unique_id(meta);
        route
    }

    fn name_fastcgi(
        &self,
        told: &Told<'_>,
        head: &RequestHead,
        endpoint: &Endpoint,
        meta: &mut MetaVariables,
    ) -> Result<Route, Refusal> {
        told.push_request(meta);
        if told.holds_nul {
            return Err(wrong("a name-value pair holds a NUL"));
        }
        let method = told.get(KnownName::RequestMethod).ok_or_else(|| wrong("there is no REQUEST_METHOD"))?;
        if !is_token(method) {
            return Err(wrong("REQUEST_METHOD is not a method"));
        }
        let route = self.locate_told(told, meta)?;
        push_pairs(head, meta)?;
        self.push_told(told, head.body, endpoint, meta);
        route.ok_or_else(super::no_mount)
    }

    /// The script that SCRIPT_FILENAME names, or else who answers at the path.
    fn locate_told(&self, told: &Told<'_>, meta: &mut MetaVariables) -> Result<Option<Route>, Refusal> {
        let script =
            told.get(KnownName::ScriptFilename).and_then(|filename| self.mounts.find_script(filename));
        let path = told.path(meta).map_err(wrong)?;
        let Some((directory, place)) = script else { return Ok(self.split_path(path.whole, meta)) };
        let url_path = meta.slice(&path.whole).to_vec();
        let split = path.whole.start + path.script_name_length;
        meta.push_stored(KnownName::ScriptName, path.whole.start..split);
        meta.push_stored(KnownName::PathInfo, split..path.whole.end);
        Ok(Some(Route::Cgi(CgiTarget { directory, url_path, place })))
    }

    /// The standard variables, in one order, and the rest of the known ones.
    fn push_told(&self, told: &Told<'_>, body: BodyLength, endpoint: &Endpoint, meta: &mut MetaVariables) {
        use KnownName::*;
        meta.push(GatewayInterface, super::GATEWAY_INTERFACE);
        meta.push(ServerSoftware, told.get(ServerSoftware).unwrap_or(super::SERVER_SOFTWARE));
        let uri = told.get(RequestUri).map(Target::without_authority);
        let query = told.values[QueryString.index()].or(uri.map(|uri| uri.query));
        meta.push(QueryString, query.unwrap_or_default());
        let is_https = told.is_https().unwrap_or(self.is_https);
        super::push_scheme(is_https, meta);
        told.push_server(is_https, endpoint, meta);
        push_content_length(told, body, meta);
        let auth_type = told.get(AuthType).filter(|_| self.trusts_remote_user || !told.is_haproxy());
        let root = told.get(DocumentRoot);
        for (name, value) in
            [(ContentType, told.get(ContentType)), (AuthType, auth_type), (DocumentRoot, root)]
        {
            if let Some(value) = value {
                meta.push(name, value);
            }
        }
        if let Some(root) = self.document_root.as_ref().filter(|_| root.is_none()) {
            meta.push(DocumentRoot, root);
        }
        let is_authenticated = auth_type.is_some() || self.trusts_remote_user;
        if let Some(user) = told.get(RemoteUser).filter(|_| is_authenticated) {
            meta.push(RemoteUser, user);
        }
        let redirected = meta.get(b"REDIRECT_AUTH_TYPE").is_some_and(|value| !value.is_empty());
        if !is_authenticated && !redirected {
            meta.remove(b"REDIRECT_REMOTE_USER");
        }
        for &name in PASSED_ON {
            if let Some(value) = told.values[name.index()] {
                meta.push(name, value);
            }
        }
    }
}

/// Known names that are passed on as they came.
const PASSED_ON: &[KnownName] = &[
    KnownName::DocumentUri,
    KnownName::ScriptFilename,
    KnownName::RedirectStatus,
    KnownName::RemoteHost,
    KnownName::RemoteIdent,
    KnownName::ContextPrefix,
    KnownName::ContextDocumentRoot,
    KnownName::ServerSignature,
    KnownName::ServerAdmin,
];

fn wrong(why: &'static str) -> Refusal {
    Refusal::new(400, why)
}

/// The known pairs that are no fields of the client's: the last of each name.
struct Told<'a> {
    values: [Option<&'a [u8]>; KnownName::COUNT],
    /// No environment can hold one, and no web server sends one.
    holds_nul: bool,
}

/// The decoded URL path.
struct ToldPath {
    whole: Stored,
    /// Where the web server has split it.
    script_name_length: u32,
}

impl ToldPath {
    fn unsplit(whole: Stored) -> Self {
        let script_name_length = whole.end - whole.start;
        ToldPath { whole, script_name_length }
    }

    fn join(script_name: &[u8], path_info: &[u8], meta: &mut MetaVariables) -> Result<Self, path::PathError> {
        let whole = meta.store_with(|bytes| path::join(script_name, path_info, bytes))?;
        let length = (whole.end - whole.start) as usize;
        // Where dot segments were removed, the web server's split means nothing any more.
        match length == script_name.len() + path_info.len() {
            true => Ok(ToldPath { whole, script_name_length: script_name.len() as u32 }),
            false => Ok(ToldPath::unsplit(whole)),
        }
    }
}

impl<'a> Told<'a> {
    fn read(head: &'a RequestHead) -> Self {
        let mut told = Told { values: [None; KnownName::COUNT], holds_nul: false };
        for (name, value) in head.iter() {
            if value.contains(&0) {
                told.holds_nul = true;
            } else if let Some(known) = KnownName::of(name) {
                told.values[known.index()] = Some(value);
            }
        }
        told
    }

    /// An empty value counts as none: nginx sends variables that it has no value for.
    fn get(&self, name: KnownName) -> Option<&'a [u8]> {
        self.values[name.index()].filter(|value| !value.is_empty())
    }

    /// The decoded URL path, derived from what the web servers really send:
    ///
    /// | web server | SCRIPT_NAME | PATH_INFO |
    /// | --- | --- | --- |
    /// | nginx; Apache's ProxyPass; HAProxy | the whole path | none |
    /// | nginx with `fastcgi_split_path_info`; Apache's SetHandler; lighttpd; Caddy | its first part | the rest |
    /// | nginx with `fastcgi_param PATH_INFO $fastcgi_script_name` | the whole path, or empty | the whole path |
    /// | nginx with `location ~ ^/app(/.*)` and `fastcgi_param PATH_INFO $1` | the whole path | its end |
    /// | nginx with `fastcgi_param SCRIPT_NAME /app` | the first part | none |
    /// | Apache with `proxy-fcgi-pathinfo` | cut at a wrong place | the rest, still encoded |
    ///
    /// SCRIPT_NAME and PATH_INFO together come first: the web server has decoded them, and its rewrites and error
    /// documents show there, while REQUEST_URI stays what the client wrote. REQUEST_URI decides where the two are
    /// missing, or where it shows that they do not add up, as in the last four rows.
    fn path(&self, meta: &mut MetaVariables) -> Result<ToldPath, path::PathError> {
        use KnownName::*;
        let script_name = self.get(ScriptName).unwrap_or_default();
        let path_info = self.get(PathInfo).unwrap_or_default();
        let uri = self.get(RequestUri).and_then(|uri| {
            let target = Target::parse(uri).ok()?;
            let raw = if target.path.is_empty() { b"/" } else { target.path };
            meta.store_with(|bytes| path::decode(raw, bytes)).ok()
        });
        let document_uri = self.get(DocumentUri);
        if script_name.is_empty() && path_info.is_empty() {
            return match uri {
                Some(uri) => Ok(ToldPath::unsplit(uri)),
                None => ToldPath::join(document_uri.unwrap_or(b"/"), b"", meta),
            };
        }
        let joined = ToldPath::join(script_name, path_info, meta);
        let path = uri.as_ref().map(|uri| meta.slice(uri));
        if joined.as_ref().ok().map(|joined| meta.slice(&joined.whole)) == path {
            return joined;
        }
        let is_twice =
            script_name == path_info && (path == Some(path_info) || document_uri == Some(path_info));
        if is_twice {
            return ToldPath::join(path_info, b"", meta);
        }
        let is_end_of_whole =
            path_info.starts_with(b"/") && path == Some(script_name) && script_name.ends_with(path_info);
        if is_end_of_whole {
            return ToldPath::join(&script_name[..script_name.len() - path_info.len()], path_info, meta);
        }
        let is_unsplit =
            |path| path_info.is_empty() && document_uri == Some(path) && is_above(script_name, path);
        if path.is_some_and(|path| is_unsplit(path) || is_cut_wrongly(script_name, path_info, path)) {
            return uri.map_or(joined, |uri| Ok(ToldPath::unsplit(uri)));
        }
        joined
    }

    /// What tells of the request in the access log, also when it is refused.
    fn push_request(&self, meta: &mut MetaVariables) {
        use KnownName::*;
        for name in [RequestMethod, RequestUri] {
            if let Some(value) = self.get(name) {
                meta.push(name, value);
            }
        }
        meta.push(ServerProtocol, self.get(ServerProtocol).unwrap_or(b"HTTP/1.1"));
    }

    /// REMOTE_ADDR and REMOTE_PORT.
    fn push_remote(&self, endpoint: &Endpoint, meta: &mut MetaVariables) {
        use KnownName::*;
        push_remote((self.get(RemoteAddr), self.get(RemotePort)), endpoint, meta);
    }

    /// Apache's mod_unique_id, or `fastcgi_param UNIQUE_ID $request_id;` of nginx.
    fn push_unique_id(&self, meta: &mut MetaVariables) {
        if let Some(id) = self.get(KnownName::UniqueId).filter(|id| is_acceptable(id)) {
            meta.push(KnownName::UniqueId, id);
        }
    }

    /// HAProxy makes AUTH_TYPE and REMOTE_USER of an Authorization field, whether or not it has checked the password.
    fn is_haproxy(&self) -> bool {
        self.get(KnownName::ServerSoftware).is_some_and(|software| software.starts_with(b"HAProxy"))
    }

    /// What HTTPS says, or else REQUEST_SCHEME: stock nginx sends its own scheme as REQUEST_SCHEME, and an operator who
    /// knows better adds HTTPS. `None` if neither is there.
    fn is_https(&self) -> Option<bool> {
        let is_one_of =
            |value: &[u8], names: &[&[u8]]| names.iter().any(|name| name.eq_ignore_ascii_case(value));
        let https = self.get(KnownName::Https).map(|value| is_one_of(value, &[b"on", b"1", b"https"]));
        https.or_else(|| self.get(KnownName::RequestScheme).map(|value| is_one_of(value, &[b"https"])))
    }

    /// SERVER_NAME, SERVER_PORT and SERVER_ADDR: nginx without a `server_name` sends an empty one, HAProxy the whole Host.
    fn push_server(&self, is_https: bool, endpoint: &Endpoint, meta: &mut MetaVariables) {
        use KnownName::*;
        let address = self.get(ServerAddr);
        if let Some(address) = address {
            meta.push(ServerAddr, address);
        }
        let host = self.get(HttpHost).and_then(parse_authority);
        let named = self.get(ServerName).map(|name| parse_authority(name).map_or(name, |(name, _)| name));
        match (named.or(host.map(|(name, _)| name)), address) {
            (Some(name), _) => meta.push(ServerName, name),
            // RFC 3875 §4.1.14 wants brackets around IPv6.
            (None, Some(v6)) if v6.contains(&b':') => meta.push(ServerName, &[b"[", v6, b"]"].concat()),
            (None, Some(address)) => meta.push(ServerName, address),
            (None, None) => return super::push_local_server(is_https, endpoint, meta),
        }
        let port = self.get(ServerPort).or(host.and_then(|(_, port)| port));
        meta.push(ServerPort, port.unwrap_or_else(|| super::default_port(is_https)));
    }
}

/// The client that the web server tells, or who is connected.
fn push_remote(
    (address, port): (Option<&[u8]>, Option<&[u8]>),
    endpoint: &Endpoint,
    meta: &mut MetaVariables,
) {
    match address {
        None => super::push_remote(endpoint, meta),
        Some(address) => {
            meta.push(KnownName::RemoteAddr, address);
            if let Some(port) = port {
                meta.push(KnownName::RemotePort, port);
            }
        }
    }
}

/// An empty value counts as none.
fn is_told(value: &&[u8]) -> bool {
    !value.is_empty()
}

/// Where a head tells of the client: address and port.
pub(super) type Remote = (Option<Span>, Option<Span>);

/// The last of each name, as [`Told::read`] takes it.
pub(super) fn remote_of(head: &RequestHead) -> Remote {
    let last = |name: &[u8]| {
        let mut named = head.fields.iter().rev().filter(|field| field.name.of(&head.bytes) == name);
        named.next().map(|field| field.value)
    };
    (last(b"REMOTE_ADDR"), last(b"REMOTE_PORT"))
}

/// Adds REMOTE_ADDR and REMOTE_PORT where all else is known ([`Repeats`](super::Repeats)).
pub(super) fn push_remote_of(
    head: &RequestHead,
    (address, port): Remote,
    endpoint: &Endpoint,
    meta: &mut MetaVariables,
) {
    let told = |place: Option<Span>| place.map(|place| place.of(&head.bytes)).filter(is_told);
    push_remote((told(address), told(port)), endpoint, meta);
}

/// `script_name` is the path up to the end of a segment.
fn is_above(script_name: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(script_name).is_some_and(|rest| rest.starts_with(b"/"))
}

/// PATH_INFO is the end of the path, but encoded, so that Apache has cut it from the decoded path at a wrong place.
fn is_cut_wrongly(script_name: &[u8], path_info: &[u8], path: &[u8]) -> bool {
    let mut decoded = Vec::new();
    path_info.contains(&b'%')
        && path::percent_decode(path_info, &mut decoded).is_ok()
        && path.ends_with(&decoded)
        && path.starts_with(script_name)
}

/// The body's length as the protocol has understood it. lighttpd sends a 0 with every GET: no body is no length there.
fn push_content_length(told: &Told<'_>, body: BodyLength, meta: &mut MetaVariables) {
    match body {
        BodyLength::Known(length) => meta.push_display(KnownName::ContentLength, length),
        BodyLength::None if told.get(KnownName::ContentLength).is_some() => {
            if !matches!(told.get(KnownName::RequestMethod), Some(b"GET" | b"HEAD")) {
                meta.push(KnownName::ContentLength, b"0");
            }
        }
        BodyLength::None | BodyLength::Unknown => {}
    }
}

/// HTTP_* and the names that we do not know.
fn push_pairs(head: &RequestHead, meta: &mut MetaVariables) -> Result<(), Refusal> {
    for (index, (name, value)) in head.iter().enumerate() {
        let known = KnownName::of(name);
        // Known fields need no look at their letters.
        let is_wanted = match known {
            Some(known) => known.is_field(),
            None => is_passed(name),
        };
        if !is_wanted {
            continue;
        }
        let Pushed::Again(at) = meta.push_pair(known, name, value) else { continue };
        let Some(field) = name.strip_prefix(b"HTTP_") else {
            meta.set(name, value);
            continue;
        };
        let separator = Repeated::of_variable(field).separator(field)?;
        let rest = head.iter().skip(index + 1).filter(|(other, _)| *other == name);
        meta.join(at, separator, std::iter::once(value).chain(rest.map(|(_, value)| value)));
    }
    Ok(())
}

/// Whether the pair of a name that we do not compute reaches the application.
fn is_passed(name: &[u8]) -> bool {
    let is_word = name.first().is_some_and(|first| !first.is_ascii_digit())
        && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let field = name.split_at_checked(5).filter(|(start, _)| start.eq_ignore_ascii_case(b"http_"));
    is_word
        && match field {
            Some((_, field)) => {
                !field.is_empty()
                    && !is_withheld(field)
                    && !field.eq_ignore_ascii_case(b"content_length")
                    && !field.eq_ignore_ascii_case(b"content_type")
            }
            None => name != b"PATH" && !name.starts_with(b"LD_"),
        }
}
