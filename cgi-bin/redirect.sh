#!/bin/sh
# A local redirect (RFC 3875 §6.2.2): a `Location` with a path and nothing else. The server answers with what
# that path gives, as if it had been asked for it; the browser's address bar stays as it is.

echo "Location: /cgi-bin/form_handler.pl?name=local+redirect&message=Sent+on+by+redirect.sh"
echo
