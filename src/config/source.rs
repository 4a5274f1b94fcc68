//! Where options come from: the command line first, then the environment, then the file of `--config`, then defaults.
//!
//! The file is read again at every reload, with the command line and the environment that forkhorn was started with.

use std::ffi::OsString;

use clap::{ArgAction, CommandFactory, FromArgMatches};

use super::file::ConfigFile;
use super::{Config, StartupError};
use crate::cli::{Cli, Command, Serve, mistakes};

/// The command line that forkhorn was started with.
#[derive(Debug, Clone)]
pub struct Source {
    arguments: Vec<OsString>,
}

/// Why there are no options.
#[derive(Debug)]
pub enum SourceError {
    /// The command line is wrong, or asks for help: clap knows what to print.
    CommandLine(clap::Error),
    /// The file is.
    File(StartupError),
}

impl Source {
    pub fn new(arguments: impl IntoIterator<Item = OsString>) -> Source {
        Source { arguments: arguments.into_iter().collect() }
    }

    /// What is to be done, with all options.
    ///
    /// # Errors
    /// Of the command line, or of the file that it names.
    pub fn read(&self) -> Result<Options, SourceError> {
        let cli = self.parse(&Cli::command())?;
        let Some((name, path)) = options_of(&cli)
            .and_then(|(name, serve)| serve.sources.config.as_ref().map(|path| (name, path.clone())))
        else {
            return Ok(Options { cli, file: None });
        };
        let mut command = Cli::command();
        command.build();
        let known = command.find_subcommand(name).cloned().unwrap_or_default();
        let file = ConfigFile::read(&path, &known).map_err(SourceError::File)?;
        let command = Cli::command().mut_subcommand(name, |serve| with_defaults(serve, &file));
        let cli = self.parse(&command)?;
        Ok(Options { cli, file: Some(file) })
    }

    /// The configuration anew, for a reload.
    ///
    /// # Errors
    /// One line for the operator. What was in force stays in force.
    pub fn resolve(&self) -> Result<Config, StartupError> {
        let options = self.read().map_err(|error| match error {
            SourceError::CommandLine(error) => StartupError::usage(error.to_string()),
            SourceError::File(error) => error,
        })?;
        match options.cli.command {
            Command::Serve(serve) => resolve(*serve, options.file.as_ref()),
            _ => Err(StartupError::other("the command line is not one that serves")),
        }
    }

    fn parse(&self, command: &clap::Command) -> Result<Cli, SourceError> {
        let mut command = command.clone();
        let matches = command.try_get_matches_from_mut(&self.arguments);
        matches
            .and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches))
            .map_err(|error| SourceError::CommandLine(mistakes::explain(error, &mut command)))
    }
}

/// What [`Source::read`] has found.
#[derive(Debug)]
pub struct Options {
    cli: Cli,
    file: Option<ConfigFile>,
}

impl Options {
    /// The command, and what turns the options that belong to it into a configuration.
    pub fn into_command(self) -> (Command, Resolver) {
        (self.cli.command, Resolver { file: self.file })
    }
}

/// Knows where options come from, for errors.
#[derive(Debug)]
pub struct Resolver {
    file: Option<ConfigFile>,
}

impl Resolver {
    /// [`Config::resolve`], with errors that name the line of the file.
    ///
    /// # Errors
    /// The first option that is wrong.
    pub fn resolve(&self, serve: Serve) -> Result<Config, StartupError> {
        resolve(serve, self.file.as_ref())
    }
}

fn resolve(serve: Serve, file: Option<&ConfigFile>) -> Result<Config, StartupError> {
    Config::resolve(serve).map_err(|error| match file {
        Some(file) => file.locate(error),
        None => error,
    })
}

/// The subcommands that take the options of `serve`.
fn options_of(cli: &Cli) -> Option<(&'static str, &Serve)> {
    match &cli.command {
        Command::Serve(serve) => Some(("serve", serve)),
        Command::Check(serve) => Some(("check", serve)),
        _ => None,
    }
}

/// What stands in the file is what holds if neither the command line nor the environment says otherwise: a default.
fn with_defaults(serve: clap::Command, file: &ConfigFile) -> clap::Command {
    file.entries().iter().fold(serve, |serve, entry| {
        serve.mut_arg(&entry.id, |option| match option.get_action() {
            // Off is what it is anyway; clap has no other way to say so.
            ArgAction::SetTrue if entry.values.iter().all(|value| value == "false") => option,
            _ => option.default_values(&entry.values),
        })
    })
}

#[cfg(test)]
mod tests;
