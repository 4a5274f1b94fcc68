//! Meta-variables (RFC 3875 §4.1): one arena of bytes, and names that are numbers where we know them.
//!
//! The bridge to Python keeps one string object per known name, so a known name costs no hashing there.

use std::ops::Range;

macro_rules! known_names {
    ($($variant:ident = $name:literal,)*) => {
        /// A meta-variable's name that is used again and again.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum KnownName { $($variant,)* }

        impl KnownName {
            /// Every known name; `ALL[name.index()] == name`.
            pub const ALL: &'static [KnownName] = &[$(KnownName::$variant,)*];

            pub const fn as_str(self) -> &'static str {
                match self { $(KnownName::$variant => $name,)* }
            }

            fn find(name: &[u8]) -> Option<KnownName> {
                const NAMES: &[(&[u8], KnownName)] = &[$(($name.as_bytes(), KnownName::$variant),)*];
                match name { $(name if name == NAMES[KnownName::$variant as usize].0 => Some(KnownName::$variant),)* _ => None }
            }
        }
    };
}

known_names! {
    RequestMethod = "REQUEST_METHOD",
    ScriptName = "SCRIPT_NAME",
    PathInfo = "PATH_INFO",
    QueryString = "QUERY_STRING",
    RequestUri = "REQUEST_URI",
    ServerProtocol = "SERVER_PROTOCOL",
    RemoteAddr = "REMOTE_ADDR",
    RemotePort = "REMOTE_PORT",
    ServerName = "SERVER_NAME",
    ServerPort = "SERVER_PORT",
    ContentLength = "CONTENT_LENGTH",
    ContentType = "CONTENT_TYPE",
    HttpHost = "HTTP_HOST",
    HttpUserAgent = "HTTP_USER_AGENT",
    HttpAccept = "HTTP_ACCEPT",
    HttpAcceptEncoding = "HTTP_ACCEPT_ENCODING",
    HttpAcceptLanguage = "HTTP_ACCEPT_LANGUAGE",
    HttpCookie = "HTTP_COOKIE",
    HttpReferer = "HTTP_REFERER",
    HttpConnection = "HTTP_CONNECTION",
    HttpCacheControl = "HTTP_CACHE_CONTROL",
    HttpAuthorization = "HTTP_AUTHORIZATION",
    HttpOrigin = "HTTP_ORIGIN",
    HttpUpgradeInsecureRequests = "HTTP_UPGRADE_INSECURE_REQUESTS",
    HttpIfModifiedSince = "HTTP_IF_MODIFIED_SINCE",
    HttpIfNoneMatch = "HTTP_IF_NONE_MATCH",
    HttpRange = "HTTP_RANGE",
    HttpSecFetchSite = "HTTP_SEC_FETCH_SITE",
    HttpSecFetchMode = "HTTP_SEC_FETCH_MODE",
    HttpSecFetchDest = "HTTP_SEC_FETCH_DEST",
    HttpSecFetchUser = "HTTP_SEC_FETCH_USER",
    HttpXForwardedFor = "HTTP_X_FORWARDED_FOR",
    HttpXForwardedProto = "HTTP_X_FORWARDED_PROTO",
    HttpXForwardedHost = "HTTP_X_FORWARDED_HOST",
    HttpXRealIp = "HTTP_X_REAL_IP",
    HttpXRequestId = "HTTP_X_REQUEST_ID",
    HttpTransferEncoding = "HTTP_TRANSFER_ENCODING",
    GatewayInterface = "GATEWAY_INTERFACE",
    ServerSoftware = "SERVER_SOFTWARE",
    ServerAddr = "SERVER_ADDR",
    RequestScheme = "REQUEST_SCHEME",
    Https = "HTTPS",
    DocumentRoot = "DOCUMENT_ROOT",
    DocumentUri = "DOCUMENT_URI",
    ScriptFilename = "SCRIPT_FILENAME",
    PathTranslated = "PATH_TRANSLATED",
    RedirectStatus = "REDIRECT_STATUS",
    AuthType = "AUTH_TYPE",
    RemoteUser = "REMOTE_USER",
    RemoteHost = "REMOTE_HOST",
    RemoteIdent = "REMOTE_IDENT",
    ContextPrefix = "CONTEXT_PREFIX",
    ContextDocumentRoot = "CONTEXT_DOCUMENT_ROOT",
    ServerSignature = "SERVER_SIGNATURE",
    ServerAdmin = "SERVER_ADMIN",
}

impl KnownName {
    pub const COUNT: usize = Self::ALL.len();

    pub const fn index(self) -> usize {
        self as usize
    }

    pub fn of(name: &[u8]) -> Option<KnownName> {
        Self::find(name)
    }
}

/// The name of a meta-variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name<'a> {
    Known(KnownName),
    Other(&'a [u8]),
}

impl<'a> Name<'a> {
    pub fn as_bytes(&self) -> &'a [u8] {
        match self {
            Name::Known(known) => known.as_str().as_bytes(),
            Name::Other(bytes) => bytes,
        }
    }
}

#[derive(Debug, Clone)]
enum StoredName {
    Known(KnownName),
    Other(Range<u32>),
}

#[derive(Debug, Clone)]
struct Entry {
    name: StoredName,
    value: Range<u32>,
}

/// The meta-variables of one request, each name once, in the order in which they were set.
///
/// Values are bytes without NUL. Cleared and filled again, it costs no allocation.
#[derive(Debug, Clone, Default)]
pub struct MetaVariables {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl MetaVariables {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends; the caller knows that the name is not there yet.
    pub fn push(&mut self, name: KnownName, value: &[u8]) {
        let value = self.store(value);
        self.entries.push(Entry { name: StoredName::Known(name), value });
    }

    /// Sets a variable, in place of a former value if there is one.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        let found = self.position(name);
        let value = self.store(value);
        match found {
            Some(index) => self.entries[index].value = value,
            None => {
                let name = match KnownName::of(name) {
                    Some(known) => StoredName::Known(known),
                    None => StoredName::Other(self.store(name)),
                };
                self.entries.push(Entry { name, value });
            }
        }
    }

    pub fn remove(&mut self, name: &[u8]) {
        if let Some(index) = self.position(name) {
            self.entries.remove(index);
        }
    }

    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.position(name).map(|index| self.slice(&self.entries[index].value))
    }

    pub fn known(&self, name: KnownName) -> Option<&[u8]> {
        self.entries
            .iter()
            .find(|entry| matches!(entry.name, StoredName::Known(known) if known == name))
            .map(|entry| self.slice(&entry.value))
    }

    pub fn iter(&self) -> impl Iterator<Item = (Name<'_>, &[u8])> {
        self.entries.iter().map(|entry| (self.name(entry), self.slice(&entry.value)))
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        self.entries.iter().position(|entry| self.name(entry).as_bytes() == name)
    }

    fn name(&self, entry: &Entry) -> Name<'_> {
        match &entry.name {
            StoredName::Known(known) => Name::Known(*known),
            StoredName::Other(range) => Name::Other(self.slice(range)),
        }
    }

    fn slice(&self, range: &Range<u32>) -> &[u8] {
        &self.bytes[range.start as usize..range.end as usize]
    }

    fn store(&mut self, bytes: &[u8]) -> Range<u32> {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_at_its_index() {
        for (index, name) in KnownName::ALL.iter().enumerate() {
            assert_eq!(name.index(), index);
            assert_eq!(KnownName::of(name.as_str().as_bytes()), Some(*name));
        }
        assert_eq!(KnownName::of(b"HTTP_X_OTHER"), None);
    }

    #[test]
    fn setting_a_name_again_replaces_its_value_in_place() {
        let mut meta = MetaVariables::default();
        meta.push(KnownName::PathInfo, b"/a");
        meta.set(b"HTTP_X_ONE", b"1");
        meta.set(b"PATH_INFO", b"/b");
        meta.set(b"HTTP_X_ONE", b"2");
        let all: Vec<_> = meta.iter().map(|(name, value)| (name.as_bytes(), value)).collect();
        assert_eq!(all, [(b"PATH_INFO".as_slice(), b"/b".as_slice()), (b"HTTP_X_ONE", b"2")]);
        meta.remove(b"PATH_INFO");
        assert_eq!(meta.known(KnownName::PathInfo), None);
        assert_eq!(meta.get(b"HTTP_X_ONE"), Some(b"2".as_slice()));
    }
}
