//! The names of meta-variables that come with almost every request, as numbers.

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
                NAMES[self as usize]
            }
        }

        const NAMES: &[&str] = &[$($name,)*];
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
    HttpPragma = "HTTP_PRAGMA",
    HttpPriority = "HTTP_PRIORITY",
    HttpAuthorization = "HTTP_AUTHORIZATION",
    HttpOrigin = "HTTP_ORIGIN",
    HttpUpgradeInsecureRequests = "HTTP_UPGRADE_INSECURE_REQUESTS",
    HttpIfModifiedSince = "HTTP_IF_MODIFIED_SINCE",
    HttpIfNoneMatch = "HTTP_IF_NONE_MATCH",
    HttpIfRange = "HTTP_IF_RANGE",
    HttpRange = "HTTP_RANGE",
    HttpSecChUa = "HTTP_SEC_CH_UA",
    HttpSecChUaMobile = "HTTP_SEC_CH_UA_MOBILE",
    HttpSecChUaPlatform = "HTTP_SEC_CH_UA_PLATFORM",
    HttpSecFetchSite = "HTTP_SEC_FETCH_SITE",
    HttpSecFetchMode = "HTTP_SEC_FETCH_MODE",
    HttpSecFetchDest = "HTTP_SEC_FETCH_DEST",
    HttpSecFetchUser = "HTTP_SEC_FETCH_USER",
    HttpXForwardedFor = "HTTP_X_FORWARDED_FOR",
    HttpXForwardedProto = "HTTP_X_FORWARDED_PROTO",
    HttpXForwardedHost = "HTTP_X_FORWARDED_HOST",
    HttpXRealIp = "HTTP_X_REAL_IP",
    HttpXRequestId = "HTTP_X_REQUEST_ID",
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
    UniqueId = "UNIQUE_ID",
}

impl KnownName {
    pub const COUNT: usize = Self::ALL.len();

    pub const fn index(self) -> usize {
        self as usize
    }

    /// A request asks this for each of its fields: one look into a table, one comparison.
    pub fn of(name: &[u8]) -> Option<KnownName> {
        let mut slot = slot(name);
        loop {
            let known = *Self::ALL.get(TABLE[slot] as usize)?;
            if known.as_str().as_bytes() == name {
                return Some(known);
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// Made from a field of the client's request, not by the server (RFC 3875 §4.1.18).
    pub(super) fn is_field(self) -> bool {
        self.as_str().starts_with("HTTP_")
    }
}

/// More than twice the names, so that chains are short and there is always an empty slot to end them.
const SLOTS: usize = 256;
const EMPTY: u8 = u8::MAX;
const _: () = assert!(KnownName::COUNT < SLOTS / 2);

/// Which known name a slot holds; a name whose slot is taken goes to the next one.
static TABLE: [u8; SLOTS] = {
    let mut table = [EMPTY; SLOTS];
    let mut index = 0;
    while index < KnownName::COUNT {
        let mut slot = slot(NAMES[index].as_bytes());
        while table[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        table[slot] = index as u8;
        index += 1;
    }
    table
};

/// The length and four bytes tell the known names apart well enough.
const fn slot(name: &[u8]) -> usize {
    let length = name.len();
    if length == 0 {
        return 0;
    }
    let mixed = length * 7
        + name[length - 1] as usize * 31
        + name[length / 2] as usize * 101
        + name[length * 2 / 3] as usize * 57
        + name[length / 3] as usize * 13;
    mixed % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_at_its_index_and_no_other() {
        for (index, name) in KnownName::ALL.iter().enumerate() {
            assert_eq!(name.index(), index);
            assert_eq!(KnownName::of(name.as_str().as_bytes()), Some(*name));
        }
        for other in ["", "H", "HTTP_X_OTHER", "http_host", "HTTP_HOSU", "SCRIPT_NAMF", "\u{ff}", "HTTP_"] {
            assert_eq!(KnownName::of(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn chains_of_the_table_are_short() {
        let longest = KnownName::ALL.iter().map(|name| {
            let first = slot(name.as_str().as_bytes());
            (0..SLOTS).find(|step| TABLE[(first + step) % SLOTS] == name.index() as u8).expect("in the table")
        });
        assert!(longest.max().expect("not empty") <= 3);
    }
}
