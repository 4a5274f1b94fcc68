//! One worker process: an event loop, and the threads on which an application answers.

mod application;
mod response;

pub use application::{Application, Call, Worker};
pub use response::{Flow, Response};
