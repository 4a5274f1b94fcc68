//! `forkhorn bench`: what it prints and writes, and that a browser can show it.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::forkhorn::BINARY;
use crate::support::python::default_python;
use crate::support::{Address, Folder, Forkhorn, Running, project};

/// Short measurements: the figures are not looked at.
fn bench(arguments: &[&str], folder: &Folder) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("bench").args(["--duration", "0.2", "--concurrency", "2", "--workers", "1"]).args(arguments);
    command.current_dir(folder.path()).env("FORKHORN_PYTHON", default_python());
    command.output().expect("forkhorn runs")
}

#[track_caller]
fn text(output: &Output) -> String {
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{errors}", output.status);
    out.into_owned()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("written")).expect("JSON")
}

#[test]
fn the_examples_are_measured_by_every_way_and_reported_in_every_form() {
    let folder = Folder::new();
    let table = text(&bench(&["--report", "out.html", "--json", "figures.json"], &folder));
    let report = json(&folder.join("figures.json"));
    assert_eq!(report, json(&folder.join("out.json")));
    let steps = report["steps"].as_array().expect("steps");
    assert_eq!(steps.len(), 7);
    for step in steps {
        let name =
            format!("{}: {}", step["step"].as_str().expect("a way"), step["what"].as_str().expect("a name"));
        assert!(table.contains(&name), "{name} is not in\n{table}");
        for measured in ["closed_loop", "fixed_rate"] {
            let measured = &step[measured];
            assert!(measured["requests"].as_u64() > Some(0), "{step}");
            assert_eq!(measured["errors"], 0, "{step}");
            let quantile = |name: &str| measured["latency_us"][name].as_u64().expect("a latency");
            assert!(0 < quantile("p50") && quantile("p50") <= quantile("p99"), "{step}");
            assert!(quantile("p99") <= quantile("max"), "{step}");
        }
        for figure in ["first_answer_us", "cpu_us_per_request", "memory_bytes", "alone_us"] {
            assert!(step[figure].as_u64() > Some(0), "{figure}: {step}");
        }
        assert!(step["times_as_fast_as_cgi"].as_f64() > Some(0.0), "{step}");
    }
    for breakdown in report["breakdowns"].as_array().expect("breakdowns") {
        let parts: Vec<&str> = breakdown["parts"]
            .as_array()
            .expect("parts")
            .iter()
            .filter_map(|part| part["part"].as_str())
            .collect();
        assert_eq!(parts, ["process", "interpreter", "modules", "script", "transfer"]);
    }
    assert!(report["machine"]["cores"].as_u64() > Some(0), "{}", report["machine"]);
    assert!(table.contains("One CGI request of form_handler.pl"), "{table}");
    check_page(&folder);
    show(&folder);
}

/// Well-formed, whole, and without anything that has to be fetched or run.
fn check_page(folder: &Folder) {
    let code = "import sys, xml.etree.ElementTree as tree\n\
        from html.parser import HTMLParser\n\
        class Page(HTMLParser):\n\
        \x20   open, seen = [], {}\n\
        \x20   def handle_starttag(self, tag, attributes):\n\
        \x20       self.seen[tag] = self.seen.get(tag, 0) + 1\n\
        \x20       assert tag not in ('script', 'link', 'img', 'iframe'), tag\n\
        \x20       assert not {'src', 'href'} & {name for name, _ in attributes}, attributes\n\
        \x20       if tag != 'meta': self.open.append(tag)\n\
        \x20   def handle_startendtag(self, tag, attributes): pass\n\
        \x20   def handle_endtag(self, tag): assert self.open.pop() == tag, tag\n\
        page = Page()\n\
        page.feed(open('out.html', encoding='utf-8').read())\n\
        assert not page.open, page.open\n\
        assert page.seen['svg'] == 3 and page.seen['tr'] == 16, page.seen\n\
        assert len(tree.parse('out.svg').getroot().findall('.//{*}svg')) == 3\n";
    let checked = Command::new(default_python())
        .args(["-c", code])
        .current_dir(folder.path())
        .output()
        .expect("Python");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// Chromium draws the page, in both colours, and they differ.
fn show(folder: &Folder) {
    let page = format!("file://{}", folder.join("out.html").display());
    let sizes: Vec<u64> = [("light.png", "1"), ("dark.png", "0")]
        .map(|(picture, scheme)| {
            let path = folder.join(picture);
            let drawn = Command::new("chromium")
                .args([
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--hide-scrollbars",
                    "--no-first-run",
                    "--disable-background-networking",
                    "--window-size=1200,1900",
                ])
                .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
                .arg(format!("--user-data-dir={}", folder.join("browser").display()))
                .arg(format!("--screenshot={}", path.display()))
                .arg(&page)
                .output()
                .expect("Chromium, which scripts/test installs");
            assert!(path.exists(), "{}", String::from_utf8_lossy(&drawn.stderr));
            std::fs::metadata(&path).expect("a picture").len()
        })
        .to_vec();
    let bytes = |name: &str| std::fs::read(folder.join(name)).expect("a picture");
    // An empty page of this size has 10 KB.
    assert!(sizes.iter().all(|size| *size > 40_000), "{sizes:?}");
    assert_ne!(bytes("light.png"), bytes("dark.png"));
}

fn url(server: &Running) -> String {
    match server.http() {
        Address::Tcp(address) => format!("http://{address}/"),
        Address::Unix(path) => panic!("a Unix socket: {}", path.display()),
    }
}

#[test]
fn what_runs_already_is_measured_over_http() {
    let server = Forkhorn::new().wsgi("hello.py").start();
    let folder = Folder::new();
    let url = url(&server);
    text(&bench(&["--url", &url, "--rate", "50", "--json", "out.json"], &folder));
    let report = json(&folder.join("out.json"));
    let step = &report["steps"][0];
    assert_eq!(
        (step["what"].as_str(), step["fixed_rate"]["rate"].as_f64()),
        (Some(url.as_str()), Some(50.0))
    );
    assert_eq!(step["fixed_rate"]["requests"].as_u64(), Some(10));
    assert_eq!(step["first_answer_us"], serde_json::Value::Null);
}

#[test]
fn requests_that_fail_are_counted_and_said() {
    let server = Forkhorn::new().code(
        "count = 0\n\
         def application(environ, start_response):\n\
         \x20   global count\n\
         \x20   count += 1\n\
         \x20   start_response('500 No' if count > 1 else '200 OK', [])\n\
         \x20   return [b'x']\n",
    );
    let server = server.start();
    let folder = Folder::new();
    let url = url(&server);
    let table = text(&bench(&["--url", &url, "--json", "out.json"], &folder));
    assert!(table.contains("requests failed"), "{table}");
    assert!(json(&folder.join("out.json"))["steps"][0]["closed_loop"]["errors"].as_u64() > Some(0));
}

#[test]
fn an_application_that_can_not_be_loaded_ends_the_run_with_its_reason() {
    let folder = Folder::new();
    folder.write("broken.py", "import no_such_module\n");
    let output = bench(&["broken.py", "--steps", "prefork"], &folder);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("prefork: broken.py does not answer") && errors.contains("no_such_module"),
        "{errors}"
    );
}

#[test]
fn an_application_of_a_module_is_measured_by_cgi_and_in_memory() {
    let folder = Folder::new();
    let fixtures = project().join("examples");
    let arguments =
        ["hello:application", "--pythonpath", &fixtures.display().to_string(), "--json", "out.json"];
    text(&bench(&arguments, &folder));
    let report = json(&folder.join("out.json"));
    let names: Vec<_> = report["steps"].as_array().expect("steps").iter().map(|step| &step["step"]).collect();
    assert_eq!(names, ["CGI", "warm CGI", "prefork"]);
}
