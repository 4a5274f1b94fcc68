# The warm interpreter of Perl scripts: run in a BEGIN block of `perl -M… /dev/null`, and copied for each request.
#
# A copy puts the script in the place of /dev/null, from which the interpreter has read nothing yet, and returns: the script is then
# compiled and run as the main program that it is. Descriptor 0 is the channel to the worker; `link.rs` has its messages.
# Words in double braces are replaced by the worker: numbers of system calls, for which Perl alone has no functions.
package Forkhorn::Warm;
BEGIN { ${^WARNING_BITS} = "" }
use strict;
require Filter::Util::Call;
require lib;

our (%setup, $channel, $spares, $program, $script, $owner, $wants_report);
our (%standard, %preloaded, %identity, @directories, $checked_at);
our $MESSAGE_BYTES = 256 * 1024;
our $STALE_CHECK_SECONDS = 1;
our $MAX_SCANNED_BYTES = 1024 * 1024;
our ($buffer, $control) = ('', '');
vec($buffer, $MESSAGE_BYTES - 1, 8) = 0;
vec($control, 127, 8) = 0;

sub leave { syscall({{exit_group}}, $_[0] + 0) }

sub unusable {
    syscall({{sendto}}, 0, join("\0", 'unusable', $_[0]), 9 + length $_[0], 0x4000, 0, 0);
    leave(0);
}

sub say_to_worker {
    my $message = join "\0", @_;
    # MSG_NOSIGNAL. The worker is gone, or has given this process up: so does the process.
    syscall({{sendto}}, $channel, $message, length $message, 0x4000, 0, 0) >= 0 or leave(0);
}

# The fields of a message, and the descriptors that came with it, closed on exec.
sub receive {
    my ($socket) = @_;
    my $part = pack 'J J', unpack('J', pack 'P', $buffer), $MESSAGE_BYTES;
    my $header = pack 'J I x![J] J J J J i x![J]', 0, 0, unpack('J', pack 'P', $part), 1,
        unpack('J', pack 'P', $control), 128, 0;
    my $length;
    do { $length = syscall({{recvmsg}}, $socket, $header, 0x40000000) } while $length < 0 && $! == 4;
    leave(0) if $length <= 0;
    my (@descriptors, $size);
    if ((unpack 'J I x![J] J J J J', $header)[5] >= length pack 'J i i', 0, 0, 0) {
        ($size) = unpack 'J', $control;
        (undef, undef, undef, @descriptors) = unpack 'J i i i*', substr $control, 0, $size;
    }
    return [split /\0/, substr($buffer, 0, $length), -1], @descriptors;
}

sub identity {
    my @stat = stat $_[0] or return '';
    return join ' ', @stat[1, 7, 9];
}

# What loading a module must leave as it was, for the processes that don't load it.
sub surroundings {
    my %found;
    for (['starts threads', 'task'], ['opens descriptors, such as sockets', 'fd']) {
        my ($what, $directory) = @$_;
        opendir my $handle, "/proc/self/$directory" or next;
        $found{$what} = join ' ', sort readdir $handle;
    }
    local $" = ' ';
    $found{'changes the environment'} = join "\0", map { "$_=$ENV{$_}" } sort keys %ENV;
    $found{'changes the working directory'} = readlink '/proc/self/cwd';
    $found{'changes @INC'} = "@INC";
    $found{'changes the umask'} = umask;
    $found{'handles signals'} = join "\0", map { defined $SIG{$_} ? "$_=$SIG{$_}" : () } sort keys %SIG;
    $found{'overrides built-in functions'} = join ' ', sort keys %CORE::GLOBAL::;
    $found{'changes special variables'} = join "\0", map { defined $_ ? $_ : 'undef' } $/, $\, $,, $;, $|, $^W, $0;
    $found{'replaces a standard stream'} = join ' ', map { defined fileno $_ ? fileno $_ : '-' } \*STDIN, \*STDOUT, \*STDERR;
    return %found;
}

sub load {
    package main;
    local $SIG{__DIE__};
    local $_;
    return eval { require $_[0] };
}

# Loads modules one by one. One that does more than to be there costs this process its life: the worker starts another
# without it.
sub preload {
    my @loaded;
    for my $name (@_) {
        my %before = surroundings();
        my $done = load($name);
        my %after = surroundings();
        my ($reason) = grep { $before{$_} ne $after{$_} } sort keys %before;
        # What has failed can't be taken back either.
        $reason = 'can not be loaded by itself' if !$done;
        if (defined $reason) {
            say_to_worker('refused', $name, $reason);
            leave(0);
        }
        push @loaded, $name;
    }
    return @loaded;
}

# The descriptor that the interpreter has opened for its program: where /dev/null was.
sub find_program {
    my $null = join ' ', (stat '/dev/null')[0, 1];
    for my $descriptor (3 .. 20) {
        my @stat = stat "/proc/self/fd/$descriptor" or next;
        return $descriptor if $null eq "$stat[0] $stat[1]";
    }
    unusable('the descriptor of its program is not found');
}

# Starts anew with the script: for what only an interpreter does that begins.
sub run_cold {
    exec { $script } $script;
    leave(126);
}

# Becomes what execve(2) would have made of this process. Then the script may run.
sub enter {
    my ($fields, @descriptors) = @_;
    my (undef, $id, $flags, $path, $directory, @environment) = @$fields;
    setpgrp 0, 0;
    unless (chdir $directory) {
        say_to_worker('failed', $id, $! + 0);
        leave(127);
    }
    say_to_worker('started', $id);
    syscall({{close}}, $channel);
    syscall({{close}}, $spares) if defined $spares;
    for my $target (0 .. 2) {
        syscall({{dup3}}, $descriptors[$target], $target, 0);
    }
    syscall({{close}}, $_) for @descriptors;
    %ENV = ();
    /^([^=]*)=(.*)/s and $ENV{$1} = $2 for @environment;
    ($script, $owner, $wants_report) = ($path, $$, $flags =~ /l/);
    become_program();
}

sub become_program {
    open my $file, '<', $script or run_cold();
    # A name that can't stand in a line directive.
    run_cold() if $script =~ /["\n]/ || !can_run($file);
    # O_CLOEXEC, as the interpreter opens its program.
    syscall({{dup3}}, fileno $file, $program, 02000000);
    close $file;
    $0 = $script;
    $^T = time;
    # Random numbers that a module has begun would be the same in every copy.
    srand;
    if (open my $name, '>', '/proc/self/comm') {
        print $name $script =~ m{([^/]*)\z};
    }
    $SIG{__DIE__} = \&correct_name;
    $! = 0;
    $@ = '';
    Filter::Util::Call::filter_add(sub {
        $_ = qq(#line 1 "$script"\n);
        Filter::Util::Call::filter_del();
        return 1;
    });
}

# Whether what is loaded here is what the script would load.
sub can_run {
    my ($file) = @_;
    return 1 unless %preloaded;
    return 0 if find_stale() || -s $file > $MAX_SCANNED_BYTES;
    sysread $file, my $text, -s _;
    sysseek $file, 0, 0;
    # What is put behind the standard directories shadows nothing; `use lib` is seen to when it happens.
    $text =~ s/\bpush\b\s*\(?\s*\@INC\b//g;
    return $text !~ /\@INC\b|\@\{\^?["']?INC|\blocal::lib\b/;
}

sub find_stale {
    return '' if defined $checked_at && time - $checked_at < $STALE_CHECK_SECONDS;
    $checked_at = time;
    for my $file (keys %identity) {
        return $file if identity($file) ne $identity{$file};
    }
    return '';
}

# `use lib`: a directory that holds another version of what is loaded needs an interpreter that has not loaded it.
sub watch_lib {
    my $import = \&lib::import;
    local $^W = 0;
    *lib::import = sub {
        for my $directory (@_[1 .. $#_]) {
            -e "$directory/$_" and run_cold() for keys %preloaded;
        }
        goto &$import;
    };
}

# Tells the worker which modules of the interpreter's own directories the script has loaded.
sub report {
    local ($!, $?, $@);
    my @names;
    for my $name (keys %INC) {
        my $file = $INC{$name};
        next if $standard{$name};
        push @names, $name if defined $file && !ref $file && grep { $file eq "$_/$name" } @directories;
    }
    my $message = substr join("\0", 'learned', $setup{index}, sort @names), 0, 60_000;
    socket my $socket, 1, 2, 0 or return;
    send $socket, $message, 0x4040, pack('S a*', 1, "\0" . pack 'H*', $setup{report});
}

# The interpreter calls its program /dev/null where it refuses to run it.
sub correct_name {
    my ($message) = @_;
    die $message if !ref $message && $message =~ s{^(Execution of |)/dev/null( (?:aborted|had compilation))}{$1$script$2}m;
}

INIT { delete $SIG{__DIE__} if ref $SIG{__DIE__} && $SIG{__DIE__} == \&correct_name }

END { report() if $wants_report && $owner == $$ }

# Forks; true in the copy once it has become the script.
sub run {
    my ($fields, @descriptors) = @_;
    my $pid = fork;
    if (!defined $pid) {
        say_to_worker('failed', $fields->[1], $! + 0);
    } elsif ($pid == 0) {
        enter($fields, @descriptors);
        return 1;
    }
    syscall({{close}}, $_) for @descriptors;
    return 0;
}

sub fork_spares {
    for (1 .. $_[0]) {
        my $pid = fork;
        return 0 unless defined $pid;
        next if $pid;
        say_to_worker('spare');
        my ($fields, @descriptors) = receive($spares);
        leave(0) unless @descriptors == 3;
        enter($fields, @descriptors);
        return 1;
    }
    return 0;
}

# The parent's whole life; what returns is a copy that has become a script.
sub serve {
    my $stale;
    while (1) {
        my ($fields, @descriptors) = receive($channel);
        my $kind = $fields->[0];
        if ($kind eq 'R' && @descriptors == 3) {
            if (!$stale && ($stale = find_stale())) {
                # Remembered in copies too: each starts anew.
                $identity{$stale} = undef;
                $STALE_CHECK_SECONDS = 0;
                say_to_worker('stale', $stale);
            }
            return if run($fields, @descriptors);
        } elsif ($kind eq 'W') {
            # WNOHANG, and a struct rusage, which begins with two struct timeval. Without a touch of the script's $?.
            my ($status, $usage) = (pack('i', -1), "\0" x 256);
            my $pid = syscall({{wait4}}, $fields->[2] + 0, $status, 1, $usage);
            my @times = unpack 'l!4', $usage;
            say_to_worker($pid ? 'exit' : 'running', $fields->[1], unpack('i', $status),
                ($times[0] + $times[2]) * 1_000_000 + $times[1] + $times[3]);
        } elsif ($kind eq 'S') {
            return if fork_spares($fields->[1]);
        } else {
            leave(0);
        }
    }
}

sub start {
    unusable('it has 32-bit pointers') if length(pack 'P', 0) != length pack 'J', 0;
    $program = find_program();
    open my $copy, '<&', \*STDIN or leave(1);
    $channel = fileno $copy;
    my ($fields, @descriptors) = receive($channel);
    %setup = map { /^([^=]*)=(.*)/s } @$fields;
    $spares = $descriptors[0];
    open STDIN, '<', '/dev/null' or leave(1);
    @directories = grep { !ref && m{^/} } @INC;
    %standard = map { $_ => 1 } keys %INC;
    my @loaded = preload(grep { length } split / /, $setup{modules});
    $standard{$_} or $preloaded{$_} = 1 for keys %INC;
    %preloaded = () unless @loaded;
    $identity{$_} = identity($_) for grep { defined && !ref } @INC{keys %preloaded};
    watch_lib() if %preloaded;
    say_to_worker('ready', @loaded);
    serve();
    # The handle would close the number, which is another's by now.
    syscall({{dup3}}, 2, $channel, 02000000);
    close $copy;
}

1;
