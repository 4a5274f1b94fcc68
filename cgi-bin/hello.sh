#!/bin/sh
# The smallest useful CGI script: a header, an empty line, a text.
# Text that the client chose is shown as plain text only; `nosniff` keeps browsers from guessing otherwise.

echo "Content-Type: text/plain; charset=utf-8"
echo "X-Content-Type-Options: nosniff"
echo
echo "Hello from a shell script: process $$, $(date -u '+%Y-%m-%d %H:%M:%S') UTC."
printf 'Query string: %s\n' "$QUERY_STRING"
printf 'Path info:    %s\n' "$PATH_INFO"
