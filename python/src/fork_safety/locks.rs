//! Locks that another thread holds while the process is copied all the same (`--preload always`): in the copy nobody will
//! release them.
//!
//! Only those can be seen that a module, a class or an object of a module names, and of plain locks only that they are
//! locked, not by whom.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyType};

/// More are not named: the first ones say what there is to say.
const MOST: usize = 8;

/// Each in a few words, such as `the lock shop.cache.LOCK`.
pub fn held(py: Python<'_>) -> PyResult<Vec<String>> {
    let threading = py.import("threading")?;
    let kinds = [threading.call_method0("Lock")?.get_type(), threading.call_method0("RLock")?.get_type()];
    let mut search =
        Search { kinds, own: threading.call_method0("get_ident")?.to_string(), found: Vec::new() };
    let modules = py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?.copy()?;
    for (name, module) in modules.iter() {
        // Those of the import system are those of this very thread.
        let name = name.to_string();
        if let Ok(module) = module.cast_into::<PyModule>()
            && !name.starts_with("importlib.")
            && name != "threading"
        {
            search.names(&name, &module.dict(), true);
        }
        if search.found.len() >= MOST {
            break;
        }
    }
    Ok(search.found)
}

struct Search<'py> {
    kinds: [Bound<'py, PyType>; 2],
    /// The identity of this thread, whose locks the copy's thread inherits.
    own: String,
    found: Vec<String>,
}

impl<'py> Search<'py> {
    /// Looks at the values of a namespace and, of a module's, at the attributes of these.
    fn names(&mut self, owner: &str, names: &Bound<'py, PyDict>, goes_deeper: bool) {
        let Ok(names) = names.copy() else { return };
        for (name, value) in names.iter() {
            let path = || format!("{owner}.{name}");
            if self.found.len() >= MOST {
                return;
            }
            if self.is_held(&value) {
                self.found.push(format!("the lock {}", path()));
            } else if goes_deeper
                && !value.is_instance_of::<PyModule>()
                && let Some(attributes) = attributes(&value, owner)
            {
                self.names(&path(), &attributes, false);
            }
        }
    }

    fn is_held(&self, value: &Bound<'py, PyAny>) -> bool {
        let kind = value.get_type();
        if kind.is(&self.kinds[1]) {
            // `<locked _thread.RLock object owner=140 count=1 at 0x…>`: no method tells.
            let text = value.repr().map(|text| text.to_string()).unwrap_or_default();
            return text.starts_with("<locked") && !text.contains(&format!("owner={} ", self.own));
        }
        kind.is(&self.kinds[0])
            && value.call_method0("locked").and_then(|locked| locked.is_truthy()).unwrap_or(false)
    }
}

/// The attributes of an object that the module itself has made a class for, or of that class: whatever else it names is
/// found where it is defined.
fn attributes<'py>(value: &Bound<'py, PyAny>, module: &str) -> Option<Bound<'py, PyDict>> {
    let is_class = value.is_instance_of::<PyType>();
    let class = if is_class { value.clone() } else { value.get_type().into_any() };
    let defined_in: String = class.getattr("__module__").ok()?.extract().ok()?;
    if defined_in != module {
        return None;
    }
    let py = value.py();
    let attributes = py.import("builtins").ok()?.getattr("vars").ok()?.call1((value,)).ok()?;
    PyDict::from_sequence(attributes.call_method0("items").ok()?.as_any()).ok()
}
