//! Answers those who ask how forkhorn is: HTTP on the listener of `--status`, and on the control socket, where it also
//! takes orders.
//!
//! Nothing here waits: the master's loop tells of events, takes the [`Question`]s that have come, and gives answers. A
//! client asks one question per connection. Clients are few, and each has little time: whoever holds a place for
//! nothing loses it to the next one.

mod client;
mod listeners;
mod metrics;
mod report;
mod routes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

use crate::config::{Config, StartupError};
use crate::protocol::{Limits, http1};
use client::Client;
use listeners::StatusListener;

pub(crate) use report::{Gathered, Surroundings};
pub(crate) use routes::{Answer, Order, Page, Question};

/// Tokens of the event loop from here on are this module's. Processes have smaller ones.
const FIRST_TOKEN: usize = usize::MAX / 2;

/// Listeners have the first ones.
const MOST_LISTENERS: usize = 2;

/// Clients at once.
const MOST_CLIENTS: usize = 64;

/// Connections that are accepted in one turn.
const MOST_ACCEPTED: usize = 32;

/// From the accept to the end of the request.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// For reading the answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// After accept(2) has failed for want of descriptors or memory.
const RETRY: Duration = Duration::from_secs(1);

/// A client as long as it is connected. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClientId(usize);

/// What whoever came through a listener may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Look,
    /// Look, reload and stop.
    Command,
}

pub(crate) struct StatusServer {
    listeners: Vec<StatusListener>,
    clients: BTreeMap<ClientId, Client>,
    last_id: usize,
    limits: Arc<Limits>,
    registry: Registry,
    /// When listeners are looked at without an event.
    accept_at: Option<Instant>,
    questions: Vec<(ClientId, Question)>,
    date: http1::DateCache,
}

impl StatusServer {
    /// Without a listener.
    pub(crate) fn new(registry: Registry) -> Self {
        let limits = Limits {
            max_head_bytes: 8 * 1024,
            max_fields: 64,
            max_uri_bytes: 1024,
            max_body_bytes: 0,
            ..Limits::default()
        };
        StatusServer {
            listeners: Vec::new(),
            clients: BTreeMap::new(),
            last_id: MOST_LISTENERS,
            limits: Arc::new(limits),
            registry,
            accept_at: None,
            questions: Vec::new(),
            date: http1::DateCache::new(std::time::SystemTime::now()),
        }
    }

    /// Opens the listener of `--status` and the control socket, where they are wanted.
    ///
    /// # Errors
    /// One of them can't be opened.
    pub(crate) fn listen(&mut self, config: &Config) -> Result<(), StartupError> {
        self.watch(listeners::open(config)?)
    }

    fn watch(&mut self, listeners: Vec<StatusListener>) -> Result<(), StartupError> {
        for (index, listener) in listeners.iter().enumerate() {
            listener
                .watch(&self.registry, Token(FIRST_TOKEN + index))
                .map_err(|error| StartupError::other(format!("cannot watch {}: {error}", listener.name)))?;
        }
        self.listeners = listeners;
        Ok(())
    }

    /// Another master opens them now. Those who have asked are still answered.
    pub(crate) fn close(&mut self) {
        self.listeners.clear();
    }

    /// Whether an event with this token is for [`StatusServer::on_event`].
    pub(crate) fn owns(token: Token) -> bool {
        token.0 >= FIRST_TOKEN
    }

    /// When [`StatusServer::on_deadline`] wants to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.clients.values().filter_map(Client::expires_at).chain(self.accept_at).min()
    }

    pub(crate) fn on_event(&mut self, token: Token, now: Instant) {
        let index = token.0.saturating_sub(FIRST_TOKEN);
        if index < MOST_LISTENERS {
            self.accept(index, now);
        } else {
            self.advance(ClientId(index), now);
        }
    }

    pub(crate) fn on_deadline(&mut self, now: Instant) {
        if self.accept_at.take_if(|at| now >= *at).is_some() {
            for index in 0..self.listeners.len() {
                self.accept(index, now);
            }
        }
        self.clients.retain(|_, client| client.expires_at().is_none_or(|at| now < at));
    }

    /// Who wants to know what. [`StatusServer::answer`] once for each.
    pub(crate) fn take_questions(&mut self) -> Vec<(ClientId, Question)> {
        std::mem::take(&mut self.questions)
    }

    /// A client that has left since gets nothing.
    pub(crate) fn answer(&mut self, id: ClientId, answer: &Answer, now: Instant) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.answer(answer, self.date.at(std::time::SystemTime::now()), now);
        self.advance(id, now);
    }

    fn accept(&mut self, index: usize, now: Instant) {
        for _ in 0..MOST_ACCEPTED {
            let Some(listener) = self.listeners.get(index) else { return };
            let access = listener.access;
            match listener.accept() {
                Ok(Some(socket)) => self.admit(Client::new(socket, access, self.limits.clone(), now), now),
                // Not allowed.
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => {
                    log::error!("{} takes no connection for a while: {error}", listener.name);
                    self.accept_at = Some(now + RETRY);
                    return;
                }
            }
        }
        // No event will tell of those that wait already.
        self.accept_at = Some(now);
    }

    /// When all places are taken, the client that has held one for nothing for longest has to leave.
    fn admit(&mut self, client: Client, now: Instant) {
        if self.clients.len() >= MOST_CLIENTS {
            let oldest =
                self.clients.iter().filter_map(|(&id, client)| Some((client.expires_at()?, id))).min();
            let Some((_, oldest)) = oldest else { return };
            self.clients.remove(&oldest);
        }
        self.last_id += 1;
        let id = ClientId(self.last_id);
        if let Err(error) = client.watch(&self.registry, Token(FIRST_TOKEN + id.0)) {
            return log::error!("a client of the status listener can't be watched: {error}");
        }
        self.clients.insert(id, client);
        self.advance(id, now);
    }

    fn advance(&mut self, id: ClientId, now: Instant) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        match client.advance(now) {
            client::Progress::Waits => {}
            client::Progress::Asks(question) => self.questions.push((id, question)),
            client::Progress::Refused(answer) => self.answer(id, &answer, now),
            client::Progress::Over => {
                self.clients.remove(&id);
            }
        }
    }
}
