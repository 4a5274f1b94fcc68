#!/bin/sh
# A non-parsed header script (RFC 3875 §5): its name begins with "nph-", and it writes the whole HTTP response
# itself, status line included.

printf 'HTTP/1.0 200 Fine, thanks\r\n'
printf 'Content-Type: text/plain; charset=utf-8\r\n'
printf 'X-Content-Type-Options: nosniff\r\n'
printf '\r\n'
printf 'Hello from a non-parsed header script: process %s.\n' "$$"
