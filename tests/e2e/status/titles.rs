//! What `ps` shows.

use nix::sys::signal::Signal;

use crate::support::process::process;
use crate::support::{Forkhorn, wait_until};

/// The title of a process; nothing if it has gone.
fn title(pid: i32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
}

#[test]
fn titles_say_role_slot_and_generation_and_who_drains() {
    for (preload, python) in [("auto", true), ("never", true), ("", false)] {
        let forkhorn = match python {
            true => Forkhorn::new().wsgi("probe.py").args(["--preload", preload]),
            false => Forkhorn::new().script("wait.sh", SCRIPT).cgi_folder(),
        };
        let forkhorn = forkhorn.workers(2).start();
        let served = if python { " (" } else { "" };
        let master = title(forkhorn.pid());
        assert!(master.starts_with("forkhorn: master (serve "), "{master}");
        let titles = || {
            forkhorn
                .family()
                .into_iter()
                .map(|process| (title(process.pid), process.name))
                .collect::<Vec<_>>()
        };
        for slot in 0..2 {
            let wanted = format!("forkhorn: worker {slot} gen 0{served}");
            let found = titles().into_iter().find(|(title, _)| title.starts_with(&wanted));
            assert_eq!(found.expect(&wanted).1, format!("forkhorn-w{slot}"), "{:?}", titles());
        }
        let templates =
            titles().iter().filter(|(title, _)| title.starts_with("forkhorn: template gen 0 (")).count();
        assert_eq!(templates, usize::from(preload == "auto"));
        let mut held = forkhorn.connect();
        let path = |name: &str| forkhorn.folder.join(name).display().to_string();
        match python {
            true => held.send(format!(
                "GET /wait?at={}&until={} HTTP/1.1\r\nHost: x\r\n\r\n",
                path("at"),
                path("go")
            )),
            false => held.send("GET /cgi-bin/wait.sh HTTP/1.1\r\nHost: x\r\n\r\n"),
        }
        wait_until("the request runs", || {
            forkhorn.folder.join("at").exists() || forkhorn.folder.join("cgi-bin/at").exists()
        });
        forkhorn.signal(Signal::SIGHUP);
        // It has the request that runs; a new one serves.
        wait_until("one drains while others serve", || {
            let has = |part: &str| titles().iter().any(|(title, _)| title.contains(part));
            has(" gen 0 draining") && has(" gen 1")
        });
        forkhorn.folder.write("go", "");
        if !python {
            forkhorn.folder.write("cgi-bin/go", "");
        }
        assert_eq!(held.read_response().status, 200);
        wait_until("it has left", || !titles().iter().any(|(title, _)| title.contains(" gen 0")));
        assert!(process(forkhorn.pid()).is_some_and(|master| master.name == "forkhorn"));
    }
}

const SCRIPT: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; echo $$ > at; while [ ! -e go ]; do sleep 0.02; done\n";
