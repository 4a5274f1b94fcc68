use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use tempfile::TempDir;

use super::*;

/// `cgi` with scripts, and beside it `cgi_backup` and `secret`.
fn tree() -> (TempDir, PathBuf) {
    let temporary = TempDir::new().expect("a temporary directory");
    let root = temporary.path().canonicalize().expect("it exists");
    let cgi = root.join("cgi");
    for (name, mode) in [
        ("cgi/run", 0o755),
        ("cgi/sub/deep/run", 0o755),
        ("cgi/plain.txt", 0o644),
        ("cgi/.hidden", 0o755),
        ("cgi/.git/hooks/run", 0o755),
        ("cgi/nph-run", 0o755),
        ("cgi/a b", 0o755),
        ("cgi/new\nline", 0o755),
        ("cgi_backup/run", 0o755),
        ("secret", 0o755),
    ] {
        let file = root.join(name);
        fs::create_dir_all(file.parent().expect("a directory")).expect("can be made");
        fs::write(&file, "").expect("can be written");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("ours");
    }
    symlink("run", cgi.join("link")).expect("a link");
    symlink("sub", cgi.join("linked_dir")).expect("a link");
    symlink("../secret", cgi.join("out")).expect("a link");
    symlink("../cgi_backup", cgi.join("out_dir")).expect("a link");
    symlink("loop", cgi.join("loop")).expect("a link");
    symlink("nowhere", cgi.join("dangling")).expect("a link");
    nix::unistd::mkfifo(&cgi.join("fifo"), Mode::S_IRWXU).expect("a fifo");
    drop(UnixListener::bind(cgi.join("socket")).expect("a socket"));
    (temporary, cgi)
}

const PREFIX: &[u8] = b"/cgi-bin";

/// What the URL `/cgi-bin` and `path` finds.
fn find(cgi: &Path, path: &[u8]) -> Result<(Script, MetaVariables), HandlerError> {
    let mut meta = MetaVariables::default();
    meta.set(b"SCRIPT_NAME", PREFIX);
    meta.set(b"PATH_INFO", path);
    meta.set(b"PATH_TRANSLATED", b"/wrong");
    let place = Place::UrlPath { prefix_length: PREFIX.len() };
    let target = CgiTarget { directory: cgi.to_path_buf(), url_path: [PREFIX, path].concat(), place };
    let script = locate(&target, &mut meta, Some(Path::new("/srv/www/")))?;
    Ok((script, meta))
}

#[test]
fn script_is_the_first_file_on_the_way_and_the_rest_is_path_info() {
    let (_keep, cgi) = tree();
    for (path, name, resolved, path_info) in [
        (b"/run".as_slice(), "run", "run", b"".as_slice()),
        (b"/run/", "run", "run", b"/"),
        (b"/run/a/b", "run", "run", b"/a/b"),
        (b"/run//a", "run", "run", b"//a"),
        (b"/run/.x", "run", "run", b"/.x"),
        (b"/run/sub/deep/run", "run", "run", b"/sub/deep/run"),
        (b"//run/a", "run", "run", b"/a"),
        (b"/sub/deep/run/a\xff\n", "sub/deep/run", "sub/deep/run", b"/a\xff\n"),
        (b"/sub//deep/run", "sub/deep/run", "sub/deep/run", b""),
        (b"/a b/c d", "a b", "a b", b"/c d"),
        (b"/new\nline/x", "new\nline", "new\nline", b"/x"),
        (b"/link/x", "link", "run", b"/x"),
        (b"/linked_dir/deep/run", "linked_dir/deep/run", "sub/deep/run", b""),
    ] {
        let (script, meta) =
            find(&cgi, path).unwrap_or_else(|error| panic!("{}: {error}", path.escape_ascii()));
        assert_eq!(script.name(), cgi.join(name));
        assert_eq!(script.path(), cgi.join(resolved));
        let value = |name: &str| meta.get(name.as_bytes()).unwrap_or_default().to_vec();
        assert_eq!([value("SCRIPT_NAME"), value("PATH_INFO")].concat(), [b"/cgi-bin", path].concat());
        assert_eq!(value("PATH_INFO"), path_info);
        assert_eq!(value("SCRIPT_FILENAME"), script.name().as_os_str().as_bytes());
        let translated = [b"/srv/www".as_slice(), path_info].concat();
        let expected = (!path_info.is_empty()).then_some(translated.as_slice());
        assert_eq!(meta.get(b"PATH_TRANSLATED"), expected);
    }
}

#[test]
fn what_is_no_script_is_refused_with_cause_and_cure() {
    let (_keep, cgi) = tree();
    let shown = cgi.display().to_string();
    let long = [b"/".as_slice(), &[b'x'; 5000]].concat();
    for (path, status, text) in [
        (b"/missing".as_slice(), 404, format!("no script {shown}/missing")),
        (b"/sub/missing/run", 404, format!("no script {shown}/sub/missing")),
        (b"/dangling", 404, format!("no script {shown}/dangling")),
        (b"/mis\nsing", 404, format!("no script {shown}/mis\\nsing")),
        (long.as_slice(), 404, "no script".to_owned()),
        (b"", 403, format!("{shown}: a directory")),
        (b"/", 403, format!("{shown}: a directory")),
        (b"/sub", 403, format!("{shown}/sub: a directory")),
        (b"/sub/", 403, format!("{shown}/sub: a directory")),
        (b"/.hidden", 404, "begin with a dot".to_owned()),
        (b"/.git/hooks/run", 404, "begin with a dot".to_owned()),
        (b"/./run", 404, "begin with a dot".to_owned()),
        (b"/../secret", 404, "begin with a dot".to_owned()),
        (b"/sub/../../secret", 404, "begin with a dot".to_owned()),
        (b"/run\0", 404, "no script".to_owned()),
        (b"/plain.txt", 403, format!("not executable; run: chmod +x {shown}/plain.txt")),
        (b"/plain.txt/x", 403, "not executable".to_owned()),
        (b"/fifo", 403, "not a regular file".to_owned()),
        (b"/socket", 403, "not a regular file".to_owned()),
        (b"/loop", 403, "form a loop".to_owned()),
        (b"/out", 403, format!("script {}: outside", cgi.with_file_name("secret").display())),
        (b"/out/x", 403, "outside its script directory".to_owned()),
        (
            b"/out_dir/run",
            403,
            format!("script {}: outside", cgi.with_file_name("cgi_backup").join("run").display()),
        ),
    ] {
        let error = find(&cgi, path).map(|_| ()).expect_err(&path.escape_ascii().to_string());
        assert_eq!(error.status(), status, "{error}");
        assert!(error.to_string().contains(&text), "{error}, not {text}");
    }
}

#[test]
fn only_names_that_begin_with_nph_write_their_own_head() {
    let (_keep, cgi) = tree();
    assert!(find(&cgi, b"/nph-run").expect("there").0.is_nph());
    assert!(!find(&cgi, b"/run/nph-run").expect("there").0.is_nph());
}

#[test]
fn file_that_is_moved_away_while_it_is_looked_at_is_not_run() {
    let (_keep, cgi) = tree();
    let found = walk(&cgi, b"/run").expect("there");
    fs::rename(cgi.join("run"), cgi.with_file_name("moved")).expect("can be moved");
    symlink("/bin/sh", cgi.join("run")).expect("a link");
    assert_eq!(resolve(&found).expect("it exists"), cgi.with_file_name("moved"));
}

#[test]
fn file_that_the_web_server_names_is_run_and_agrees_with_the_url() {
    let (_keep, cgi) = tree();
    // Below the directory, then: the URL's path, the web server's SCRIPT_NAME and PATH_INFO, and how it is split.
    for (file, url, script_name, path_info, split) in [
        // nginx: stock fastcgi_params, a location for one script, fastcgi_split_path_info.
        ("/run", "/cgi-bin/run", "/cgi-bin/run", "", ("/cgi-bin/run", "")),
        ("/run", "/git/repo/info", "/git/repo/info", "/repo/info", ("/git", "/repo/info")),
        ("/run", "/cgi-bin/run/a", "/cgi-bin/run", "/a", ("/cgi-bin/run", "/a")),
        ("/run", "/cgi-bin/run/a", "/cgi-bin/run", "", ("/cgi-bin/run", "/a")),
        // Apache: the path goes on behind the file.
        ("/run/a/b", "/cgi-bin/run/a/b", "/cgi-bin/run/a/b", "", ("/cgi-bin/run", "/a/b")),
        ("//sub/deep/run/a", "/x/a", "", "", ("/x", "/a")),
        // What does not agree with the URL is not believed.
        ("/run/other", "/cgi-bin/run/a", "/cgi-bin/run", "/wrong", ("/cgi-bin/run", "/a")),
        ("/run", "/cgi-bin/run", "/elsewhere", "/wrong", ("/cgi-bin/run", "")),
        ("/run", "/cgi-bin/run/a", "", "a", ("/cgi-bin/run/a", "")),
        ("/run", "/cgi-bin/runs", "/cgi-bin/run", "", ("/cgi-bin/runs", "")),
    ] {
        let mut meta = MetaVariables::default();
        meta.set(b"SCRIPT_NAME", script_name.as_bytes());
        meta.set(b"PATH_INFO", path_info.as_bytes());
        let filename = [cgi.as_os_str().as_bytes(), file.as_bytes()].concat();
        let target = CgiTarget {
            directory: cgi.clone(),
            url_path: url.as_bytes().to_vec(),
            place: Place::Filename(filename),
        };
        let script = locate(&target, &mut meta, None).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(script.path().ends_with("run"));
        let value =
            |name: &str| std::str::from_utf8(meta.get(name.as_bytes()).unwrap_or_default()).expect("UTF-8");
        assert_eq!((value("SCRIPT_NAME"), value("PATH_INFO")), split, "{file} {url}");
    }
}

#[test]
fn file_that_the_web_server_names_outside_is_not_run() {
    let (_keep, cgi) = tree();
    for file in ["/bin/sh", "/../secret", "/cgi/../secret", "", "relative"] {
        let neighbour = [cgi.as_os_str().as_bytes(), b"_backup/run"].concat();
        for filename in [file.as_bytes().to_vec(), neighbour] {
            let place = Place::Filename(filename);
            let target = CgiTarget { directory: cgi.clone(), url_path: b"/x".to_vec(), place };
            let error = locate(&target, &mut MetaVariables::default(), None).map(|_| ()).expect_err(file);
            assert_eq!(error.status(), 403);
        }
    }
}
