//! From one generation to the next, a few workers at a time. The first worker of the new generation has to prove that it
//! comes up; until then the old one stays as it is. Then each new worker that is ready lets an old one drain, with never
//! more than `--max-surge` workers beyond those that are wanted.

use std::time::Instant;

use super::Workers;
use super::actions::Action;
use super::process::Process;

impl Workers {
    /// The number of the next reload that begins: its end is told by [`Action::ReloadEnded`]. `None`: there is none any
    /// more.
    pub(crate) fn next_reload(&self) -> Option<u32> {
        self.end.is_none().then_some(self.reloads_begun.wrapping_add(1))
    }

    /// Reload: load the applications anew. One more while one is under way is remembered, further ones are the same.
    pub(crate) fn reload(&mut self, now: Instant) -> Vec<Action> {
        if self.end.is_some() {
            log::warn!("no reload: forkhorn is ending");
        } else if self.is_reloading() {
            log::info!("a reload is under way: the next one follows");
            self.reload_again = true;
        } else {
            self.begin_reload();
        }
        self.settle(now, Vec::new())
    }

    pub(super) fn is_reloading(&self) -> bool {
        self.next.is_some() || self.outgoing.is_some()
    }

    fn begin_reload(&mut self) {
        self.configuration_wanted = true;
        self.reloads_begun = self.reloads_begun.wrapping_add(1);
        self.reload = Some(self.reloads_begun);
        self.reload_report = None;
    }

    /// Starts what is missing in each generation, and takes the next step from one to the other if it is time.
    pub(super) fn advance_reload(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.promote_if_ready(now);
        self.shrink_outgoing(now, actions);
        let wanted = usize::from(self.wanted);
        let budget = self.budget();
        let mut current = std::mem::take(&mut self.current);
        self.fill(&mut current, (wanted, budget), now, actions);
        self.current = current;
        self.end_reload(now, actions);
        if let Some(mut next) = self.next.take() {
            self.fill(&mut next, (1, 1), now, actions);
            self.next = Some(next);
        }
    }

    /// The next generation takes over as soon as its first worker is ready.
    fn promote_if_ready(&mut self, now: Instant) {
        let first = self.next.as_ref().and_then(|next| next.slots.first()?.worker);
        if !first.is_some_and(|id| self.is_ready(id)) {
            return;
        }
        let Some(next) = self.next.take() else { return };
        self.newest = next.number;
        let old = std::mem::replace(&mut self.current, next);
        log::info!("generation {} takes over from generation {}", self.current.number, old.number);
        self.outgoing = Some(old);
        self.adopt_settings(now);
    }

    /// As many old workers stay as new ones are missing.
    fn shrink_outgoing(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(mut outgoing) = self.outgoing.take() else { return };
        let ready = self.current.slots.iter().filter(|slot| slot.worker.is_some_and(|id| self.is_ready(id)));
        let keep = usize::from(self.wanted).saturating_sub(ready.count());
        let mut filled = outgoing.filled();
        for slot in outgoing.slots.iter_mut().rev() {
            if let Some(successor) = slot.successor.take() {
                self.dismiss(successor, now, actions);
            }
            if filled > keep
                && let Some(id) = slot.worker.take()
            {
                self.dismiss(id, now, actions);
                filled -= 1;
            }
        }
        self.outgoing = Some(outgoing);
    }

    /// Workers that may be started now. Old ones count until they have ended: until then they use memory.
    fn budget(&self) -> usize {
        let Some(outgoing) = &self.outgoing else { return usize::MAX };
        let leaving =
            |process: &&Process| process.is_leaving_worker() && process.generation() == outgoing.number;
        let there = outgoing.filled() + self.processes.values().filter(leaving).count();
        let most = usize::from(self.wanted) + self.settings.max_surge.of(self.wanted);
        most.saturating_sub(there + self.current.filled())
    }

    fn end_reload(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(outgoing) = self.outgoing.take_if(|outgoing| outgoing.filled() == 0) else { return };
        if let Some(template) = outgoing.template {
            self.dismiss(template, now, actions);
        }
        log::info!("generation {} serves, generation {} drains", self.current.number, outgoing.number);
        // Unless it has failed, and this was the way back.
        self.reload_ended(Ok(self.current.number), now, actions);
        self.begin_remembered();
    }

    /// Tells how the reload under way has ended. Only the first time: what follows is the way back.
    pub(super) fn reload_ended(
        &mut self,
        result: Result<u32, String>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(number) = self.reload.take() else { return };
        let count = if result.is_ok() { &mut self.tally.reloads } else { &mut self.tally.failed_reloads };
        *count = count.saturating_add(1);
        self.tally.last_reload = Some((now, result.clone()));
        let report = self.reload_report.take();
        let result = result.map_err(|why| match report {
            Some(report) => format!("{}\n{why}", report.trim_end()),
            None => why,
        });
        actions.push(Action::ReloadEnded { number, result });
    }

    fn begin_remembered(&mut self) {
        if std::mem::take(&mut self.reload_again) {
            self.begin_reload();
        }
    }

    /// A process of this generation does not come up. If a reload was to bring it, that has failed, and the old
    /// generation goes on or takes over again: true then.
    pub(super) fn reload_fails(
        &mut self,
        generation: u32,
        why: &str,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> bool {
        if let Some(next) = self.next.take_if(|next| next.number == generation) {
            self.next_settings = None;
            log::error!("reload failed, generation {} goes on serving: {why}", self.current.number);
            self.dismiss_generation(next.number, now, actions);
            self.reload_ended(Err(why.to_owned()), now, actions);
            self.begin_remembered();
            return true;
        }
        self.roll_back(generation, why, now, actions)
    }

    /// The first worker of a new generation came up, and a later one does not. Where there is a template of the old one,
    /// it can go back to where it was; else the new code is all that there is, and is tried again.
    fn roll_back(&mut self, generation: u32, why: &str, now: Instant, actions: &mut Vec<Action>) -> bool {
        let template = self.outgoing.as_ref().and_then(|outgoing| outgoing.template);
        let has_template = template.is_some_and(|id| self.is_ready(id));
        let Some(outgoing) = self.outgoing.as_mut().filter(|_| has_template) else { return false };
        if self.current.number != generation || outgoing.number > generation {
            return false;
        }
        std::mem::swap(&mut self.current, outgoing);
        self.restore_settings();
        log::error!("reload failed, generation {} takes over again: {why}", self.current.number);
        // Workers that don't serve yet never will.
        let Some(mut failed) = self.outgoing.take() else { return true };
        for slot in &mut failed.slots {
            if let Some(id) = slot.worker.take_if(|id| !self.is_ready(*id)) {
                self.dismiss(id, now, actions);
            }
        }
        self.outgoing = Some(failed);
        self.reload_ended(Err(why.to_owned()), now, actions);
        true
    }

    fn dismiss_generation(&mut self, number: u32, now: Instant, actions: &mut Vec<Action>) {
        let all = self.processes.iter().filter(|(_, process)| process.generation() == number);
        for id in all.map(|(&id, _)| id).collect::<Vec<_>>() {
            self.dismiss(id, now, actions);
        }
    }
}
