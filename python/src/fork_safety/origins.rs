//! Which module was being imported when a thread or a descriptor appeared.
//!
//! The import system is asked to tell when it begins and ends to run a module. Each time, two numbers are compared with
//! those of the last time: how many threads there are, and which descriptor would be opened next. That costs a few
//! microseconds a module, and only a change is looked into. So threads and sockets of native code are seen as well.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};

use super::descriptors::{self, Descriptor};
use super::threads;

/// Puts a step before and after a method of the import system.
const WRAP: &str = r#"
def wrap(original, begin, end):
    def exec_module(self, module):
        begin(getattr(module, "__name__", None))
        try:
            return original(self, module)
        finally:
            end()
    return exec_module

def wrap_create(original, begin, end):
    def create_module(self, spec):
        begin(getattr(spec, "name", None))
        try:
            return original(self, spec)
        finally:
            end()
    return create_module
"#;

/// By this name CPython knows the frames of its import system, which it leaves out of tracebacks: those of the wrappers
/// would tell nothing either.
const FILE_NAME: &str = "<frozen importlib._bootstrap_external>";

const TASKS: &str = "/proc/self/task";

/// Notes taken while applications are loaded. Dropping it gives the import system back as it was.
pub struct Origins {
    notes: Arc<Mutex<Notes>>,
    wrapped: Vec<Wrapped>,
}

/// A method of the import system that was replaced.
struct Wrapped {
    class: Py<PyAny>,
    name: &'static str,
    original: Py<PyAny>,
    wrapper: Py<PyAny>,
}

struct Notes {
    /// The thread that loads. Imports of others are not told apart.
    loader: ThreadId,
    /// /proc/self/task, whose number of links grows with that of the threads. `None` where there is no /proc.
    tasks: Option<File>,
    importing: Vec<String>,
    warm_up: Option<String>,
    links: u64,
    next_descriptor: RawFd,
    threads: HashMap<i32, String>,
    descriptors: HashMap<Descriptor, String>,
}

impl Origins {
    pub fn watch(py: Python<'_>) -> PyResult<Self> {
        let notes = Arc::new(Mutex::new(Notes::new()));
        let mut origins = Origins { notes, wrapped: Vec::new() };
        let functions = PyDict::new(py);
        let code = py.import("builtins")?.call_method1("compile", (WRAP, FILE_NAME, "exec"))?;
        py.import("builtins")?.call_method1("exec", (code, &functions))?;
        let machinery = py.import("importlib.machinery")?;
        for (loader, method, wrap) in [
            ("SourceFileLoader", "exec_module", "wrap"),
            ("ExtensionFileLoader", "exec_module", "wrap"),
            // The library is loaded here, and its constructors run.
            ("ExtensionFileLoader", "create_module", "wrap_create"),
        ] {
            let Some(wrap) = functions.get_item(wrap)? else { continue };
            origins.wrap(&machinery.getattr(loader)?, method, &wrap)?;
        }
        Ok(origins)
    }

    /// The method is replaced in the class that defines it, so that all loaders that inherit it tell as well.
    fn wrap(
        &mut self,
        loader: &Bound<'_, PyAny>,
        name: &'static str,
        wrap: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = loader.py();
        for class in loader.getattr("__mro__")?.try_iter()? {
            let class = class?;
            let Ok(original) = class.getattr("__dict__")?.get_item(name) else { continue };
            let (begin, end) = (self.notes.clone(), self.notes.clone());
            let begin = PyCFunction::new_closure(py, None, None, move |arguments, _| {
                let module = arguments.get_item(0).and_then(|module| module.extract::<String>());
                lock(&begin).begin(module.unwrap_or_else(|_| "a module without a name".to_owned()));
            })?;
            let end = PyCFunction::new_closure(py, None, None, move |_, _| lock(&end).end())?;
            let wrapper = wrap.call1((&original, begin, end))?;
            class.setattr(name, &wrapper)?;
            let [class, original, wrapper] = [class, original, wrapper].map(Bound::unbind);
            self.wrapped.push(Wrapped { class, name, original, wrapper });
            break;
        }
        Ok(())
    }

    pub fn warms_up(&self, request: &str) {
        let mut notes = lock(&self.notes);
        notes.look();
        notes.warm_up = Some(request.to_owned());
    }

    /// What the descriptor stands for is another process in a copy.
    pub fn go_on_in_copy(&self) {
        lock(&self.notes).tasks = File::open(TASKS).ok();
    }

    /// Whatever has appeared since the last look belongs to what ran last.
    pub fn look(&self) {
        lock(&self.notes).look();
    }

    /// In a few words, such as `while shop.cache was imported`.
    pub fn of_thread(&self, id: i32) -> Option<String> {
        lock(&self.notes).threads.get(&id).cloned()
    }

    pub fn of_descriptor(&self, descriptor: &Descriptor) -> Option<String> {
        lock(&self.notes).descriptors.get(descriptor).cloned()
    }
}

impl Drop for Origins {
    fn drop(&mut self) {
        Python::attach(|py| {
            for Wrapped { class, name, original, wrapper } in self.wrapped.drain(..) {
                let class = class.bind(py);
                // Whoever has replaced ours since goes on to call it; it then only passes calls on.
                if class.getattr(name).is_ok_and(|current| current.is(&wrapper))
                    && let Err(error) = class.setattr(name, original)
                {
                    log::debug!("the import system is still watched: {error}");
                }
            }
        });
    }
}

impl Notes {
    fn new() -> Self {
        let tasks = File::open("/proc/self/task").inspect_err(|error| {
            log::warn!(
                "/proc can't be read ({error}): what speaks against copies of the application is not seen"
            );
        });
        let mut notes = Notes {
            loader: thread::current().id(),
            tasks: tasks.ok(),
            importing: Vec::new(),
            warm_up: None,
            links: 0,
            next_descriptor: 0,
            threads: HashMap::new(),
            descriptors: HashMap::new(),
        };
        notes.look();
        notes
    }

    fn begin(&mut self, module: String) {
        if thread::current().id() == self.loader {
            self.look();
            self.importing.push(module);
        }
    }

    fn end(&mut self) {
        if thread::current().id() == self.loader {
            self.look();
            self.importing.pop();
        }
    }

    fn look(&mut self) {
        let Some(tasks) = &self.tasks else { return };
        let links = tasks.metadata().map_or(0, |metadata| metadata.nlink());
        let next_descriptor = tasks.try_clone().map_or(0, |copy| copy.as_raw_fd());
        if links != self.links {
            let present: HashSet<i32> = threads::ids().into_iter().collect();
            note(&mut self.threads, present, &place(&self.importing, self.warm_up.as_deref()));
        }
        if next_descriptor != self.next_descriptor {
            let present = descriptors::open().into_iter().collect();
            note(&mut self.descriptors, present, &place(&self.importing, self.warm_up.as_deref()));
        }
        (self.links, self.next_descriptor) = (links, next_descriptor);
    }
}

/// Adds what is new, and forgets what is gone: its number may come to mean something else.
fn note<K: Eq + std::hash::Hash>(known: &mut HashMap<K, String>, present: HashSet<K>, place: &str) {
    known.retain(|key, _| present.contains(key));
    for key in present {
        known.entry(key).or_insert_with(|| place.to_owned());
    }
}

fn place(importing: &[String], warm_up: Option<&str>) -> String {
    match (importing.last(), warm_up) {
        (Some(module), None) => format!("while {module} was imported"),
        (Some(module), Some(request)) => format!("while {module} was imported for --warm-up {request}"),
        (None, None) => "while the application was loaded".to_owned(),
        (None, Some(request)) => format!("during --warm-up {request}"),
    }
}

fn lock(notes: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}
