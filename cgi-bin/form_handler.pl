#!/usr/bin/perl
# Answers the form of the start page by CGI (RFC 3875), with nothing but Perl itself: no CGI.pm.
#
# Reads a query string (GET) or an URL-encoded body (POST) as UTF-8 and shows what came, escaped.
# The page says which process answered and how long the script took.

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

use constant {
    MAX_BODY_BYTES => 64 * 1024,
    MAX_FIELDS     => 200,
};

binmode STDIN;
binmode STDOUT;

my $method = $ENV{REQUEST_METHOD} // '';
if ($method eq 'GET' or $method eq 'HEAD') {
    answer('200 OK', greeting(fields($ENV{QUERY_STRING} // '')));
}
elsif ($method eq 'POST') {
    answer('200 OK', greeting(fields(body())));
}
else {
    refuse('405 Method Not Allowed', 'This page answers GET and POST.', 'Allow: GET, HEAD, POST');
}

# The request's body, exactly CONTENT_LENGTH bytes of it: the end of the stream is not promised to a script.
sub body {
    my ($type) = ($ENV{CONTENT_TYPE} // '') =~ /^\s*([^;\s]*)/;
    my $length = $ENV{CONTENT_LENGTH} || 0;
    refuse('400 Bad Request', 'The length of the body is not a number.') if $length !~ /^[0-9]{1,18}$/;
    refuse('413 Content Too Large', 'The form is too large.') if $length > MAX_BODY_BYTES;
    refuse('415 Unsupported Media Type', 'This page reads application/x-www-form-urlencoded.')
        if $length and lc $type ne 'application/x-www-form-urlencoded';

    my $body = '';
    while (length $body < $length) {
        my $count = read STDIN, $body, $length - length $body, length $body;
        refuse('400 Bad Request', 'The body ended early.') if !$count;
    }
    return $body;
}

# The name-value pairs of a URL-encoded string, in their order; a name may come more than once.
sub fields {
    my ($encoded) = @_;
    my @pairs = grep { length } split /&/, $encoded;
    refuse('400 Bad Request', 'The form has too many fields.') if @pairs > MAX_FIELDS;
    return map { my ($name, $value) = split /=/, $_, 2; [text($name), text($value // '')] } @pairs;
}

# One URL-encoded word as characters. Bytes that are no UTF-8 are read as Latin-1, as old browsers send them.
sub text {
    my ($word) = @_;
    $word =~ tr/+/ /;
    $word =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
    utf8::decode($word);
    $word =~ s/\r\n?/\n/g;
    $word =~ s/[^\t\n\x20-\x7E\xA0-\x{D7FF}\x{E000}-\x{10FFFF}]/\x{FFFD}/g;
    return $word;
}

sub escape {
    my ($text) = @_;
    my %entity = ('&' => '&amp;', '<' => '&lt;', '>' => '&gt;', '"' => '&quot;', "'" => '&#x27;');
    $text =~ s/([&<>"'])/$entity{$1}/g;
    return $text;
}

sub greeting {
    my @fields = @_;
    my ($name) = map { $_->[1] } grep { $_->[0] eq 'name' and $_->[1] =~ /\S/ } @fields;
    my $rows = join '',
        map { '<tr><th scope="row">' . escape($_->[0]) . '</th><td>' . escape($_->[1]) . "</td></tr>\n" } @fields;
    $rows ||= '<tr><td colspan="2">The form came without a field.</td></tr>' . "\n";
    return ('Hello, ' . escape($name // 'whoever you are') . '!', <<"HTML");
<table>
<caption>What you sent</caption>
<thead><tr><th scope="col">Field</th><th scope="col">Value</th></tr></thead>
<tbody>
$rows</tbody>
</table>
HTML
}

# How this page came to be. The clock starts with the script's first line: the start of the process and of the
# interpreter lies before it, and shows in the processor time.
sub how {
    my $version = sprintf 'Perl %vd', $^V;
    my $time = 'The time was not measured: this Perl lacks Time::HiRes.';
    if (defined $started) {
        $time = sprintf '<strong>%.0f microseconds</strong> inside the script, from its first line to this one. '
            . 'The process has used %.0f microseconds of processor time since it began, '
            . 'the start of the interpreter included.', 1e6 * ($now->() - $started), 1e6 * Time::HiRes::clock();
    }
    return <<"HTML";
<section class="how" aria-label="How this page was answered">
<p>Answered by <strong>CGI, $version</strong>, in <strong>process $$</strong>, which exists for this request alone.</p>
<p>$time</p>
</section>
HTML
}

sub answer {
    my ($status, $title, $content, @fields) = @_;
    my $page = <<"HTML" . how() . <<'HTML';
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<link rel="stylesheet" href="/style.css">
</head>
<body>
<main>
<h1>$title</h1>
$content
HTML
<p><a href="/">Back to the form</a></p>
</main>
</body>
</html>
HTML
    utf8::encode($page);
    print "$_\r\n"
        for "Status: $status", @fields,
        'Content-Type: text/html; charset=utf-8',
        'Content-Length: ' . length $page,
        'Cache-Control: no-store',
        "Content-Security-Policy: default-src 'none'; style-src 'self'; base-uri 'none'",
        'X-Content-Type-Options: nosniff',
        '';
    print $page if $method ne 'HEAD';
    exit 0;
}

sub refuse {
    my ($status, $reason, @fields) = @_;
    answer($status, $status, "<p>$reason</p>", @fields);
}
