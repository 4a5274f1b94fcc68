//! What a script can reach of the warm interpreter that it was copied from: as much as any process of its user, and no more.

use nix::unistd::geteuid;

use super::life::{ask, parent, perl_script, python_script, warm_parent};
use crate::support::process::process;
use crate::support::{Forkhorn, wait_until};

/// Each descriptor and what it is; the one with which the folder is read is left out.
const PERL_DESCRIPTORS: &str = "opendir my $d, '/proc/self/fd'; print join(' ', map { my $l = readlink \"/proc/self/fd/$_\"; \
    $l && $l !~ /script|descriptors|\\/fd$/ ? \"$_=\" . ($l =~ /^(pipe|socket|\\/dev\\/null)/)[0] : () } sort grep { /\\d/ } readdir $d), qq(\\n);";
const PYTHON_DESCRIPTORS: &str = "print(*(f'{n}={os.readlink(\"/proc/self/fd/\" + n).split(\":\")[0]}' for n in sorted(os.listdir('/proc/self/fd')) \
    if os.path.exists('/proc/self/fd/' + n) or n in '012'))";

#[test]
fn a_copy_has_the_descriptors_of_a_classic_script() {
    for (language, script) in
        [("python", python_script(PYTHON_DESCRIPTORS)), ("perl", perl_script(PERL_DESCRIPTORS))]
    {
        for spares in ["0", "2"] {
            let forkhorn = Forkhorn::new()
                .script("descriptors", &script)
                .script("parent", parent(language))
                .cgi_folder()
                .args(["--warm", language, "--warm-spares", spares])
                .start();
            let classic = ask(&forkhorn, "descriptors");
            assert!(
                classic.starts_with("0=") && classic.contains(" 1=") && classic.contains(" 2="),
                "{classic}"
            );
            warm_parent(&forkhorn, "parent");
            for _ in 0..4 {
                assert_eq!(ask(&forkhorn, "descriptors"), classic, "{language}, {spares} spares");
            }
        }
    }
}

/// Tries to take what its interpreter has open, as a debugger may (pidfd_open(2) and pidfd_getfd(2)), and to end it. What it
/// takes of itself shows that this machine has the calls; before Linux 5.6 there is nothing to take with.
const HOSTILE: &str = "for my $pid (getppid, $$) {
    my $process = syscall 434, $pid, 0;
    print join(' ', 'taken:', grep { syscall(438, $process, $_ + 0, 0) >= 0 } 0 .. 30), qq(\\n);
}
kill 'KILL', getppid if $ENV{QUERY_STRING};
print qq(goes on\\n);";

#[test]
fn a_script_takes_no_descriptor_of_its_interpreter_and_to_end_it_harms_no_request() {
    let forkhorn = Forkhorn::new()
        .script("hostile", perl_script(HOSTILE))
        .script("parent", parent("perl"))
        .cgi_folder()
        .args(["--warm", "perl", "--warm-spares", "1"]);
    let forkhorn = unprivileged(forkhorn).start();
    let warm = warm_parent(&forkhorn, "parent");
    for query in ["", "?kill"] {
        let said = ask(&forkhorn, &format!("hostile{query}"));
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!((lines[0], lines[2]), ("taken:", "goes on"), "{said}");
        assert!(lines[1].starts_with("taken: 0 1 2") || lines[1] == "taken:", "{said}");
    }
    wait_until("it is gone", || process(warm).is_none());
    for _ in 0..10 {
        ask(&forkhorn, "parent");
    }
    assert_ne!(warm_parent(&forkhorn, "parent"), warm);
}

/// Nothing is refused to root.
fn unprivileged(forkhorn: Forkhorn) -> Forkhorn {
    if geteuid().is_root() { forkhorn.args(["--user", "nobody"]) } else { forkhorn }
}

#[test]
fn no_script_reads_or_changes_the_memory_of_a_warm_perl() {
    let script = perl_script(
        "for my $pid (getppid, $$) { print open(my $f, '+<', \"/proc/$pid/mem\") ? 'opened ' : 'refused ' }",
    );
    let forkhorn = Forkhorn::new()
        .script("memory", script)
        .script("parent", parent("perl"))
        .cgi_folder()
        .args(["--warm", "perl", "--warm-spares", "1"]);
    let forkhorn = unprivileged(forkhorn).start();
    warm_parent(&forkhorn, "parent");
    for _ in 0..3 {
        assert_eq!(ask(&forkhorn, "memory"), "refused opened", "its interpreter's, its own");
    }
}

/// Compares the program text in memory with that of the interpreter's file, by the file's program headers, and tells what may be
/// done with the memory.
const TEXT: &str = "open my $file, '<:raw', $^X or die; read $file, my $head, 4096;
my ($at, $size, $count) = unpack 'x32 Q x14 S S', $head;
my (@loads) = grep { $$_[0] == 1 } map { [unpack 'L L Q Q x8 Q', substr $head, $at + $size * $_, $size] } 0 .. $count - 1;
my ($text) = grep { $$_[1] & 1 } @loads;
my (undef, undef, $offset, $address, $length) = @$text;
open my $maps, '<', '/proc/self/maps' or die;
my @maps = map { /^(\\w+)-(\\w+) (\\S+)/ ? [hex $1, hex $2, $3] : () } <$maps>;
my $begin = $maps[0][0] - ($loads[0][3] & ~4095) + $address;
my ($mapped) = grep { $$_[0] <= $begin && $begin < $$_[1] } @maps;
open my $memory, '<:raw', '/proc/self/mem' or die;
sysseek $memory, $begin, 0; sysread $memory, my $here, $length;
sysseek $file, $offset, 0; sysread $file, my $there, $length;
print $here eq $there && $length > 10_000 ? 'same' : 'another', qq( $$mapped[2]\n);";

#[test]
fn the_program_text_of_a_copy_is_that_of_its_interpreter_and_can_not_be_written_to() {
    let forkhorn = Forkhorn::new()
        .script("text", perl_script(TEXT))
        .script("parent", parent("perl"))
        .cgi_folder()
        .args(["--warm", "perl"])
        .start();
    assert_eq!(ask(&forkhorn, "text"), "same r-xp", "classic");
    warm_parent(&forkhorn, "parent");
    for _ in 0..3 {
        assert_eq!(ask(&forkhorn, "text"), "same r-xp", "warm");
    }
}

#[test]
fn a_script_that_says_what_only_the_driver_says_is_not_believed() {
    // It has no channel to say it on, but the socket for reports of modules: that takes names and nothing else, and the last
    // of the four does name one.
    let script = perl_script(
        "socket my $s, 1, 2, 0 or die; my $to = pack 'S a*', 1, qq(\\0) . pack 'H*', $Forkhorn::Warm::setup{report};
         for my $said (qq(started\\0001), qq(exit\\0001\\0000), qq(learned\\0009\\0x.pm),
             qq(learned\\0000\\0../../etc/passwd\\0/etc/passwd\\0Text/Wrap.pm)) {
             send $s, $said, 0x4040, $to or print qq(refused\\n);
         }
         print qq(said\\n);",
    );
    let forkhorn = Forkhorn::new()
        .script("liar", script)
        .script("parent", parent("perl"))
        .cgi_folder()
        .args(["--warm", "perl"])
        .start();
    warm_parent(&forkhorn, "parent");
    wait_until("the one true name is learned", || {
        assert_eq!(ask(&forkhorn, "liar"), "said");
        forkhorn.log().iter().any(|line| line.contains("modules loaded: Text/Wrap.pm"))
    });
    let log = forkhorn.log();
    for lie in ["passwd", "x.pm", "nobody asked for", "not understood"] {
        assert!(!log.iter().any(|line| line.contains(lie)), "{lie}");
    }
}
