//! git-http-backend as a CGI script: clone, fetch and push with the real client.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::folder::Folder;
use crate::support::fronts::Site;
use crate::support::{Address, Forkhorn};

fn git(folder: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.version=2"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env_remove("http_proxy")
        .env_remove("all_proxy")
        .env("no_proxy", "*")
        .output()
        .expect("git is installed");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn backend() -> PathBuf {
    let output = Command::new("git").arg("--exec-path").output().expect("git is installed");
    let path = Path::new(String::from_utf8_lossy(&output.stdout).trim()).join("git-http-backend");
    assert!(path.exists(), "{} is missing", path.display());
    path
}

/// A bare repository with one commit, and a script that serves it.
fn repositories() -> Forkhorn {
    let forkhorn = Forkhorn::new();
    let folder = forkhorn.folder.folder("repositories");
    git(&folder, &["init", "-q", "--bare", "-b", "main", "project.git"]);
    git(&folder.join("project.git"), &["config", "http.receivepack", "true"]);
    let script = format!(
        "#!/bin/sh\nGIT_PROJECT_ROOT='{}' GIT_HTTP_EXPORT_ALL=1 GIT_PROTOCOL=\"$HTTP_GIT_PROTOCOL\" HOME=/nonexistent\n\
         export GIT_PROJECT_ROOT GIT_HTTP_EXPORT_ALL GIT_PROTOCOL HOME\n\
         GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'\n\
         export GIT_CONFIG_COUNT GIT_CONFIG_KEY_0 GIT_CONFIG_VALUE_0\n\
         exec '{}'\n",
        folder.display(),
        backend().display()
    );
    forkhorn.script("git", script).cgi_folder()
}

fn push_and_clone(work: &Folder, address: &Address) {
    let Address::Tcp(address) = address else { unreachable!() };
    let url = format!("http://{address}/cgi-bin/git/project.git");
    git(work.path(), &["clone", "-q", &url, "first"]);
    let first = work.join("first");
    git(&first, &["checkout", "-q", "-B", "main"]);
    // Larger than http.postBuffer (1 MiB): git then sends chunks, whose length no front knows.
    let noise: Vec<u8> =
        (0..3_000_000_u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8).collect();
    for (name, content) in [("small.txt", b"hello\n".as_slice()), ("large.bin", &noise)] {
        std::fs::write(first.join(name), content).expect("a file");
        git(&first, &["add", name]);
        git(&first, &["commit", "-q", "-m", name]);
        git(&first, &["push", "-q", "origin", "main"]);
    }
    git(work.path(), &["clone", "-q", "-b", "main", &url, "second"]);
    assert!(std::fs::read(work.join("second/large.bin")).expect("a clone") == noise, "the clone differs");
}

#[test]
fn repositories_are_cloned_and_pushed_over_http() {
    let forkhorn = repositories().start();
    push_and_clone(&Folder::new(), forkhorn.http());
}

#[test]
fn repositories_are_cloned_and_pushed_through_nginx() {
    let site = Site::bare();
    let socket = site.folder.join("run/forkhorn.sock");
    let forkhorn =
        repositories().fastcgi(&format!("unix:{}", socket.display())).args(["--socket-mode", "666"]).start();
    site.write(
        "nginx.conf",
        "daemon off; pid run/nginx.pid; error_log stderr; events {}\n\
         http { access_log off; client_body_temp_path run/b; fastcgi_temp_path run/f; proxy_temp_path run/p;\n\
         scgi_temp_path run/s; uwsgi_temp_path run/u; client_max_body_size 100m;\n\
         server { listen 127.0.0.1:{port}; location / { include /etc/nginx/fastcgi_params;\n\
         fastcgi_request_buffering off; fastcgi_pass unix:{folder}/run/forkhorn.sock; } } }\n",
    );
    let front = site.front("nginx -p \"$PWD\" -c \"$PWD/nginx.conf\"");
    push_and_clone(&site.folder, &front.address);
    drop(front);
    drop(forkhorn);
}
