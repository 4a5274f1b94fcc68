//! Answers the questions that the status server has taken: pages from what is known, orders by carrying them out. A
//! reload is answered when it has ended.

use std::time::Instant;

use super::signals::Wish;
use super::status::{Answer, ClientId, Gathered, Order, Page, Question, Surroundings};
use super::{End, Master};

/// Clients that wait for the end of a reload, and its number.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<(u32, ClientId)>);

impl Master {
    pub(super) fn answer_questions(&mut self, end: &mut Option<End>) {
        for (client, question) in self.status.take_questions() {
            match question {
                Question::Look(page) => {
                    let answer = self.page(page);
                    self.status.answer(client, &answer, Instant::now());
                }
                Question::Order(Order::Reload) => self.reload_for(client, end),
                Question::Order(Order::Stop { fast }) => {
                    let answer = Answer::json(202, &serde_json::json!({ "pid": std::process::id() }));
                    self.status.answer(client, &answer, Instant::now());
                    log::info!("the control socket asks to stop");
                    self.obey(if fast { Wish::StopFast } else { Wish::StopGracefully }, end);
                }
            }
        }
    }

    fn page(&mut self, page: Page) -> Answer {
        let pool = self.workers.pool_view();
        match page {
            Page::Health if pool.is_serving => Answer::text(200, "ok"),
            Page::Health => Answer::text(503, "no worker is ready"),
            Page::Ready if pool.is_ending => Answer::text(503, "stopping"),
            Page::Ready if pool.is_serving => Answer::text(200, "ready"),
            Page::Ready => Answer::text(503, "no worker is ready"),
            Page::Status { with_memory } => Answer::json(200, &self.gather(with_memory).json()),
            Page::Metrics => Answer::metrics(self.gather(false).metrics()),
        }
    }

    fn gather(&mut self, with_memory: bool) -> Gathered {
        let place = Surroundings {
            threads: self.plans.latest().map_or(1, |config| config.processes.threads),
            started: self.started,
            started_at: self.started_at,
            now: Instant::now(),
        };
        Gathered::now(&self.workers, &mut self.boards, &place, with_memory)
    }

    fn reload_for(&mut self, client: ClientId, end: &mut Option<End>) {
        log::info!("the control socket asks for a reload");
        match self.workers.next_reload() {
            Some(number) => self.waiting.0.push((number, client)),
            None => return self.status.answer(client, &failed("forkhorn is ending"), Instant::now()),
        }
        self.obey(Wish::Reload, end);
    }

    /// A reload has ended: those who wait for it are told.
    pub(super) fn tell_reload_ended(&mut self, number: u32, result: &Result<u32, String>) {
        let answer = match result {
            Ok(generation) => Answer::json(200, &serde_json::json!({ "generation": generation })),
            Err(why) => failed(why),
        };
        for (_, client) in self.waiting.0.extract_if(.., |(waits_for, _)| *waits_for == number) {
            self.status.answer(client, &answer, Instant::now());
        }
    }
}

fn failed(why: &str) -> Answer {
    Answer::json(409, &serde_json::json!({ "error": why }))
}
