//! What stops forkhorn from starting: one line for the operator, and the exit code.

use std::fmt;

/// The operator has to change something. `main` prints it and exits with [`StartupError::exit_code`].
#[derive(Debug)]
pub struct StartupError {
    exit_code: u8,
    message: String,
}

impl StartupError {
    /// An option that is wrong: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        StartupError { exit_code: 2, message: message.into() }
    }

    /// An application that can't be loaded: exit code 3.
    pub fn application(message: impl Into<String>) -> Self {
        StartupError { exit_code: 3, message: message.into() }
    }

    /// Anything else that fails at start: exit code 1.
    pub fn other(message: impl Into<String>) -> Self {
        StartupError { exit_code: 1, message: message.into() }
    }

    /// The same, with the place in front where the wrong thing stands.
    pub(super) fn at(self, place: &str) -> Self {
        StartupError { message: format!("{place}: {}", self.message), ..self }
    }

    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl fmt::Display for StartupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StartupError {}
