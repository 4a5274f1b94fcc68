//! Signal handlers of the application run at once, as in plain Python, wherever the signal meets the process: nothing
//! else happens that could wake it.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::http::request_bytes;
use crate::support::{Forkhorn, Running, wait_until};

struct Application {
    forkhorn: Running,
    loaded_in: i32,
    worker: i32,
}

impl Application {
    fn start(args: &[&str]) -> Self {
        let forkhorn = Forkhorn::new().wsgi("signal_handlers.py");
        let notes = forkhorn.folder.write("notes", "");
        let forkhorn = forkhorn.env("NOTES", notes);
        let forkhorn = args.iter().fold(forkhorn, |forkhorn, arg| forkhorn.arg(arg)).start();
        let mut application = Application { forkhorn, loaded_in: 0, worker: 0 };
        application.ask_for_pids();
        application
    }

    fn ask_for_pids(&mut self) {
        let text = self.forkhorn.get("/pids").text();
        let pids: Vec<i32> = text.split(' ').map(|pid| pid.parse().expect("a pid")).collect();
        (self.loaded_in, self.worker) = (pids[0], pids[1]);
    }

    fn wait_for_second_worker(&self) {
        self.forkhorn.server.log.wait_for_nth("worker 0 generation 0 ready", 2);
    }

    fn count(&self, line: &str) -> usize {
        let notes = fs::read_to_string(self.forkhorn.folder.join("notes")).expect("the notes");
        notes.lines().filter(|noted| *noted == line).count()
    }

    /// Sends one signal, and waits until its handler has run.
    #[track_caller]
    fn send(&self, signal: Signal, process: i32, note: &str) {
        let note = format!("{note} in {process}");
        let before = self.count(&note);
        kill(Pid::from_raw(process), signal).expect("it is alive");
        wait_until(&format!("the handler of {signal} runs"), || self.count(&note) == before + 1);
    }
}

#[test]
fn a_signal_that_comes_just_before_the_worker_waits_is_handled_at_once() {
    let application = Application::start(&[]);
    let note = format!("SIGALRM in {}", application.worker);
    for round in 0..150 {
        // From within the request to well after it, in steps shorter than what lies between.
        assert_eq!(application.forkhorn.get(&format!("/alarm?{}", 1 + round * 4)).text(), "soon");
        wait_until("the handler runs", || application.count(&note) == round + 1);
    }
}

#[test]
fn an_idle_worker_handles_signals_whatever_its_number_of_threads() {
    for threads in ["1", "3"] {
        let application = Application::start(&["--threads", threads]);
        for _ in 0..20 {
            application.send(Signal::SIGUSR1, application.worker, "SIGUSR1");
            // Another thread may be the one that waits for events next.
            application.forkhorn.get("/");
        }
    }
}

#[test]
fn signals_are_handled_while_all_threads_are_busy() {
    let application = Application::start(&["--threads", "2"]);
    let waiting = format!("waiting in {}", application.worker);
    let mut clients = [application.forkhorn.connect(), application.forkhorn.connect()];
    for client in &mut clients {
        client.send(request_bytes("GET", "/until_signal", &[], b""));
    }
    wait_until("both threads wait", || application.count(&waiting) == 2);
    application.send(Signal::SIGUSR1, application.worker, "SIGUSR1");
    for client in &mut clients {
        assert_eq!(client.read_response().text(), "signalled");
    }
}

#[test]
fn signals_are_handled_while_the_application_waits_for_a_slow_reader() {
    let application = Application::start(&["--max-output", "100000"]);
    let mut slow = application.forkhorn.connect();
    slow.send(request_bytes("GET", "/endless", &[], b""));
    // The first ones may come before the client's buffers are full.
    for _ in 0..50 {
        application.send(Signal::SIGUSR1, application.worker, "SIGUSR1");
    }
}

#[test]
fn a_signal_interrupts_the_wait_of_an_application_that_has_taken_the_wakeup_descriptor_away() {
    let application = Application::start(&[]);
    assert_eq!(application.forkhorn.get("/own_wakeup").text(), "replaced");
    wait_until("the handler runs", || {
        // Again and again: the worker may not have begun to wait when the first one comes.
        kill(Pid::from_raw(application.worker), Signal::SIGUSR1).expect("it is alive");
        application.count(&format!("SIGUSR1 in {}", application.worker)) > 0
    });
}

#[test]
fn an_event_loop_of_asyncio_within_a_request_handles_its_signals_and_leaves_the_others_working() {
    let application = Application::start(&[]);
    for _ in 0..3 {
        assert_eq!(application.forkhorn.get("/asyncio").text(), "handled");
    }
    wait_until("the handler runs", || {
        // As above: the loop does not give the descriptor back that it has found.
        kill(Pid::from_raw(application.worker), Signal::SIGUSR1).expect("it is alive");
        application.count(&format!("SIGUSR1 in {}", application.worker)) > 0
    });
}

#[test]
fn a_process_that_the_application_forks_does_not_wake_the_worker() {
    let application = Application::start(&[]);
    assert_eq!(application.forkhorn.get("/fork").text(), "-1");
}

#[test]
fn a_handler_can_end_its_worker_and_a_failing_one_does_not() {
    for threads in ["1", "3"] {
        let mut application = Application::start(&["--threads", threads]);
        let first = application.worker;
        application.send(Signal::SIGHUP, first, "failing");
        application.forkhorn.wait_for_log("ValueError: a handler has failed");
        application.ask_for_pids();
        assert_eq!(application.worker, first);
        application.send(Signal::SIGUSR2, first, "leaving");
        application.forkhorn.wait_for_log("a signal handler raised SystemExit: 5: this process ends");
        application.wait_for_second_worker();
        application.ask_for_pids();
        assert_ne!(application.worker, first, "another worker answers");
    }
}

#[test]
fn a_template_survives_its_signals() {
    let mut application = Application::start(&[]);
    let (template, first) = (application.loaded_in, application.worker);
    assert_ne!(template, first);
    for _ in 0..20 {
        application.send(Signal::SIGUSR1, template, "SIGUSR1");
    }
    application.send(Signal::SIGHUP, template, "failing");
    kill(Pid::from_raw(first), Signal::SIGKILL).expect("it is alive");
    application.wait_for_second_worker();
    application.ask_for_pids();
    assert!(
        application.loaded_in == template && application.worker != first,
        "a copy of the same template answers"
    );
    application.send(Signal::SIGUSR1, template, "SIGUSR1");
    application.send(Signal::SIGUSR1, application.worker, "SIGUSR1");
    assert_eq!(application.count(&format!("SIGUSR1 in {}", application.worker)), 1);
}
