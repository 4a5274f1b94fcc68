use std::path::Path;
use std::sync::Arc;

use super::*;

#[test]
fn without_a_mount_there_is_404_and_the_variables_are_complete() {
    let gateway = with_mounts(&[("/app", MountTarget::Application(0))]);
    let mut meta = MetaVariables::default();
    let head = http_head("GET", "/apple?x", &[("User-Agent", "test")]);
    assert_eq!(routed(&gateway, &head, &mut meta), "404");
    assert_eq!(value(&meta, "HTTP_USER_AGENT"), Some("test"));
    assert_eq!(script_name_and_path_info(&meta), (String::new(), "/apple".to_owned()));
}

#[test]
fn the_longest_prefix_wins_whatever_the_order_of_the_mounts() {
    let gateway = with_mounts(&[
        ("", MountTarget::Application(0)),
        ("/a", MountTarget::Application(1)),
        ("/a/b", MountTarget::Application(2)),
    ]);
    for (target, expected) in
        [("/a/b/c", "app 2"), ("/a//b/c", "app 2"), ("/a/bc", "app 1"), ("/ab", "app 0"), ("/a", "app 1")]
    {
        let mut meta = MetaVariables::default();
        assert_eq!(routed(&gateway, &http_head("GET", target, &[]), &mut meta), expected, "{target}");
    }
}

#[test]
fn slashes_do_not_hide_the_scripts_from_their_mount() {
    let gateway = with_mounts(&[
        ("/cgi-bin", MountTarget::Cgi(PathBuf::from("/srv/www/cgi-bin"))),
        ("", MountTarget::Static(PathBuf::from("/srv/www"))),
    ]);
    for target in ["/cgi-bin/x", "//cgi-bin/x", "/%2fcgi-bin/x", "/./cgi-bin/x", "/a/..//cgi-bin/x"] {
        let mut meta = MetaVariables::default();
        let found = routed(&gateway, &http_head("GET", target, &[]), &mut meta);
        assert_eq!(found, "cgi /srv/www/cgi-bin /x", "{target}");
    }
    let mut meta = MetaVariables::default();
    let found = gateway.route(&http_head("GET", "/x", &[]), &endpoint(), &mut meta);
    let Ok(Route::Static(target)) = found else { panic!("{found:?}") };
    assert_eq!(target.script_directories(), [PathBuf::from("/srv/www/cgi-bin")]);
}

#[test]
fn a_script_is_named_without_changing_the_path() {
    let target = |path: &str| CgiTarget::new(Arc::from(Path::new("/srv/cgi")), path.as_bytes().to_vec());
    for (path, length, script_name, path_info, translated) in [
        ("/x.pl", 5, "/cgi-bin/x.pl", "", None),
        ("/x.pl/", 5, "/cgi-bin/x.pl", "/", Some("/srv/www/")),
        ("/x.pl/a/b", 5, "/cgi-bin/x.pl", "/a/b", Some("/srv/www/a/b")),
        ("/d/x.pl//a", 7, "/cgi-bin/d/x.pl", "//a", Some("/srv/www//a")),
    ] {
        let mut meta = MetaVariables::default();
        meta.push(KnownName::ScriptName, b"/cgi-bin");
        meta.push(KnownName::PathInfo, path.as_bytes());
        meta.push(KnownName::DocumentRoot, b"/srv/www/");
        meta.push(KnownName::PathTranslated, b"old");
        target(path).name_script(length, Path::new("/srv/cgi/file"), &mut meta).expect("named");
        let found = ["SCRIPT_NAME", "PATH_INFO", "PATH_TRANSLATED", "SCRIPT_FILENAME"];
        let found = found.map(|name| value(&meta, name));
        assert_eq!(found, [Some(script_name), Some(path_info), translated, Some("/srv/cgi/file")]);
    }
}

#[test]
fn there_is_no_path_translated_without_a_path_info_or_a_root() {
    assert_eq!(path_translated(b"/srv", b""), None);
    assert_eq!(path_translated(b"", b"/a"), None);
    assert_eq!(path_translated(b"/srv", b"/a"), Some(b"/srv/a".to_vec()));
    assert_eq!(path_translated(b"/", b"/a"), Some(b"/a".to_vec()));
}
