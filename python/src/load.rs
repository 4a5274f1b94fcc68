//! Applications: module:callable, module:factory() and path/to/file.py, and what to say when one can't be loaded.

use std::path::{Path, PathBuf};

use forkhorn::channel::{Channel, ToMaster};
use forkhorn::config::{AppSource, AppSpec, Config};
use pyo3::exceptions::{PyModuleNotFoundError, PyPermissionError, PySyntaxError, PySystemExit, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyTraceback;

use crate::report;
use crate::setup;

/// Why an application could not be loaded.
pub struct Failure {
    /// As it was given on the command line.
    pub application: String,
    /// For the log: the whole traceback.
    pub report: String,
    /// One line for the operator: what to do next. The report's last line says what has happened. May be empty.
    pub advice: String,
}

impl Failure {
    /// Without a master that would tell the operator.
    pub fn log(&self) {
        let Failure { application, report, advice } = self;
        let advice = if advice.is_empty() { String::new() } else { format!("\n{advice}") };
        log::error!("the application {application} can't be loaded\n{}{advice}", report.trim_end());
    }

    pub fn send(self, channel: &Channel) {
        let Failure { application, report, advice } = self;
        if let Err(error) = channel.send(&ToMaster::LoadFailed { application, report, advice }, &[]) {
            log::error!("the master could not be told that an application can't be loaded: {error}");
        }
    }
}

/// Loads every application of `config`, in its order.
pub fn all(py: Python<'_>, config: &Config) -> Result<Vec<Py<PyAny>>, Failure> {
    config.applications.iter().map(|spec| one(py, spec)).collect()
}

fn one(py: Python<'_>, spec: &AppSpec) -> Result<Py<PyAny>, Failure> {
    load(py, spec).map(Bound::unbind).map_err(|problem| Failure {
        application: spec.given.clone(),
        report: report::traceback(py, &problem.error),
        advice: problem.advice,
    })
}

struct Problem {
    error: PyErr,
    advice: String,
}

fn load<'py>(py: Python<'py>, spec: &AppSpec) -> Result<Bound<'py, PyAny>, Problem> {
    let module = import(py, &spec.source).map_err(|error| Problem {
        advice: import_advice(py, spec, &error),
        error: without_import(py, error),
    })?;
    let mut object = module.clone();
    for name in spec.callable.split('.') {
        object = object
            .getattr(name)
            .map_err(|error| Problem { advice: attribute_advice(&module, name), error })?;
    }
    if spec.factory {
        object = object.call0().map_err(|error| Problem { advice: general_advice(py, &error), error })?;
    }
    check_callable(&object, spec)?;
    Ok(object)
}

fn import<'py>(py: Python<'py>, source: &AppSource) -> PyResult<Bound<'py, PyAny>> {
    match source {
        AppSource::Module(name) => import_module(py, name),
        AppSource::File(path) => import_file(py, path),
    }
}

fn import_module<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("importlib")?.call_method1("import_module", (name,))
}

/// Imports a file under a name by which other processes find it too, so that its classes can be pickled.
fn import_file<'py>(py: Python<'py>, path: &Path) -> PyResult<Bound<'py, PyAny>> {
    let (directory, name) = module_of(path);
    setup::prepend_path(py, &directory)?;
    let modules = py.import("sys")?.getattr("modules")?;
    if let Ok(module) = modules.get_item(&name) {
        if is_from(&module, path) {
            return Ok(module);
        }
    } else if name.contains('.') {
        let module = import_module(py, &name)?;
        if is_from(&module, path) {
            return Ok(module);
        }
    } else {
        return execute(py, &modules, &name, path);
    }
    // The name belongs to another module, of the standard library perhaps.
    execute(py, &modules, &format!("{}_application", name.replace('.', "_")), path)
}

/// The directory to search, and the module's name: a file of a package (a directory with `__init__.py`) is imported as
/// part of it, as Django's wsgi.py expects.
fn module_of(path: &Path) -> (PathBuf, String) {
    let mut directory = path.parent().unwrap_or(Path::new("/")).to_owned();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    if stem.contains('.') {
        // No import statement could name it.
        return (directory, stem.replace('.', "_"));
    }
    let mut names = if stem == "__init__" { Vec::new() } else { vec![stem.into_owned()] };
    while directory.join("__init__.py").is_file() {
        let Some((parent, name)) = directory.parent().zip(directory.file_name()) else { break };
        names.push(name.to_string_lossy().into_owned());
        directory = parent.to_owned();
    }
    names.reverse();
    (directory, names.join("."))
}

fn is_from(module: &Bound<'_, PyAny>, path: &Path) -> bool {
    let file = module.getattr("__file__").and_then(|file| file.extract::<PathBuf>());
    file.is_ok_and(|file| {
        file.canonicalize().ok().is_some_and(|file| path.canonicalize().is_ok_and(|path| path == file))
    })
}

/// Runs the file as the module `name`. The loader is named, so that a file may have another suffix than `.py`.
fn execute<'py>(
    py: Python<'py>,
    modules: &Bound<'py, PyAny>,
    name: &str,
    path: &Path,
) -> PyResult<Bound<'py, PyAny>> {
    let loader =
        py.import("importlib.machinery")?.getattr("SourceFileLoader")?.call1((name, path.as_os_str()))?;
    let util = py.import("importlib.util")?;
    let spec = util.call_method1("spec_from_loader", (name, &loader))?;
    let module = util.call_method1("module_from_spec", (spec,))?;
    modules.set_item(name, &module)?;
    if let Err(error) = loader.call_method1("exec_module", (&module,)) {
        // As the import statement does: a module that failed can be imported again.
        let _ = modules.del_item(name);
        return Err(error);
    }
    Ok(module)
}

fn check_callable(object: &Bound<'_, PyAny>, spec: &AppSpec) -> Result<(), Problem> {
    let problem = |what: String, advice: String| Problem { error: PyTypeError::new_err(what), advice };
    let name = &spec.callable;
    if !object.is_callable() {
        let kind = object.get_type().name().map(|name| name.to_string()).unwrap_or_default();
        let what = if spec.factory { format!("what {name}() returned") } else { name.clone() };
        let advice = "name an application, or what makes one followed by ()".to_owned();
        return Err(problem(format!("{what} is not callable, but {kind}"), advice));
    }
    if let Some(why) = refuses_two_arguments(object) {
        let what = format!("{name} can't be called with environ and start_response: {why}");
        return Err(problem(what, format!("if it makes the application, write {name}()")));
    }
    Ok(())
}

/// Asks plain functions only: what signature() says of others need not be what they accept.
fn refuses_two_arguments(object: &Bound<'_, PyAny>) -> Option<String> {
    let py = object.py();
    let ask = || -> PyResult<Option<String>> {
        let function = py.import("types")?.getattr("FunctionType")?;
        if !object.get_type().is(&function) || object.hasattr("__wrapped__")? {
            return Ok(None);
        }
        let signature = py.import("inspect")?.call_method1("signature", (object,))?;
        let bound = signature.call_method1("bind", (py.None(), py.None()));
        Ok(bound.err().map(|error| error.value(py).to_string()))
    };
    ask().ok().flatten()
}

/// The traceback begins with what was imported: the import system's own steps tell nothing.
fn without_import(py: Python<'_>, error: PyErr) -> PyErr {
    let mut traceback = error.traceback(py);
    while let Some(first) = traceback.take_if(|first| is_import_system(first).unwrap_or(false)) {
        traceback = first.getattr("tb_next").ok().and_then(|next| next.cast_into().ok());
    }
    error.set_traceback(py, traceback);
    error
}

fn is_import_system(traceback: &Bound<'_, PyTraceback>) -> PyResult<bool> {
    let file = traceback.getattr("tb_frame")?.getattr("f_code")?.getattr("co_filename")?.to_string();
    Ok(file.starts_with("<frozen importlib") || file.ends_with("/importlib/__init__.py"))
}

fn import_advice(py: Python<'_>, spec: &AppSpec, error: &PyErr) -> String {
    let value = error.value(py);
    if error.is_instance_of::<PyModuleNotFoundError>(py) {
        let missing: String = value.getattr("name").and_then(|name| name.extract()).unwrap_or_default();
        return match &spec.source {
            AppSource::Module(name) if is_part_of(&missing, name) => not_found_advice(py),
            _ => format!("is the virtual environment right (--virtualenv)?{}", whose(py)),
        };
    }
    if error.is_instance_of::<PySystemExit>(py) {
        return "it ended while it was loaded: is its main program under `if __name__ == '__main__':`?"
            .to_owned();
    }
    if error.is_instance_of::<PySyntaxError>(py) {
        let part = |name| value.getattr(name).map(|part| part.to_string()).unwrap_or_default();
        return format!("see {}, line {}", part("filename"), part("lineno"));
    }
    if error.is_instance_of::<PyPermissionError>(py) {
        return "the user that workers run as must be able to read it (--user)".to_owned();
    }
    general_advice(py, error)
}

fn not_found_advice(py: Python<'_>) -> String {
    let directory = py.import("os").and_then(|os| os.call_method0("getcwd"));
    let searched = directory.map(|directory| format!("; it was looked for in {directory} first"));
    format!("check the module's name, --chdir and --pythonpath{}", searched.unwrap_or_default())
}

/// The last line of a report is not enough where the message of the exception has several.
fn general_advice(py: Python<'_>, error: &PyErr) -> String {
    let is_long =
        error.value(py).str().is_ok_and(|message| message.to_string_lossy().trim_end().contains('\n'));
    if is_long { report::short(py, error) } else { String::new() }
}

/// `missing` is `name` or one of the packages that it lies in.
fn is_part_of(missing: &str, name: &str) -> bool {
    name.strip_prefix(missing).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn whose(py: Python<'_>) -> String {
    let executable = py.import("sys").and_then(|sys| sys.getattr("executable"));
    executable.map(|executable| format!(" The interpreter is {executable}")).unwrap_or_default()
}

fn attribute_advice(module: &Bound<'_, PyAny>, name: &str) -> String {
    let exists = |other: &&&str| **other != name && module.hasattr(**other).unwrap_or(false);
    // Rather a name that begins in the same way: `app` where `ap` was written.
    let alike = |other: &&&str| !name.is_empty() && other.starts_with(name);
    let known = ["app", "application", "wsgi", "create_app", "make_app"];
    match known.iter().filter(alike).find(exists).or_else(|| known.iter().find(exists)) {
        Some(factory @ (&"create_app" | &"make_app")) => format!("is it {factory}()?"),
        Some(other) => format!("is it {other}?"),
        None => match submodule(module) {
            Some(submodule) => format!("is it {submodule}?"),
            None => "what is the application called there? Write MODULE:NAME".to_owned(),
        },
    }
}

/// Django's `mysite` has its application in `mysite.wsgi`.
fn submodule(package: &Bound<'_, PyAny>) -> Option<String> {
    let file: PathBuf = package.getattr("__file__").ok()?.extract().ok()?;
    let is_package = file.file_name()? == "__init__.py";
    let name = package.getattr("__name__").ok()?;
    (is_package && file.with_file_name("wsgi.py").is_file()).then(|| format!("{name}.wsgi"))
}
