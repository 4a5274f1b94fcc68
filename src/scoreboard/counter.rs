//! What is counted and measured, and the metric that each one belongs to.

use crate::config::ListenerProtocol;

/// What a metric is, in the words of the Prometheus text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Counter,
    /// In microseconds on the page, in seconds outside. Its counters are its buckets, each with its upper bound, then the
    /// sum.
    Histogram,
}

/// A metric: the counters that share its name, apart by their labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Without `forkhorn_` before it and `_total` behind it.
    pub name: &'static str,
    pub kind: Type,
    pub help: &'static str,
}

macro_rules! counters {
    ($($family:literal $kind:ident $help:literal {
        $($(#[$doc:meta])* $variant:ident { $($label:ident: $value:literal),* })*
    })*) => {
        /// What a worker counts from its start on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Counter {
            $($($(#[$doc])* $variant,)*)*
        }

        impl Counter {
            /// All of them, in the order of their families.
            pub const ALL: &[Counter] = &[$($(Counter::$variant,)*)*];
            pub const COUNT: usize = Self::ALL.len();

            pub fn family(self) -> Family {
                match self {
                    $($(Counter::$variant)|* => Family { name: $family, kind: Type::$kind, help: $help },)*
                }
            }

            /// Names and values.
            pub fn labels(self) -> &'static [(&'static str, &'static str)] {
                match self {
                    $($(Counter::$variant => &[$((stringify!($label), $value)),*],)*)*
                }
            }
        }
    };
}

counters! {
    "requests" Counter "Requests answered, by protocol and by what answered: forkhorn itself where handler is none" {
        HttpNone { protocol: "http", handler: "none" }
        HttpWsgi { protocol: "http", handler: "wsgi" }
        HttpCgi { protocol: "http", handler: "cgi" }
        HttpStatic { protocol: "http", handler: "static" }
        FastCgiNone { protocol: "fastcgi", handler: "none" }
        FastCgiWsgi { protocol: "fastcgi", handler: "wsgi" }
        FastCgiCgi { protocol: "fastcgi", handler: "cgi" }
        FastCgiStatic { protocol: "fastcgi", handler: "static" }
    }
    "responses" Counter "Responses by class of status; gone where the client had left before there was one" {
        Gone { class: "gone" }
        Status1xx { class: "1xx" }
        Status2xx { class: "2xx" }
        Status3xx { class: "3xx" }
        Status4xx { class: "4xx" }
        Status5xx { class: "5xx" }
    }
    "rejected" Counter "Requests that forkhorn refused or broke off, by reason" {
        /// 503: `--max-queue`.
        QueueFull { reason: "queue_full" }
        /// 503: `--queue-timeout`.
        QueueTimeout { reason: "queue_timeout" }
        /// 503: `--cgi-queue`.
        ScriptQueueFull { reason: "cgi_queue_full" }
        /// 400 and what else the protocol says of a request that it can't read.
        Malformed { reason: "malformed" }
        /// 408: `--head-timeout`, `--body-timeout`.
        TooSlow { reason: "too_slow" }
        /// 413: `--max-body`.
        BodyTooLarge { reason: "body_too_large" }
        /// 414: `--max-uri`.
        TargetTooLong { reason: "target_too_long" }
        /// 431: `--max-head`, `--max-fields`.
        HeadTooLarge { reason: "head_too_large" }
        /// 503: no room in `--spool-dir`.
        SpoolFailed { reason: "spool_failed" }
        /// 504: `--timeout`.
        ApplicationTimeout { reason: "timeout" }
        /// 504: `--cgi-timeout`.
        ScriptTimeout { reason: "cgi_timeout" }
        /// The client did not read for `--send-timeout`.
        SlowReader { reason: "slow_reader" }
    }
    "slow_requests" Counter "Requests that were with the application for longer than --slow-request" {
        SlowRequests {}
    }
    "left_in_queue" Counter "Requests that were not run, because their client had left while they waited" {
        LeftInQueue {}
    }
    "queue_seconds" Histogram "Time that complete requests waited for an application thread" {
        QueueUpTo1ms { le: "0.001" }
        QueueUpTo5ms { le: "0.005" }
        QueueUpTo25ms { le: "0.025" }
        QueueUpTo100ms { le: "0.1" }
        QueueUpTo500ms { le: "0.5" }
        QueueUpTo2500ms { le: "2.5" }
        QueueUpTo10s { le: "10" }
        QueueLonger { le: "+Inf" }
        QueueMicros {}
    }
    "application_seconds" Histogram "Time that requests were with the application" {
        RunUpTo1ms { le: "0.001" }
        RunUpTo5ms { le: "0.005" }
        RunUpTo25ms { le: "0.025" }
        RunUpTo100ms { le: "0.1" }
        RunUpTo500ms { le: "0.5" }
        RunUpTo2500ms { le: "2.5" }
        RunUpTo10s { le: "10" }
        RunLonger { le: "+Inf" }
        RunMicros {}
    }
    "connections" Counter "Connections accepted, by protocol" {
        HttpConnections { protocol: "http" }
        FastCgiConnections { protocol: "fastcgi" }
    }
    "hand_offs" Counter "Connections handed to another worker, and received from one" {
        HandedOut { direction: "out" }
        HandedIn { direction: "in" }
    }
    "bytes" Counter "Bytes read from and written to connections" {
        BytesIn { direction: "in" }
        BytesOut { direction: "out" }
    }
    "scripts" Counter "CGI scripts started, and of these those that failed" {
        ScriptsStarted { event: "started" }
        ScriptsFailed { event: "failed" }
    }
    "idle_closed" Counter "Idle connections closed to make room for others" {
        IdleClosed {}
    }
    "accept_failures" Counter "Times that no connection could be taken, for want of descriptors or memory" {
        AcceptFailures {}
    }
}

/// Upper bounds of the buckets of a histogram, in microseconds.
pub(super) const BOUNDS_MICROS: [u64; 7] = [1000, 5000, 25_000, 100_000, 500_000, 2_500_000, 10_000_000];

impl Counter {
    /// The one that is `steps` behind this one.
    pub(super) const fn plus(self, steps: usize) -> usize {
        self as usize + steps
    }

    pub(crate) fn request(protocol: ListenerProtocol, by: Answerer) -> Self {
        use Counter::*;
        match (protocol, by) {
            (ListenerProtocol::Http, Answerer::Nobody) => HttpNone,
            (ListenerProtocol::Http, Answerer::Application) => HttpWsgi,
            (ListenerProtocol::Http, Answerer::Script) => HttpCgi,
            (ListenerProtocol::Http, Answerer::File) => HttpStatic,
            (ListenerProtocol::FastCgi, Answerer::Nobody) => FastCgiNone,
            (ListenerProtocol::FastCgi, Answerer::Application) => FastCgiWsgi,
            (ListenerProtocol::FastCgi, Answerer::Script) => FastCgiCgi,
            (ListenerProtocol::FastCgi, Answerer::File) => FastCgiStatic,
        }
    }

    /// Of a response; 0 if there was none.
    pub(crate) fn response(status: u16) -> Self {
        match status {
            100..=199 => Counter::Status1xx,
            200..=299 => Counter::Status2xx,
            300..=399 => Counter::Status3xx,
            400..=499 => Counter::Status4xx,
            500.. => Counter::Status5xx,
            _ => Counter::Gone,
        }
    }

    /// Of a request that its protocol refused with this status.
    pub(crate) fn rejection(status: u16) -> Self {
        match status {
            408 => Counter::TooSlow,
            413 => Counter::BodyTooLarge,
            414 => Counter::TargetTooLong,
            431 => Counter::HeadTooLarge,
            _ => Counter::Malformed,
        }
    }

    pub(crate) fn connection(protocol: ListenerProtocol) -> Self {
        match protocol {
            ListenerProtocol::Http => Counter::HttpConnections,
            ListenerProtocol::FastCgi => Counter::FastCgiConnections,
        }
    }
}

/// What answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answerer {
    /// forkhorn itself: an error, a redirect.
    #[default]
    Nobody,
    Application,
    Script,
    File,
}

macro_rules! gauges {
    ($($(#[$doc:meta])* $variant:ident $name:literal $help:literal)*) => {
        /// What a worker has now.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Gauge {
            $($(#[$doc])* $variant,)*
        }

        impl Gauge {
            pub const ALL: &[Gauge] = &[$(Gauge::$variant,)*];
            pub const COUNT: usize = Self::ALL.len();

            /// Of the metric, without `forkhorn_` before it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Gauge::$variant => $name,)*
                }
            }

            pub fn help(self) -> &'static str {
                match self {
                    $(Gauge::$variant => $help,)*
                }
            }
        }
    };
}

gauges! {
    BusyThreads "busy_threads" "Application threads that are with the application"
    Queue "queue_length" "Complete requests that wait for an application thread"
    Connections "open_connections" "Connections that are open"
    Scripts "running_scripts" "CGI scripts that run"
    ScriptQueue "cgi_queue_length" "Requests that wait for a CGI script's turn"
    /// In microseconds.
    LongestQueue "longest_queue_seconds" "Longest time that a request has waited for an application thread"
}
