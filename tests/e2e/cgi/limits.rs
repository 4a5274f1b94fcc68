//! Limits of what a script may use (`--cgi-limit-…`, `--cgi-nice`): they are set, they hold, and the log names them.

use std::collections::BTreeMap;
use std::fs;

use crate::support::{Forkhorn, Running, wait_until};

const TELL: &str = "#!/usr/bin/perl
print \"Content-Type: text/plain\\n\\nNice \", getpriority(0, 0), \"\\n\";
open my $limits, '<', '/proc/self/limits' or die $!;
print <$limits>;
";

/// Forks until it can't, or 300 times, and waits to be ended with all its children.
const BOMB: &str = "#!/usr/bin/perl
my $count = 0;
while ($count < 300) {
    my $child = fork;
    last unless defined $child;
    if (!$child) { sleep 1000; exit }
    $count++;
}
print STDERR \"forked $count times, then: $!\\n\";
sleep 1000;
";

fn with(name: &str, script: &str, options: &[&str]) -> Running {
    let forkhorn = Forkhorn::new().script(name, script).cgi_folder();
    options.iter().fold(forkhorn, |forkhorn, option| forkhorn.arg(*option)).start()
}

/// Soft and hard limits, by their names in /proc/self/limits.
fn limits(text: &str) -> BTreeMap<String, (String, String)> {
    let line = |line: &str| {
        let (name, rest) = line.split_at_checked(26)?;
        let mut words = rest.split_whitespace();
        Some((name.trim().to_owned(), (words.next()?.to_owned(), words.next()?.to_owned())))
    };
    text.lines().filter_map(line).collect()
}

#[test]
fn each_limit_is_set_for_the_script_and_for_nobody_else() {
    let options = [
        ("--cgi-limit-memory", "512"),
        ("--cgi-limit-cpu", "7"),
        ("--cgi-limit-processes", "1000"),
        ("--cgi-limit-files", "20"),
        ("--cgi-limit-file-size", "3"),
        ("--cgi-nice", "4"),
    ];
    let words: Vec<&str> = options.iter().flat_map(|(name, value)| [*name, *value]).collect();
    let forkhorn = with("tell.pl", TELL, &words);
    let text = forkhorn.get("/cgi-bin/tell.pl").text();
    let set = limits(&text);
    for (name, soft, hard) in [
        ("Max address space", "536870912", "536870912"),
        ("Max cpu time", "7", "8"),
        ("Max processes", "1000", "1000"),
        ("Max open files", "20", "20"),
        ("Max file size", "3145728", "3145728"),
        ("Max core file size", "0", "0"),
    ] {
        assert_eq!(set[name], (soft.to_owned(), hard.to_owned()), "{name}");
    }
    let own = |pid: i32| fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
    let worker = forkhorn.family().first().expect("a worker").pid;
    assert_eq!(own(worker), own(forkhorn.pid()));
    // Without options, only core dumps are off.
    let plain = with("tell.pl", TELL, &[]);
    let plain_text = plain.get("/cgi-bin/tell.pl").text();
    let mut expected = limits(&own(plain.pid()));
    expected.insert("Max core file size".to_owned(), ("0".to_owned(), "0".to_owned()));
    let mut found = limits(&plain_text);
    found.retain(|name, _| !name.starts_with("Nice"));
    expected.retain(|name, _| found.contains_key(name));
    assert!(found.len() > 10 && found == expected, "{found:?} {expected:?}");
    let nice = |text: &str| -> i32 {
        let line = text.lines().next().expect("a line");
        line.strip_prefix("Nice ").and_then(|number| number.parse().ok()).expect(line)
    };
    assert_eq!(nice(&text), (nice(&plain_text) + 4).min(19));
}

#[test]
fn a_script_that_reaches_a_limit_is_502_and_the_log_names_the_limit() {
    for (script, option, value, lines) in [
        ("1 while 1;", "--cgi-limit-cpu", "1", &["SIGXCPU", "--cgi-limit-cpu"][..]),
        ("my $x = 'x' x (400 << 20);", "--cgi-limit-memory", "100", &["Out of memory", "--cgi-limit-memory"]),
        (
            "open my $f, '+>', undef or die $!; my $x = 'x' x 4096; for (1 .. 1000) { syswrite $f, $x or die $! }",
            "--cgi-limit-file-size",
            "1",
            &["SIGXFSZ", "--cgi-limit-file-size"],
        ),
        (
            "for (1 .. 20) { open $f[$_], '<', '/dev/null' or die $! }",
            "--cgi-limit-files",
            "10",
            &["Too many open files", "--cgi-limit-files"],
        ),
    ] {
        let forkhorn = with("greedy.pl", &format!("#!/usr/bin/perl\n{script}\n"), &[option, value]);
        assert_eq!(forkhorn.get("/cgi-bin/greedy.pl").status, 502, "{option}");
        for line in lines {
            forkhorn.wait_for_log(line);
        }
    }
}

#[test]
fn limits_hold_for_copies_of_a_warm_interpreter_too() {
    let forkhorn =
        Forkhorn::new().script("tell.pl", TELL).script("greedy.pl", "#!/usr/bin/perl\n1 while 1;\n");
    let options = ["--warm", "perl", "--cgi-limit-cpu", "1", "--cgi-limit-memory", "512", "--cgi-nice", "3"];
    let forkhorn =
        options.iter().fold(forkhorn.cgi_folder(), |forkhorn, option| forkhorn.arg(*option)).start();
    let mut text = String::new();
    wait_until("it runs warm", || {
        text = forkhorn.get("/cgi-bin/tell.pl").text();
        forkhorn.server.log.contains("tell.pl*runs in a copy of a warm interpreter")
    });
    let set = limits(&text);
    for (name, value) in [("Max address space", "536870912"), ("Max core file size", "0")] {
        assert_eq!(set[name], (value.to_owned(), value.to_owned()), "{name}");
    }
    assert_eq!(forkhorn.get("/cgi-bin/greedy.pl").status, 502);
    forkhorn.wait_for_log("greedy.pl*SIGXCPU*--cgi-limit-cpu");
    assert_eq!(forkhorn.get("/cgi-bin/tell.pl").status, 200, "the interpreter goes on");
}

#[test]
fn a_fork_bomb_is_held_by_its_limit_and_ends_with_its_time() {
    let is_root = nix::unistd::geteuid().is_root();
    // The kernel holds root to no such limit.
    let uid = match is_root {
        true => nix::unistd::User::from_name("nobody").expect("the user database").expect("a user").uid,
        false => nix::unistd::getuid(),
    };
    let limit = (tasks_of(uid.as_raw()) + 20).to_string();
    let mut options = vec!["--cgi-limit-processes", limit.as_str(), "--cgi-timeout", "1"];
    if is_root {
        options.extend(["--user", "nobody"]);
    }
    let forkhorn = with("bomb.pl", BOMB, &options);
    assert_eq!(forkhorn.get("/cgi-bin/bomb.pl").status, 504);
    let line = forkhorn.wait_for_log("forked * times, then: Resource temporarily unavailable");
    let count = line.split_once("forked ").and_then(|(_, rest)| rest.split_whitespace().next());
    let count: u32 = count.and_then(|count| count.parse().ok()).expect("a number");
    assert!(count < 300, "{count}");
    wait_until("nothing is left of it", || {
        !forkhorn.family().iter().any(|process| process.name == "bomb.pl")
    });
    assert_eq!(forkhorn.get("/cgi-bin/missing").status, 404, "the worker goes on");
}

/// Processes and threads of a user, as the kernel counts them.
fn tasks_of(uid: u32) -> usize {
    let status = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("status")).ok();
    let all = fs::read_dir("/proc").expect("/proc").filter_map(|entry| status(entry.ok()?));
    let number = |status: &str, name: &str| -> Option<usize> {
        status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
    };
    all.filter(|status| number(status, "Uid:") == Some(uid as usize))
        .filter_map(|status| number(&status, "Threads:"))
        .sum()
}
