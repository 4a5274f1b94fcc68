#!/usr/bin/perl
# The floor of warm CGI: this interpreter, with the modules that are named, is copied, one copy after the other; each
# ends at once and is waited for. No script, no web. Prints one line of JSON:
#
#     fork_floor.pl SECONDS [MODULE ...]

use strict;
use warnings;
use POSIX ();
use Time::HiRes ();

my ($seconds, @modules) = @ARGV;
for my $module (@modules) {
    eval "require $module; 1" or die $@;
}
my ($began, $forks) = (Time::HiRes::time(), 0);
while (Time::HiRes::time() - $began < $seconds) {
    my $pid = fork;
    die "fork: $!" unless defined $pid;
    POSIX::_exit(0) if $pid == 0;
    waitpid $pid, 0;
    die 'a copy has failed' if $?;
    $forks++;
}
printf qq({"requests": %d, "seconds": %.6f}\n), $forks, Time::HiRes::time() - $began;
