//! forkhorn: answers web requests with programs, by CGI, FastCGI and WSGI.
//!
//! A request's way, and the module of each step:
//!
//! | step | module | job |
//! | --- | --- | --- |
//! | 1 | [`worker`] | one event loop: listeners, connections, the pipes of scripts |
//! | 2 | [`protocol`] | bytes to events, response parts to bytes; no socket, no clock of its own |
//! | 3 | [`gateway`] | RFC 3875 meta-variables, routes, what a response may contain |
//! | 4 | [`handler`] | CGI scripts, static files; applications are reached through [`worker::Application`] |
//!
//! [`hand_off`] lets workers pass connections on to one another; on the [`scoreboard`] they show what they do. [`master`]
//! starts, watches and replaces the worker processes; [`cli`] and [`config`] say how.
//! [`cgi_program`] is the way back: an application as a CGI program. [`mod@bench`] compares the ways.
//! [`commands`] talk to a master that runs.

pub mod bench;
pub mod cgi_program;
pub mod channel;
pub mod cli;
pub mod commands;
pub mod config;
pub mod gateway;
pub mod hand_off;
pub mod handler;
pub mod logger;
pub mod master;
pub mod printable;
pub mod process;
pub mod protocol;
pub mod scoreboard;
pub mod sys;
pub mod worker;
