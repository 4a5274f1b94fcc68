//! The interpreter before and after: what an application may expect of the process that it wakes up in.

use std::path::{Path, PathBuf};

use forkhorn::config::{Config, PythonConfig};
use forkhorn::process::WorkerExit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::cpython::FREE_THREADED;

/// Working directory, environment and identity are the master's work, and done. What is left is the interpreter's.
pub fn prepare(py: Python<'_>, config: &Config) -> PyResult<()> {
    clear_main_module(py)?;
    py.import("sys")?.setattr("argv", ["forkhorn"])?;
    buffer_lines(py)?;
    if let Some(umask) = config.processes.umask {
        py.import("os")?.call_method1("umask", (umask,))?;
    }
    match &config.python {
        Some(python) => prepare_path(py, python),
        None => Ok(()),
    }
}

/// Ends the process without atexit handlers and without waiting for threads: for processes that never served, and for
/// a template, whose handlers belong to the workers that inherit them.
pub fn leave(py: Python<'_>, exit: WorkerExit) -> PyResult<i32> {
    flush_streams(py)?;
    py.import("os")?.call_method1("_exit", (exit.code(),))?;
    Ok(exit.code())
}

/// What was printed and is not written yet would be written by each copy.
pub fn flush_streams(py: Python<'_>) -> PyResult<()> {
    let sys = py.import("sys")?;
    for stream in ["stdout", "stderr"] {
        // A stream may be None, or broken; there is nobody left to tell.
        let _ = sys.getattr(stream).and_then(|stream| stream.call_method0("flush"));
    }
    Ok(())
}

/// What applications print is seen when it is printed: where standard output is no terminal, Python would keep it until
/// there are eight kilobytes.
fn buffer_lines(py: Python<'_>) -> PyResult<()> {
    let options = PyDict::new(py);
    options.set_item("line_buffering", true)?;
    // None if it is closed.
    let _ = py.import("sys")?.getattr("stdout")?.call_method("reconfigure", (), Some(&options));
    Ok(())
}

/// Inserts `directory` as the first place that modules are looked for in.
pub fn prepend_path(py: Python<'_>, directory: &Path) -> PyResult<()> {
    let path = sys_path(py)?;
    let directory = directory.as_os_str().into_pyobject(py)?;
    while let Ok(index) = path.index(&directory) {
        path.del_item(index)?;
    }
    path.insert(0, directory)
}

/// `__main__` is that of `python3 -c …`. multiprocessing looks into it, and so may applications: nothing of ours
/// stays there.
fn clear_main_module(py: Python<'_>) -> PyResult<()> {
    let main = py.import("__main__")?;
    let names: Bound<'_, PyDict> = main.dict();
    for name in names.keys() {
        if !name.to_string().starts_with("__") {
            names.del_item(name)?;
        }
    }
    Ok(())
}

/// `--pythonpath` first, in its order, then the working directory, then what the interpreter has found itself.
fn prepare_path(py: Python<'_>, python: &PythonConfig) -> PyResult<()> {
    let path = sys_path(py)?;
    // `-c` puts an empty entry first, which follows the working directory wherever it goes.
    if path.get_item(0).is_ok_and(|first| first.to_string().is_empty()) {
        path.del_item(0)?;
    }
    if let Some(virtualenv) = &python.virtualenv {
        add_virtualenv(py, &path, virtualenv)?;
    }
    let working_directory: PathBuf = py.import("os")?.call_method0("getcwd")?.extract()?;
    prepend_path(py, &working_directory)?;
    for directory in python.pythonpath.iter().rev() {
        prepend_path(py, directory)?;
    }
    Ok(())
}

/// `--python` with `--virtualenv`: the interpreter is not that of the environment and does not know its packages.
fn add_virtualenv(py: Python<'_>, path: &Bound<'_, PyList>, virtualenv: &Path) -> PyResult<()> {
    let sys = py.import("sys")?;
    let prefix: PathBuf = sys.getattr("prefix")?.extract()?;
    if prefix.canonicalize().ok() == virtualenv.canonicalize().ok() {
        return Ok(());
    }
    let version = sys.getattr("version_info")?;
    let (major, minor): (u8, u8) =
        (version.getattr("major")?.extract()?, version.getattr("minor")?.extract()?);
    let abi = if FREE_THREADED { "t" } else { "" };
    let packages = virtualenv.join(format!("lib/python{major}.{minor}{abi}/site-packages"));
    if !packages.is_dir() {
        log::warn!(
            "the virtual environment {} has no packages for Python {major}.{minor}{abi}, which --python names",
            virtualenv.display()
        );
        return Ok(());
    }
    let before = path.len();
    // Its .pth files count too. They append: what they added goes before the interpreter's own packages.
    py.import("site")?.call_method1("addsitedir", (packages.as_os_str(),))?;
    let added: Vec<Bound<'_, PyAny>> = path.iter().skip(before).collect();
    path.del_slice(before, path.len())?;
    for (index, entry) in added.into_iter().enumerate() {
        path.insert(index, entry)?;
    }
    Ok(())
}

fn sys_path(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    Ok(py.import("sys")?.getattr("path")?.cast_into::<PyList>()?)
}
