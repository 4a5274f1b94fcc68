//! The FastCGI listener (FastCGI 1.0), spoken to by a web server of our own making.

mod malformed;
mod requests;

use crate::support::{Forkhorn, Running};

fn probe() -> Running {
    Forkhorn::new().wsgi("probe.py").both().start()
}
