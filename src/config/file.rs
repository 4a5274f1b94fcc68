//! The file of `--config`: TOML, whose keys are the long names of the command line's options.
//!
//! There is no second list of options: which there are, what they take and whether they repeat is asked of the clap
//! definition (`cli.rs`). What the file says becomes the options' defaults (`source.rs`).

use std::any::TypeId;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::num::{NonZeroU16, NonZeroU32};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{AppSpec, StartupError};
use crate::cli::{PoolSize, Surge, mistakes, peers};

/// Longest file, in bytes: a longer one is something else.
const MAX_BYTES: u64 = 1024 * 1024;

/// Options that a file can't have: it can't name another one.
const NOT_HERE: [&str; 3] = ["config", "help", "version"];

/// Options whose value is looked up in PATH if it has no slash.
const LOOKED_UP: [&str; 1] = ["python"];

/// How alike a name has to be to be suggested (Jaro-Winkler, 1 for the same).
const ALIKE: f64 = 0.75;

/// What a file says.
#[derive(Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    entries: Vec<Entry>,
}

/// One key.
#[derive(Debug)]
pub(super) struct Entry {
    /// The option, as clap calls it.
    pub(super) id: String,
    /// Its name as messages begin with it: `--workers`, `APP`.
    name: String,
    line: usize,
    /// As the command line would have them.
    pub(super) values: Vec<OsString>,
}

impl ConfigFile {
    /// Reads and checks the file: each value alone is one that the option takes.
    pub(super) fn read(path: &Path, options: &Command) -> Result<ConfigFile, StartupError> {
        let path = std::path::absolute(path)
            .map_err(|error| StartupError::usage(format!("--config {}: {error}", path.display())))?;
        let text = read_text(&path)
            .map_err(|why| StartupError::usage(format!("--config {}: {why}", path.display())))?;
        let table = DeTable::parse(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(&text, span.start));
            StartupError::usage(format!("{}:{line}: {}", path.display(), error.message()))
        })?;
        let mut file = ConfigFile { entries: Vec::new(), path };
        let mut keys: Vec<_> = table.get_ref().iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in keys {
            let line = line_of(&text, key.span().start);
            let entry = file.entry(key.get_ref(), value, line, options).map_err(|wrong| {
                file.wrong(wrong.offset.map_or(line, |offset| line_of(&text, offset)), &wrong.why)
            })?;
            file.entries.push(entry);
        }
        Ok(file)
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Says where an option stands that the error is about, if this file has it.
    pub(super) fn locate(&self, error: StartupError) -> StartupError {
        let message = error.to_string();
        let names_it = |entry: &&Entry| {
            message.strip_prefix(&entry.name).is_some_and(|rest| rest.starts_with([' ', ':']))
        };
        match self.entries.iter().find(names_it) {
            Some(entry) => error.at(&format!("{}:{}", self.path.display(), entry.line)),
            None => error,
        }
    }

    fn wrong(&self, line: usize, why: &str) -> StartupError {
        StartupError::usage(format!("{}:{line}: {why}", self.path.display()))
    }

    fn entry(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        line: usize,
        options: &Command,
    ) -> Result<Entry, Wrong> {
        let option = match find(key, options) {
            Some(option) => option,
            None if matches!(value.get_ref(), DeValue::Table(_)) && key != "pm" => {
                return Err(
                    format!("there are no sections: options stand side by side, without [{key}]").into()
                );
            }
            None => return Err(unknown(key, options).into()),
        };
        let base = self.path.parent().unwrap_or(Path::new("/"));
        let values = values(key, option, value.get_ref())?;
        let values: Vec<OsString> = values.iter().map(|value| rebase(option, value, base)).collect();
        if !matches!(option.get_action(), ArgAction::SetTrue) {
            values.iter().try_for_each(|value| check(option, value))?;
        }
        let name = match option.get_long() {
            Some(long) => format!("--{long}"),
            None => "application".to_owned(),
        };
        Ok(Entry { id: option.get_id().to_string(), name, line, values })
    }
}

/// What is wrong with a key.
#[derive(Debug)]
struct Wrong {
    /// Where, if it is not the key itself.
    offset: Option<usize>,
    why: String,
}

impl From<String> for Wrong {
    fn from(why: String) -> Self {
        Wrong { offset: None, why }
    }
}

/// A whole file, within a limit.
pub(super) fn read_text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    // Without blocking: a FIFO in its place is an empty file, not a wait without end.
    let mut open = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::custom_flags(open.read(true), libc::O_NONBLOCK | libc::O_NOCTTY);
    let file: File = open.open(path).map_err(|error| error.to_string())?;
    let length = file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    match length as u64 > MAX_BYTES {
        true => Err(format!("the file is longer than {MAX_BYTES} bytes")),
        false => Ok(text),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count()
}

/// The options that a file may have, by their keys.
fn keys(options: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    options.get_arguments().filter(|option| !option.is_hide_set()).filter_map(|option| {
        let key = option.get_long().unwrap_or_else(|| option.get_id().as_str());
        (!NOT_HERE.contains(&key)).then_some((key, option))
    })
}

fn find<'a>(key: &str, options: &'a Command) -> Option<&'a Arg> {
    keys(options).find(|(name, _)| *name == key).map(|(_, option)| option)
}

fn unknown(key: &str, options: &Command) -> String {
    if NOT_HERE.contains(&key) {
        return format!("'{key}' is for the command line only");
    }
    if let Some(option) = peers::find(key) {
        return format!("there is no option '{key}': {}", option.told(key));
    }
    let wanted = key.trim_start_matches('-').replace('_', "-").to_lowercase();
    let closest = keys(options)
        .map(|(name, _)| (strsim::jaro_winkler(&wanted, name), name))
        .filter(|(likeness, _)| *likeness > ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    match closest {
        Some((_, name)) => format!("there is no option '{key}': did you mean '{name}'?"),
        None => format!("there is no option '{key}'"),
    }
}

/// The words that the option would have on the command line, one for each of its values.
fn values(key: &str, option: &Arg, value: &DeValue<'_>) -> Result<Vec<String>, Wrong> {
    let repeatable = matches!(option.get_action(), ArgAction::Append);
    match value {
        DeValue::Array(list) if repeatable => {
            list.iter().map(|item| Ok(word(key, option, item.get_ref())?)).collect()
        }
        DeValue::Array(_) => Err(format!("'{key}' takes one value, not a list").into()),
        DeValue::Table(table) if repeatable && takes_pairs(option) => {
            table.iter().map(|(name, value)| pair(key, option, name, value.get_ref())).collect()
        }
        DeValue::Table(_) => Err(match takes_pairs(option) {
            true => format!("'{key}' is not repeatable"),
            false => format!("'{key}' is not a section: options stand side by side, without [{key}]"),
        }
        .into()),
        value => Ok(vec![word(key, option, value)?]),
    }
}

/// One line of a table. In TOML, all that follows `[cgi]` belongs to it, options that were meant to stand alone, too.
fn pair(
    key: &str,
    option: &Arg,
    name: &Spanned<std::borrow::Cow<'_, str>>,
    value: &DeValue<'_>,
) -> Result<String, Wrong> {
    let wrong = |why| Wrong { offset: Some(name.span().start), why };
    let name = name.get_ref();
    if value_name(option).starts_with("PREFIX") && !name.starts_with('/') {
        return Err(wrong(format!(
            "'{name}' stands below [{key}], and is no URL prefix: if it is an option, write it above [{key}]"
        )));
    }
    let value = word(&format!("{key}.{name}"), option, value).map_err(wrong)?;
    Ok(format!("{name}={value}"))
}

fn word(key: &str, option: &Arg, value: &DeValue<'_>) -> Result<String, String> {
    let expected = expected(option);
    let wrong = || format!("'{key}': expected {}, found {}", expected.told(), told(value));
    match (expected, value) {
        (Expected::Switch, DeValue::Boolean(on)) => Ok(on.to_string()),
        (Expected::Number | Expected::NumberOrText, DeValue::Integer(number)) => {
            i128::from_str_radix(number.as_str(), number.radix())
                .map(|number| number.to_string())
                .map_err(|error| format!("'{key}': {error}"))
        }
        (Expected::Number, DeValue::Float(number)) => Ok(number.as_str().to_owned()),
        (Expected::Text | Expected::NumberOrText, DeValue::String(text)) if text.contains('\0') => {
            Err(format!("'{key}': the text holds a NUL"))
        }
        (Expected::Text | Expected::NumberOrText, DeValue::String(text)) => Ok(text.clone().into_owned()),
        _ => Err(wrong()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Switch,
    Number,
    Text,
    NumberOrText,
}

impl Expected {
    fn told(self) -> &'static str {
        match self {
            Expected::Switch => "true or false",
            Expected::Number => "a number",
            Expected::Text => "a text in quotes",
            Expected::NumberOrText => "a number, or a text in quotes",
        }
    }
}

fn expected(option: &Arg) -> Expected {
    let numbers = [
        TypeId::of::<f64>(),
        TypeId::of::<u16>(),
        TypeId::of::<u32>(),
        TypeId::of::<u64>(),
        TypeId::of::<NonZeroU16>(),
        TypeId::of::<NonZeroU32>(),
    ];
    let numbers_or_more = [TypeId::of::<PoolSize>(), TypeId::of::<Surge>()];
    let taken = option.get_value_parser().type_id();
    match option.get_action() {
        ArgAction::SetTrue => Expected::Switch,
        _ if numbers_or_more.iter().any(|more| taken == *more) => Expected::NumberOrText,
        _ if numbers.iter().any(|number| taken == *number) => Expected::Number,
        _ => Expected::Text,
    }
}

fn told(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text \"{text}\""),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => format!("the time {time}"),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn value_name(option: &Arg) -> &str {
    option.get_value_names().and_then(<[_]>::first).map_or("", |name| name.as_str())
}

/// `PREFIX=DIR`, `KEY=VALUE`: may be written as a table, too.
fn takes_pairs(option: &Arg) -> bool {
    value_name(option).contains('=')
}

/// The value with the path in it, if there is one, made to start at the directory of the file.
fn rebase(option: &Arg, value: &str, base: &Path) -> OsString {
    let name = value_name(option);
    if let Some(path) = value.strip_prefix("unix:").filter(|_| name.contains("ADDR")) {
        return joined("unix:", base, path);
    }
    match (name, value.split_once('=')) {
        ("APP", _) => AppSpec::from_directory(value, base).into(),
        ("PREFIX=APP", Some((prefix, app))) => {
            format!("{prefix}={}", AppSpec::from_directory(app, base)).into()
        }
        ("PREFIX=DIR", Some((prefix, path))) if !path.is_empty() => joined(&format!("{prefix}="), base, path),
        _ => {
            let is_path = option.get_value_parser().type_id() == TypeId::of::<PathBuf>();
            let is_name = LOOKED_UP.contains(&option.get_id().as_str()) && !value.contains('/');
            match is_path && !is_name && value != "-" && !value.is_empty() {
                true => base.join(value).into_os_string(),
                false => value.into(),
            }
        }
    }
}

fn joined(prefix: &str, base: &Path, path: &str) -> OsString {
    let mut bytes = prefix.as_bytes().to_vec();
    bytes.extend(base.join(path).into_os_string().into_vec());
    OsString::from_vec(bytes)
}

/// Has clap look at one value of one option.
fn check(option: &Arg, value: &OsString) -> Result<(), String> {
    let mut words = vec![OsString::from("forkhorn")];
    match option.get_long() {
        Some(long) => {
            let mut word = OsString::from(format!("--{long}="));
            word.push(value);
            words.push(word);
        }
        None => words.extend(["--".into(), value.clone()]),
    }
    let mut alone = Command::new("forkhorn").disable_help_flag(true).arg(option.clone());
    alone.try_get_matches_from_mut(words).map(drop).map_err(|error| {
        let text = mistakes::explain(error, &mut alone).to_string();
        let lines = text.lines().take_while(|line| !line.starts_with("For more information"));
        let lines: Vec<&str> = lines.map(str::trim).filter(|line| !line.is_empty()).collect();
        lines.join(" ").trim_start_matches("error: ").to_owned()
    })
}

#[cfg(test)]
mod tests;
