#!/bin/sh
# Started by a web server with the listening socket on descriptor 0, becomes forkhorn. Further options may be given.
# See apache/mod_fcgid.conf and lighttpd/spawn.conf.

cd "$(dirname "$0")/.." || exit 1
exec target/release/forkhorn serve --fastcgi fd:0 \
    --cgi /cgi-bin=cgi-bin --mount /wsgi=examples/form_app.py \
    --mount /django=mysite.wsgi --pythonpath examples/django_project --virtualenv .venv "$@"
