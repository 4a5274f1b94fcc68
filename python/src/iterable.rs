//! What the application returned, sent block by block (PEP 3333 "Specification Details", "Handling the Content-Length
//! Header", "Buffering and Streaming").

use pyo3::exceptions::{PyAssertionError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator, PyList, PyString, PyTuple};

use forkhorn::worker::Flow;

use crate::block;
use crate::file_wrapper::{FileWrapper, RegularFile};
use crate::start_response::Exchange;

/// A list of blocks up to this size altogether goes out as one block.
const MAX_JOINED_BYTES: usize = 64 * 1024;

/// Sends the whole body and ends the response.
pub fn send(exchange: &Exchange, iterable: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Ok(list) = iterable.cast_exact::<PyList>() {
        if list.len() == 1 {
            return send_only_block(exchange, &list.get_item(0)?);
        }
        return send_blocks(exchange, list.iter().collect());
    }
    if let Ok(tuple) = iterable.cast_exact::<PyTuple>() {
        return send_blocks(exchange, tuple.iter().collect());
    }
    if let Ok(wrapper) = iterable.cast_exact::<FileWrapper>()
        && exchange.is_started()
        && let Some(file) = wrapper.get().regular_file(iterable.py())
    {
        return send_file(exchange, file);
    }
    send_lazily(exchange, iterable)
}

/// Calls the iterable's `close`, if it has one. To be called once, on every path.
pub fn close(iterable: &Bound<'_, PyAny>) -> PyResult<()> {
    if iterable.is_exact_instance_of::<PyList>() || iterable.is_exact_instance_of::<PyTuple>() {
        return Ok(());
    }
    match iterable.getattr_opt(intern!(iterable.py(), "close"))? {
        Some(close) => close.call0().map(drop),
        None => Ok(()),
    }
}

fn send_only_block(exchange: &Exchange, object: &Bound<'_, PyAny>) -> PyResult<()> {
    let block = as_block(object)?;
    check_started(exchange)?;
    exchange.with(|response| {
        if response.is_head_sent() {
            block::write(response, block);
            response.finish();
        } else {
            block::finish_with(response, block);
        }
    })
}

/// A list or a tuple is complete: nothing is delayed by joining its blocks, or by adding up their lengths.
fn send_blocks(exchange: &Exchange, objects: Vec<Bound<'_, PyAny>>) -> PyResult<()> {
    let blocks = objects.iter().map(as_block).collect::<PyResult<Vec<_>>>()?;
    check_started(exchange)?;
    let total: usize = blocks.iter().map(|block| block.as_bytes().len()).sum();
    if total <= MAX_JOINED_BYTES {
        let joined = blocks.iter().map(|block| block.as_bytes()).collect::<Vec<_>>().concat();
        return exchange.with(|response| {
            if response.is_head_sent() {
                response.write(&joined);
                response.finish();
            } else {
                response.finish_with(&joined);
            }
        });
    }
    exchange.with(|response| {
        if !response.is_head_sent() {
            response.head().content_length.get_or_insert(total as u64);
        }
    })?;
    for block in blocks {
        if !block.as_bytes().is_empty() && exchange.write_block(block)? == Flow::Stop {
            break;
        }
    }
    exchange.with(|response| response.finish())
}

fn send_file(exchange: &Exchange, regular: RegularFile) -> PyResult<()> {
    exchange.with(|response| {
        let RegularFile { file, offset, mut length } = regular;
        if !response.is_head_sent() {
            length = length.min(*response.head().content_length.get_or_insert(length));
        }
        if length > 0 {
            response.write_file(file, offset, length);
        }
        response.finish();
    })
}

/// Each block goes out before the next one is asked for.
fn send_lazily(exchange: &Exchange, iterable: &Bound<'_, PyAny>) -> PyResult<()> {
    let mut is_first = true;
    for object in blocks_of(iterable)? {
        let object = object?;
        let block = as_block(&object)?;
        if block.as_bytes().is_empty() {
            continue;
        }
        check_started(exchange)?;
        if is_first && has_one_block(iterable) {
            announce_length(exchange, block.as_bytes().len())?;
        }
        is_first = false;
        if exchange.write_block(block)? == Flow::Stop {
            break;
        }
    }
    check_started(exchange)?;
    exchange.with(
        |response| {
            if response.is_head_sent() { response.finish() } else { response.finish_with(b"") }
        },
    )
}

/// Errors of what is no iterable of bytestrings at all say what to return instead: they are told without a line of the
/// application, which has returned by then.
fn blocks_of<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyIterator>> {
    let wrong = |what: &str, cure: &str| {
        PyTypeError::new_err(format!(
            "the application returned {what} instead of an iterable of bytestrings{cure}"
        ))
    };
    if object.is_instance_of::<PyString>() {
        return Err(wrong("a str", ": return [text.encode()]"));
    }
    if object.is_instance_of::<PyBytes>() {
        return Err(wrong("bytes", ": return [body]"));
    }
    object.try_iter().map_err(|error| {
        let py = object.py();
        let kind = object.get_type().name().map(|name| name.to_string()).unwrap_or_default();
        match error.is_instance_of::<PyTypeError>(py)
            && !object.hasattr(intern!(py, "__iter__")).unwrap_or(true)
        {
            true if object.is_none() => wrong("None", ": is a return missing?"),
            true => wrong(&format!("an object of {kind}"), ""),
            false => error,
        }
    })
}

/// `len(iterable) == 1` says that the first block is the whole body.
fn has_one_block(iterable: &Bound<'_, PyAny>) -> bool {
    crate::cpython::has_length(iterable) && iterable.len().is_ok_and(|length| length == 1)
}

fn announce_length(exchange: &Exchange, length: usize) -> PyResult<()> {
    exchange.with(|response| {
        if !response.is_head_sent() {
            response.head().content_length.get_or_insert(length as u64);
        }
    })
}

fn as_block<'a, 'py>(object: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyBytes>> {
    object.cast::<PyBytes>().map_err(|_| {
        let name = object.get_type().name().map(|name| name.to_string()).unwrap_or_default();
        PyTypeError::new_err(format!("the application's iterable must yield bytestrings, not {name}"))
    })
}

fn check_started(exchange: &Exchange) -> PyResult<()> {
    if exchange.is_started() {
        return Ok(());
    }
    Err(PyAssertionError::new_err("the application sent a body, or ended, without calling start_response"))
}
