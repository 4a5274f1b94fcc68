//! Threads, none of which a copy has but the one that makes it.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use pyo3::prelude::*;

use super::native;
use super::origins::Origins;

/// The kernel's numbers of all threads of this process.
pub fn ids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Names every thread but the caller's, which is the main thread, and those that can take a copy.
pub fn reasons(py: Python<'_>, origins: &Origins) -> PyResult<Vec<String>> {
    let mut reasons = Vec::new();
    let mut known = HashSet::from([std::process::id() as i32]);
    for thread in py.import("threading")?.call_method0("enumerate")?.try_iter()? {
        let thread = thread?;
        // None while a thread begins, and then it is found below.
        let Ok(id) = thread.getattr("native_id")?.extract::<i32>() else { continue };
        if known.insert(id) {
            reasons.push(describe(&thread, origins.of_thread(id))?);
        }
    }
    for Native { id, name, libraries } in unknown(py, &known) {
        if native::can_be_copied(&libraries) {
            log::debug!("the thread {name:?} of {} may be there when a copy is made", libraries.join(", "));
            continue;
        }
        let owner = match libraries.as_slice() {
            [] => None,
            all if all.iter().any(|library| native::is_interpreter(library)) => {
                Some("of _thread.start_new_thread".to_owned())
            }
            [first, ..] => Some(format!("of {first}")),
        };
        let about: Vec<String> = [Some(format!("{name:?}")), owner, origins.of_thread(id).map(started)]
            .into_iter()
            .flatten()
            .collect();
        reasons.push(format!("a thread of native code runs ({})", about.join(", ")));
    }
    Ok(reasons)
}

/// `the thread "cache-refresh" runs shop.cache.refresh (a daemon, started while shop.cache was imported)`
fn describe(thread: &Bound<'_, PyAny>, origin: Option<String>) -> PyResult<String> {
    let name = thread.getattr("name")?.to_string();
    let runs = runs(thread).map(|runs| format!(" {runs}")).unwrap_or_default();
    let daemon = thread.getattr("daemon")?.is_truthy()?.then(|| "a daemon".to_owned());
    let about: Vec<String> = daemon.into_iter().chain(origin.map(started)).collect();
    let about = if about.is_empty() { String::new() } else { format!(" ({})", about.join(", ")) };
    Ok(format!("the thread {name:?} runs{runs}{about}"))
}

fn started(origin: String) -> String {
    format!("started {origin}")
}

/// The function that a thread runs, by its module and name, if it can be seen.
fn runs(thread: &Bound<'_, PyAny>) -> Option<String> {
    let full_name = |object: &Bound<'_, PyAny>| -> Option<String> {
        let module: String = object.getattr("__module__").ok()?.extract().ok()?;
        let name: String = object.getattr("__qualname__").ok()?.extract().ok()?;
        Some(format!("{module}.{name}"))
    };
    if let Ok(target) = thread.getattr("_target")
        && !target.is_none()
    {
        return full_name(&target.getattr("func").unwrap_or(target));
    }
    let class = thread.get_type();
    let name = full_name(class.as_any())?;
    (name != "threading.Thread" && name != "threading._DummyThread").then(|| format!("{name}.run"))
}

/// A thread that `threading` does not know.
struct Native {
    id: i32,
    name: String,
    libraries: Vec<String>,
}

fn unknown(py: Python<'_>, known: &HashSet<i32>) -> Vec<Native> {
    /// A thread that has been joined is still listed until the kernel has done away with it.
    const LAST_BREATH: Duration = Duration::from_millis(1);
    let mut found = Vec::new();
    for _ in 0..20 {
        found = ids()
            .into_iter()
            .filter(|id| !known.contains(id))
            .map(|id| Native { id, name: name(id), libraries: native::libraries(id) })
            .collect();
        if found.iter().all(|thread| native::can_be_copied(&thread.libraries)) {
            break;
        }
        py.detach(|| std::thread::sleep(LAST_BREATH));
    }
    found
}

/// As the kernel has it.
fn name(id: i32) -> String {
    let name = fs::read_to_string(format!("/proc/self/task/{id}/comm"));
    name.map_or_else(|_| id.to_string(), |name| name.trim().to_owned())
}
