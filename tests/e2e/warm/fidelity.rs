//! What a script sees, does and leaves behind is the same in a copy of a warm interpreter as in a fresh one: answers,
//! standard error and exit status are compared byte for byte.

use std::path::Path;

use super::Scripts;
use crate::support::fastcgi::Request;
use crate::support::{Running, python};

/// A script, and what it is asked.
type Case = (&'static str, &'static [&'static str]);

const PYTHON: &[Case] = &[
    ("environment.py", &["", "a=b&c=%20"]),
    (
        "exits.py",
        &[
            "number",
            "large",
            "huge",
            "negative",
            "none",
            "text",
            "tuple",
            "true",
            "raise",
            "at_once",
            "signal",
            "abort",
            "interrupt",
            "exec",
            "closed",
            "closed_descriptor",
            "builtin",
            "end",
        ],
    ),
    (
        "errors.py",
        &[
            "chained",
            "context",
            "formatted",
            "hook",
            "bad_hook",
            "exiting_hook",
            "no_hook",
            "last",
            "deep",
            "import",
            "syntax_of_import",
            "unprintable",
            "base",
            "generator",
            "note",
        ],
    ),
    (
        "ending.py",
        &[
            "object",
            "generator",
            "file",
            "thread",
            "daemon",
            "bad_atexit",
            "exit_in_atexit",
            "pending",
            "stderr",
            "pool",
            "weak",
            "child",
            "slots",
            "callback",
            "order",
            "imported",
            "metaclass",
            "closure",
            "local",
            "warning",
            "tee",
            "replaced",
            "asynchronous",
            "exception",
            "failed_del",
            "logging",
            // The same without functions of atexit, which alone would have the interpreter end in its own way.
            "nothing-plain",
            "object-plain",
            "generator-plain",
            "file-plain",
            "thread-plain",
            "daemon-plain",
            "pending-plain",
            "pool-plain",
            "weak-plain",
            "child-plain",
            "slots-plain",
            "callback-plain",
            "order-plain",
            "imported-plain",
            "metaclass-plain",
            "closure-plain",
            "local-plain",
            "warning-plain",
            "tee-plain",
            "replaced-plain",
            "asynchronous-plain",
            "exception-plain",
            "failed_del-plain",
            "logging-plain",
        ],
    ),
    ("source.py", &[""]),
    ("output.py", &[""]),
    ("unbuffered.py", &[""]),
    ("optimized.py", &[""]),
    ("syntax.py", &[""]),
    ("warned.py", &[""]),
    ("bad_indentation.py", &[""]),
    ("latin.py", &[""]),
    ("not_utf8.py", &[""]),
    ("nul.py", &[""]),
    ("odd_lines.py", &[""]),
    ("shadow/importing.py", &[""]),
    ("modules/many.py", &[""]),
];

const PERL: &[Case] = &[
    ("environment.pl", &["", "a=b"]),
    (
        "exits.pl",
        &[
            "number",
            "large",
            "none",
            "die",
            "line",
            "object",
            "errno",
            "sub",
            "status",
            "signal",
            "exec",
            "eval",
            "warn",
            "handler",
            "changed",
            "undefined",
            "missing",
            "close",
            "fork",
            "backticks",
            "begin",
        ],
    ),
    ("data.pl", &[""]),
    ("package_data.pl", &[""]),
    ("modulino.pl", &[""]),
    ("warnings.pl", &[""]),
    ("syntax.pl", &[""]),
    ("first_line.pl", &["", "die"]),
    ("endings.pl", &[""]),
    (
        "leaving.pl",
        &[
            "nothing",
            "temporary",
            "plain",
            "pattern",
            "piped_out",
            "child",
            "zombie",
            "layer",
            "utf8",
            "crlf",
            "errors",
            "full",
            "closed",
            "status",
            "dying",
            "signal",
            "exit_in_sub",
            "module",
            "large",
        ],
    ),
    ("destructors.pl", &["evaluated", "assigned", "inherited", "autoload", "tied", "cycle"]),
    (
        "hidden.pl",
        &["evaluated", "assigned", "named", "nested", "existing", "main", "inherited", "aliased", "looped"],
    ),
    ("handles.pl", &["file", "pipe", "copied", "selected", "data"]),
    ("text.pl", &[""]),
    ("library.pl", &[""]),
    ("wrap.pl", &[""]),
    ("incs.pl", &[""]),
    ("form.pl", &["a=1&a=2&b=%C3%A9", "die=1"]),
];

const PYTHON_READERS: Case = (
    "reading.py",
    &[
        "read",
        "buffer",
        "lines",
        "input",
        "descriptor",
        "file",
        "devices",
        "child",
        "seek",
        "nothing",
        "form",
    ],
);
const PERL_READERS: Case =
    ("reading.pl", &["lines", "diamond", "read", "sysread", "slurp", "eof", "child", "binmode", "nothing"]);

/// What can be seen of a run from outside.
#[derive(PartialEq, Eq)]
struct Seen {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    app_status: u32,
}

#[track_caller]
fn run(forkhorn: &Running, request: Request, id: &str) -> Seen {
    let answer = forkhorn.fcgi(&request.param("UNIQUE_ID", id));
    Seen { stdout: masked(&answer.stdout), stderr: masked(&answer.stderr), app_status: answer.app_status }
}

/// Without the addresses of objects, which are others in each process, and without the seconds of times.
fn masked(bytes: &[u8]) -> Vec<u8> {
    let mut masked = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, others)) = rest.split_first() {
        // The length is told if the script ends while its first output is looked at: a matter of milliseconds too.
        if masked.ends_with(b"\n")
            && let Some(length) = rest.strip_prefix(b"Content-Length: ")
            && let Some(end) = length.iter().position(|&byte| byte == b'\n')
        {
            rest = &length[end + 1..];
            continue;
        }
        masked.push(*first);
        rest = others;
        if masked.ends_with(b"0x") {
            let end = rest.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(rest.len());
            rest = &rest[end..];
        }
        if let [b':', b'0'..=b'9', b'0'..=b'9', b':', b'0'..=b'9', b'0'..=b'9', others @ ..] = rest {
            rest = others;
        }
    }
    masked
}

/// How scripts have ended, as the log says: request and exit status, in the order of the requests.
fn ends(log: &[String]) -> Vec<(String, String)> {
    let mut ends: Vec<_> = log
        .iter()
        // It is said of a success only if the response had ended before, which is a matter of milliseconds.
        .filter(|line| !line.contains("exited with status 0"))
        .filter_map(|line| {
            let at = ["exited with", "was killed by"].iter().find_map(|words| line.find(words))?;
            let how = line[at..].split(" after ").next().unwrap_or_default();
            Some((
                line[line.find("request-")?..].chars().take("request-00000".len()).collect(),
                how.to_owned(),
            ))
        })
        .collect();
    ends.sort();
    ends
}

/// The first lines in which two texts differ.
fn difference(what: &str, cold: &[u8], warm: &[u8]) -> String {
    let [cold, warm] = [cold, warm].map(String::from_utf8_lossy);
    let (mut cold, mut warm) = (cold.split_inclusive('\n'), warm.split_inclusive('\n'));
    loop {
        match (cold.next(), warm.next()) {
            (None, None) => return String::new(),
            (cold, warm) if cold == warm => {}
            (cold, warm) => {
                let shown = |line: Option<&str>| line.map(|line| line.chars().take(600).collect::<String>());
                return format!("\n    {what}, cold: {:?}\n    {what}, warm: {:?}", shown(cold), shown(warm));
            }
        }
    }
}

/// Asks both the same, and says where they differ.
struct Comparison {
    cold: Running,
    warm: Running,
    asked: u32,
    differences: Vec<String>,
}

impl Comparison {
    fn new(scripts: &Scripts, options: &[&str]) -> Comparison {
        Comparison {
            cold: scripts.serve(&[]),
            warm: scripts.serve(options),
            asked: 0,
            differences: Vec::new(),
        }
    }

    fn ask(&mut self, request: &Request, what: &str) {
        self.asked += 1;
        let id = format!("request-{:05}", self.asked);
        let (cold, warm) = (run(&self.cold, request.clone(), &id), run(&self.warm, request.clone(), &id));
        if cold != warm {
            self.differences.push(format!(
                "{what}: status {} and {}{}{}",
                cold.app_status,
                warm.app_status,
                difference("output", &cold.stdout, &warm.stdout),
                difference("error", &cold.stderr, &warm.stderr),
            ));
        }
        self.warm.wait_for_log(&format!("{id}*runs in a copy"));
    }

    fn ask_all(&mut self, cases: &[Case]) {
        for (script, queries) in cases {
            for query in *queries {
                let target = format!("/cgi-bin/{script}?{query}");
                self.ask(&Request::new("GET", &target), &target);
            }
        }
    }

    fn ask_with_bodies(&mut self, (script, queries): Case) {
        for query in queries {
            let target = format!("/cgi-bin/{script}?{query}");
            self.ask(&Request::new("GET", &target), &format!("{target} without a body"));
            for body in ["first line\nsecond é line\nthe last", "a=1&b=2"] {
                self.ask(&Request::new("POST", &target).body(body), &format!("{target} with {body:?}"));
            }
        }
    }

    #[track_caller]
    fn finish(self) {
        for forkhorn in [&self.cold, &self.warm] {
            // What the log says of all requests before this one has then been read.
            forkhorn.fcgi(&Request::new("GET", "/cgi-bin/not-there"));
            forkhorn.wait_for_log("not-there");
        }
        let (cold, warm) = (ends(&self.cold.log()), ends(&self.warm.log()));
        let count = self.differences.len();
        assert!(count == 0, "{count} of {} differ:\n{}", self.asked, self.differences.join("\n"));
        assert_eq!(cold, warm);
    }

    /// Has every first line's interpreter started: the first request of each is answered by a fresh one.
    fn warm_up(&self, scripts: &[&str]) {
        for (count, script) in scripts.iter().enumerate() {
            self.warm.fcgi(&Request::new("GET", &format!("/cgi-bin/{script}")));
            self.warm.wait_for_nth_log("warm *: ready", count + 1);
        }
    }
}

#[test]
fn python_scripts_do_not_notice_that_their_interpreter_is_a_copy() {
    let scripts = Scripts::new();
    let mut comparison = Comparison::new(&scripts, &["--warm", "python", "--warm-no-learning"]);
    comparison.warm_up(&["environment.py", "unbuffered.py", "optimized.py"]);
    comparison.ask_all(PYTHON);
    comparison.ask_with_bodies(PYTHON_READERS);
    comparison.finish();
}

#[test]
fn python_scripts_do_not_notice_which_modules_their_interpreter_has_loaded() {
    let scripts = Scripts::new();
    let modules = "python:json+decimal+email.message+fractions+logging.handlers+xml.dom.minidom+urllib.request+html+\
                   dataclasses+inspect+pickle+subprocess+threading+concurrent.futures+typing+traceback+weakref+sqlite3";
    let mut comparison = Comparison::new(&scripts, &["--warm", modules, "--warm-no-learning"]);
    comparison.warm_up(&["environment.py", "unbuffered.py", "optimized.py"]);
    comparison.ask_all(PYTHON);
    comparison.finish();
}

#[test]
fn perl_scripts_do_not_notice_that_their_interpreter_is_a_copy() {
    let scripts = Scripts::new();
    let mut comparison = Comparison::new(&scripts, &["--warm", "perl", "--warm-no-learning"]);
    comparison.warm_up(&["environment.pl", "warnings.pl"]);
    comparison.ask_all(PERL);
    comparison.ask_with_bodies(PERL_READERS);
    comparison.finish();
}

#[test]
fn perl_scripts_do_not_notice_which_modules_their_interpreter_has_loaded() {
    let scripts = Scripts::new();
    let modules =
        "perl:CGI+CGI::Carp+Text::Wrap+Data::Dumper+List::Util+POSIX+Time::HiRes+File::Spec+FindBin";
    let mut comparison = Comparison::new(&scripts, &["--warm", modules, "--warm-no-learning"]);
    comparison.warm_up(&["environment.pl", "warnings.pl"]);
    comparison.ask_all(PERL);
    comparison.finish();
}

#[test]
fn every_python_of_this_machine_runs_scripts_as_if_it_was_fresh() {
    for interpreter in python::interpreters() {
        let scripts = Scripts::with_python(Path::new(&interpreter.executable));
        let modules =
            "python:json+decimal+email.message+fractions+logging+urllib.request+dataclasses+inspect+typing";
        let mut comparison = Comparison::new(&scripts, &["--warm", modules, "--warm-no-learning"]);
        comparison.warm_up(&["environment.py"]);
        let only = ["environment.py", "source.py", "modules/many.py", "syntax.py", "ending.py"];
        let cases: Vec<Case> = PYTHON.iter().filter(|(name, _)| only.contains(name)).copied().collect();
        comparison.ask_all(&cases);
        comparison.finish();
    }
}

#[test]
fn older_pythons_of_this_machine_run_scripts_as_if_they_were_fresh() {
    for interpreter in python::older_interpreters() {
        let is_python2 = interpreter.ends_with("python2.7");
        let scripts = Scripts::with_python(&interpreter);
        let mut comparison = Comparison::new(&scripts, &["--warm", "python:json", "--warm-no-learning"]);
        if is_python2 {
            comparison.warm_up(&["python2/environment.py"]);
            comparison.ask_all(PYTHON_2);
            comparison.ask_with_bodies(PYTHON_2_READERS);
        } else {
            comparison.warm_up(&["environment.py"]);
            let only = ["environment.py", "source.py", "modules/many.py", "syntax.py", "ending.py"];
            let cases: Vec<Case> = PYTHON.iter().filter(|(name, _)| only.contains(name)).copied().collect();
            comparison.ask_all(&cases);
        }
        comparison.finish();
    }
}

const PYTHON_2: &[Case] = &[
    ("python2/environment.py", &["", "a=b&c=%20"]),
    (
        "python2/ending.py",
        &[
            "",
            "number",
            "large",
            "negative",
            "long",
            "none",
            "text",
            "tuple",
            "true",
            "raise",
            "unicode",
            "nested",
            "string",
            "interrupt",
            "hook",
            "bad_hook",
            "exit_in_hook",
            "no_hook",
            "object",
            "generator",
            "thread",
            "bad_atexit",
            "exitfunc",
            "pending",
            "weak",
            "file",
            "child",
            "signal",
            "exec",
            "closed",
            "random",
            "trace",
            "modules",
            "warning",
        ],
    ),
    ("python2/broken.py", &[""]),
    ("python2/latin.py", &[""]),
    ("python2/warned.py", &[""]),
];
const PYTHON_2_READERS: Case =
    ("python2/reading.py", &["read", "part", "lines", "input", "descriptor", "child", "form"]);
