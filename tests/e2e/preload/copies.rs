//! Copies of one template share memory, and nothing by which one could be told from the other.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::process::send_signal;
use crate::support::{Forkhorn, Running, wait_until};

/// `/frozen`: what a collection of garbage does to memory that is shared.
const HEAP: &str = "
import gc, json
HEAP = [[number] for number in range(150_000)]

def private_kib():
    with open('/proc/self/smaps_rollup') as file:
        return sum(int(line.split()[1]) for line in file if line.startswith('Private_'))

def application(environ, start_response):
    start_response('200 OK', [])
    if environ['PATH_INFO'] == '/thaw':
        gc.unfreeze()
    gc.disable()
    before = private_kib()
    gc.collect()
    return [json.dumps({'frozen': gc.get_freeze_count(), 'copied': private_kib() - before}).encode()]
";

#[test]
fn a_collection_of_garbage_in_a_worker_leaves_the_heap_shared() {
    let forkhorn = Forkhorn::new().code(HEAP).start();
    let ask = |path: &str| forkhorn.get(path).json();
    let number = |answer: &Value, name: &str| answer[name].as_i64().expect("a number");
    let frozen = ask("/");
    assert!(number(&frozen, "frozen") > 150_000, "{frozen}");
    assert!(number(&frozen, "copied") < 2_000, "KiB: {frozen}");
    // The same without: the collector writes to each of the lists.
    let thawed = ask("/thaw");
    // Some versions of Python freeze a few hundred objects of their own.
    assert!(number(&thawed, "frozen") < 10_000, "{thawed}");
    assert!(number(&thawed, "copied") > 8_000, "KiB: {thawed}");
}

#[test]
fn a_worker_that_loads_for_itself_freezes_nothing() {
    let forkhorn = Forkhorn::new().code(HEAP).args(["--preload", "never"]).start();
    let answer = forkhorn.get("/").json();
    assert!(answer["frozen"].as_i64().is_some_and(|count| count < 10_000), "{answer}");
}

const RANDOM: &str = "
import json, os, random, secrets, ssl, tempfile, uuid
OWN = random.Random()
random.random(), uuid.uuid1(), uuid.uuid4(), secrets.token_hex(), ssl.RAND_bytes(8), next(tempfile._get_candidate_names())

def application(environ, start_response):
    start_response('200 OK', [])
    return [json.dumps({
        'random': random.random(), 'uuid1': str(uuid.uuid1()), 'uuid4': str(uuid.uuid4()),
        'secrets': secrets.token_hex(), 'ssl': ssl.RAND_bytes(8).hex(), 'os': os.urandom(8).hex(),
        'tempfile': next(tempfile._get_candidate_names()), 'pid': os.getpid(),
        'own generator': OWN.random(), 'hash seed': hash('x'),
    }).encode()]
";

#[test]
fn copies_of_one_template_are_random_in_different_ways() {
    let forkhorn = Forkhorn::new().code(RANDOM).start();
    let [one, other] = two_copies(&forkhorn);
    let object = one.as_object().expect("an object");
    let same: BTreeSet<&str> =
        object.keys().map(String::as_str).filter(|&name| one[name] == other[name]).collect();
    // The documentation says so: nobody but the application knows of a generator of its own.
    assert_eq!(same, BTreeSet::from(["hash seed", "own generator"]), "{one} {other}");
}

/// What the first copy answers, and what the one that replaces it does: both are made from the same process.
fn two_copies(forkhorn: &Running) -> [Value; 2] {
    let first = forkhorn.get("/").json();
    send_signal(first["pid"].as_i64().expect("a pid") as i32, Signal::SIGKILL);
    wait_until("another copy is ready", || forkhorn.server.log.count("worker 0 generation 0 ready") == 2);
    let second = forkhorn.get("/").json();
    assert_ne!(first["pid"], second["pid"]);
    [first, second]
}

#[test]
fn a_worker_logs_even_if_a_thread_that_is_gone_held_the_locks_of_logging() {
    let forkhorn = Forkhorn::new()
        .code(
            "
import logging, sys, threading, time
handler = logging.StreamHandler(sys.stderr)
logging.getLogger().addHandler(handler)
held = threading.Event()

def hold():
    with handler.lock:
        held.set()
        time.sleep(3600)

threading.Thread(target=hold, daemon=True).start()
held.wait()

def application(environ, start_response):
    logging.error('the worker logs')
    start_response('200 OK', [])
    return [b'logged']
",
        )
        .args(["--preload", "always"])
        .start();
    assert_eq!(forkhorn.get("/").text(), "logged");
    forkhorn.wait_for_log("the worker logs");
}

#[test]
fn what_was_printed_while_loading_is_printed_once() {
    let forkhorn = Forkhorn::new()
        .code(
            "
import json, os, sys
sys.stdout.write('printed while loading, ')

def application(environ, start_response):
    print('and in a request', flush=True)
    start_response('200 OK', [])
    return [json.dumps({'pid': os.getpid()}).encode()]
",
        )
        .env("PYTHONUNBUFFERED", "")
        .start();
    two_copies(&forkhorn);
    forkhorn.server.log.wait_for_nth("and in a request", 2);
    assert_eq!(forkhorn.server.log.text().matches("printed while loading").count(), 1);
}
