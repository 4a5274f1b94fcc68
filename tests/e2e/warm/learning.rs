//! Which modules warm interpreters load before they serve.

use crate::support::{Forkhorn, Running, python, wait_until};

fn script(first: &str, lines: &str) -> String {
    format!("#!{first}\n{lines}")
}

fn python_script(lines: &str) -> String {
    let head = "import os, sys\nprint('Content-Type: text/plain\\n')\n";
    script(&python::default_python().display().to_string(), &format!("{head}{lines}"))
}

/// Asks until an interpreter serves that has loaded this module.
#[track_caller]
fn wait_for_module(forkhorn: &Running, target: &str, module: &str) {
    wait_until("a warm interpreter has learned", || {
        assert_eq!(forkhorn.get(target).status, 200);
        forkhorn
            .log()
            .iter()
            .any(|line| line.contains("modules loaded: ") && line.split(' ').any(|word| word == module))
    });
}

#[test]
fn modules_that_scripts_load_again_and_again_are_loaded_early() {
    let forkhorn = Forkhorn::new()
        .script("x.py", python_script("import decimal, local\nprint(decimal.Decimal(1), local.__name__)"))
        .script(
            "x.pl",
            script(
                "/usr/bin/perl",
                "use Text::Wrap;\nprint \"Content-Type: text/plain\\n\\n\", wrap('', '', 'x');\n",
            ),
        )
        .cgi_folder()
        .args(["--warm", "python,perl"]);
    forkhorn.folder.write("cgi-bin/local.py", "");
    let forkhorn = forkhorn.start();
    wait_for_module(&forkhorn, "/cgi-bin/x.py", "decimal");
    wait_for_module(&forkhorn, "/cgi-bin/x.pl", "Text/Wrap.pm");
    assert_eq!(forkhorn.get("/cgi-bin/x.py").text(), "1 local\n");
    assert!(!forkhorn.log().iter().any(|line| line.contains("modules loaded") && line.contains(" local")));
}

#[test]
fn without_learning_only_the_named_modules_are_loaded() {
    let start = |options: &[&str]| {
        let script = python_script("import decimal\nprint(os.getpid())");
        let forkhorn = Forkhorn::new().script("x.py", script).cgi_folder();
        let options = [&["--warm", "python:json+no_such_module"], options].concat();
        options.iter().fold(forkhorn, |forkhorn, option| forkhorn.arg(option)).start()
    };
    let (told, learns) = (start(&["--warm-no-learning"]), start(&[]));
    wait_for_module(&told, "/cgi-bin/x.py", "json");
    // By then the other one would have learned it too, from as many requests.
    wait_until("one that learns has learned", || {
        for forkhorn in [&told, &learns] {
            assert_eq!(forkhorn.get("/cgi-bin/x.py").status, 200);
        }
        learns.log().iter().any(|line| line.contains("modules loaded") && line.contains(" decimal"))
    });
    assert!(!told.log().iter().any(|line| line.contains("decimal")));
}

#[test]
fn a_module_that_does_more_than_to_be_there_is_not_loaded_early() {
    let forkhorn = Forkhorn::new();
    let modules = forkhorn.folder.folder("modules");
    for (name, lines, reason) in MODULES {
        let _ = reason;
        forkhorn.folder.write(&format!("modules/{name}.py"), lines);
    }
    forkhorn.folder.write("modules/harmless.py", "value = 1\n");
    let names: Vec<&str> = MODULES.iter().map(|(name, ..)| *name).collect();
    let forkhorn = forkhorn
        .script("x.py", python_script("import harmless\nprint(harmless.value, harmless.__name__)"))
        .cgi_folder()
        .arg("--cgi-env")
        .arg(format!("PYTHONPATH={}", modules.display()))
        .args(["--warm", &format!("python:{}+harmless", names.join("+")), "--warm-no-learning"])
        .start();
    wait_for_module(&forkhorn, "/cgi-bin/x.py", "harmless");
    for (name, _, reason) in MODULES {
        forkhorn.wait_for_log(&format!("the module {name} is left to the scripts: it {reason}"));
    }
    assert_eq!(forkhorn.get("/cgi-bin/x.py").text(), "1 harmless\n");
}

const MODULES: [(&str, &str, &str); 9] = [
    ("failing_module", "import no_such_module\n", "can not be loaded by itself"),
    (
        "threading_module",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n",
        "starts threads",
    ),
    (
        "socket_module",
        "import socket\nlistener = socket.create_server(('127.0.0.1', 0))\n",
        "opens descriptors",
    ),
    ("signal_module", "import signal\nsignal.signal(signal.SIGTERM, lambda *a: None)\n", "handles signals"),
    ("environment_module", "import os\nos.environ['X'] = '1'\n", "changes the environment"),
    ("path_module", "import sys\nsys.path.insert(0, '/tmp')\n", "changes sys.path"),
    ("warning_module", "import warnings\nwarnings.warn('old', DeprecationWarning)\n", "warns"),
    ("random_module", "import random\ngenerator = random.Random(7)\n", "draws random numbers"),
    (
        "stream_module",
        "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer)\n",
        "replaces a standard stream",
    ),
];

#[test]
fn a_loaded_module_whose_file_changes_is_loaded_anew() {
    let forkhorn = Forkhorn::new();
    let modules = forkhorn.folder.folder("modules");
    forkhorn.folder.write("modules/Changing.pm", "package Changing; our $value = 'old'; 1;\n");
    forkhorn.folder.write("modules/changing.py", "value = 'old'\n");
    let forkhorn = forkhorn
        .script("x.py", python_script("import changing\nprint(changing.value)"))
        .script(
            "x.pl",
            script(
                "/usr/bin/perl",
                "use Changing;\nprint \"Content-Type: text/plain\\n\\n$Changing::value\\n\";\n",
            ),
        )
        .cgi_folder()
        .arg("--cgi-env")
        .arg(format!("PYTHONPATH={}", modules.display()))
        .arg("--cgi-env")
        .arg(format!("PERL5LIB={}", modules.display()))
        .args(["--warm", "python:changing,perl:Changing", "--warm-no-learning"])
        .start();
    for (target, module) in [("/cgi-bin/x.py", "changing"), ("/cgi-bin/x.pl", "Changing.pm")] {
        wait_for_module(&forkhorn, target, module);
        assert_eq!(forkhorn.get(target).text(), "old\n");
    }
    forkhorn.folder.write("modules/Changing.pm", "package Changing; our $value = 'newer'; 1;\n");
    forkhorn.folder.write("modules/changing.py", "value = 'newer'\n");
    for target in ["/cgi-bin/x.py", "/cgi-bin/x.pl"] {
        wait_until("the new one is used", || forkhorn.get(target).text() == "newer\n");
    }
}
