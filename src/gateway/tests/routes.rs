//! Mounts, scripts that a web server names, and files.

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
    let head = http_head("GET", "//cgi-bin/x.pl//a", &[]);
    let Ok(Route::Cgi(target)) = gateway.route(&head, &endpoint(), &mut meta) else { panic!("no script") };
    assert_eq!(target.url_path, b"/cgi-bin/x.pl//a", "SCRIPT_NAME and PATH_INFO together");
    assert_eq!(script_name_and_path_info(&meta), ("/cgi-bin".to_owned(), "/x.pl//a".to_owned()));
    let found = gateway.route(&http_head("GET", "/x", &[]), &endpoint(), &mut meta);
    let Ok(Route::Static(target)) = found else { panic!("{found:?}") };
    assert_eq!(target.script_directories(), [PathBuf::from("/srv/www/cgi-bin")]);
}
