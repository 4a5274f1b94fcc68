//! The pages of the scoreboard: one for each worker, made before it, kept until the process is off the books, then added
//! to what all workers before it have counted.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use super::workers::ProcessId;
use crate::scoreboard::{BoardView, Counters, Layout, Population};

#[derive(Debug, Default)]
pub(crate) struct Boards {
    pages: BTreeMap<ProcessId, BoardView>,
    past: Counters,
    population: Population,
}

impl Boards {
    /// A fresh page: the descriptor is for the worker.
    pub(crate) fn make(&mut self, id: ProcessId, layout: Layout) -> io::Result<OwnedFd> {
        let (view, page) = BoardView::create(layout)?;
        view.tell_population(self.population);
        self.pages.insert(id, view);
        Ok(page)
    }

    /// A worker's page, also for a while after its end.
    pub(crate) fn of(&mut self, id: ProcessId) -> Option<&mut BoardView> {
        self.pages.get_mut(&id)
    }

    /// Everything that was ever counted.
    pub(crate) fn totals(&mut self) -> Counters {
        let mut sum = self.past.clone();
        for page in self.pages.values_mut() {
            sum.add(page.counters());
        }
        sum
    }

    /// Lets every worker know how many there are.
    pub(crate) fn tell_population(&mut self, population: Population) {
        if self.population != population {
            self.population = population;
            self.pages.values().for_each(|page| page.tell_population(population));
        }
    }

    /// Keeps the pages of those processes that are still known; of the others, what they have counted.
    pub(crate) fn tidy(&mut self, is_known: impl Fn(ProcessId) -> bool) {
        let past = &mut self.past;
        self.pages.retain(|&id, page| {
            let keep = is_known(id);
            if !keep {
                past.add(page.counters());
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoreboard::{Counter, Scoreboard};

    #[test]
    fn what_the_dead_have_counted_stays_in_the_sums() {
        let mut boards = Boards::default();
        let layout = Layout { threads: 1, scripts: 0 };
        let mut workers = [ProcessId(1), ProcessId(2)]
            .map(|id| Scoreboard::open(&boards.make(id, layout).expect("a page")).expect("opened"));
        for worker in &mut workers {
            worker.count(Counter::HttpWsgi);
        }
        boards.tidy(|id| id == ProcessId(2));
        assert!(boards.of(ProcessId(1)).is_none() && boards.of(ProcessId(2)).is_some());
        for worker in &mut workers {
            worker.count(Counter::HttpWsgi);
        }
        assert_eq!(boards.totals().of(Counter::HttpWsgi), 3, "the page of the dead is not read any more");
    }
}
