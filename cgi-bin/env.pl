#!/usr/bin/perl
# Shows the meta-variables and the environment that a CGI script gets: everything, in order of their names.
#
# The values come from the client, so all of them are escaped. Take this script off a public server: it tells
# visitors where things lie.

use strict;
use warnings;

my ($now, $started);

BEGIN {
    # Time::HiRes belongs to Perl, but Debian's smallest Perl (perl-base) leaves it out.
    $now = eval { require Time::HiRes; 1 }
        ? sub { Time::HiRes::clock_gettime(Time::HiRes::CLOCK_MONOTONIC()) }
        : sub { undef };
    $started = $now->();
}

binmode STDOUT;

sub escape {
    my ($text) = @_;
    my %entity = ('&' => '&amp;', '<' => '&lt;', '>' => '&gt;', '"' => '&quot;', "'" => '&#x27;');
    utf8::decode($text);
    $text =~ s/[^\t\x20-\x7E\xA0-\x{D7FF}\x{E000}-\x{10FFFF}]/\x{FFFD}/g;
    $text =~ s/([&<>"'])/$entity{$1}/g;
    return $text;
}

my $rows = join '',
    map { '<tr><th scope="row">' . escape($_) . '</th><td>' . escape($ENV{$_}) . "</td></tr>\n" } sort keys %ENV;
my $version = sprintf 'Perl %vd', $^V;
my $time = 'The time was not measured: this Perl lacks Time::HiRes.';
$time = sprintf '<strong>%.0f microseconds</strong> inside the script, from its first line to this one.',
    1e6 * ($now->() - $started)
    if defined $started;

my $page = <<"HTML";
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Environment of a Perl script</title>
<link rel="stylesheet" href="/style.css">
</head>
<body>
<main>
<h1>Environment of a Perl script</h1>
<table>
<caption>Meta-variables (RFC 3875) and the rest of the environment</caption>
<tbody>
$rows</tbody>
</table>
<section class="how" aria-label="How this page was answered">
<p>Answered by <strong>CGI, $version</strong>, in <strong>process $$</strong>, which exists for this request alone.</p>
<p>$time</p>
</section>
<p><a href="/">Back to the start</a></p>
</main>
</body>
</html>
HTML
utf8::encode($page);

print "$_\r\n"
    for 'Content-Type: text/html; charset=utf-8',
    'Content-Length: ' . length $page,
    'Cache-Control: no-store',
    "Content-Security-Policy: default-src 'none'; style-src 'self'; base-uri 'none'",
    'X-Content-Type-Options: nosniff',
    '';
print $page if ($ENV{REQUEST_METHOD} // '') ne 'HEAD';
