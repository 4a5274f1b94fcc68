//! A request's environ (PEP 3333 "environ Variables").
//!
//! Most requests carry the same variables as the one before, with the same values but for one or two. So each thread
//! keeps the dict of its previous request as a template: only what differs is made anew, then the template is copied.

use std::collections::HashMap;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use forkhorn::gateway::{KnownName, MetaVariables, Name, Origin};
use forkhorn::worker::Call;

use crate::cpython::native_string;
use crate::input::Input;

/// Names beyond the known ones for which a string object is kept; peers choose them, so there is a limit.
const MAX_KEPT_NAMES: usize = 256;

/// The longest such name, in bytes.
const MAX_KEPT_NAME_BYTES: usize = 128;

/// Slots for strings of few bytes, a power of two.
const SHORT_STRINGS: usize = 256;

/// Makes the environ of one request after the other, on one thread.
pub struct Environs {
    /// The `wsgi.` variables that no request changes.
    constants: Py<PyDict>,
    /// `constants` and everything in `entries`.
    template: Py<PyDict>,
    /// The variables of the previous request, in their order.
    entries: Vec<Entry>,
    /// The same as they came. Only the first `compared` are still to be compared with.
    previous: MetaVariables,
    compared: usize,
    /// That of the previous request.
    origin: Option<Origin>,
    scheme: Scheme,
    multiprocess: bool,
    /// The template is that of a whole request, not of one that failed on the way.
    is_complete: bool,
    names: Names,
    /// The last value of each known name.
    values: Vec<Option<Value>>,
    short: ShortStrings,
}

/// A variable of the previous request.
enum Entry {
    /// Its value is in [`Environs::values`].
    Known(KnownName),
    Other {
        name: Box<[u8]>,
        key: Py<PyString>,
        value: Value,
    },
}

/// A value, and the object that stands for it.
struct Value {
    bytes: Vec<u8>,
    object: Py<PyString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl Environs {
    pub fn new(py: Python<'_>, constants: Bound<'_, PyDict>) -> PyResult<Self> {
        constants.set_item(intern!(py, "wsgi.url_scheme"), Scheme::Http.object(py))?;
        constants.set_item(intern!(py, "wsgi.multiprocess"), false)?;
        Ok(Environs {
            template: constants.copy()?.unbind(),
            constants: constants.unbind(),
            entries: Vec::new(),
            previous: MetaVariables::default(),
            compared: 0,
            origin: None,
            scheme: Scheme::Http,
            multiprocess: false,
            is_complete: false,
            names: Names::new(py),
            values: KnownName::ALL.iter().map(|_| None).collect(),
            short: ShortStrings::new(),
        })
    }

    /// Names another object as `wsgi.input` from now on.
    pub fn set_input(&mut self, py: Python<'_>, input: &Py<Input>) -> PyResult<()> {
        self.set(py, intern!(py, "wsgi.input"), input.bind(py))
    }

    /// Names another callable as `forkhorn.client_gone` from now on.
    pub fn set_client_gone(&mut self, py: Python<'_>, callable: &Py<PyAny>) -> PyResult<()> {
        self.set(py, intern!(py, "forkhorn.client_gone"), callable.bind(py))
    }

    fn set(&mut self, py: Python<'_>, name: &Bound<'_, PyString>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.constants.bind(py).set_item(name, value)?;
        self.template.bind(py).set_item(name, value)
    }

    /// A new dict, which belongs to the application.
    pub fn make<'py>(&mut self, py: Python<'py>, call: &Call<'_>) -> PyResult<Bound<'py, PyDict>> {
        let request = call.request;
        if call.multiprocess != self.multiprocess {
            for dict in [&self.constants, &self.template] {
                dict.bind(py).set_item(intern!(py, "wsgi.multiprocess"), call.multiprocess)?;
            }
            self.multiprocess = call.multiprocess;
        }
        let meta = &request.meta;
        let is_complete = std::mem::take(&mut self.is_complete);
        // Most of them are known to be the same, and need no look.
        let shared = meta.origin().filter(|_| is_complete && meta.origin() == self.origin);
        if let Some(origin) = shared
            && self.update_from(py, meta, origin.variables)?
        {
            self.compared = self.compared.min(origin.variables);
        } else {
            let unchanged = meta.unchanged_since(&self.previous).min(self.compared);
            if !(is_complete && self.update_from(py, meta, unchanged)?) {
                self.rebuild(py, meta)?;
            }
            self.previous.clone_from(meta);
            self.compared = meta.len();
            self.origin = meta.origin();
            self.set_scheme(py, Scheme::of(meta))?;
        }
        self.is_complete = true;
        self.template.bind(py).copy()
    }

    /// Brings the template from the previous request to this one, of which the first `unchanged` variables are the same;
    /// false if the names are not.
    fn update_from(&mut self, py: Python<'_>, meta: &MetaVariables, unchanged: usize) -> PyResult<bool> {
        let template = self.template.bind(py);
        let mut entries = self.entries.get_mut(unchanged..).unwrap_or_default().iter_mut();
        for (name, bytes) in meta.iter_from(unchanged) {
            match (name, entries.next()) {
                (Name::Known(name), Some(Entry::Known(known))) if name == *known => {
                    if let Some(object) = renew(py, &mut self.values[name.index()], bytes, &mut self.short)? {
                        template.set_item(&self.names.known[name.index()], object)?;
                    }
                }
                (Name::Other(name), Some(Entry::Other { name: other, key, value })) if *name == **other => {
                    if !same(&value.bytes, bytes) {
                        *value = Value::new(py, bytes)?;
                        template.set_item(&*key, &value.object)?;
                    }
                }
                _ => return Ok(false),
            }
        }
        Ok(entries.next().is_none())
    }

    /// Makes the template anew.
    fn rebuild(&mut self, py: Python<'_>, meta: &MetaVariables) -> PyResult<()> {
        let template = self.constants.bind(py).copy()?;
        self.scheme = Scheme::Http;
        self.entries.clear();
        for (name, bytes) in meta.iter() {
            match name {
                Name::Known(name) => {
                    renew(py, &mut self.values[name.index()], bytes, &mut self.short)?;
                    if let Some(value) = &self.values[name.index()] {
                        template.set_item(&self.names.known[name.index()], &value.object)?;
                    }
                    self.entries.push(Entry::Known(name));
                }
                Name::Other(name) => {
                    let (key, value) = (self.names.other(py, name)?, Value::new(py, bytes)?);
                    template.set_item(&key, &value.object)?;
                    self.entries.push(Entry::Other { name: name.into(), key, value });
                }
            }
        }
        self.template = template.unbind();
        Ok(())
    }

    fn set_scheme(&mut self, py: Python<'_>, scheme: Scheme) -> PyResult<()> {
        if scheme != self.scheme {
            self.template.bind(py).set_item(intern!(py, "wsgi.url_scheme"), scheme.object(py))?;
            self.scheme = scheme;
        }
        Ok(())
    }
}

/// Puts the object for `bytes` into `slot`. Returns it if it is another one than before.
fn renew<'a>(
    py: Python<'_>,
    slot: &'a mut Option<Value>,
    bytes: &[u8],
    short: &mut ShortStrings,
) -> PyResult<Option<&'a Py<PyString>>> {
    let object = match slot {
        Some(value) if same(&value.bytes, bytes) => return Ok(None),
        _ => short.get(py, bytes)?,
    };
    let value = slot.get_or_insert_with(|| Value { bytes: Vec::new(), object: object.clone_ref(py) });
    value.bytes.clear();
    value.bytes.extend_from_slice(bytes);
    value.object = object;
    Ok(Some(&value.object))
}

/// Equality of mostly short values, twenty of them a request: a call of memcmp(3) for each would cost more than all
/// comparisons.
#[inline]
fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    a.iter().zip(b).all(|(a, b)| u64::from_ne_bytes(*a) == u64::from_ne_bytes(*b))
        && a_rest.iter().zip(b_rest).all(|(a, b)| a == b)
}

impl Value {
    fn new(py: Python<'_>, bytes: &[u8]) -> PyResult<Self> {
        Ok(Value { bytes: bytes.to_vec(), object: native_string(py, bytes)?.unbind() })
    }
}

impl Scheme {
    /// What the web server says, by one of two names.
    fn of(meta: &MetaVariables) -> Self {
        let is_https = match meta.known(KnownName::RequestScheme) {
            Some(scheme) => scheme.eq_ignore_ascii_case(b"https"),
            None => meta
                .known(KnownName::Https)
                .is_some_and(|value| value.eq_ignore_ascii_case(b"on") || value == b"1"),
        };
        if is_https { Scheme::Https } else { Scheme::Http }
    }

    fn object(self, py: Python<'_>) -> &Bound<'_, PyString> {
        match self {
            Scheme::Http => intern!(py, "http"),
            Scheme::Https => intern!(py, "https"),
        }
    }
}

/// String objects for values of few bytes, such as a client's port: where many connections take turns, each brings back
/// what another one has just replaced.
struct ShortStrings {
    slots: Vec<Option<(u64, Py<PyString>)>>,
}

impl ShortStrings {
    fn new() -> Self {
        ShortStrings { slots: (0..SHORT_STRINGS).map(|_| None).collect() }
    }

    /// The string for `bytes`; that of an earlier call if there is one and the bytes are few.
    fn get(&mut self, py: Python<'_>, bytes: &[u8]) -> PyResult<Py<PyString>> {
        let Some(key) = Self::key(bytes) else { return Ok(native_string(py, bytes)?.unbind()) };
        // The upper bits of the product depend on all bytes.
        let slot = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % SHORT_STRINGS;
        let Some(slot) = self.slots.get_mut(slot) else { return Ok(native_string(py, bytes)?.unbind()) };
        match slot {
            Some((known, string)) if *known == key => Ok(string.clone_ref(py)),
            _ => {
                let string = native_string(py, bytes)?.unbind();
                *slot = Some((key, string.clone_ref(py)));
                Ok(string)
            }
        }
    }

    /// Up to seven bytes and their number.
    fn key(bytes: &[u8]) -> Option<u64> {
        let mut word = [0; 8];
        word.get_mut(..bytes.len()).filter(|part| part.len() < 8)?.copy_from_slice(bytes);
        Some(u64::from_le_bytes(word) | (bytes.len() as u64) << 56)
    }
}

/// String objects for names, made once.
struct Names {
    known: Vec<Py<PyString>>,
    others: HashMap<Box<[u8]>, Py<PyString>>,
}

impl Names {
    fn new(py: Python<'_>) -> Self {
        let known = KnownName::ALL.iter().map(|name| PyString::intern(py, name.as_str()).unbind()).collect();
        Names { known, others: HashMap::new() }
    }

    fn other(&mut self, py: Python<'_>, name: &[u8]) -> PyResult<Py<PyString>> {
        if let Some(key) = self.others.get(name) {
            return Ok(key.clone_ref(py));
        }
        let key = native_string(py, name)?.unbind();
        if name.len() <= MAX_KEPT_NAME_BYTES && self.others.len() < MAX_KEPT_NAMES {
            self.others.insert(name.into(), key.clone_ref(py));
        }
        Ok(key)
    }
}
