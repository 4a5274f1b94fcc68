//! A script's local redirect (RFC 3875 §6.2.2): the request as it would be, had the client asked for the new location.

use super::target::Target;
use super::{Gateway, KnownName, MetaVariables, Refusal, Route};

/// What belongs to the former request's body, or to the script that answered it.
const FORGOTTEN: [&[u8]; 9] = [
    b"SCRIPT_NAME",
    b"PATH_INFO",
    b"CONTENT_LENGTH",
    b"CONTENT_TYPE",
    b"HTTP_CONTENT_ENCODING",
    b"HTTP_EXPECT",
    b"SCRIPT_FILENAME",
    b"PATH_TRANSLATED",
    b"DOCUMENT_URI",
];

impl Gateway {
    /// Changes `meta`, which a script was given, for its redirect to `location`: a path and possibly a query, as they
    /// stand in a URL. The caller forgets the body and limits how often it comes here for one request.
    ///
    /// The method is GET then; HEAD stays HEAD. What the client had asked for is told as Apache does: REDIRECT_STATUS
    /// (200), REDIRECT_URL (the decoded path), REDIRECT_QUERY_STRING and REDIRECT_REQUEST_METHOD. REQUEST_URI becomes
    /// the new location: Apache keeps the old one, but applications that route by it would answer the wrong request.
    ///
    /// Refused with 502 if the script's location can't be understood, with 404 if nobody answers there.
    pub fn redirect(&self, location: &[u8], meta: &mut MetaVariables) -> Result<Route, Refusal> {
        if !location.starts_with(b"/") || location.contains(&0) {
            return Err(Refusal::new(502, "the script's local redirect does not begin with a slash"));
        }
        let target = Target::parse(location)
            .map_err(|_| Refusal::new(502, "the script's local redirect holds a fragment"))?;
        let value = |name: KnownName| meta.known(name).unwrap_or_default().to_vec();
        let method = value(KnownName::RequestMethod);
        let query = value(KnownName::QueryString);
        let url = [value(KnownName::ScriptName), value(KnownName::PathInfo)].concat();

        FORGOTTEN.iter().for_each(|name| meta.remove(name));
        let new_method: &[u8] = if method == b"HEAD" { b"HEAD" } else { b"GET" };
        meta.set_known(KnownName::RequestMethod, new_method);
        meta.set_known(KnownName::RequestUri, location);
        meta.set_known(KnownName::QueryString, target.query);
        meta.set_known(KnownName::RedirectStatus, b"200");
        meta.set(b"REDIRECT_URL", &url);
        meta.set(b"REDIRECT_QUERY_STRING", &query);
        meta.set(b"REDIRECT_REQUEST_METHOD", &method);
        let route = self.locate_path(target.path, meta).map_err(|why| Refusal::new(502, why))?;
        route.ok_or_else(super::no_mount)
    }
}
