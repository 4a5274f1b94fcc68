//! End-to-end tests: the real binary, real clients, real web servers in front.
//!
//! One test binary, so that it links once. Each module is an area; the names of the tests say what forkhorn does.

#[path = "../support/mod.rs"]
mod support;

mod bench;
mod cgi;
mod cgi_program;
mod demo;
mod errors;
mod fastcgi;
mod fronts;
mod handoff;
mod http;
mod limits;
mod logs;
mod overload;
mod own_tools;
mod preload;
mod processes;
mod relief;
mod security;
mod starved;
mod status;
mod warm;
mod wsgi;
