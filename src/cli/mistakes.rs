//! Errors of the command line, told so that they help: clap knows the grammar, but not what was meant.

use std::error::Error as _;
use std::num::{IntErrorKind, ParseFloatError, ParseIntError};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

use super::peers;

/// `error`, with better advice where there is any, ready to be printed.
pub(crate) fn explain(error: Error, command: &mut Command) -> Error {
    match error.kind() {
        ErrorKind::UnknownArgument => unknown_argument(error).format(command),
        ErrorKind::InvalidSubcommand => unknown_command(error).format(command),
        ErrorKind::ValueValidation => match number(&error) {
            Some(message) => Error::raw(ErrorKind::ValueValidation, message),
            None => error.format(command),
        },
        _ => error.format(command),
    }
}

fn unknown_argument(mut error: Error) -> Error {
    let Some(name) = text_of(&error, ContextKind::InvalidArg) else { return error };
    // Of `--name=value` and `-xyz`, clap names the part that it does not know.
    let tip = if name.parse::<f64>().is_ok() {
        Some("no option takes a number below 0".to_owned())
    } else {
        peers::find(&name).map(|option| option.told(&name))
    };
    let is_close = error.get(ContextKind::SuggestedArg).is_some();
    match tip {
        Some(tip) => suggest(&mut error, tip),
        // "To pass it as a value, use '--'" helps nobody: no value begins with a dash.
        None if !is_close => {
            error.remove(ContextKind::Suggested);
        }
        None => {}
    }
    error
}

/// `forkhorn shop.wsgi:app`, as other servers are started, and commands by their other names.
fn unknown_command(mut error: Error) -> Error {
    let Some(name) = text_of(&error, ContextKind::InvalidSubcommand) else { return error };
    let tip = match name.as_str() {
        "start" | "run" | "server" => "to serve: forkhorn serve".to_owned(),
        "restart" => "to have a running forkhorn load its code anew: forkhorn reload".to_owned(),
        "test" | "configtest" | "check-config" => "to try a configuration: forkhorn check".to_owned(),
        name if name.contains([':', '.', '/']) => format!("to serve an application: forkhorn serve {name}"),
        _ => return error,
    };
    suggest(&mut error, tip);
    error
}

fn suggest(error: &mut Error, tip: String) {
    for guess in [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::Usage] {
        error.remove(guess);
    }
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
}

/// What the standard library says of a number is about its digits; this is about the option.
fn number(error: &Error) -> Option<String> {
    let source = error.source()?;
    let expected = if source.is::<ParseFloatError>() {
        "expected a number such as 30 or 0.5, without a unit"
    } else {
        match source.downcast_ref::<ParseIntError>()?.kind() {
            IntErrorKind::Zero => "expected 1 or more",
            IntErrorKind::PosOverflow => "the number is too large",
            _ => "expected a whole number such as 30, without a unit",
        }
    };
    let value = text_of(error, ContextKind::InvalidValue)?;
    let option = text_of(error, ContextKind::InvalidArg)?;
    Some(format!("invalid value '{value}' for '{option}': {expected}\n"))
}

fn text_of(error: &Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn told(words: &str) -> String {
        let mut command = Cli::command();
        let words = ["forkhorn"].into_iter().chain(words.split(' '));
        let error = command.try_get_matches_from_mut(words).expect_err("refused");
        let told = explain(error, &mut command);
        assert_eq!(told.exit_code(), 2);
        told.to_string()
    }

    #[test]
    fn options_of_other_servers_are_told_by_their_names_here() {
        for (words, tip) in [
            ("serve a:b --bind :80", "tip: --bind of Gunicorn is here: --http ADDR"),
            ("serve a:b --bind=:80", "tip: --bind of Gunicorn is here: --http ADDR"),
            ("serve a:b -b :80", "tip: -b of Gunicorn is here: --http ADDR"),
            (
                "serve a:b --reload",
                "tip: --reload of Gunicorn and granian is here: the command forkhorn reload",
            ),
            ("check a:b --harakiri 3", "tip: --harakiri of uWSGI is here: --timeout"),
            ("serve a:b --worker 4", "tip: a similar argument exists: '--workers'"),
            ("a.wsgi:b -b :80", "tip: to serve an application: forkhorn serve a.wsgi:b"),
            ("start a:b", "tip: to serve: forkhorn serve"),
            ("serv a:b", "tip: a similar subcommand exists: 'serve'"),
            ("serve a:b --timeout -1", "tip: no option takes a number below 0"),
        ] {
            let told = told(words);
            assert!(told.contains(tip), "{words}: {told}");
            assert_eq!(told.matches("tip:").count(), 1, "{words}: {told}");
        }
        let unknown = told("serve a:b --zzzz");
        assert!(unknown.contains("unexpected argument '--zzzz'") && !unknown.contains("tip:"), "{unknown}");
    }

    #[test]
    fn numbers_that_are_none_are_told_with_their_option() {
        for (words, message) in [
            ("serve --timeout 30s", "'30s' for '--timeout <SECONDS>': expected a number such as 30 or 0.5"),
            ("serve --max-body 1k", "'1k' for '--max-body <BYTES>': expected a whole number"),
            ("serve --threads 0", "'0' for '--threads <COUNT>': expected 1 or more"),
            ("serve --threads 70000", "'70000' for '--threads <COUNT>': the number is too large"),
            ("serve --workers four", "'four' for '--workers <COUNT|MIN..MAX>': expected a number up to 4096"),
            ("serve --warm-spares 65", "65 is not in 0..=64"),
        ] {
            let told = told(words);
            assert!(told.starts_with("error: ") && told.contains(message), "{words}: {told}");
        }
    }
}
