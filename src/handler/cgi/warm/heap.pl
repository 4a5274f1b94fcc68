# Memory of the warm interpreter, arranged for copying.
#
# A copy shares all pages until one of the two writes to one. What the script makes is put into pieces that have become free
# while the modules were loaded: a bit on nearly every page, each of which had then to be copied. So these pieces are used up
# before: copies begin on pages that are empty. And the kernel is asked for large pages, which it shares and gives back faster.

our @filling;
our $LARGE_PAGE = 2 * 1024 * 1024;
our $MAX_PIECES = 20_000;

# Moves the end of the heap to the begin of a large page, before anything is loaded. Returns where it has been.
sub align_heap {
    my $end = syscall({{brk}}, 0);
    syscall({{brk}}, ($end + $LARGE_PAGE - 1) & ~($LARGE_PAGE - 1)) if $end > 0;
    return $end;
}

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
    # MADV_COLLAPSE, from Linux 6.1 on; older ones refuse it.
    my $end = align_heap();
    my $begin = heap_begin();
    syscall({{madvise}}, $begin, $end - $begin, 25) if $begin;
}

sub heap_begin {
    open my $maps, '<', '/proc/self/maps' or return;
    while (<$maps>) {
        return hex $1 if /^([0-9a-f]+)-.*\[heap\]$/;
    }
}
