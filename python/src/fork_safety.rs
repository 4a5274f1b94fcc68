//! Whether a process that has loaded its applications can be copied (`--preload auto`), and if not, what stands in the
//! way, and which module has put it there.
//!
//! A copy has one thread, whatever its original had; locks that the others held stay locked for ever. What a descriptor
//! stands for is not copied but shared: of a socket in two processes, answers go to whoever reads first. A process has one
//! parent, so a copy can't wait for the children of its original.
//!
//! `threads`, `descriptors` and `children` find each kind; `origins` notes where they come from while that can be seen,
//! which is when they appear; `native` finds the library that a thread belongs to; `locks` says what a copy that is made
//! nevertheless will wait for in vain.

mod children;
mod descriptors;
mod locks;
mod native;
mod origins;
mod threads;

use std::collections::HashSet;

use pyo3::prelude::*;

use descriptors::Descriptor;
use origins::Origins;

/// Watches the process while applications are loaded and warmed up.
pub struct Watch {
    /// What was open before, such as the channel and the listeners: copies are made for these.
    descriptors: HashSet<Descriptor>,
    children: HashSet<i32>,
    origins: Origins,
}

impl Watch {
    /// To be called before anything of the application runs.
    pub fn begin(py: Python<'_>) -> PyResult<Self> {
        let origins = Origins::watch(py)?;
        let children = children::running().into_iter().map(|child| child.pid).collect();
        Ok(Watch { descriptors: descriptors::open().into_iter().collect(), children, origins })
    }

    /// What appears from now on belongs to this request of `--warm-up`.
    pub fn warms_up(&self, request: &str) {
        self.origins.warms_up(request);
    }

    /// In a copy of the process that it watches: from now on it watches the copy.
    pub fn go_on_in_copy(&self) {
        self.origins.go_on_in_copy();
    }

    /// What speaks against a copy, each in a few words. Nothing of the application may have run since loading ended.
    pub fn reasons(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.origins.look();
        let mut reasons = threads::reasons(py, &self.origins)?;
        let opened =
            descriptors::open().into_iter().filter(|descriptor| !self.descriptors.contains(descriptor));
        reasons.extend(descriptors::reasons(opened.collect(), &self.origins));
        reasons.extend(self.new_children().map(|child| child.reason()));
        Ok(reasons)
    }

    /// Ends what the application has started, for a process that gives up what it has loaded: whoever loads it next starts
    /// the same again.
    pub fn end_children(&self) {
        self.new_children().for_each(|child| child.end());
    }

    fn new_children(&self) -> impl Iterator<Item = children::Child> {
        children::running().into_iter().filter(|child| !self.children.contains(&child.pid))
    }
}

/// Locks that nobody will release in a copy, as far as they can be seen, each in a few words.
pub fn held_locks(py: Python<'_>) -> PyResult<Vec<String>> {
    locks::held(py)
}
