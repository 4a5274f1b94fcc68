# Memory of the warm interpreter, arranged for copying.
#
# A copy shares all pages until one of the two writes to one. What the script makes is put into pieces that have become free
# while the modules were loaded: a bit on nearly every page, each of which had then to be copied. So these pieces are used up
# before: copies begin on pages that are empty. And the kernel is asked for large pages, which it shares and gives back faster,
# for the interpreter's program text too.

our @filling;
our $LARGE_PAGE = 2 * 1024 * 1024;
# MADV_COLLAPSE, from Linux 6.1 on; older ones refuse it.
our $COLLAPSE = 25;
# The files that have the code of an interpreter: its own, and libraries.
our $TEXTS = qr{/(?:perl|libperl|libc[.-]|ld-musl)[^/]*$};
our $MAX_PIECES = 20_000;

# The address of the body of a scalar, array, … : the first word of its head.
sub body { unpack 'J', unpack 'P' . length(pack 'J', 0), pack 'J', $_[0] + 0 }

# One of each kind of thing that the interpreter takes from lists of its own, and the address to look at.
our @kinds = (
    sub { my $head; my $reference = \$head; ($reference, $reference + 0) },
    map { my $make = $_; sub { my $reference = $make->(); ($reference, body($reference)) } } (
        sub { my $string = 'x'; \$string },
        sub { my $both = 'x'; no warnings; $both |= 0; \$both },
        sub { my $number = 1.5; $number = "$number"; \$number },
        sub { my $magical = 'x'; pos($magical) = 0; \$magical },
        sub { [] },
        sub { {} },
        sub { my $closed = 1; sub { $closed } },
        sub { \do { local *GLOB } },
    )
);

sub settle_heap {
    my ($highest, $address, $thing) = (0);
    $#filling = $MAX_PIECES;
    $#filling = -1;
    # Large ones are taken from behind all that was given back, but for large gaps.
    for my $block (map { 'x' x 100_000 } 1 .. 4) {
        $address = unpack 'J', pack 'P', $block;
        $highest = $address if $address > $highest;
    }
    for my $size (65_000, 32_000, 16_000, 8_000, 4_000, 2_000, reverse map { 16 * $_ - 2 } 1 .. 64) {
        do {
            push @filling, 'x' x $size;
            $address = unpack 'J', pack 'P', $filling[-1];
        } until $address > $highest || @filling > $MAX_PIECES;
    }
    for my $make (@kinds) {
        do {
            ($thing, $address) = $make->();
            push @filling, $thing;
        } until $address > $highest || @filling > $MAX_PIECES;
    }
    collapse_heap();
    gather_text();
}

sub collapse_heap {
    my ($heap) = grep { $_->{file} eq '[heap]' } mappings();
    syscall({{madvise}}, $heap->{begin}, $heap->{end} - $heap->{begin}, $COLLAPSE) if $heap;
}

# Puts a copy of the interpreter's program text into large pages, in the place of the file's. A fork leaves out what is mapped from
# files, so that each copy had to fault for every 64 KiB of text that it came to; the large page it has from the begin. The text is
# never writable where it is executed. What is refused on the way is left as it was.
sub gather_text {
    return if {{mremap}} < 0;
    # What runs, which the files need no longer be.
    open my $memory, '<', '/proc/self/mem' or return;
    for my $text (grep { $_->{rights} eq 'r-xp' && $_->{file} =~ $TEXTS } mappings()) {
        my $length = $text->{end} - $text->{begin};
        my $room = round_up($length);
        # PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
        my $mapped = syscall({{mmap}}, 0, $room + $LARGE_PAGE, 3, 0x22, -1, 0);
        next if $mapped <= 0;
        my $copy = round_up($mapped);
        # PROT_READ | PROT_EXEC, which some systems refuse; MREMAP_MAYMOVE | MREMAP_FIXED
        syscall({{pread64}}, fileno $memory, $copy, $length, $text->{begin}) == $length
            && syscall({{madvise}}, $copy, $room, $COLLAPSE) == 0
            && syscall({{mprotect}}, $copy, $length, 5) == 0
            && syscall({{mremap}}, $copy, $length, $length, 3, $text->{begin});
        syscall({{munmap}}, $mapped, $room + $LARGE_PAGE);
    }
}

sub round_up { ($_[0] + $LARGE_PAGE - 1) & ~($LARGE_PAGE - 1) }

sub mappings {
    open my $maps, '<', '/proc/self/maps' or return;
    my @found;
    while (<$maps>) {
        push @found, { begin => hex $1, end => hex $2, rights => $3, file => $4 }
            if /^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \d+ +(\S.*)$/;
    }
    return @found;
}
