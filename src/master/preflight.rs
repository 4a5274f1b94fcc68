//! Before anything is served: can the user that workers become reach what they need?
//!
//! Without this the first sign would be a worker that can't start, or a script that is never found, with an error that
//! names the file but not the closed directory above it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, User, eaccess};

use super::bridge::Bridge;
use crate::config::{AppSource, Config, Identity, MountTarget, PythonConfig, StartupError};
use crate::process::drop_privileges;
use crate::sys;

/// A file or directory, and what is to be done with it.
struct Need {
    what: &'static str,
    path: PathBuf,
    /// Where its symbolic links lead, as the first user sees it.
    resolved: Option<PathBuf>,
    access: AccessFlags,
}

impl Need {
    fn new(what: &'static str, path: &Path, access: AccessFlags) -> Need {
        Need { what, path: path.to_owned(), resolved: path.canonicalize().ok(), access }
    }
}

/// What every worker needs.
pub(crate) fn check(config: &Config) -> Result<(), StartupError> {
    let enter = AccessFlags::R_OK | AccessFlags::X_OK;
    let mut needs = vec![Need::new(
        "the directory of temporary files (--spool-dir)",
        &config.limits.spool_dir,
        AccessFlags::W_OK | AccessFlags::X_OK,
    )];
    for mount in &config.mounts {
        match &mount.target {
            MountTarget::Cgi(path) => {
                needs.push(Need::new("the directory of CGI scripts (--cgi)", path, AccessFlags::X_OK));
            }
            MountTarget::Static(path) => {
                needs.push(Need::new("the directory of files (--static)", path, enter))
            }
            MountTarget::Application(_) => {}
        }
    }
    if config.processes.identity.is_none() {
        warn_of_spool_dir(config);
    }
    check_all(config.processes.identity.as_ref(), &needs)
}

/// No reason not to start: in a container nothing may be writable, and short bodies need no file.
fn warn_of_spool_dir(config: &Config) {
    let directory = &config.limits.spool_dir;
    if let Err(error) = eaccess(directory, AccessFlags::W_OK | AccessFlags::X_OK) {
        log::warn!(
            "{} can't be written, so that request bodies over {} bytes are answered 503 ({}): name another directory \
             with --spool-dir",
            directory.display(),
            config.limits.spool_threshold_bytes,
            error.desc()
        );
    }
}

/// What an interpreter and the applications need.
pub(crate) fn check_python(
    config: &Config,
    python: &PythonConfig,
    bridge: &Bridge,
) -> Result<(), StartupError> {
    let enter = AccessFlags::R_OK | AccessFlags::X_OK;
    let mut needs = Vec::new();
    let mut add = |what, path: &Path, access| needs.push(Need::new(what, path, access));
    add("the Python interpreter (--python)", &python.interpreter, AccessFlags::X_OK);
    if let Some(path) = &bridge.path {
        add("forkhorn's bridge to Python", path, AccessFlags::R_OK);
    }
    if let Some(path) = &python.virtualenv {
        add("the virtual environment (--virtualenv)", path, enter);
    }
    for path in &python.pythonpath {
        add("the directory of --pythonpath", path, enter);
    }
    if let Some(path) = &python.chdir {
        add("the working directory (--chdir)", path, enter);
    }
    for app in &config.applications {
        if let AppSource::File(path) = &app.source {
            add("the application", path, AccessFlags::R_OK);
        }
    }
    check_all(config.processes.identity.as_ref(), &needs)
}

/// What the child says if it can reach everything; anything else, and silence above all, is a refusal.
const FINE: &str = "=";

fn check_all(identity: Option<&Identity>, needs: &[Need]) -> Result<(), StartupError> {
    // Whoever stays who he is learns it from the system call itself.
    let Some(identity) = identity else { return Ok(()) };
    let failed =
        |error: &io::Error| StartupError::other(format!("cannot become the user of --user: {error}"));
    let answer = sys::in_child(|| match drop_privileges(identity) {
        Ok(()) => needs.iter().find_map(refusal).unwrap_or_else(|| FINE.to_owned()),
        Err(error) => format!("!{error}"),
    });
    let answer = answer.map_err(|error| failed(&error))?;
    if let Some(error) = answer.strip_prefix('!') {
        return Err(failed(&io::Error::other(error.to_owned())));
    }
    match answer == FINE {
        true => Ok(()),
        false => {
            let user = identity.user_name.clone().unwrap_or_else(|| identity.uid.to_string());
            Err(StartupError::other(format!("user '{user}' can't use {answer}")))
        }
    }
}

/// Why this process may not do with a path what is needed, if so.
fn refusal(need: &Need) -> Option<String> {
    eaccess(&need.path, need.access).err()?;
    // Links first: a directory can be closed because what it points to is.
    for way in need.resolved.iter().chain([&need.path]) {
        let mut directories: Vec<&Path> = way.ancestors().skip(1).collect();
        directories.reverse();
        for directory in directories {
            if eaccess(directory, AccessFlags::X_OK).is_err() {
                return Some(format!(
                    "{} {}: the directory {} is closed to it ({}); let it in (chmod a+x), or move what is below",
                    need.what,
                    need.path.display(),
                    directory.display(),
                    mode_of(directory),
                ));
            }
        }
    }
    let error = eaccess(&need.path, need.access).err()?;
    Some(format!("{} {}: {} ({})", need.what, need.path.display(), error.desc(), mode_of(&need.path)))
}

fn mode_of(path: &Path) -> String {
    match fs::metadata(path) {
        Ok(found) => {
            let owner = User::from_uid(found.uid().into()).ok().flatten();
            let owner = owner.map_or_else(|| found.uid().to_string(), |user| user.name);
            format!("mode {:04o}, owner {owner}", found.permissions().mode() & 0o7777)
        }
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Root can't be shut out, so this runs as whoever `--user nobody` would be; others skip nothing: they are shut out
    /// as themselves.
    #[test]
    fn the_closed_directory_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        open(dir.path(), 0o755).expect("opened");
        let closed = dir.path().join("closed");
        let inner = closed.join("inner");
        fs::create_dir_all(&inner).expect("directories");
        fs::write(inner.join("app.py"), "").expect("written");
        open(&inner, 0o755).expect("opened");
        std::os::unix::fs::symlink(&inner, dir.path().join("link")).expect("linked");

        let identity = Identity { user_name: None, uid: 65534, gid: 65534, groups: vec![65534] };
        let is_root = nix::unistd::Uid::effective().is_root();
        let check = |need: &Need| match is_root {
            true => {
                check_all(Some(&identity), std::slice::from_ref(need)).err().map(|error| error.to_string())
            }
            false => refusal(need),
        };
        for path in [inner.join("app.py"), dir.path().join("link/app.py")] {
            open(&closed, 0o755).expect("opened");
            let need = Need::new("the application", &path, AccessFlags::R_OK);
            assert_eq!(check(&need), None);
            open(&closed, 0o600).expect("closed");
            let refusal = check(&need).expect("refused");
            assert!(refusal.contains(&format!("the directory {} is closed", closed.display())), "{refusal}");
        }
        open(&closed, 0o755).expect("opened");
    }
}
