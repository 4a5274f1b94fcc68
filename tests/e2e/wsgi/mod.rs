//! WSGI applications (PEP 3333): what they get, what they answer, where they live.

mod bridge;
mod environ;
mod forms;
mod free_threaded;
mod pythons;
mod repeats;
mod rules;
mod signals;
