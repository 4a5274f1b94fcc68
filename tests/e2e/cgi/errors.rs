//! Scripts that can't be run: the right status for the client, the cause and the cure for the operator.

use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use crate::support::fastcgi::Request;
use crate::support::folder::set_mode;
use crate::support::{Folder, Forkhorn, Running};

const OK: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nran'\n";

/// Scripts with every fault there is, beside a folder that is none of forkhorn's business.
fn faulty() -> (Running, Folder) {
    let outside = Folder::new();
    let secret = outside.script("secret.sh", OK);
    let mut forkhorn = Forkhorn::new().wsgi("probe.py").both();
    for (name, content) in [
        ("ok.sh", OK),
        ("no-interpreter", "echo x\n"),
        ("bad-interpreter.sh", "#!/nowhere/sh\necho x\n"),
        ("crlf.sh", "#!/bin/sh\r\necho x\r\n"),
        ("empty", ""),
    ] {
        forkhorn = forkhorn.script(name, content);
    }
    let folder = &forkhorn.folder;
    set_mode(&folder.write("cgi-bin/no-x.sh", OK), 0o644);
    folder.folder("cgi-bin/folder");
    folder.script("cgi-bin-backup/sibling.sh", OK);
    folder.script("above.sh", OK);
    symlink(&secret, folder.join("cgi-bin/out.sh")).expect("a link");
    symlink(outside.path(), folder.join("cgi-bin/out")).expect("a link");
    symlink(folder.join("cgi-bin/ok.sh"), folder.join("cgi-bin/in.sh")).expect("a link");
    symlink("loop.sh", folder.join("cgi-bin/loop.sh")).expect("a link");
    (forkhorn.cgi_folder().start(), outside)
}

#[test]
fn each_fault_has_its_status_and_its_line_in_the_log() {
    let (forkhorn, _outside) = faulty();
    for (name, statuses, log) in [
        ("missing.sh", &[404_u16][..], "WARN*cgi-bin/missing.sh"),
        ("missing/deep.sh", &[404], "WARN*cgi-bin/missing"),
        ("no-x.sh", &[403], "WARN*no-x.sh*chmod"),
        ("folder", &[403, 404], "WARN*folder"),
        ("out.sh", &[403], "WARN*secret.sh"),
        ("out/secret.sh", &[403], "WARN*secret.sh"),
        ("loop.sh", &[403, 404], "WARN*loop.sh"),
        ("no-interpreter", &[502], "ERROR*no-interpreter*#!"),
        ("empty", &[502], "ERROR*empty"),
        ("bad-interpreter.sh", &[502], "ERROR*bad-interpreter.sh*/nowhere/sh"),
        ("crlf.sh", &[502], "ERROR*crlf.sh*CR"),
    ] {
        let target = format!("/cgi-bin/{name}");
        for response in [forkhorn.get(&target), forkhorn.fcgi(&Request::new("GET", &target)).response()] {
            assert!(statuses.contains(&response.status), "{name}: {} {}", response.status, response.text());
            assert!(!response.text().contains("ran"), "{name}");
            // No path of this machine is for the client's eyes.
            assert!(!response.text().contains(&forkhorn.folder.path().display().to_string()), "{name}");
        }
        forkhorn.wait_for_log(log);
    }
    assert_eq!(forkhorn.get("/cgi-bin/in.sh").text(), "ran");
}

#[test]
fn nothing_outside_the_folder_runs_whatever_the_path_says() {
    let (forkhorn, outside) = faulty();
    for path in [
        "/cgi-bin/../above.sh",
        "/cgi-bin/%2e%2e/above.sh",
        "/cgi-bin/.%2e/above.sh",
        "/cgi-bin/%2e%2e%2fabove.sh",
        "/cgi-bin/..%2fabove.sh",
        "/cgi-bin/..;/above.sh",
        "/cgi-bin/..%5cabove.sh",
        "/cgi-bin/%252e%252e/above.sh",
        "/cgi-bin/%%32%65%%32%65/above.sh",
        "/cgi-bin/folder/../../above.sh",
        "/cgi-bin/ok.sh/../../above.sh",
        "/cgi-bin//../above.sh",
        "/cgi-bin/.//..//above.sh",
        "/cgi-bin/%00../above.sh",
        "/cgi-bin/ok.sh%00.html",
        "/cgi-bin/%c0%ae%c0%ae/above.sh",
        "/cgi-bin-backup/sibling.sh",
        "/cgi-bin/../cgi-bin-backup/sibling.sh",
        "/cgi-bin%2f..%2fabove.sh",
        "/cgi-bin/../../../../../../bin/sh",
        "/cgi-bin",
        "/cgi-bin/",
        "/CGI-BIN/ok.sh",
        "/cgi-binok.sh",
    ] {
        let mut connection = forkhorn.connect();
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let response = connection.read_response();
        assert!(!response.text().contains("ran"), "{path} over HTTP: {}", response.text());
        assert!(!response.text().contains("printf"), "{path}: the source was shown");
        let answer = forkhorn.fcgi(&Request::new("GET", path));
        assert!(!String::from_utf8_lossy(&answer.stdout).contains("ran"), "{path} over FastCGI");
    }
    let folder = forkhorn.folder.path().display().to_string();
    let secret = outside.join("secret.sh").display().to_string();
    for file in [
        format!("{folder}/above.sh"),
        format!("{folder}/cgi-bin/../above.sh"),
        format!("{folder}/cgi-bin-backup/sibling.sh"),
        format!("{folder}/cgi-bin/out.sh"),
        format!("{folder}/cgi-bin/out/secret.sh"),
        format!("proxy:fcgi://localhost/{folder}/above.sh"),
        secret,
        "/bin/sh".to_owned(),
        "bin/sh".to_owned(),
        String::new(),
    ] {
        let request =
            Request::new("GET", "/elsewhere.sh").param("SCRIPT_FILENAME", &file).param("PATH_INFO", "/x");
        let answer = forkhorn.fcgi(&request);
        // It falls to the application at the root, or is refused.
        assert!(!String::from_utf8_lossy(&answer.stdout).contains("ran"), "{file}");
    }
}

#[test]
fn a_script_where_nothing_may_be_executed_is_named_so() {
    // In a mount namespace of its own, nobody else sees that file system, and it vanishes with forkhorn.
    let namespace = if nix::unistd::geteuid().is_root() { "-m" } else { "-rm" };
    let mount = [namespace, "mount", "-t", "tmpfs", "tmpfs", "/tmp"];
    let may_mount = Command::new("unshare").args(mount).stderr(Stdio::null()).status();
    let _place;
    let forkhorn = if may_mount.is_ok_and(|status| status.success()) {
        let forkhorn = Forkhorn::new().cgi_folder();
        let folder = forkhorn.folder.join("cgi-bin").display().to_string();
        let mount = format!(
            "mount -t tmpfs -o noexec tmpfs '{folder}' && printf '#!/bin/sh\\necho x\\n' > '{folder}/x.sh' \
             && chmod 755 '{folder}/x.sh' && exec \"$@\""
        );
        forkhorn.wrapper(["unshare", namespace, "sh", "-c", &mount, "sh"]).start()
    } else if let Some(place) = noexec_folder() {
        let script = place.path().join("x.sh");
        std::fs::write(&script, "#!/bin/sh\necho x\n").expect("written");
        set_mode(&script, 0o755);
        let forkhorn = Forkhorn::new().mount_path("--cgi", "/cgi-bin", place.path()).start();
        _place = place;
        forkhorn
    } else {
        // A container that mounts nothing, and has nothing of the kind.
        return;
    };
    assert!([403, 502].contains(&forkhorn.get("/cgi-bin/x.sh").status));
    forkhorn.wait_for_log("x.sh*noexec");
}

/// In a file system of this machine from which nothing may be executed, as /dev/shm of most containers.
fn noexec_folder() -> Option<tempfile::TempDir> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("the mounts");
    mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let options: Vec<&str> = fields.get(3)?.split(',').collect();
        let fits = ["tmpfs", "ext4", "xfs", "btrfs", "overlay"].contains(fields.get(2)?)
            && options.contains(&"noexec")
            && options.contains(&"rw");
        fits.then(|| tempfile::tempdir_in(fields[1]).ok()).flatten()
    })
}

#[test]
fn a_folder_that_vanishes_is_an_error_of_one_request() {
    let (forkhorn, _outside) = faulty();
    std::fs::rename(forkhorn.folder.join("cgi-bin"), forkhorn.folder.join("gone")).expect("a folder");
    assert!([403, 404].contains(&forkhorn.get("/cgi-bin/ok.sh").status));
    std::fs::rename(forkhorn.folder.join("gone"), forkhorn.folder.join("cgi-bin")).expect("a folder");
    assert_eq!(forkhorn.get("/cgi-bin/ok.sh").text(), "ran");
}

#[test]
fn the_exit_status_and_the_last_words_of_a_failed_script_are_in_the_log() {
    let forkhorn = Forkhorn::new()
        .script("fails.py", "#!/bin/sh\necho 'ModuleNotFoundError: cgi' >&2\nexit 9\n")
        .cgi_folder()
        .start();
    let response = forkhorn.get("/cgi-bin/fails.py");
    assert_eq!(response.status, 502);
    assert!(!response.text().contains("ModuleNotFoundError"));
    forkhorn.wait_for_log("ModuleNotFoundError: cgi");
    forkhorn.wait_for_log("ERROR*fails.py*9");
}
