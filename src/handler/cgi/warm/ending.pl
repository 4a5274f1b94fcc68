# The end of a copy. An interpreter that ends looks at all that it holds for objects to take apart, which writes to nearly every
# page of what it shares with the others. Where that would change nothing that can be seen, the copy just leaves.
#
# Objects are found by the count of references to their package: each object holds one. Packages that have as many references and
# names at the copy's end as at its begin have no new objects and no new methods; of the others, and of packages that were not there,
# it matters whether they have a destructor. However it was made, it is then in their symbol tables, or inherited.

# Whether there may be copies that just leave; the packages of the warm interpreter; where their counts of references and of names are
# in memory, and what they were; destructors that do nothing; how many modules and libraries are loaded.
our ($can_leave, %packages, @names, $references_at, $references, $sizes_at, $sizes, @own_names, %harmless, $modules, $libraries);

# Packages below this one, with their symbol tables.
sub find_packages {
    my ($prefix, $stash) = @_;
    for my $key (keys %$stash) {
        next if substr($key, -2) ne '::' || $key eq 'main::' || ref \$stash->{$key} ne 'GLOB';
        my $name = $prefix . substr $key, 0, -2;
        my $inner = *{$stash->{$key}}{HASH};
        next if !$inner || $packages{$name};
        $packages{$name} = $inner;
        find_packages("${name}::", $inner);
    }
}

sub destructor { UNIVERSAL::can($_[0], 'DESTROY') || UNIVERSAL::can($_[0], 'AUTOLOAD') }

# Done last: what is found now is what all copies begin with.
sub prepare_ending {
    $packages{main} = \%main::;
    find_packages('', \%main::);
    @names = sort keys %packages;
    $modules = keys %INC;
    $libraries = @DynaLoader::dl_shared_objects;
    $can_leave = has_plain_libraries() && has_plain_objects();
    $references_at = pack 'J*', map { $_ + 8 } @packages{@names};
    $references = references();
    $sizes_at = pack 'J*', map { unpack('J', unpack 'P8', pack 'J', $_ + 0) + 16 } @packages{@names};
    $sizes = sizes();
    @own_names = map { own_names($_) } @packages{@names};
    # Another Perl might arrange them in another way.
    $can_leave &&= pack('L*', map { Internals::SvREFCNT(%$_) } @packages{@names}) eq $references;
    $can_leave &&= pack('J*', map { scalar keys %$_ } @packages{@names}) eq $sizes;
    # The filter that goes before a script holds a handle, which is gone when it has done its work.
    my ($of_handles) = grep { $names[$_] eq 'IO::File' } 0 .. $#names;
    substr($references, 4 * $of_handles, 4) = pack 'L', unpack('L', substr $references, 4 * $of_handles, 4) - 1;
}

# How many references the packages have: numbers of four bytes, behind the pointers with which their symbol tables begin.
sub references { join '', unpack '(P4)*', $references_at }

# How many names they have: numbers of eight bytes, behind two pointers, where those pointers lead to.
sub sizes { join '', unpack '(P8)*', $sizes_at }

# Whether no library that is loaded wants to do something at the end of the process, beyond what the interpreter does.
sub has_plain_libraries {
    my %files;
    open my $maps, '<', '/proc/self/maps' or return 0;
    m{(/.*\.so\S*)$} and $files{$1} = 1 while <$maps>;
    for my $file (keys %files) {
        next if $file =~ m{/(?:ld-|ld\.|lib(?:c|m|dl|rt|util|crypt|pthread|perl)[.-])[^/]*$};
        local $/;
        open my $handle, '<:raw', $file or return 0;
        return 0 if <$handle> =~ /atexit|atfork/;
    }
    return 1;
}

# Whether the modules have made no objects that are to be taken apart. Tried in a process of its own, which also tells which
# destructors do nothing.
sub has_plain_objects {
    pipe my $reader, my $writer or return 0;
    my $pid = fork;
    return 0 unless defined $pid;
    try_ending($writer) if !$pid;
    close $writer;
    local ($/, $?);
    my $told = <$reader>;
    waitpid $pid, 0;
    return 0 if $? || $told !~ s/^harmless:(.*)\n//;
    $harmless{$_} = 1 for split / /, $1;
    return $told eq '';
}

sub try_ending {
    my ($writer) = @_;
    my $descriptor = fileno $writer;
    eval { require B } or leave(1);
    my %told;
    for my $name (@names) {
        my $code = destructor($name) or next;
        $harmless{$code + 0} = 1, next if does_nothing(B::svref_2object($code));
        no strict 'refs';
        no warnings;
        $told{$code + 0} ||= *{"$name\::DESTROY"} = sub { syscall({{write}}, $descriptor, 'x', 1) };
    }
    my $line = 'harmless:' . join(' ', keys %harmless) . "\n";
    syscall({{write}}, $descriptor, $line, length $line);
    # Of the modules' own blocks, none is to run here.
    @{B::end_av()->object_2svref} = ();
    exit 0;
}

sub does_nothing {
    my ($code) = @_;
    # UNIVERSAL's own for regular expressions.
    return $code->GV->STASH->NAME eq 'Regexp' if $code->XSUB;
    for (my $op = $code->START; $$op; $op = $op->next) {
        return 0 if $op->name !~ /^(?:nextstate|stub|leavesub|null|lineseq)$/;
    }
    return 1;
}

# How many names a package has of those that the interpreter makes by itself, where it looks for methods. Other names need not be
# read where there are no more of them: Perl counts the uses of each, which writes to pages all over the memory.
sub own_names { scalar grep { exists $_[0]{$_} } 'AUTOLOAD', 'DESTROY', 'ISA', 'BEGIN' }

# Places of packages whose count differs.
sub changed {
    my ($were, $are, $format) = @_;
    return if $were eq $are;
    my @were = unpack $format, $were;
    my @are = unpack $format, $are;
    return grep { $were[$_] != $are[$_] } 0 .. $#names;
}

# Whether a package has a destructor that was not there at the begin, among those below this one that the warm interpreter has not.
sub has_new_destructor {
    my ($prefix, $stash, %above) = @_;
    for my $key (keys %$stash) {
        next if substr($key, -2) ne '::' || $key eq 'main::';
        my $name = $prefix . substr $key, 0, -2;
        next if $packages{$name};
        return 1 if destructor($name);
        my $inner = ref \$stash->{$key} eq 'GLOB' ? *{$stash->{$key}}{HASH} : undef;
        # Another name of one that it lies in.
        next if !$inner || $above{$inner + 0};
        return 1 if has_new_destructor("${name}::", $inner, %above, $inner + 0 => 1);
    }
    return 0;
}

# Whether there may be an object whose destructor does something.
sub may_have_destructors {
    # One whose package has no place in the tables any more.
    return 1 if index($text, 'DESTROY') >= 0 || index($text, 'AUTOLOAD') >= 0;
    my @with_objects = changed($references, references(), 'L*');
    my $sizes_now = sizes();
    my @with_names = changed($sizes, $sizes_now, 'J*');
    my ($were, $are) = ([unpack 'J*', $sizes], [unpack 'J*', $sizes_now]);
    # Before anybody looks for methods here.
    my @with_packages = grep { $are->[$_] - $were->[$_] != own_names($packages{$names[$_]}) - $own_names[$_] } @with_names;
    for my $name (@names[@with_objects]) {
        # An open file, or a program to wait for.
        return 1 if $name eq 'IO::File';
    }
    for my $name (@names[@with_objects, @with_names]) {
        my $code = destructor($name);
        return 1 if $code && !$harmless{$code + 0};
    }
    return scalar grep { has_new_destructor($_ eq 'main' ? '' : "${_}::", $packages{$_}) } @names[@with_packages];
}

# Leaves, if that can't be told from an end by the book.
sub leave_early {
    return if !$can_leave || $owner != syscall({{getpid}});
    return if $modules != keys %INC || $libraries != @DynaLoader::dl_shared_objects;
    # Programs at the other end of a handle are waited for. waitid(2), of any child, WEXITED, WNOHANG and WNOWAIT.
    return if syscall({{waitid}}, 0, 0, $control, 0x01000005, 0) == 0;
    return if may_have_destructors();
    for my $handle (\*STDOUT, \*STDERR) {
        next if !defined *$handle{IO};
        return if tied *$handle || "@{[PerlIO::get_layers($handle)]}" !~ /^(?:unix perlio(?: utf8)?)?\z/;
        my $selected = select $handle;
        $! = 0;
        $| = 0;
        # Writes what is left.
        $| = 1;
        select $selected;
        return if $!;
    }
    leave($?);
}

# Tells the worker which modules of the interpreter's own directories the script has loaded.
sub report {
    local ($!, $?, $@);
    my @found;
    for my $name (keys %INC) {
        my $file = $INC{$name};
        next if $standard{$name};
        push @found, $name if defined $file && !ref $file && grep { $file eq "$_/$name" } @directories;
    }
    my $message = substr join("\0", 'learned', $setup{index}, sort @found), 0, 60_000;
    socket my $socket, 1, 2, 0 or return;
    send $socket, $message, 0x4040, pack('S a*', 1, "\0" . pack 'H*', $setup{report});
}

# The last one that the interpreter runs is the first that it has read.
END { leave_early() }
END { report() if $wants_report && $owner == $$ }

1;
