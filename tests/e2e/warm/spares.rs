//! A spare Python says that its script has ended; the process that then goes away holds up no client, and fools nobody.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::life::{ask, others, parent, python_script, warm_parent};
use crate::support::process::process;
use crate::support::{Forkhorn, Running, wait_until};

/// forkhorn with one script more, and spares that have had time to prepare themselves.
fn serve(script: &str, options: &[&str]) -> (Running, i32) {
    let forkhorn = Forkhorn::new()
        .script("x", python_script(script))
        .script("parent", parent("python"))
        .cgi_folder()
        .log_level("debug")
        .args(["--warm", "python", "--warm-spares", "2", "--warm-no-learning"]);
    let forkhorn = options.iter().fold(forkhorn, |forkhorn, option| forkhorn.arg(*option)).start();
    let warm = warm_parent(&forkhorn, "parent");
    wait_until("two wait", || others(&forkhorn).len() == 3);
    (forkhorn, warm)
}

/// Its process stays when all is said: as if the kernel took long to take it apart.
const STAYS: &str = "import time\nprint(os.getpid())\nos._exit = lambda status: time.sleep(1000)";

#[test]
fn the_answer_of_a_spare_ends_before_its_process_has_gone() {
    let (forkhorn, _) = serve(STAYS, &[]);
    let pid: i32 = ask(&forkhorn, "x").parse().expect("a pid");
    assert!(process(pid).is_some(), "it is there yet");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it is a process");
    wait_until("it is reaped", || process(pid).is_none());
    forkhorn.wait_for_log("x[*killed by SIGKILL*its response had ended before");
}

#[test]
fn a_script_that_only_says_that_it_has_ended_is_held_to_its_time() {
    let (forkhorn, _) = serve(STAYS, &["--cgi-timeout", "0.5"]);
    let pid: i32 = ask(&forkhorn, "x").parse().expect("a pid");
    forkhorn.wait_for_log("x[*over its 0.5 seconds*its response had ended before");
    wait_until("it is reaped", || process(pid).is_none());
}

#[test]
fn the_end_of_a_process_that_a_script_has_forked_is_not_that_of_the_script() {
    // The child goes the whole way of a script that ends, and is waited for.
    let script =
        "sys.stdout.flush()\nif os.fork() == 0: sys.exit(5)\nprint(os.wait()[1] >> 8)\nprint('all ' * 9999)";
    let (forkhorn, _) = serve(script, &[]);
    for _ in 0..10 {
        assert_eq!(ask(&forkhorn, "x"), format!("5\n{}", "all ".repeat(9999)).trim());
    }
}

#[test]
fn how_a_spare_ends_is_told_as_of_any_script() {
    let options = ["--access-log", "-", "--access-log-format", "exit {script_exit} cpu {cpu_us} of {path}"];
    for (script, status) in
        [("sys.exit(3)", 3), ("sys.exit(256 + 4)", 4), ("sys.exit('why')", 1), ("raise ValueError", 1)]
    {
        let (forkhorn, _) = serve(script, &options);
        ask(&forkhorn, "x");
        forkhorn.wait_for_log(&format!("x[*exited with status {status} after its response"));
        let line = forkhorn.wait_for_log(&format!("exit {status} cpu *of /cgi-bin/x"));
        assert!(!line.contains("cpu -"), "{line}");
    }
    let (forkhorn, _) = serve("sys.stdout.flush()\nos.kill(os.getpid(), 9)", &[]);
    assert!(!forkhorn.get("/cgi-bin/x").complete, "it was killed in the middle");
}
