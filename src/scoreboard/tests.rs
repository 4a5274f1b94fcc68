use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::*;
use crate::gateway::{IdText, Origin, UniqueId};
use crate::sys::SharedWords;
use std::os::fd::AsFd;

const NONE: IdText<'_> = IdText::Taken(b"");

fn page(threads: u8, scripts: u8) -> (BoardView, Scoreboard) {
    let (view, page) = BoardView::create(Layout { threads, scripts }).expect("a page");
    let board = Scoreboard::open(&page).expect("opened");
    (view, board)
}

#[test]
fn what_a_worker_writes_the_master_reads() {
    let (mut view, mut board) = page(2, 0);
    assert_eq!((view.state(), view.heartbeat_age()), (BoardState::Starting, None));
    board.serves();
    assert_eq!(view.state(), BoardState::Idle);
    board.set(Gauge::BusyThreads, 1);
    assert_eq!(view.state(), BoardState::Busy);
    board.drains();
    assert_eq!(view.state(), BoardState::Draining);
    board.beat(Instant::now());
    assert!(view.heartbeat_age().is_some_and(|age| age < Duration::from_secs(60)));
    board.count(Counter::HttpWsgi);
    board.add(Counter::BytesIn, 512);
    for micros in [999, 1001, 60_000_000] {
        board.waited(Duration::from_micros(micros));
    }
    let counters = view.counters().clone();
    for (counter, value) in [
        (Counter::HttpWsgi, 1),
        (Counter::BytesIn, 512),
        (Counter::QueueUpTo1ms, 1),
        (Counter::QueueUpTo5ms, 1),
        (Counter::QueueLonger, 1),
        (Counter::QueueMicros, 60_002_000),
        (Counter::RunMicros, 0),
    ] {
        assert_eq!(counters.of(counter), value, "{counter:?}");
    }
    assert_eq!(view.gauge(Gauge::LongestQueue), 60_000_000);
}

#[test]
fn what_the_master_writes_the_worker_reads() {
    let (view, board) = page(1, 0);
    assert_eq!(board.population(), Population::default());
    for (serving, most) in [(1, 1), (3, 4096), (u16::MAX, u16::MAX)] {
        view.tell_population(Population { serving, most });
        assert_eq!(board.population(), Population { serving, most });
    }
}

fn texts_of(requests: &[RequestView]) -> Vec<&String> {
    requests.iter().map(|request| &request.text).collect()
}

#[test]
fn requests_are_shown_while_they_run_and_the_last_one_afterwards() {
    let (view, mut board) = page(2, 1);
    assert_eq!((view.running(), view.last()), (vec![], vec![]));
    let now = Instant::now();
    let earlier = now.checked_sub(Duration::from_secs(5)).expect("the machine runs for longer");
    let mut first = board.begin(Runner::Thread, now, b"GET /\x1b[2J", IdText::Taken(b"id-1"));
    let mut second = board.begin(Runner::Thread, earlier, b"POST /second", NONE);
    let mut none = board.begin(Runner::Thread, now, b"GET /no-place-left", NONE);
    let mut script = board.begin(Runner::Script, now, &[b'x'; 1000], IdText::Taken(&[b'y'; 1000]));
    let running = view.running();
    let texts: Vec<_> = running.iter().map(|request| (request.runner, request.text.as_str())).collect();
    let long = "x".repeat(MAX_TEXT_BYTES);
    assert_eq!(texts[0], (Runner::Thread, "POST /second"), "the oldest is the first");
    assert!(texts.contains(&(Runner::Thread, "GET /\\x1b[2J")) && texts.contains(&(Runner::Script, &long)));
    assert_eq!(texts.len(), 3);
    assert!(running.iter().any(|request| request.describe().ends_with(" s, id id-1)")), "{running:?}");
    let last = view.last();
    assert_eq!(last.iter().map(|request| &request.text).collect::<Vec<_>>(), texts_of(&running));
    for place in [&mut second, &mut none, &mut script, &mut first] {
        board.end(place);
        board.end(place);
    }
    assert_eq!(view.running(), vec![]);
    assert_eq!(view.last().len(), 1);
    let mut again =
        board.begin(Runner::Thread, now, b"GET /again", IdText::Made(UniqueId::from_bits(0x4f0a)));
    assert_eq!(view.last()[0].text, "GET /again");
    assert_eq!(view.last()[0].id, "0000000000004f0a");
    board.end(&mut again);
}

#[test]
fn the_text_of_requests_that_come_again_is_that_of_the_last() {
    let (view, mut board) = page(1, 0);
    let (one, two) = (Some(Origin::numbered(1)), Some(Origin::numbered(2)));
    for (index, (text, origin)) in [
        ("GET /", one),
        ("GET /", one),
        ("GET /else", None),
        ("POST /not-written", None),
        ("GET /", one),
        ("GET /longer", two),
        ("GET /", one),
    ]
    .into_iter()
    .enumerate()
    {
        let id = IdText::Made(UniqueId::from_bits(index as u64 + 1));
        let mut place = board.begin_again(Runner::Thread, Instant::now(), (text.as_bytes(), origin), id);
        let running = view.running();
        assert_eq!((running[0].text.as_str(), &running[0].id), (text, &id.to_string()), "{index}");
        board.end(&mut place);
    }
    // It is not written a second time.
    let id = IdText::Made(UniqueId::from_bits(9));
    let mut place = board.begin_again(Runner::Thread, Instant::now(), (b"PUT /", one), id);
    assert_eq!(view.running()[0].text, "GET /");
    board.end(&mut place);
}

#[test]
fn a_page_has_room_for_every_place() {
    for (threads, scripts, pages) in [(0, 0, 1), (1, 0, 1), (8, 0, 1), (9, 0, 2), (48, 16, 7)] {
        let layout = Layout { threads, scripts };
        assert_eq!(layout.bytes(), pages * PAGE_BYTES, "{layout:?}");
        assert_eq!(Layout::from_word(layout.to_word()), layout);
        let (view, mut board) = page(threads, scripts);
        let now = Instant::now();
        let taken = (0..200).filter(|_| board.begin(Runner::Thread, now, b"x", NONE) != Place::default());
        assert_eq!(taken.count(), usize::from(threads));
        let taken = (0..200).filter(|_| board.begin(Runner::Script, now, b"x", NONE) != Place::default());
        assert_eq!(taken.count(), usize::from(scripts));
        assert_eq!(view.running().len(), usize::from(threads) + usize::from(scripts));
    }
}

#[test]
fn a_hostile_page_is_limited_and_its_counters_do_not_go_back() {
    let (mut view, page) = BoardView::create(Layout { threads: 1, scripts: 0 }).expect("a page");
    let words = SharedWords::map(page.as_fd()).expect("mapped");
    for value in [u64::MAX, u64::MAX - 1, 0x5555_5555_5555_5555, 1 << 63, 2] {
        for word in words.iter() {
            word.store(value, Ordering::Relaxed);
        }
        let _ = (view.state(), view.heartbeat_age(), view.running(), view.last());
        for gauge in Gauge::ALL {
            assert!(view.gauge(*gauge) <= 1 << 40);
        }
        for counter in Counter::ALL {
            assert!((1 << 51..=1 << 52).contains(&view.counters().of(*counter)), "{counter:?}");
        }
        for request in view.last() {
            assert!(request.text.len() <= 4 * MAX_TEXT_BYTES && request.id.len() <= 4 * MAX_ID_BYTES);
        }
    }
    let mut sum = Counters::default();
    for _ in 0..10_000 {
        sum.add(view.counters());
    }
    assert_eq!(sum.of(Counter::BytesIn), u64::MAX, "saturated");
}

#[test]
fn a_text_is_never_read_half_written() {
    let (view, mut board) = page(1, 0);
    let writer = std::thread::spawn(move || {
        for number in 0..200_000u32 {
            let byte = b'a' + (number % 26) as u8;
            let text = [byte; 64];
            let mut place = board.begin(Runner::Thread, Instant::now(), &text, IdText::Taken(&text[..8]));
            board.end(&mut place);
        }
    });
    while !writer.is_finished() {
        for request in view.last() {
            let first = request.text.chars().next().expect("64 of them");
            assert!(request.text.chars().chain(request.id.chars()).all(|c| c == first), "{request:?}");
        }
    }
    writer.join().expect("no panic");
}

#[test]
fn labels_tell_the_counters_of_a_family_apart() {
    let mut all: Vec<_> =
        Counter::ALL.iter().map(|counter| (counter.family().name, counter.labels())).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), Counter::COUNT);
    for first in [Counter::QueueUpTo1ms, Counter::RunUpTo1ms] {
        let family = first.family();
        let members: Vec<_> = Counter::ALL.iter().filter(|counter| counter.family() == family).collect();
        assert_eq!(members.len(), counter::BOUNDS_MICROS.len() + 2);
        for (member, bound) in members.iter().zip(counter::BOUNDS_MICROS) {
            let bound = (bound as f64 / 1e6).to_string();
            assert_eq!(member.labels(), [("le", bound.as_str())]);
        }
    }
}
