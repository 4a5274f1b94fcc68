# The warm interpreter of Perl scripts: run in a BEGIN block of `perl -M… /dev/null`, and copied for each request.
#
# A copy puts the script in the place of /dev/null, from which the interpreter has read nothing yet, and returns: the script is then
# compiled and run as the main program that it is. Descriptor 0 is the channel to the worker; `link.rs` has its messages.
# Words in double braces are replaced by the worker: numbers of system calls, for which Perl alone has no functions.
#
# Neighbours, which are read behind this file: `heap.pl`, which arranges memory for copying, and `ending.pl`.
#
# What runs in a copy (`enter`) writes to as few pages as it can, because each costs a copy of the page: it uses package variables,
# no lists, and system calls by their numbers, whose functions the loader has found already.
package Forkhorn::Warm;
BEGIN { ${^WARNING_BITS} = "" }
use strict;
require Filter::Util::Call;
require lib;

our (%setup, $channel, $spares, $program, $script, $owner, $wants_report);
our (%standard, %preloaded, %identity, @directories, @loaded, $has_preloaded);
our $checked_at = 0;
our $STALE_CHECK_SECONDS = 1;
# A message; a script's text as far as it is looked at; the descriptors with a message; and what describes them to recvmsg(2).
our ($buffer, $text, $control, $part, $header);
our $BUFFER_BYTES = 1024 * 1024;
our $CONTROL_BYTES = 128;
our ($length, $id, $flags, $directory, $at);
our ($status, $usage);
# Where the C library keeps the number of the process's thread, and the robust locks, for copies that it has not made itself.
our ($thread_at, $robust_list, $robust_bytes);

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

# A string of this length whose pages don't exist until they are written to.
sub blank {
    vec(my $string = '', $_[0] - 1, 8) = 0;
    my $begin = unpack 'J', pack 'P', $string;
    my $first = ($begin + 4095) & ~4095;
    # MADV_DONTNEED
    syscall({{madvise}}, $first, ($begin + $_[0] - $first) & ~4095, 4);
    return \$string;
}

sub prepare_buffers {
    *buffer = blank($BUFFER_BYTES);
    *text = blank($BUFFER_BYTES);
    $control = "\0" x $CONTROL_BYTES;
    $usage = "\0" x 256;
    $part = pack 'J J', unpack('J', pack 'P', $buffer), $BUFFER_BYTES - 1;
    $header = pack 'J I x![J] J J J J i x![J]', 0, 0, unpack('J', pack 'P', $part), 1,
        unpack('J', pack 'P', $control), $CONTROL_BYTES, 0;
}

# The next message, into $buffer, and its descriptors, closed on exec, into $control.
sub receive {
    # The kernel has put there how much the last one had.
    substr($header, 40, 8) = pack 'J', $CONTROL_BYTES;
    do { $length = syscall({{recvmsg}}, $_[0], $header, 0x40000000) } while $length < 0 && $! == 4;
    leave(0) if $length <= 0;
}

# Whether the message came with the three standard descriptors.
sub has_descriptors { (unpack 'x40 J', $header)[0] >= 28 && unpack('J', $control) == 28 }

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

# Becomes what execve(2) would have made of this process, for the request in $buffer. Then the script may run.
sub enter {
    syscall({{setpgid}}, 0, 0);
    syscall({{prctl}}, 4, 1, 0, 0, 0);
    substr($buffer, $length) = '';
    ($id, $flags, $script, $directory, $at) = unpack 'x2 Z* Z* Z* Z* .', $buffer;
    if (syscall({{chdir}}, $directory) < 0) {
        say_to_worker('failed', $id, $! + 0);
        leave(127);
    }
    $id = "started\0$id";
    syscall({{sendto}}, $channel, $id, length $id, 0x4000, 0, 0) >= 0 or leave(0);
    syscall({{dup3}}, unpack('x16 i', $control), 0, 0);
    syscall({{dup3}}, unpack('x20 i', $control), 1, 0);
    syscall({{dup3}}, unpack('x24 i', $control), 2, 0);
    close_others() if syscall({{close_range}}, 3, 0x7fffffff, 0) < 0;
    substr($buffer, 0, $at) = '';
    %ENV = $buffer =~ /([^=\0]*)=([^\0]*)/g;
    $owner = syscall({{getpid}});
    $wants_report = ord $flags == ord 'l';
    become_program();
}

# All descriptors but the standard ones, where the kernel can't close them in one call (before Linux 5.9).
sub close_others {
    syscall({{close}}, $_) for $channel, $program, defined $spares ? $spares : (), unpack 'x16 i3', $control;
}

sub become_program {
    # O_CLOEXEC, as the interpreter opens its program; AT_FDCWD. It is given the lowest number that is free.
    $at = syscall({{openat}}, -100, $script, 02000000, 0);
    run_cold() if $at < 0;
    if ($at != $program) {
        syscall({{dup3}}, $at, $program, 02000000);
        syscall({{close}}, $at);
    }
    $^T = time;
    # A name that can't stand in a line directive.
    run_cold() if $script =~ tr/"\n//;
    $at = syscall({{pread64}}, $program, $text, $BUFFER_BYTES - 1, 0);
    run_cold() if $at < 0 || $at >= $BUFFER_BYTES - 1;
    substr($text, $at) = '';
    run_cold() if $has_preloaded && !can_run();
    $0 = $script;
    # PR_SET_NAME
    syscall({{prctl}}, 15, substr($script, 1 + rindex $script, '/'), 0, 0, 0);
    # Random numbers that a module has begun would be the same in every copy.
    srand;
    $! = 0;
    $@ = '';
}

# Whether what is loaded here is what the script would load.
sub can_run {
    return 0 if $^T - $checked_at >= $STALE_CHECK_SECONDS && find_stale();
    return 1 if index($text, 'INC') < 0 && index($text, 'local::lib') < 0;
    # What is put behind the standard directories shadows nothing; `use lib` is seen to when it happens.
    (my $looked_at = $text) =~ s/\bpush\b\s*\(?\s*\@INC\b//g;
    return $looked_at !~ /\@INC\b|\@\{\^?["']?INC|\blocal::lib\b/;
}

sub find_stale {
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

# The interpreter calls its program /dev/null where it refuses to run it.
sub correct_name {
    my ($message) = @_;
    die $message if !ref $message && $message =~ s{^(Execution of |)/dev/null( (?:aborted|had compilation))}{$1$script$2}m;
}

INIT { delete $SIG{__DIE__} if ref $SIG{__DIE__} && $SIG{__DIE__} == \&correct_name }

# What a copy would have to do before its script, and can be done for all of them.
sub prepare_copies {
    $SIG{__DIE__} = \&correct_name;
    Filter::Util::Call::filter_add(sub {
        $_ = qq(#line 1 "$script"\n);
        Filter::Util::Call::filter_del();
        return 1;
    });
    # The first of them has the loader find functions that all copies call, and the name in lists of processes is shown.
    $0 = "$setup{argv0} (warm)";
    syscall({{prctl}}, 15, substr($setup{argv0}, 1 + rindex $setup{argv0}, '/'), 0, 0, 0);
}

sub fork_spares {
    for (1 .. $_[0]) {
        my $pid = fork;
        return 0 unless defined $pid;
        next if $pid;
        say_to_worker('spare');
        receive($spares);
        leave(0) unless has_descriptors();
        enter();
        return 1;
    }
    return 0;
}

# fork(2) without what the C library does besides: nobody has asked it to do more (`has_plain_libraries`), and there is one
# thread. clone(2) with CLONE_CHILD_SETTID, CLONE_CHILD_CLEARTID and SIGCHLD; the order of its last arguments differs.
sub prepare_cloning {
    return if {{clone}} < 0 || !has_plain_libraries();
    my ($at, $bytes) = (pack('J', 0), pack('J', 0));
    # PR_GET_TID_ADDRESS
    return if syscall({{prctl}}, 40, $at, 0, 0, 0) < 0;
    my $thread = unpack 'J', $at;
    return if !$thread || unpack('i', unpack 'P4', $at) != $$;
    return if syscall({{get_robust_list}}, 0, $at, $bytes) < 0;
    ($thread_at, $robust_list, $robust_bytes) = ($thread, unpack('J', $at), unpack('J', $bytes));
}

# Forks; true in the copy once it has become the script.
sub run {
    $at = $thread_at ? syscall({{clone}}, 0x01200011, 0, 0, $thread_at, $thread_at) : fork;
    if (!defined $at || $at < 0) {
        say_to_worker('failed', unpack('x2 Z*', $buffer), $! + 0);
    } elsif ($at == 0) {
        syscall({{set_robust_list}}, $robust_list, $robust_bytes) if $thread_at;
        enter();
        return 1;
    }
    syscall({{close}}, unpack 'x16 i', $control);
    syscall({{close}}, unpack 'x20 i', $control);
    syscall({{close}}, unpack 'x24 i', $control);
    return 0;
}

# Waits for a child that has ended.
sub reap {
    # WNOHANG, and a struct rusage, which begins with two struct timeval. Without a touch of the script's $?.
    ($id, $at) = unpack 'x2 Z* Z*', substr $buffer, 0, $length;
    $status = pack 'i', -1;
    $at = syscall({{wait4}}, $at + 0, $status, 1, $usage);
    my @times = unpack 'l!4', $usage;
    say_to_worker($at ? 'exit' : 'running', $id, unpack('i', $status),
        ($times[0] + $times[2]) * 1_000_000 + $times[1] + $times[3]);
}

# The parent's whole life; what returns is a copy that has become a script.
sub serve {
    my $stale;
    settle_heap();
    prepare_ending();
    # PR_SET_DUMPABLE: no script of the same user reads or changes what comes after it. Copies are as other processes again.
    syscall({{prctl}}, 4, 0, 0, 0, 0);
    say_to_worker('ready', @loaded);
    while (1) {
        receive($channel);
        $at = ord $buffer;
        if ($at == ord 'R' && has_descriptors()) {
            if ($has_preloaded && !$stale && time - $checked_at >= $STALE_CHECK_SECONDS && ($stale = find_stale())) {
                # Remembered in copies too: each starts anew.
                $identity{$stale} = undef;
                $STALE_CHECK_SECONDS = 0;
                say_to_worker('stale', $stale);
            }
            return if run();
        } elsif ($at == ord 'W') {
            reap();
        } elsif ($at == ord 'S') {
            return if fork_spares((split /\0/, substr $buffer, 0, $length)[1]);
        } else {
            leave(0);
        }
    }
}

# All that comes before the first copy.
sub start {
    unusable('it has 32-bit pointers') if length(pack 'P', 0) != length pack 'J', 0;
    $program = find_program();
    # F_DUPFD_CLOEXEC: a handle would close the number at its end, when it is another's.
    ($channel = syscall({{fcntl}}, 0, 1030, $program + 1)) > 0 or leave(1);
    prepare_buffers();
    receive($channel);
    %setup = map { /^([^=]*)=(.*)/s } split /\0/, substr $buffer, 0, $length;
    $spares = unpack 'x16 i', $control if (unpack 'x40 J', $header)[0] > 0;
    open STDIN, '<', '/dev/null' or leave(1);
    @directories = grep { !ref && m{^/} } @INC;
    %standard = map { $_ => 1 } keys %INC;
    @loaded = preload(grep { length } split / /, $setup{modules});
    $standard{$_} or $preloaded{$_} = 1 for keys %INC;
    %preloaded = () unless @loaded;
    $has_preloaded = %preloaded ? 1 : 0;
    $identity{$_} = identity($_) for grep { defined && !ref } @INC{keys %preloaded};
    watch_lib() if $has_preloaded;
    prepare_copies();
    prepare_cloning();
}
