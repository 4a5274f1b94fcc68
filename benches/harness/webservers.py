"""Configuration of the web servers: nginx in front of the peers, Apache and lighttpd as peers of the CGI suite.

Each gets a folder of its own; nothing of the system's configuration is read or changed.
"""

import os
import pwd
from pathlib import Path

NGINX = """\
daemon off;
{user}worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;

events {{
    worker_connections 4096;
}}

http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    client_max_body_size 16m;
    client_body_buffer_size 2m;

    upstream peer {{
        server 127.0.0.1:{upstream};
{keepalive}    }}

    server {{
        listen 127.0.0.1:{port} backlog=2048;
        location / {{
{location}        }}
    }}
}}
"""

KEEPALIVE = """\
        keepalive 64;
        keepalive_requests 1000000000;
"""

# What the files fastcgi_params and uwsgi_params of nginx send.
COMMON_PARAMETERS = {
    "QUERY_STRING": "$query_string",
    "REQUEST_METHOD": "$request_method",
    "CONTENT_TYPE": "$content_type",
    "CONTENT_LENGTH": "$content_length",
    "REQUEST_URI": "$request_uri",
    "DOCUMENT_ROOT": "$document_root",
    "SERVER_PROTOCOL": "$server_protocol",
    "REQUEST_SCHEME": "$scheme",
    "HTTPS": "$https if_not_empty",
    "REMOTE_ADDR": "$remote_addr",
    "REMOTE_PORT": "$remote_port",
    "SERVER_PORT": "$server_port",
    "SERVER_NAME": "$server_name",
}
FASTCGI_PARAMETERS = COMMON_PARAMETERS | {
    "SCRIPT_NAME": "$fastcgi_script_name",
    "DOCUMENT_URI": "$document_uri",
    "GATEWAY_INTERFACE": "CGI/1.1",
    "SERVER_SOFTWARE": "nginx/$nginx_version",
    "REMOTE_USER": "$remote_user",
    "SERVER_ADDR": "$server_addr",
    "REDIRECT_STATUS": "200",
}
UWSGI_PARAMETERS = COMMON_PARAMETERS | {"PATH_INFO": "$document_uri"}


def location_lines(protocol: str, kept: bool, scripts: Path) -> list[str]:
    if protocol == "http":
        lines = ["proxy_pass http://peer;"]
        return lines + (["proxy_http_version 1.1;", 'proxy_set_header Connection "";'] if kept else [])
    if protocol == "uwsgi":
        return ["uwsgi_pass peer;", *(f"uwsgi_param {name} {value};" for name, value in UWSGI_PARAMETERS.items())]
    lines = ["fastcgi_pass peer;", *(f"fastcgi_param {name} {value};" for name, value in FASTCGI_PARAMETERS.items())]
    if protocol == "cgi":
        lines.append(f"fastcgi_param SCRIPT_FILENAME {scripts.parent}$fastcgi_script_name;")
    return lines + (["fastcgi_keep_conn on;"] if kept else [])


def nginx(folder: Path, port: int, upstream: int, protocol: str, kept: bool, scripts: Path) -> Path:
    path = folder / "nginx.conf"
    location = "".join(f"            {line}\n" for line in location_lines(protocol, kept, scripts))
    user = "user root;\n" if os.geteuid() == 0 else ""
    text = NGINX.format(
        folder=folder,
        user=user,
        port=port,
        upstream=upstream,
        keepalive=KEEPALIVE if kept else "",
        location=location,
    )
    path.write_text(text)
    return path


APACHE = """\
ServerRoot {folder}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
ListenBacklog 2048
PidFile {folder}/apache.pid
ErrorLog {folder}/apache-error.log
LogLevel warn
DefaultRuntimeDir {folder}
{user}LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule alias_module {modules}/mod_alias.so
LoadModule cgid_module {modules}/mod_cgid.so
ScriptSock {folder}/cgid.sock
KeepAlive On
MaxKeepAliveRequests 0
DocumentRoot {folder}
ScriptAlias /cgi-bin/ {scripts}/
<Directory {scripts}>
    Require all granted
    Options +ExecCGI
</Directory>
"""

LIGHTTPD = """\
server.modules = ( "mod_alias", "mod_cgi" )
server.bind = "127.0.0.1"
server.port = {port}
server.document-root = "{folder}"
server.errorlog = "{folder}/lighttpd-error.log"
server.max-keep-alive-requests = 1000000
server.listen-backlog = 2048
alias.url = ( "/cgi-bin/" => "{scripts}/" )
$HTTP["url"] =~ "^/cgi-bin/" {{
    cgi.assign = ( "" => "" )
}}
"""


def apache(folder: Path, port: int, scripts: Path) -> Path:
    """Apache as root insists on another user for its children; Debian's is www-data."""
    user = ""
    if os.geteuid() == 0:
        user = "User www-data\nGroup www-data\n"
        account = pwd.getpwnam("www-data")
        os.chown(folder, account.pw_uid, account.pw_gid)
    path = folder / "apache.conf"
    path.write_text(
        APACHE.format(folder=folder, port=port, scripts=scripts, user=user, modules="/usr/lib/apache2/modules")
    )
    return path


def lighttpd(folder: Path, port: int, scripts: Path) -> Path:
    path = folder / "lighttpd.conf"
    path.write_text(LIGHTTPD.format(folder=folder, port=port, scripts=scripts))
    return path
