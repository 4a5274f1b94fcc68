//! `forkhorn cgi` where it is meant for: in the CGI folders of web servers that know nothing of forkhorn.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::support::folder::set_mode;
use crate::support::fronts::Site;
use crate::support::process::Supervised;
use crate::support::wait::wait_until;

/// Says what it was asked, or raises.
const APPLICATION: &str = "#!/usr/bin/env -S {folder}/target/release/forkhorn cgi --python /usr/bin/python3\n\
    def application(environ, start_response):\n\
    \x20   print('told by the application', file=environ['wsgi.errors'])\n\
    \x20   if environ['PATH_INFO'] == '/raise':\n\
    \x20       raise ValueError('boom')\n\
    \x20   body = environ['wsgi.input'].read()\n\
    \x20   start_response('201 Made', [('Content-Type', 'text/plain'), ('X-Once', str(environ['wsgi.run_once']))])\n\
    \x20   words = [environ[name] for name in ('REQUEST_METHOD', 'SCRIPT_NAME', 'PATH_INFO', 'QUERY_STRING')]\n\
    \x20   return ['|'.join(words).encode(), b'|%d' % len(body)]\n";

const MOD_CGID: &str = "Listen 127.0.0.1:{port}\nServerName localhost\nDefaultRuntimeDir {folder}/run\n\
    PidFile run/apache.pid\nErrorLog run/apache-error.log\nMutex file:run default\n\
    LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so\n\
    LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so\n\
    LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so\n\
    LoadModule cgid_module /usr/lib/apache2/modules/mod_cgid.so\n\
    ScriptSock {folder}/run/cgid.sock\nUser www-data\nGroup www-data\nDocumentRoot {folder}/run\n\
    ScriptAlias /cgi-bin/ {folder}/cgi-bin/\n";

const MOD_CGI: &str = "server.bind = \"127.0.0.1\"\nserver.port = {port}\nserver.document-root = \"{folder}\"\n\
    server.errorlog = \"{folder}/run/lighttpd-error.log\"\nserver.breakagelog = \"{folder}/run/lighttpd-error.log\"\n\
    server.upload-dirs = ( \"{folder}/run\" )\nserver.modules = ( \"mod_cgi\" )\n\
    server.username = \"www-data\"\nserver.groupname = \"www-data\"\n\
    $HTTP[\"url\"] =~ \"^/cgi-bin/\" { cgi.assign = ( \"\" => \"\" ) }\n";

const FCGIWRAP: &str = "daemon off; pid run/nginx.pid; error_log run/apache-error.log; events {}\n\
    http { access_log off; client_body_temp_path run/b; fastcgi_temp_path run/f; proxy_temp_path run/p;\n\
    scgi_temp_path run/s; uwsgi_temp_path run/u; client_max_body_size 100m;\n\
    server { listen 127.0.0.1:{port}; root {folder}; location /cgi-bin/ {\n\
    fastcgi_split_path_info ^(/cgi-bin/[^/]+)(.*)$; include /etc/nginx/fastcgi.conf;\n\
    fastcgi_param PATH_INFO $fastcgi_path_info; fastcgi_pass unix:{folder}/run/fcgiwrap.sock; } } }\n";

/// What runs the programs for nginx. It ends after nginx.
struct Wrapper(Supervised);

impl Wrapper {
    fn start(site: &Site) -> Wrapper {
        let socket = site.folder.join("run/fcgiwrap.sock");
        let mut command = Command::new("fcgiwrap");
        command.arg("-f").arg(format!("-sunix:{}", socket.display()));
        command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
        let wrapper = Wrapper(Supervised::start("fcgiwrap", &command, Stdio::null()));
        wait_until("fcgiwrap listens", || socket.exists());
        set_mode(&socket, 0o666);
        wrapper
    }
}

impl Drop for Wrapper {
    fn drop(&mut self) {
        self.0.stop(Signal::SIGTERM);
    }
}

#[test]
fn web_servers_run_an_application_as_a_cgi_program() {
    let hosts = [
        ("Apache's mod_cgid", MOD_CGID, "apache2 -d \"$PWD\" -f \"$PWD/front.conf\" -D FOREGROUND"),
        ("lighttpd's mod_cgi", MOD_CGI, "lighttpd -D -f front.conf"),
        ("fcgiwrap behind nginx", FCGIWRAP, "nginx -p \"$PWD\" -c \"$PWD/front.conf\""),
    ];
    for (name, configuration, command) in hosts {
        let site = Site::bare();
        site.install_binary();
        set_mode(&site.write("cgi-bin/app", APPLICATION), 0o755);
        site.write("front.conf", configuration);
        let _wrapper = (configuration == FCGIWRAP).then(|| Wrapper::start(&site));
        let front = site.front(command);
        let answer = front.get("/cgi-bin/app/a/b?q=1");
        assert_eq!((answer.status, answer.text().as_str()), (201, "GET|/cgi-bin/app|/a/b|q=1|0"), "{name}");
        assert_eq!(answer.field("X-Once"), Some("True"), "{name}");
        let answer = front.request("POST", "/cgi-bin/app", &[], &vec![b'x'; 3 << 20]);
        assert_eq!((answer.status, answer.text().as_str()), (201, "POST|/cgi-bin/app|||3145728"), "{name}");
        let answer = front.get("/cgi-bin/app/raise");
        assert_eq!(answer.status, 500, "{name}");
        assert!(!answer.text().contains("boom"), "{name}");
        let log = front.logs();
        assert!(log.contains("told by the application") && log.contains("ValueError: boom"), "{name}: {log}");
    }
}
