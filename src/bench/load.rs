//! Many connections that ask at once: as fast as they can (closed loop), or at a fixed rate (open loop).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::client::{Client, Target};

/// Latencies are kept in microseconds, up to two minutes, with three significant digits.
const LONGEST_MICROS: u64 = 120_000_000;

/// A rate at which more connections would not help: the requests wait for them, and that counts.
const MOST_CONNECTIONS: u16 = 512;

pub(super) struct Load<'a> {
    pub(super) target: &'a Target,
    pub(super) connections: u16,
}

/// What one measurement has found.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Microseconds from when a request was due to the end of its answer; only of those that were answered well.
    pub(crate) latencies: Histogram<u64>,
    /// Broken connections, and answers whose status is not 2xx or 3xx.
    pub(crate) errors: u64,
    pub(crate) elapsed: Duration,
    /// Median of one client that asks alone.
    alone: Option<Duration>,
}

impl Measured {
    fn new() -> Self {
        let latencies = Histogram::new_with_max(LONGEST_MICROS, 3).expect("three digits are allowed");
        Measured { latencies, errors: 0, elapsed: Duration::ZERO, alone: None }
    }

    pub(super) fn with_alone(self, alone: Measured) -> Self {
        Measured { alone: Some(alone.quantile(0.5)), ..self }
    }

    /// How long a request takes when no other is under way.
    pub(crate) fn alone(&self) -> Duration {
        self.alone.unwrap_or_else(|| self.quantile(0.5))
    }

    /// Answers a second.
    pub(crate) fn per_second(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.latencies.len() as f64 / seconds } else { 0.0 }
    }

    pub(crate) fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.latencies.value_at_quantile(quantile))
    }

    fn note(&mut self, due: Instant, result: &std::io::Result<u16>) {
        match result {
            Ok(200..400) => {
                let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.latencies.saturating_record(micros);
            }
            _ => self.errors += 1,
        }
    }

    fn add(&mut self, other: &Measured) {
        // Both were made alike.
        let _ = self.latencies.add(&other.latencies);
        self.errors += other.errors;
    }
}

impl Load<'_> {
    /// Each connection asks, waits for the answer, asks again.
    pub(super) fn closed(&self, duration: Duration) -> Measured {
        let end = Instant::now() + duration;
        self.on_all(self.connections, |connection, measured| {
            while Instant::now() < end {
                let due = Instant::now();
                let result = connection.ask();
                measured.note(due, &result);
            }
        })
    }

    /// The same with a single connection.
    pub(super) fn alone(&self, duration: Duration) -> Measured {
        Load { target: self.target, connections: 1 }.closed(duration)
    }

    /// Requests become due at even distances, whatever becomes of the earlier ones; a request that finds every connection
    /// busy waits, and its latency counts from when it was due. So a server that stalls can't hide it (coordinated
    /// omission).
    pub(super) fn fixed(&self, rate: f64, duration: Duration) -> Measured {
        let total = (rate * duration.as_secs_f64()).ceil() as u64;
        let (begin, next) = (Instant::now(), AtomicU64::new(0));
        let connections = self.connections.saturating_mul(4).min(MOST_CONNECTIONS);
        self.on_all(connections, |connection, measured| {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= total {
                    return;
                }
                let due = begin + due_after(number, rate);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let result = connection.ask();
                measured.note(due, &result);
            }
        })
    }

    fn on_all(&self, connections: u16, work: impl Fn(&mut Connection<'_>, &mut Measured) + Sync) -> Measured {
        let begin = Instant::now();
        let mut all = Measured::new();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..connections)
                .map(|_| {
                    scope.spawn(|| {
                        let mut measured = Measured::new();
                        work(&mut Connection { target: self.target, client: None }, &mut measured);
                        measured
                    })
                })
                .collect();
            for thread in threads {
                if let Ok(measured) = thread.join() {
                    all.add(&measured);
                }
            }
        });
        all.elapsed = begin.elapsed();
        all
    }
}

/// When the request with this number is due, from the beginning.
fn due_after(number: u64, rate: f64) -> Duration {
    Duration::try_from_secs_f64(number as f64 / rate).unwrap_or(Duration::MAX)
}

/// A client that is made anew after an error.
struct Connection<'a> {
    target: &'a Target,
    client: Option<Client>,
}

impl Connection<'_> {
    fn ask(&mut self) -> std::io::Result<u16> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => self.target.connect().inspect_err(|_| {
                // Nobody listens: not as fast as the processor can.
                std::thread::sleep(Duration::from_millis(1));
            })?,
        };
        let status = client.ask()?;
        self.client = Some(client);
        Ok(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_even_distances() {
        for (number, rate, due) in [(0, 10.0, 0), (1, 10.0, 100), (25, 10.0, 2500), (3, 4000.0, 0)] {
            assert_eq!(due_after(number, rate).as_millis(), due, "{number} at {rate}");
        }
        assert_eq!(due_after(1, 0.0), Duration::MAX);
    }

    #[test]
    fn only_good_answers_have_a_latency() {
        let mut measured = Measured::new();
        let due = Instant::now();
        for result in [Ok(200), Ok(304), Ok(500), Ok(404), Err(std::io::ErrorKind::UnexpectedEof.into())] {
            measured.note(due, &result);
        }
        assert_eq!((measured.latencies.len(), measured.errors), (2, 3));
        let mut sum = Measured::new();
        sum.add(&measured);
        sum.add(&measured);
        sum.elapsed = Duration::from_secs(2);
        assert_eq!((sum.per_second(), sum.errors), (2.0, 6));
    }
}
