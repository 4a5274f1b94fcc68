//! Clients that ask all the time, while something happens to the workers.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::Running;
use crate::support::fastcgi::Request;

/// Tells the clients to stop, also when what goes on meanwhile has failed.
pub struct StopAtEnd<'a>(pub &'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Clients that ask all the time, each on a connection that it keeps; a request that fails fails the test.
pub fn under_load(forkhorn: &Running, clients: usize, act: impl FnOnce()) -> usize {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|number| {
                scope.spawn({
                    let stop = &stop;
                    move || client(forkhorn, number, stop)
                })
            })
            .collect();
        let ends = StopAtEnd(&stop);
        act();
        drop(ends);
        clients.into_iter().map(|client| client.join().expect("no request fails")).sum()
    })
}

/// One client on a kept connection; the odd ones speak FastCGI, and every fourth connection is a fresh one.
fn client(forkhorn: &Running, number: usize, stop: &AtomicBool) -> usize {
    let mut answered = 0;
    let (mut http, mut fastcgi) = (forkhorn.connect(), forkhorn.peer());
    while !stop.load(Ordering::Relaxed) {
        if answered % 4 == 3 {
            (http, fastcgi) = (forkhorn.connect(), forkhorn.peer());
        }
        if number % 2 == 1 {
            let answer = fastcgi.request(&Request::new("GET", "/").keep());
            assert!(answer.complete && answer.response().status == 200, "{answer:?}");
        } else {
            let response = http.get("/");
            assert!(response.complete && response.status == 200, "{response:?}");
            assert_eq!(response.field("Connection"), None, "{response:?}");
        }
        answered += 1;
    }
    answered
}
