//! Where the time of one CGI request goes: the same script, run by hand in steps that each leave something out.
//!
//! | part | how it is measured |
//! | --- | --- |
//! | a process | an empty program, started and waited for |
//! | the interpreter | an empty script, less the process |
//! | modules | what the interpreter says that the script's imports take (`python -X importtime`, `perl -c`), less its own |
//! | the script | the whole script, less all of these |
//! | the transfer | a request that nobody else disturbs, less the whole script |

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::plan::Script;
use crate::config::StartupError;

/// Runs of each step; the median counts.
const RUNS: usize = 15;

/// No step is repeated for longer.
const LONGEST: Duration = Duration::from_secs(5);

/// Programs that do nothing, the first that is there.
const EMPTY: [&str; 2] = ["/bin/true", "/usr/bin/true"];

/// The parts of one script's time.
#[derive(Debug, Clone)]
pub(crate) struct Breakdown {
    pub(crate) name: String,
    pub(crate) parts: Vec<(&'static str, Duration)>,
}

impl Breakdown {
    /// Each part is a difference between two runs: of a machine that does other things, some are nothing.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.parts.iter().any(|(_, time)| time.is_zero())
    }

    pub(crate) fn total(&self) -> Duration {
        self.parts.iter().map(|(_, time)| time).sum()
    }
}

/// `#!/usr/bin/env python3 -u`
#[derive(Debug, PartialEq, Eq)]
struct Interpreter {
    /// The program and the arguments of the first line.
    command: Vec<String>,
    language: Language,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Python,
    Perl,
    Other,
}

/// `served`: how long a request takes that is alone.
pub(super) fn measure(script: &Script, served: Option<Duration>) -> Result<Breakdown, StartupError> {
    let failed = |error: std::io::Error| {
        StartupError::other(format!("cannot run {} by hand: {error}", script.path.display()))
    };
    let program = EMPTY.iter().find(|path| Path::new(path).exists()).copied().unwrap_or("true");
    let process = median(|| Command::new(program)).map_err(failed)?;
    let whole = median(|| as_cgi(Command::new(&script.path), &script.path)).map_err(failed)?;
    let mut parts = vec![("process", process)];
    if let Some(interpreter) = Interpreter::of(&script.path).map_err(failed)? {
        let empty = tempfile::NamedTempFile::new().map_err(failed)?;
        let start = median(|| interpreter.run(empty.path(), &[])).map_err(failed)?;
        parts.push(("interpreter", start.saturating_sub(process)));
        let modules = interpreter.modules(&script.path, empty.path(), start).map_err(failed)?;
        parts.push(("modules", modules.min(whole.saturating_sub(start))));
    }
    let known: Duration = parts.iter().map(|(_, time)| time).sum();
    parts.push(("script", whole.saturating_sub(known)));
    if let Some(served) = served {
        parts.push(("transfer", served.saturating_sub(whole)));
    }
    Ok(Breakdown { name: script.name.clone(), parts })
}

impl Interpreter {
    /// `None`: the script is a program.
    fn of(path: &Path) -> std::io::Result<Option<Interpreter>> {
        let mut first = [0; 256];
        let length = fs::File::open(path)?.read(&mut first)?;
        let first = String::from_utf8_lossy(first.get(..length).unwrap_or_default()).into_owned();
        Ok(first.lines().next().and_then(Interpreter::parse))
    }

    fn parse(line: &str) -> Option<Interpreter> {
        let mut words: Vec<String> = line.strip_prefix("#!")?.split_whitespace().map(str::to_owned).collect();
        if words.first().is_some_and(|word| word.ends_with("/env")) {
            words.remove(0);
            words.retain(|word| word != "-S");
        }
        let name = words.first()?.rsplit('/').next().unwrap_or_default();
        let language = match name {
            name if name.starts_with("python") => Language::Python,
            name if name.starts_with("perl") => Language::Perl,
            _ => Language::Other,
        };
        Some(Interpreter { command: words, language })
    }

    fn run(&self, script: &Path, more: &[&str]) -> Command {
        let (program, arguments) =
            self.command.split_first().map_or(("true", &[][..]), |(program, rest)| (program.as_str(), rest));
        let mut command = Command::new(program);
        command.args(arguments).args(more).arg(script);
        as_cgi(command, script)
    }

    fn modules(&self, script: &Path, empty: &Path, start: Duration) -> std::io::Result<Duration> {
        match self.language {
            Language::Python => {
                let imports = |script: &Path| -> std::io::Result<Duration> {
                    let output = self.run(script, &["-X", "importtime"]).stderr(Stdio::piped()).output()?;
                    Ok(import_time(&String::from_utf8_lossy(&output.stderr)))
                };
                Ok(imports(script)?.saturating_sub(imports(empty)?))
            }
            // It compiles the script too, which is quick beside what it uses.
            Language::Perl => Ok(median(|| self.run(script, &["-c"]))?.saturating_sub(start)),
            Language::Other => Ok(Duration::ZERO),
        }
    }
}

/// The sum of the times that each module took by itself: `import time: self [us] | cumulative | name`.
fn import_time(text: &str) -> Duration {
    let lines = text.lines().filter_map(|line| line.strip_prefix("import time:"));
    let micros = lines.filter_map(|line| line.split('|').next()?.trim().parse::<u64>().ok());
    Duration::from_micros(micros.sum())
}

/// The environment of a request (RFC 3875 §4.1), and nothing else.
fn as_cgi(mut command: Command, script: &Path) -> Command {
    let folder: PathBuf = script.parent().map(Path::to_owned).unwrap_or_default();
    command.env_clear().current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    for (name, value) in [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("REQUEST_METHOD", "GET"),
        ("SCRIPT_NAME", "/cgi-bin/script"),
        ("PATH_INFO", ""),
        ("QUERY_STRING", ""),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_NAME", "localhost"),
        ("SERVER_PORT", "80"),
        ("REMOTE_ADDR", "127.0.0.1"),
    ] {
        command.env(name, value);
    }
    command
}

/// The median time from the start of a command to its end.
fn median(make: impl Fn() -> Command) -> std::io::Result<Duration> {
    let (begin, mut times) = (Instant::now(), Vec::new());
    for _ in 0..RUNS {
        let mut command = make();
        let started = Instant::now();
        command.stdin(Stdio::null()).output()?;
        times.push(started.elapsed());
        if begin.elapsed() > LONGEST {
            break;
        }
    }
    times.sort();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_name_interpreters() {
        for (line, command, language) in [
            ("#!/usr/bin/env python3", &["python3"][..], Language::Python),
            ("#! /usr/bin/perl -w", &["/usr/bin/perl", "-w"], Language::Perl),
            ("#!/usr/bin/env -S python3 -u", &["python3", "-u"], Language::Python),
            ("#!/bin/sh", &["/bin/sh"], Language::Other),
        ] {
            let expected =
                Interpreter { command: command.iter().map(|&word| word.to_owned()).collect(), language };
            assert_eq!(Interpreter::parse(line), Some(expected), "{line}");
        }
        assert_eq!(Interpreter::parse("\x7fELF"), None);
    }

    #[test]
    fn times_of_imports_are_added_up() {
        let text = "import time: self [us] | cumulative | imported package\n\
                    import time:       100 |        100 |   _io\n\
                    noise\n\
                    import time:        50 |        150 | io\n";
        assert_eq!(import_time(text), Duration::from_micros(150));
    }

    #[test]
    fn the_parts_of_a_script_add_up_to_its_request() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("slow.sh");
        fs::write(&path, "#!/bin/sh\nsleep 0.05\n").expect("written");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
        let script = Script { name: "slow.sh".to_owned(), path };
        let breakdown = measure(&script, Some(Duration::from_secs(100))).expect("measured");
        let names: Vec<&str> = breakdown.parts.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["process", "interpreter", "modules", "script", "transfer"]);
        assert_eq!(breakdown.total(), Duration::from_secs(100));
        assert!(breakdown.parts[3].1 >= Duration::from_millis(40), "{breakdown:?}");
    }
}
