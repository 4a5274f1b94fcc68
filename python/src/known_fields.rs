//! Header tuples that an application hands over again and again, such as constants of its code: recognized by identity,
//! they need not be read and checked again.
//!
//! A tuple and its strings never change, and whoever holds a reference to a tuple keeps its address from being another
//! one's. So the same address is the same field.

use forkhorn::protocol::CheckedField;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::cpython;

/// Slots, a power of two.
const SLOTS: usize = 64;

/// A longer value is not worth its memory.
const MAX_VALUE_BYTES: usize = 1024;

/// References to a tuple that exists for this response alone: the list's, and that of the walk over the list.
const OWN_REFERENCES: u32 = 2;

#[derive(Default)]
pub struct KnownFields {
    /// Empty until the first is learned.
    slots: Vec<Option<(Py<PyTuple>, CheckedField)>>,
}

impl KnownFields {
    /// What this tuple is, if it is known.
    pub fn find(&self, tuple: &Bound<'_, PyAny>) -> Option<&CheckedField> {
        let (known, field) = self.slots.get(slot(tuple))?.as_ref()?;
        (known.as_ptr() == tuple.as_ptr()).then_some(field)
    }

    /// Keeps a tuple of a field that may be sent, if somebody else keeps it too: only then can it come again. No subclass:
    /// an object of one may lead back to those that hold it, and the collector could not see that.
    pub fn learn(
        &mut self,
        tuple: &Bound<'_, PyTuple>,
        name: &Bound<'_, PyString>,
        value: &Bound<'_, PyString>,
    ) {
        if cpython::references(tuple.as_unbound()) <= OWN_REFERENCES {
            return;
        }
        let is_plain = tuple.is_exact_instance_of::<PyTuple>()
            && name.is_exact_instance_of::<PyString>()
            && value.is_exact_instance_of::<PyString>();
        let (true, Ok(name), Ok(value)) = (is_plain, name.to_str(), value.to_str()) else {
            return;
        };
        if value.len() > MAX_VALUE_BYTES || !value.is_ascii() {
            return;
        }
        let Ok(field) = CheckedField::new(name.as_bytes(), value.as_bytes()) else { return };
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        if let Some(slot) = self.slots.get_mut(slot(tuple)) {
            *slot = Some((tuple.clone().unbind(), field));
        }
    }
}

/// Objects lie at multiples of 16; the upper bits of the product depend on all others.
fn slot(object: &Bound<'_, PyAny>) -> usize {
    let address = object.as_ptr() as usize as u64;
    ((address >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % SLOTS
}
