//! Options to cases: what is measured, by which way, and the files that have to be written for it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client::Target;
use super::http::Url;
use crate::cli::{Bench, BenchStep};
use crate::config::{AppSource, AppSpec, Config, StartupError};

/// The examples, for a machine that has the binary and nothing else.
const EXAMPLES: [(&str, &str); 3] = [
    ("form_handler.py", include_str!("../../cgi-bin/form_handler.py")),
    ("form_handler.pl", include_str!("../../cgi-bin/form_handler.pl")),
    ("form_app.py", include_str!("../../examples/form_app.py")),
];

/// Where scripts are mounted.
const PREFIX: &str = "/cgi-bin";

/// What to do, in this order.
pub(super) struct Plan {
    pub(super) cases: Vec<Case>,
    /// Scripts whose time is taken apart.
    pub(super) breakdowns: Vec<Script>,
    pub(super) duration: Duration,
    pub(super) concurrency: u16,
    pub(super) rate: Option<f64>,
    /// Options of every server.
    pub(super) common: Vec<OsString>,
    /// What was left out, and why.
    pub(super) notes: Vec<String>,
    /// Scripts that were written for this run.
    _folder: tempfile::TempDir,
}

/// One row of the table.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// `None` for a URL.
    pub(crate) step: Option<BenchStep>,
    /// The script, the application or the URL.
    pub(crate) what: String,
    pub(crate) server: Option<ServerPlan>,
    url: Option<Url>,
}

/// What a case's own server is started with, and where it is asked.
#[derive(Debug, Clone)]
pub(crate) struct ServerPlan {
    pub(super) arguments: Vec<OsString>,
    path: String,
}

/// A CGI script.
#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

impl Case {
    /// `warm CGI: form_handler.py`
    pub(crate) fn name(&self) -> String {
        match self.step {
            Some(step) => format!("{}: {}", step.title(), self.what),
            None => self.what.clone(),
        }
    }

    pub(super) fn target(&self, socket: Option<PathBuf>) -> Target {
        match (&self.server, &self.url, socket) {
            (Some(server), _, Some(socket)) => Target::fastcgi(socket, &server.path),
            (_, Some(url), _) => Target::Url(url.clone()),
            // A case has a server or a URL.
            _ => Target::fastcgi(PathBuf::new(), "/"),
        }
    }

    pub(super) fn is_cgi_of(&self, script: &str) -> bool {
        self.step == Some(BenchStep::Cgi) && self.what == script
    }
}

impl Plan {
    /// # Errors
    /// What is wrong with the options.
    pub(super) fn new(options: &Bench) -> Result<Plan, StartupError> {
        let failed = |error: std::io::Error| StartupError::other(format!("cannot write a script: {error}"));
        let folder = tempfile::Builder::new().prefix("forkhorn-bench").tempdir().map_err(failed)?;
        // Scripts may run as another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).map_err(failed)?;
        if !(options.duration > 0.0 && options.duration <= 3600.0) {
            return Err(StartupError::usage("--duration: expected seconds above 0, an hour at most"));
        }
        if options.rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1e7)) {
            return Err(StartupError::usage("--rate: expected a number of requests a second above 0"));
        }
        let mut plan = Plan {
            cases: Vec::new(),
            breakdowns: Vec::new(),
            duration: Duration::from_secs_f64(options.duration),
            concurrency: options.concurrency.get(),
            rate: options.rate,
            common: common(options),
            notes: Vec::new(),
            _folder: folder,
        };
        if !options.url.is_empty() {
            plan.urls(options)?;
            return Ok(plan);
        }
        let (app, scripts) = plan.content(options).map_err(failed)?;
        for script in &scripts {
            check(script)?;
        }
        for &step in &options.steps {
            plan.add_step(step, app.as_deref(), &scripts, options)?;
        }
        plan.breakdowns.extend(scripts);
        if plan.cases.is_empty() {
            return Err(StartupError::usage(format!(
                "nothing is left to measure: {}",
                plan.notes.join("; ")
            )));
        }
        Ok(plan)
    }

    pub(super) fn warm_up(&self) -> Duration {
        (self.duration / 4).min(Duration::from_secs(1))
    }

    /// For how long a warm interpreter is asked before anything counts: it learns then what the script loads, and beside that
    /// answers late.
    pub(super) fn learning(&self) -> Duration {
        self.duration.min(Duration::from_secs(4))
    }

    fn urls(&mut self, options: &Bench) -> Result<(), StartupError> {
        if options.app.is_some() || !options.script.is_empty() {
            return Err(StartupError::usage("--url measures what runs already: leave APP and --script out"));
        }
        for url in &options.url {
            let url = Url::parse(url)?;
            self.cases.push(Case { step: None, what: url.text.clone(), server: None, url: Some(url) });
        }
        Ok(())
    }

    /// The application and the scripts that are named, or else the examples.
    fn content(&self, options: &Bench) -> std::io::Result<(Option<String>, Vec<Script>)> {
        if options.app.is_some() || !options.script.is_empty() {
            let scripts = options
                .script
                .iter()
                .map(|path| Ok(Script { name: name_of(path), path: std::path::absolute(path)? }));
            return Ok((options.app.clone(), scripts.collect::<std::io::Result<_>>()?));
        }
        let mut files = Vec::new();
        for (name, text) in EXAMPLES {
            files.push(Script { name: name.to_owned(), path: self.write(name, text)? });
        }
        let app = files.pop().map(|file| file.path.display().to_string());
        Ok((app, files))
    }

    /// Each script in a folder of its own: the directory of a script is what is mounted.
    fn write(&self, name: &str, text: &str) -> std::io::Result<PathBuf> {
        let folder = self._folder.path().join(name.replace('.', "-"));
        fs::create_dir_all(&folder)?;
        let path = folder.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    fn add_step(
        &mut self,
        step: BenchStep,
        app: Option<&str>,
        scripts: &[Script],
        options: &Bench,
    ) -> Result<(), StartupError> {
        match step {
            BenchStep::Cgi | BenchStep::Warm => {
                for script in scripts {
                    self.add_script(step, &script.name, &script.path);
                }
                if let Some(app) = app {
                    self.add_app_as_script(step, app, options)?;
                }
            }
            BenchStep::Prefork => match app {
                Some(app) => {
                    let arguments = vec![app.into()];
                    self.add(step, &app_name(app), ServerPlan { arguments, path: "/".to_owned() });
                }
                None => self.notes.push("prefork needs an application: name APP".to_owned()),
            },
        }
        Ok(())
    }

    fn add_script(&mut self, step: BenchStep, what: &str, path: &Path) {
        let (Some(folder), Some(file)) = (path.parent(), path.file_name()) else { return };
        let mut mount = OsString::from(format!("{PREFIX}="));
        mount.push(folder);
        let mut arguments = vec!["--cgi".into(), mount];
        if step == BenchStep::Warm {
            arguments.extend(["--warm".into(), "python,perl".into()]);
        }
        let path = format!("{PREFIX}/{}", file.to_string_lossy());
        self.add(step, what, ServerPlan { arguments, path });
    }

    /// `forkhorn cgi` starts for each request; a warm interpreter runs Python, so the application is a Python script there.
    fn add_app_as_script(&mut self, step: BenchStep, app: &str, options: &Bench) -> Result<(), StartupError> {
        let failed = |error: std::io::Error| StartupError::other(format!("cannot write a script: {error}"));
        let spec = AppSpec::parse(app)?;
        let (name, text) = match step {
            BenchStep::Warm => ("warm_app.py", python_script(&spec, options)?),
            _ => ("cgi_app.sh", shell_script(app, options).map_err(failed)?),
        };
        let path = self.write(name, &text).map_err(failed)?;
        self.add_script(step, &app_name(app), &path);
        Ok(())
    }

    fn add(&mut self, step: BenchStep, what: &str, server: ServerPlan) {
        self.cases.push(Case { step: Some(step), what: what.to_owned(), server: Some(server), url: None });
    }
}

fn check(script: &Script) -> Result<(), StartupError> {
    let wrong = |why: &str| StartupError::usage(format!("--script {}: {why}", script.path.display()));
    let file = fs::metadata(&script.path).map_err(|error| wrong(&error.to_string()))?;
    match file.permissions().mode() & 0o111 {
        0 => Err(wrong("it may not be executed: chmod +x")),
        _ => Ok(()),
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The application as the table calls it: without the directories of its file.
fn app_name(app: &str) -> String {
    app.rsplit('/').next().unwrap_or(app).to_owned()
}

/// Interpreter and workers, as `serve` takes them.
fn common(options: &Bench) -> Vec<OsString> {
    let mut all = interpreter(options);
    if let Some(workers) = options.workers {
        all.extend(["--workers".into(), workers.to_string().into()]);
    }
    all
}

fn interpreter(options: &Bench) -> Vec<OsString> {
    let options = &options.interpreter;
    let mut all: Vec<OsString> = Vec::new();
    let mut add = |name: &str, value: OsString| all.extend([name.into(), value]);
    for (name, path) in
        [("--python", &options.python), ("--virtualenv", &options.virtualenv), ("--chdir", &options.chdir)]
    {
        if let Some(path) = path {
            add(name, absolute(path));
        }
    }
    for directory in &options.pythonpath {
        add("--pythonpath", absolute(directory));
    }
    for pair in &options.env {
        add("--env", pair.clone());
    }
    all
}

/// Scripts have working directories of their own.
fn absolute(path: &Path) -> OsString {
    // A single name is looked up in PATH, unless it is a directory here.
    if path.components().count() > 1 || path.is_dir() {
        std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).into()
    } else {
        path.into()
    }
}

fn shell_script(app: &str, options: &Bench) -> std::io::Result<String> {
    let mut words = vec![std::env::current_exe()?.into_os_string(), "cgi".into()];
    let given = if app.contains('/') || app.split(':').next().is_some_and(|file| file.ends_with(".py")) {
        std::path::absolute(app)?.into_os_string()
    } else {
        app.into()
    };
    words.extend(interpreter(options));
    if options.interpreter.chdir.is_none() && !app.contains('/') {
        words.extend(["--chdir".into(), std::env::current_dir()?.into_os_string()]);
    }
    words.push(given);
    let quoted: Vec<String> = words.iter().map(|word| quote(&word.to_string_lossy())).collect();
    Ok(format!("#!/bin/sh\nexec {}\n", quoted.join(" ")))
}

/// For a shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The same application under wsgiref's handler, as a script that any host can run.
fn python_script(spec: &AppSpec, options: &Bench) -> Result<String, StartupError> {
    let python = Config::interpreter(&options.interpreter)?;
    let literal = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let mut paths: Vec<String> = options
        .interpreter
        .pythonpath
        .iter()
        .chain(&options.interpreter.chdir)
        .map(|path| literal(&absolute(path).to_string_lossy()))
        .collect();
    let here = std::env::current_dir().unwrap_or_default();
    paths.push(literal(&here.to_string_lossy()));
    let load = match &spec.source {
        AppSource::Module(name) => {
            format!("from importlib import import_module\nmodule = import_module({})\n", literal(name))
        }
        AppSource::File(path) => {
            let folder = path.parent().unwrap_or(Path::new("/"));
            let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            format!(
                "sys.path.insert(0, {})\nfrom importlib import import_module\nmodule = import_module({})\n",
                literal(&folder.to_string_lossy()),
                literal(&name)
            )
        }
    };
    let call = if spec.factory { "()" } else { "" };
    let environ: String = options
        .interpreter
        .env
        .iter()
        .filter_map(|pair| pair.to_str()?.split_once('='))
        .map(|(name, value)| format!("os.environ[{}] = {}\n", literal(name), literal(value)))
        .collect();
    Ok(format!(
        "#!{}\nimport os, sys\n{environ}sys.path[:0] = [{}]\n{load}from wsgiref.handlers import CGIHandler\n\
         CGIHandler().run(module.{}{call})\n",
        python.display(),
        paths.join(", "),
        spec.callable
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn options(arguments: &[&str]) -> Bench {
        let all = ["forkhorn", "bench"].iter().chain(arguments);
        match crate::cli::Cli::parse_from(all).command {
            crate::cli::Command::Bench(options) => *options,
            other => panic!("{other:?}"),
        }
    }

    fn names(arguments: &[&str]) -> Vec<String> {
        let plan = Plan::new(&options(arguments)).expect("a plan");
        plan.cases.iter().map(Case::name).collect()
    }

    #[test]
    fn without_arguments_the_examples_are_measured_by_every_way() {
        assert_eq!(
            names(&[]),
            [
                "CGI: form_handler.py",
                "CGI: form_handler.pl",
                "CGI: form_app.py",
                "warm CGI: form_handler.py",
                "warm CGI: form_handler.pl",
                "warm CGI: form_app.py",
                "prefork: form_app.py",
            ]
        );
        assert_eq!(names(&["--steps", "prefork"]), ["prefork: form_app.py"]);
    }

    #[test]
    fn what_can_not_be_measured_is_said() {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/cgi-bin/hello.sh");
        let plan = Plan::new(&options(&["--script", script])).expect("a plan");
        assert_eq!(plan.cases.len(), 2);
        assert_eq!(plan.notes, ["prefork needs an application: name APP"]);
        for wrong in [
            &["--script", script, "--steps", "prefork"][..],
            &["--script", "/nonexistent"],
            &["--duration", "0"],
            &["--rate=-1"],
            &["--url", "https://localhost/"],
            &["--url", "http://localhost/", "x:y"],
        ] {
            let error = Plan::new(&options(wrong)).err().unwrap_or_else(|| panic!("{wrong:?}"));
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}
