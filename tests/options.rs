//! `docs/options.md` and the man page say what the command line says: both are made from it, here.
//!
//! After a change of `src/cli.rs`: `FORKHORN_BLESS=1 cargo test --test options`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, Command, CommandFactory};
use clap_mangen::roff::{Roff, bold, roman};
use forkhorn::cli::Cli;
use forkhorn::cli::peers::OPTIONS;

const MADE_BY: &str =
    "made from the command line's definition in src/cli.rs: FORKHORN_BLESS=1 cargo test --test options";

const INTRODUCTION: &str = "\
Times are in seconds and may have a fraction. `forkhorn serve -h` prints the first line of each entry, `--help` all of it. \
Where an environment variable is named, the option wins over it. An option without a default, and without another word, \
is off.";

const WIDTH: usize = 110;

#[test]
fn the_page_about_options_is_that_of_the_command_line() {
    let mut page = markdown(&serve());
    for command in others() {
        page.push_str(&command_markdown(&command));
    }
    compare("docs/options.md", &page);
}

#[test]
fn the_man_page_is_that_of_the_command_line() {
    compare("docs/forkhorn.1", &man_page(&serve(), &others()));
}

#[test]
fn every_option_is_explained_in_one_line() {
    for option in commands().iter().flat_map(Command::get_arguments).filter(|option| !option.is_hide_set()) {
        let help = option.get_help().unwrap_or_else(|| panic!("{} is not explained", option.get_id()));
        let help = help.to_string();
        assert!(!help.contains('\n') && !help.ends_with('.'), "{}: {help}", option.get_id());
    }
}

#[test]
fn pages_messages_and_examples_name_only_options_that_exist() {
    /// Of other programs: git, cargo, pip, podman, systemctl, the project's own scripts.
    const FOREIGN: [&str; 14] = [
        "--check",
        "--exact",
        "--nocapture",
        "--port",
        "--release",
        "--test",
        "--help",
        "--version",
        "--unix-socket",
        "--read-only",
        "--tmpfs",
        "--cap-drop",
        "--security-opt",
        "--now",
    ];
    /// Where options of other servers are told by their names here, which `cli::peers` tests itself.
    const TELL_OTHERS: [&str; 2] = ["src/cli/peers.rs", "src/cli/mistakes.rs"];
    let mut known: BTreeSet<String> = FOREIGN.iter().map(|name| (*name).to_owned()).collect();
    for command in commands() {
        known.extend(
            command.get_arguments().filter_map(|option| option.get_long()).map(|long| format!("--{long}")),
        );
    }
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').map(str::to_owned).collect()
    };
    let mut with_others = known.clone();
    with_others.extend(OPTIONS.iter().flat_map(|option| option.names).flat_map(|name| words(name)));
    // Of mod_wsgi-express, which has a directive of the same meaning in its row.
    with_others.insert("--chunked-request".to_owned());
    for file in files(&["README.md", "CHANGELOG.md", "docs", "examples", "src", "python/src"]) {
        // Styles have variables that look like options; the figures name those of the programs that measure.
        let path = file.to_string_lossy();
        if path.ends_with(".css")
            || path.contains("/docs/benchmarks")
            || TELL_OTHERS.iter().any(|end| path.ends_with(end))
        {
            continue;
        }
        let known = if path.ends_with("docs/coming-from.md") { &with_others } else { &known };
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for word in words(&text) {
            let is_option = word.starts_with("--") && word[2..].starts_with(|c: char| c.is_ascii_lowercase());
            assert!(!is_option || known.contains(&word), "{}: there is no option {word}", file.display());
        }
    }
}

fn serve() -> Command {
    let mut command = Cli::command();
    command.build();
    command.find_subcommand("serve").expect("serve").clone()
}

/// The other subcommands that users see.
fn others() -> Vec<Command> {
    let mut command = Cli::command();
    command.build();
    let visible = command.get_subcommands().filter(|command| !command.is_hide_set());
    visible.filter(|command| !["serve", "help"].contains(&command.get_name())).cloned().collect()
}

fn commands() -> Vec<Command> {
    [vec![serve()], others()].concat()
}

/// Fails if the file is not `made`; with FORKHORN_BLESS writes it.
fn compare(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("FORKHORN_BLESS").is_some() {
        fs::write(&path, made).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let found = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    if let Some((number, (found, made))) =
        found.lines().chain([""]).zip(made.lines().chain([""])).enumerate().find(|(_, (a, b))| a != b)
    {
        panic!("{name}, line {}:\n  {found}\nshould be\n  {made}\nThe file is {MADE_BY}", number + 1);
    }
    assert_eq!(found.len(), made.len(), "{name} is {MADE_BY}");
}

fn markdown(serve: &Command) -> String {
    let mut out = format!("<!-- {MADE_BY} -->\n# Options\n\n```\nforkhorn serve [OPTIONS] [APP]\n```\n\n");
    out.push_str(&wrap(INTRODUCTION));
    let positional = serve.get_positionals().next().expect("the application");
    out.push_str(&entry(positional, "### `APP`"));
    let mut heading = None;
    for option in serve.get_arguments().filter(|option| option.get_long().is_some() && !option.is_hide_set())
    {
        let Some(new) = option.get_help_heading() else { continue };
        if heading != Some(new) {
            heading = Some(new);
            let _ = write!(out, "\n## {new}\n");
        }
        out.push_str(&entry(option, &format!("### `{}`", name_of(option))));
    }
    out
}

/// The section of another subcommand.
fn command_markdown(command: &Command) -> String {
    let usage = usage(command);
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut out = format!("\n## forkhorn {}\n\n```\n{usage}\n```\n\n", command.get_name());
    out.push_str(&wrap(&format!("{about}.")));
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
        if ["help", "version"].contains(&argument.get_id().as_str()) {
            continue;
        }
        let name = match argument.get_long() {
            Some(_) => name_of(argument),
            None => argument.get_value_names().unwrap_or_default().join(" "),
        };
        out.push_str(&entry(argument, &format!("### `{name}`")));
    }
    out
}

/// `forkhorn cgi [OPTIONS] <APP>`
fn usage(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    usage.trim_start_matches("Usage: ").to_owned()
}

/// `-w, --workers COUNT`
fn name_of(option: &Arg) -> String {
    let mut name = option.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
    let _ = write!(name, "--{}", option.get_long().unwrap_or_default());
    if option.get_action().takes_values() {
        let _ = write!(name, " {}", option.get_value_names().unwrap_or_default().join(" "));
    }
    name
}

fn entry(option: &Arg, title: &str) -> String {
    let mut out = format!("\n{title}\n\n");
    let long = option.get_long_help().or(option.get_help()).map(ToString::to_string).unwrap_or_default();
    let (first, rest) = long.split_once("\n\n").unwrap_or((&long, ""));
    let (first, told_default) = match first.strip_suffix(']').and_then(|text| text.rsplit_once(" [default: "))
    {
        Some((first, default)) => (first, Some(default.to_owned())),
        None => (first, None),
    };
    out.push_str(&wrap(&format!("{first}.")));
    for paragraph in rest.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        out.push('\n');
        out.push_str(&wrap(paragraph));
    }
    let values: Vec<_> = match option.get_action().takes_values() {
        true => option.get_possible_values(),
        false => Vec::new(),
    };
    for (index, value) in values.iter().enumerate() {
        let help = value.get_help().map(|help| format!(": {help}")).unwrap_or_default();
        let _ = writeln!(out, "{}- `{}`{help}", if index == 0 { "\n" } else { "" }, value.get_name());
    }
    let defaults = option.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy()));
    let default =
        told_default.or_else(|| option.get_action().takes_values().then(|| defaults.collect::<String>()));
    let default = default.filter(|default| !default.is_empty()).map(|default| format!("Default: {default}."));
    let variable = option.get_env().map(|name| format!("Environment: `{}`.", name.to_string_lossy()));
    let facts: Vec<String> = [default, variable].into_iter().flatten().collect();
    if !facts.is_empty() {
        let _ = write!(out, "\n{}", wrap(&facts.join(" ")));
    }
    out
}

/// A paragraph in lines, with the names of options as code.
fn wrap(paragraph: &str) -> String {
    let (mut out, mut length) = (String::new(), 0);
    for word in paragraph.split_whitespace() {
        let end = word.trim_end_matches(['.', ',', ';', ':', ')']).len();
        let word = match word.starts_with("--") {
            true => format!("`{}`{}", &word[..end], &word[end..]),
            false => word.to_owned(),
        };
        if length > 0 && length + 1 + word.chars().count() > WIDTH {
            out.push('\n');
            length = 0;
        } else if length > 0 {
            out.push(' ');
            length += 1;
        }
        length += word.chars().count();
        out.push_str(&word);
    }
    out.push('\n');
    out
}

fn man_page(serve: &Command, others: &[Command]) -> String {
    let page = serve
        .clone()
        .display_name("forkhorn")
        .bin_name("forkhorn")
        .about(Cli::command().get_about().expect("one line").to_string())
        .override_usage("forkhorn serve [OPTIONS] [APP]");
    let page = clap_mangen::Man::new(page)
        .title("FORKHORN")
        .source(concat!("forkhorn ", env!("CARGO_PKG_VERSION")))
        .manual("forkhorn");
    let mut out = format!(".\\\" {MADE_BY}\n").into_bytes();
    let sections = [
        clap_mangen::Man::render_title,
        clap_mangen::Man::render_name_section,
        clap_mangen::Man::render_synopsis_section,
        clap_mangen::Man::render_options_section,
    ];
    for section in sections {
        section(&page, &mut out).expect("written to memory");
    }
    let mut more = Roff::new();
    more.control("SH", ["OTHER COMMANDS"]);
    for command in others {
        more.control("TP", []);
        more.text([bold(usage(command))]);
        more.text([roman(format!(
            "{}. docs/options.md has its options.",
            command.get_about().map(ToString::to_string).unwrap_or_default()
        ))]);
    }
    for (title, first_column) in [("SIGNALS", "signal"), ("EXIT STATUS", "code")] {
        more.control("SH", [title]);
        for (term, meaning) in table("docs/signals.md", first_column) {
            more.control("TP", []);
            more.text([bold(term)]);
            more.text([roman(meaning)]);
        }
    }
    more.to_writer(&mut out).expect("written to memory");
    String::from_utf8(out).expect("UTF-8")
}

/// The rows of the table whose first column has this title.
fn table(page: &str, first_column: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).expect(page);
    let begin = format!("| {first_column} | ");
    let rows = text.lines().skip_while(|line| !line.starts_with(&begin)).skip(2);
    let rows: Vec<_> = rows
        .map_while(|row| row.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
        .map(|(term, meaning)| (term.to_owned(), meaning.replace('`', "")))
        .collect();
    assert!(!rows.is_empty(), "{page} has no table of each {first_column}");
    rows
}

fn files(names: &[&str]) -> Vec<PathBuf> {
    let mut left: Vec<PathBuf> =
        names.iter().map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).collect();
    let mut found = Vec::new();
    while let Some(path) = left.pop() {
        match fs::read_dir(&path) {
            Ok(entries) => left.extend(entries.map(|entry| entry.expect("an entry").path())),
            Err(_) => found.push(path),
        }
    }
    found
}
