//! Real web servers in front: the examples as they stand, and how each server's dialect becomes one environ.

mod cgi_hosts;
mod examples;
mod mapping;
mod traffic;

use crate::support::folder::{copy_tree, set_mode};
use crate::support::fronts::{Front, Site};
use crate::support::{Forkhorn, Running, fixture};

const NGINX: &str = "daemon off; pid run/nginx.pid; error_log stderr; events {}\n\
    http { access_log off; client_body_temp_path run/b; fastcgi_temp_path run/f; proxy_temp_path run/p;\n\
    scgi_temp_path run/s; uwsgi_temp_path run/u; client_max_body_size 100m;\n\
    upstream forkhorn { server unix:{folder}/run/forkhorn.sock; keepalive 4; }\n\
    server { listen 127.0.0.1:{port}; location / { include /etc/nginx/fastcgi_params;\n\
    fastcgi_pass forkhorn; fastcgi_keep_conn on; } } }\n";

const NGINX_SPLIT: &str = "daemon off; pid run/nginx.pid; error_log stderr; events {}\n\
    http { access_log off; client_body_temp_path run/b; fastcgi_temp_path run/f; proxy_temp_path run/p;\n\
    scgi_temp_path run/s; uwsgi_temp_path run/u; client_max_body_size 100m;\n\
    server { listen 127.0.0.1:{port}; root {folder}; location / {\n\
    fastcgi_split_path_info ^(/m)(/.*)?$; include /etc/nginx/fastcgi.conf;\n\
    fastcgi_param PATH_INFO $fastcgi_path_info; fastcgi_request_buffering off; fastcgi_buffering off;\n\
    fastcgi_pass unix:{folder}/run/forkhorn.sock; } } }\n";

/// Up to where the ways part.
const APACHE: &str = "Listen 127.0.0.1:{port}\nServerName localhost\nDefaultRuntimeDir {folder}/run\n\
    PidFile run/apache.pid\nErrorLog run/apache-error.log\nMutex file:run default\n\
    LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so\n\
    LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so\n\
    LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so\n\
    LoadModule proxy_fcgi_module /usr/lib/apache2/modules/mod_proxy_fcgi.so\n\
    User www-data\nGroup www-data\nDocumentRoot {folder}\n";

const LIGHTTPD: &str = "server.bind = \"127.0.0.1\"\nserver.port = {port}\nserver.document-root = \"{folder}\"\n\
    server.errorlog = \"{folder}/run/lighttpd-error.log\"\nserver.upload-dirs = ( \"{folder}/run\" )\n\
    server.modules = ( \"mod_fastcgi\" )\nserver.username = \"www-data\"\nserver.groupname = \"www-data\"\n\
    fastcgi.server = ( \"/\" => (( \"socket\" => \"{folder}/run/forkhorn.sock\", \"check-local\" => \"disable\" )) )\n";

/// Below what APACHE says.
const MOD_FCGID: &str = "LoadModule fcgid_module /usr/lib/apache2/modules/mod_fcgid.so\n\
    FcgidIPCDir {folder}/run/fcgid\nFcgidProcessTableFile {folder}/run/fcgid_shm\n\
    FcgidMaxProcessesPerClass 2\nFcgidMaxRequestLen 100000000\n<Location \"/\">\nSetHandler fcgid-script\n\
    Options +ExecCGI\nFcgidWrapper \"{folder}/start.sh\" virtual\nCGIPassAuth On\n</Location>\n";

/// How mod_fcgid starts forkhorn: as a user who can read nothing but the site's folder.
const START: &str = "#!/bin/sh\ncd {folder} || exit 1\n\
    exec target/release/forkhorn serve wsgi/probe.py --mount /m=wsgi/probe.py --cgi /cgi-bin=cgi-fixtures \\\n\
    --python /usr/bin/python3 --workers 1 --fastcgi fd:0\n";

const HAPROXY: &str = "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
    frontend www\n bind 127.0.0.1:{port}\n default_backend forkhorn\n\
    backend forkhorn\n use-fcgi-app forkhorn\n server forkhorn unix@{folder}/run/forkhorn.sock proto fcgi\n\
    fcgi-app forkhorn\n docroot {folder}\n option keep-conn\n";

/// A way to put a web server in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Nginx,
    NginxSplit,
    ApacheProxyPass,
    ApacheProxyPassMatch,
    ApacheSetHandler,
    ModFcgid,
    Lighttpd,
    HaProxy,
}

impl Way {
    pub const ALL: [Way; 8] = [
        Way::Nginx,
        Way::NginxSplit,
        Way::ApacheProxyPass,
        Way::ApacheProxyPassMatch,
        Way::ApacheSetHandler,
        Way::ModFcgid,
        Way::Lighttpd,
        Way::HaProxy,
    ];

    pub fn is_apache(self) -> bool {
        matches!(self, Way::ApacheProxyPass | Way::ApacheProxyPassMatch | Way::ApacheSetHandler)
    }

    fn configuration(self) -> String {
        let socket = "unix:{folder}/run/forkhorn.sock|fcgi://localhost";
        match self {
            Way::Nginx => NGINX.to_owned(),
            Way::NginxSplit => NGINX_SPLIT.to_owned(),
            Way::ApacheProxyPass => format!("{APACHE}ProxyPass \"/\" \"{socket}/\" enablereuse=on\n"),
            // Apache takes a Unix socket for TCP where the whole of $1 is a slash: the root needs a line of its own.
            Way::ApacheProxyPassMatch => {
                format!("{APACHE}ProxyPassMatch \"^(/.+)$\" \"{socket}$1\"\nProxyPass \"/\" \"{socket}/\"\n")
            }
            Way::ApacheSetHandler => {
                format!("{APACHE}<Location \"/\">\nSetHandler \"proxy:{socket}/\"\n</Location>\n")
            }
            Way::ModFcgid => format!("{APACHE}{MOD_FCGID}"),
            Way::Lighttpd => LIGHTTPD.to_owned(),
            Way::HaProxy => HAPROXY.to_owned(),
        }
    }

    fn command(self) -> &'static str {
        match self {
            Way::Nginx | Way::NginxSplit => "nginx -p \"$PWD\" -c \"$PWD/front.conf\"",
            Way::Lighttpd => "lighttpd -D -f front.conf",
            Way::HaProxy => "haproxy -db -f front.conf",
            _ => "apache2 -d \"$PWD\" -f \"$PWD/front.conf\" -D FOREGROUND",
        }
    }
}

/// The probe at the root and below `/m`, scripts below `/cgi-bin`, and a web server in front of all of it.
pub struct Fronted {
    pub front: Front,
    /// `None` if the web server starts it.
    pub forkhorn: Option<Running>,
    pub site: Site,
}

/// Starts a way; `options` are for a forkhorn that is started beside it.
#[track_caller]
pub fn fronted(way: Way, options: &[&str]) -> Fronted {
    fronted_by(way, &way.configuration(), options)
}

/// The same with a configuration of its own.
#[track_caller]
pub fn fronted_by(way: Way, configuration: &str, options: &[&str]) -> Fronted {
    let site = Site::bare();
    let forkhorn = match way {
        Way::ModFcgid => {
            site.install_binary();
            copy_tree(&fixture("wsgi"), &site.folder.join("wsgi"));
            copy_tree(&fixture("cgi-bin"), &site.folder.join("cgi-fixtures"));
            set_mode(&site.write("start.sh", START), 0o755);
            None
        }
        _ => Some(behind(&site, options)),
    };
    site.write("front.conf", configuration);
    let front = site.front(way.command());
    Fronted { front, forkhorn, site }
}

#[track_caller]
fn behind(site: &Site, options: &[&str]) -> Running {
    let socket = site.folder.join("run/forkhorn.sock");
    let probe = fixture("wsgi/probe.py").display().to_string();
    let forkhorn =
        Forkhorn::new().wsgi("probe.py").workers(2).args(["--mount", &format!("/m={probe}")]).cgi_fixtures();
    let forkhorn = options.iter().fold(forkhorn, |forkhorn, option| forkhorn.arg(*option));
    forkhorn.fastcgi(&format!("unix:{}", socket.display())).args(["--socket-mode", "666"]).start()
}
