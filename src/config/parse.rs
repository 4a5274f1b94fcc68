//! From options to [`Config`]: each value checked, each error names the option and what to write instead.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{
    AccessLogConfig, AccessLogFormat, Address, AppSpec, CgiConfig, Config, Identity, LimitConfig,
    ListenerConfig, ListenerProtocol, Mount, MountTarget, PassedName, ProcessConfig, PythonConfig,
    RecyclingConfig, ScriptLimits, StartupError, TrustConfig, UPGRADE_VARIABLE, env_file, script_variables,
};
use crate::cli::{
    CgiProgram, InterpreterOptions, LimitOptions, ListenerOptions, PoolSize, ProcessOptions, PythonOptions,
    ScriptLimitOptions, Serve,
};
use crate::protocol::fastcgi::WebServerAddrs;

const DEFAULT_HTTP: &str = "127.0.0.1:8000";

pub(super) fn resolve(serve: Serve) -> Result<Config, StartupError> {
    let (applications, mounts) = content(&serve)?;
    let has_scripts = mounts.iter().any(|mount| matches!(mount.target, MountTarget::Cgi(_)));
    let python = match applications.is_empty() {
        true if !serve.python.warm_up.is_empty() => {
            return Err(StartupError::usage("--warm-up: there is no application that could answer"));
        }
        true => None,
        false => Some(python(serve.python, &serve.sources.env_file)?),
    };
    let status = serve.status.status.as_deref().map(status_address).transpose()?;
    let control = control(serve.status.control.as_deref(), serve.processes.pid_file.as_deref())?;
    Ok(Config {
        python,
        applications,
        mounts,
        document_root: serve
            .content
            .document_root
            .map(|dir| directory("--document-root", &dir))
            .transpose()?,
        listeners: listeners(&serve.listeners)?,
        socket_mode: octal("--socket-mode", &serve.listeners.socket_mode, 0o777)?,
        backlog: serve.listeners.backlog.get(),
        url_scheme: serve.listeners.url_scheme,
        processes: processes(serve.processes)?,
        cgi: CgiConfig {
            warm: super::warm::resolve(&serve.cgi, has_scripts)?,
            timeout: optional_seconds("--cgi-timeout", serve.cgi.cgi_timeout)?,
            max_scripts: serve.cgi.cgi_max_scripts.get() as usize,
            max_waiting: serve.cgi.cgi_queue as usize,
            env: script_environment(serve.cgi.cgi_env)?,
            pass_authorization: serve.cgi.cgi_pass_authorization,
            pass: serve.cgi.cgi_pass.iter().map(|name| PassedName::parse(name)).collect::<Result<_, _>>()?,
            stderr: serve.cgi.stderr,
            limits: script_limits(&serve.cgi.limits)?,
        },
        limits: limits(serve.limits)?,
        trust: TrustConfig {
            remote_user: serve.trust.trust_remote_user,
            web_server_addrs: serve.trust.web_server_addrs.map(web_server_addrs).transpose()?.flatten(),
        },
        status,
        control,
        access_log: match serve.log.access_log {
            None => AccessLogConfig::Off,
            Some(path) if path == Path::new("-") => AccessLogConfig::Stdout,
            Some(path) => AccessLogConfig::File(absolute("--access-log", &path)?),
        },
        access_log_format: AccessLogFormat::parse(&serve.log.access_log_format)?,
        log_format: serve.log.log_format,
        log_level: serve.log.log_level,
        request_id_variable: serve.log.request_id_header.as_deref().map(request_id_variable).transpose()?,
    })
}

/// One application, mounted where the web server says that the program is; everything else as by default.
pub(super) fn resolve_cgi_program(
    options: CgiProgram,
    script_name: Option<OsString>,
) -> Result<Config, StartupError> {
    let mut serve = Serve::default_for(&options.app);
    serve.python.interpreter = options.interpreter;
    serve.processes.timeout = options.timeout;
    serve.limits.max_body = options.max_body;
    serve.log.log_level = options.log_level;
    // The web server's own environment, and none of a peer's making: what it says of the user has been checked.
    serve.trust.trust_remote_user = true;
    let mut config = resolve(serve)?;
    for mount in &mut config.mounts {
        mount.prefix = match &script_name {
            None => String::new(),
            Some(name) => mount_prefix("SCRIPT_NAME", name)?,
        };
    }
    config.processes.workers = PoolSize::fixed(1);
    Ok(config)
}

fn content(serve: &Serve) -> Result<(Vec<AppSpec>, Vec<Mount>), StartupError> {
    let mut applications = Vec::new();
    let mut mounts: Vec<Mount> = Vec::new();
    let mut add = |option: &str, prefix: &OsStr, target| {
        let prefix = mount_prefix(option, prefix)?;
        if mounts.iter().any(|mount| mount.prefix == prefix) {
            let shown = if prefix.is_empty() { "/" } else { &prefix };
            return Err(StartupError::usage(format!(
                "{option}: the prefix {shown} is already taken by another option"
            )));
        }
        mounts.push(Mount { prefix, target });
        Ok(())
    };
    if let Some(app) = &serve.app {
        applications.push(AppSpec::parse(app)?);
        add("APP", OsStr::new("/"), MountTarget::Application(0))?;
    }
    for text in &serve.content.mount {
        let (prefix, app) = split_mount("--mount", OsStr::new(text), "APP")?;
        applications.push(AppSpec::parse(&app.to_string_lossy())?);
        add("--mount", prefix, MountTarget::Application(applications.len() - 1))?;
    }
    for text in &serve.content.cgi {
        let (prefix, dir) = split_mount("--cgi", text, "DIR")?;
        add("--cgi", prefix, MountTarget::Cgi(directory("--cgi", Path::new(dir))?))?;
    }
    for text in &serve.content.static_files {
        let (prefix, dir) = split_mount("--static", text, "DIR")?;
        add("--static", prefix, MountTarget::Static(directory("--static", Path::new(dir))?))?;
    }
    if mounts.is_empty() {
        return Err(StartupError::usage(
            "there is nothing to serve: name an application (forkhorn serve module:callable), --cgi PREFIX=DIR or \
             --static PREFIX=DIR",
        ));
    }
    mounts.sort_by_key(|mount| std::cmp::Reverse(mount.prefix.len()));
    Ok((applications, mounts))
}

fn split_mount<'a>(
    option: &str,
    text: &'a OsStr,
    what: &str,
) -> Result<(&'a OsStr, &'a OsStr), StartupError> {
    let bytes = text.as_bytes();
    match bytes.iter().position(|&byte| byte == b'=') {
        Some(at) if at + 1 < bytes.len() => {
            Ok((OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(&bytes[at + 1..])))
        }
        _ => Err(StartupError::usage(format!("{option} {}: expected PREFIX={what}", text.display()))),
    }
}

fn mount_prefix(option: &str, prefix: &OsStr) -> Result<String, StartupError> {
    let wrong = |why: &str| StartupError::usage(format!("{option}: the prefix '{}' {why}", prefix.display()));
    let text = prefix.to_str().ok_or_else(|| wrong("is not UTF-8"))?;
    if !text.is_empty() && !text.starts_with('/') {
        return Err(wrong("must begin with a slash"));
    }
    let trimmed = text.trim_end_matches('/');
    if trimmed.contains("//") || trimmed.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(wrong("must be a plain path, without '//', '.' or '..'"));
    }
    if trimmed.contains(['%', '?', '#', '\0']) {
        return Err(wrong("is compared with the decoded path of a URL: write it decoded, without %, ? or #"));
    }
    Ok(trimmed.to_owned())
}

/// `/path` is short for `unix:/path`.
fn status_address(text: &str) -> Result<Address, StartupError> {
    let address = match text.starts_with('/') {
        true => Address::parse("--status", &format!("unix:{text}"))?,
        false => Address::parse("--status", text)?,
    };
    match address {
        Address::Fd(_) => Err(StartupError::usage(format!("--status {text}: expected HOST:PORT or /path"))),
        address => Ok(address),
    }
}

fn control(path: Option<&Path>, pid_file: Option<&Path>) -> Result<Option<PathBuf>, StartupError> {
    let path = match (path, pid_file) {
        (Some(path), _) if path.as_os_str().is_empty() => return Ok(None),
        (Some(path), _) => absolute("--control", path)?,
        (None, Some(pid_file)) => control_beside(&absolute("--pid-file", pid_file)?),
        (None, None) => return Ok(None),
    };
    // sockaddr_un holds 108 bytes, the last of them a NUL (unix(7)).
    match path.as_os_str().len() {
        ..=107 => Ok(Some(path)),
        _ => Err(StartupError::usage(format!(
            "the path of the control socket, {}, is longer than the 107 bytes that a Unix socket can have: name another \
             one with --control",
            path.display()
        ))),
    }
}

/// The control socket of a master with this pid file, unless it was told another one.
pub(crate) fn control_beside(pid_file: &Path) -> PathBuf {
    let mut path = pid_file.as_os_str().to_owned();
    path.push(".sock");
    path.into()
}

fn listeners(options: &ListenerOptions) -> Result<Vec<ListenerConfig>, StartupError> {
    let mut all = Vec::new();
    for (flag, texts, protocol) in [
        ("--http", &options.http, ListenerProtocol::Http),
        ("--fastcgi", &options.fastcgi, ListenerProtocol::FastCgi),
    ] {
        for text in texts {
            let address = Address::parse(flag, text)?;
            let anonymous = matches!(&address, Address::Tcp(tcp) if tcp.port() == 0);
            if !anonymous && all.iter().any(|other: &ListenerConfig| other.address == address) {
                return Err(StartupError::usage(format!("{flag} {text}: the address is named twice")));
            }
            all.push(ListenerConfig { protocol, address });
        }
    }
    if all.is_empty() {
        all = inherited_listeners()?;
    }
    if all.is_empty() {
        let address = Address::parse("--http", DEFAULT_HTTP)?;
        all.push(ListenerConfig { protocol: ListenerProtocol::Http, address });
    }
    Ok(all)
}

/// systemd's socket activation (sd_listen_fds(3)): descriptors from 3 on; a name that begins with `fastcgi` (or `fcgi`)
/// means FastCGI, any other HTTP.
fn inherited_listeners() -> Result<Vec<ListenerConfig>, StartupError> {
    let read = |name: &str| env::var(name).ok();
    // A master that replaces the one they were passed to gets them from that one, under the same numbers.
    let replaces = env::var_os(UPGRADE_VARIABLE).is_some();
    if !replaces && read("LISTEN_PID").and_then(|pid| pid.parse().ok()) != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    if read("LISTEN_FDS").is_none() {
        return Ok(Vec::new());
    }
    let Some(count) =
        read("LISTEN_FDS").and_then(|count| count.parse::<i32>().ok()).filter(|count| *count < 1024)
    else {
        return Err(StartupError::other("LISTEN_FDS of the environment is not a number of descriptors"));
    };
    let names = read("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    Ok((0..count)
        .map(|index| {
            let name = names.next().unwrap_or_default();
            let protocol = match name.starts_with("fastcgi") || name.starts_with("fcgi") {
                true => ListenerProtocol::FastCgi,
                false => ListenerProtocol::Http,
            };
            ListenerConfig { protocol, address: Address::Fd(3 + index) }
        })
        .collect())
}

fn python(
    PythonOptions { interpreter: options, preload, warm_up, warm_up_timeout }: PythonOptions,
    env_files: &[PathBuf],
) -> Result<PythonConfig, StartupError> {
    let interpreter = interpreter(&options)?;
    let virtualenv = options.virtualenv.map(|dir| directory("--virtualenv", &dir)).transpose()?;
    let mut pythonpath = Vec::new();
    for dir in &options.pythonpath {
        pythonpath.push(directory("--pythonpath", dir)?);
    }
    let mut env = Vec::new();
    for file in env_files {
        env.extend(env_file::read(file)?);
    }
    for pair in &options.env {
        env.push(
            key_value("--env", pair)?.ok_or_else(|| {
                StartupError::usage(format!("--env {}: expected KEY=VALUE", pair.display()))
            })?,
        );
    }
    let warm_up = warm_up.iter().map(|given| super::WarmUp::parse(given)).collect::<Result<_, _>>()?;
    let warm_up_timeout = optional_seconds("--warm-up-timeout", warm_up_timeout)?;
    let chdir = options.chdir.map(|dir| directory("--chdir", &dir)).transpose()?;
    Ok(PythonConfig { interpreter, virtualenv, pythonpath, chdir, env, preload, warm_up, warm_up_timeout })
}

/// The one that is named, that of the virtual environment, or that of PATH.
pub(super) fn interpreter(options: &InterpreterOptions) -> Result<PathBuf, StartupError> {
    let virtualenv = options.virtualenv.as_ref().map(|dir| directory("--virtualenv", dir)).transpose()?;
    match (&options.python, &virtualenv) {
        (Some(path), _) => find_interpreter(path),
        (None, None) => find_interpreter(Path::new("python3")),
        (None, Some(dir)) => {
            let path = dir.join("bin/python3");
            match path.exists() {
                true => Ok(path),
                false => Err(StartupError::usage(format!(
                    "--virtualenv {}: there is no bin/python3 in it",
                    dir.display()
                ))),
            }
        }
    }
}

fn find_interpreter(name: &Path) -> Result<PathBuf, StartupError> {
    if name.components().count() > 1 || name.is_absolute() {
        let path = absolute("--python", name)?;
        return match path.is_file() {
            true => Ok(path),
            false => Err(StartupError::usage(format!("--python {}: there is no such file", path.display()))),
        };
    }
    let path = env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
    env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file()).ok_or_else(|| {
        StartupError::usage(format!(
            "an application needs Python, and there is no {} in PATH: install python3, or name an interpreter with \
             --python or --virtualenv",
            name.display()
        ))
    })
}

fn processes(options: ProcessOptions) -> Result<ProcessConfig, StartupError> {
    // available_parallelism heeds the affinity mask and the cgroup's quota.
    let processors = || std::thread::available_parallelism().map_or(1, |count| count.get().min(256) as u16);
    Ok(ProcessConfig {
        workers: options.workers.unwrap_or_else(|| PoolSize::fixed(processors())),
        worker_idle_timeout: seconds("--worker-idle-timeout", options.worker_idle_timeout)?,
        spare_workers: options.spare_workers,
        threads: options.threads.get(),
        timeout: optional_seconds("--timeout", options.timeout)?,
        slow_request: optional_seconds("--slow-request", options.slow_request)?,
        graceful_timeout: seconds("--graceful-timeout", options.graceful_timeout)?,
        recycling: RecyclingConfig {
            max_requests: Some(options.max_requests).filter(|count| *count > 0),
            requests_jitter: options.max_requests_jitter.unwrap_or(options.max_requests / 10),
            max_memory_bytes: Some(u64::from(options.max_memory) << 20).filter(|bytes| *bytes > 0),
            max_lifetime: optional_seconds("--max-lifetime", options.max_lifetime)?,
        },
        max_surge: options.max_surge,
        identity: identity(options.user.as_deref(), options.group.as_deref())?,
        umask: options.umask.map(|mask| octal("--umask", &mask, 0o777)).transpose()?,
        pid_file: options.pid_file.map(|path| absolute("--pid-file", &path)).transpose()?,
        heartbeat_timeout: optional_seconds("--heartbeat-timeout", options.heartbeat_timeout)?,
        upgrade_timeout: seconds("--upgrade-timeout", options.upgrade_timeout)?,
    })
}

fn identity(user: Option<&str>, group: Option<&str>) -> Result<Option<Identity>, StartupError> {
    use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
    if user.is_none() && group.is_none() {
        return Ok(None);
    }
    if !Uid::effective().is_root() {
        return Err(StartupError::usage("--user and --group need forkhorn to be started as root"));
    }
    let failed =
        |option: &str, name: &str, why: String| StartupError::usage(format!("{option} {name}: {why}"));
    let found_user = match user {
        None => None,
        Some(name) => {
            let by_name = User::from_name(name).map_err(|error| failed("--user", name, error.to_string()))?;
            let by_id =
                || name.parse().ok().and_then(|uid| User::from_uid(Uid::from_raw(uid)).ok().flatten());
            Some(
                by_name
                    .or_else(by_id)
                    .ok_or_else(|| failed("--user", name, "there is no such user".into()))?,
            )
        }
    };
    let found_group = match group {
        None => None,
        Some(name) => {
            let by_name =
                Group::from_name(name).map_err(|error| failed("--group", name, error.to_string()))?;
            let gid = by_name.map(|group| group.gid).or_else(|| name.parse().ok().map(Gid::from_raw));
            Some(gid.ok_or_else(|| failed("--group", name, "there is no such group".into()))?)
        }
    };
    let uid = found_user.as_ref().map_or_else(Uid::current, |user| user.uid);
    let gid = found_group.or(found_user.as_ref().map(|user| user.gid)).unwrap_or_else(Gid::current);
    let groups = match &found_user {
        None => vec![gid.as_raw()],
        Some(found) => {
            let name = std::ffi::CString::new(found.name.as_str())
                .map_err(|_| failed("--user", &found.name, "the name holds a NUL".into()))?;
            getgrouplist(&name, gid)
                .map_err(|error| failed("--user", &found.name, format!("its groups can't be read: {error}")))?
                .into_iter()
                .map(Gid::as_raw)
                .collect()
        }
    };
    let user_name = found_user.map(|user| user.name);
    Ok(Some(Identity { user_name, uid: uid.as_raw(), gid: gid.as_raw(), groups }))
}

fn limits(options: LimitOptions) -> Result<LimitConfig, StartupError> {
    let spool_dir = options.spool_dir.unwrap_or_else(env::temp_dir);
    Ok(LimitConfig {
        max_body_bytes: options.max_body,
        max_head_bytes: options.max_head.get() as usize,
        max_fields: options.max_fields.get() as usize,
        max_uri_bytes: options.max_uri.get() as usize,
        spool_threshold_bytes: options.spool_threshold,
        spool_dir: directory("--spool-dir", &spool_dir)?,
        body_memory_bytes: options.body_memory,
        max_output_bytes: u64::from(options.max_output.get()),
        head_timeout: seconds("--head-timeout", options.head_timeout)?,
        body_timeout: seconds("--body-timeout", options.body_timeout)?,
        send_timeout: seconds("--send-timeout", options.send_timeout)?,
        min_rate: NonZeroU64::new(options.min_rate),
        keep_alive_timeout: seconds("--keep-alive-timeout", options.keep_alive_timeout)?,
        max_connections: options.max_connections.get() as usize,
        max_queue: options.max_queue.get() as usize,
        queue_timeout: optional_seconds("--queue-timeout", options.queue_timeout)?,
    })
}

/// An empty list, such as an empty environment variable, is none.
fn web_server_addrs(list: String) -> Result<Option<String>, StartupError> {
    match list.parse::<WebServerAddrs>() {
        _ if list.is_empty() => Ok(None),
        Ok(_) => Ok(Some(list)),
        Err(_) => Err(StartupError::usage(format!(
            "--web-server-addrs {list}: expected IPv4 or IPv6 addresses, separated by commas"
        ))),
    }
}

fn script_environment(pairs: Vec<OsString>) -> Result<Vec<(OsString, OsString)>, StartupError> {
    let mut all: Vec<(OsString, OsString)> = Vec::new();
    for pair in pairs {
        let found = match key_value("--cgi-env", &pair)? {
            Some(found) => Some(found),
            None => env::var_os(&pair).map(|value| (pair, value)),
        };
        let Some((name, value)) = found else { continue };
        script_variables::check_own(name.as_bytes())?;
        // The last one counts.
        all.retain(|(other, _)| *other != name);
        all.push((name, value));
    }
    Ok(all)
}

/// RFC 3875 §4.1.18.
fn request_id_variable(field: &str) -> Result<String, StartupError> {
    let is_name = !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    match field.to_ascii_lowercase().as_str() {
        _ if !is_name => Err(StartupError::usage(format!(
            "--request-id-header {field}: expected the name of a field, of letters, digits and hyphens, such as \
             X-Request-Id"
        ))),
        // These mean something else, to applications as to us.
        "authorization"
        | "connection"
        | "content-length"
        | "content-type"
        | "cookie"
        | "host"
        | "proxy"
        | "proxy-authorization"
        | "transfer-encoding" => Err(StartupError::usage(format!(
            "--request-id-header {field}: that field has another meaning; expected a name such as X-Request-Id"
        ))),
        name => Ok(format!("HTTP_{}", name.replace('-', "_").to_ascii_uppercase())),
    }
}

fn script_limits(options: &ScriptLimitOptions) -> Result<ScriptLimits, StartupError> {
    /// Standard input, output and error, and a script's own file.
    const FEWEST_FILES: u32 = 4;
    const MIB: u64 = 1024 * 1024;
    let some = |number: u32| (number > 0).then_some(u64::from(number));
    if (1..FEWEST_FILES).contains(&options.cgi_limit_files) {
        return Err(StartupError::usage(format!(
            "--cgi-limit-files {}: a script has three open from the start; expected {FEWEST_FILES} or more",
            options.cgi_limit_files
        )));
    }
    Ok(ScriptLimits {
        memory_bytes: some(options.cgi_limit_memory).map(|mib| mib * MIB),
        cpu_seconds: some(options.cgi_limit_cpu),
        processes: some(options.cgi_limit_processes),
        files: some(options.cgi_limit_files),
        file_bytes: some(options.cgi_limit_file_size).map(|mib| mib * MIB),
        nice: options.cgi_nice,
    })
}

/// `None` if there is no equals sign.
fn key_value(option: &str, pair: &OsStr) -> Result<Option<(OsString, OsString)>, StartupError> {
    let bytes = pair.as_bytes();
    let at = bytes.iter().position(|&byte| byte == b'=');
    let key = &bytes[..at.unwrap_or(bytes.len())];
    if key.is_empty() || bytes.contains(&0) {
        return Err(StartupError::usage(format!("{option} {}: the name is missing", pair.display())));
    }
    Ok(at.map(|at| (OsString::from_vec(key.to_vec()), OsString::from_vec(bytes[at + 1..].to_vec()))))
}

fn seconds(option: &str, value: f64) -> Result<Duration, StartupError> {
    match value > 0.0 && value <= 1e9 {
        true => Ok(Duration::from_secs_f64(value)),
        false => Err(StartupError::usage(format!("{option} {value}: expected a number of seconds above 0"))),
    }
}

fn optional_seconds(option: &str, value: f64) -> Result<Option<Duration>, StartupError> {
    if value == 0.0 { Ok(None) } else { seconds(option, value).map(Some) }
}

fn octal(option: &str, text: &str, most: u32) -> Result<u32, StartupError> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= most => Ok(mode),
        _ => Err(StartupError::usage(format!("{option} {text}: expected an octal number up to {most:o}"))),
    }
}

fn absolute(option: &str, path: &Path) -> Result<PathBuf, StartupError> {
    std::path::absolute(path)
        .map_err(|error| StartupError::usage(format!("{option} {}: {error}", path.display())))
}

fn directory(option: &str, path: &Path) -> Result<PathBuf, StartupError> {
    let wrong = |why: String| StartupError::usage(format!("{option} {}: {why}", path.display()));
    let resolved = path.canonicalize().map_err(|error| match (error.kind(), option) {
        (ErrorKind::NotFound, "--virtualenv") => {
            wrong(format!("there is no such directory; to make one, run: python3 -m venv {}", path.display()))
        }
        (ErrorKind::NotFound, _) => wrong("there is no such directory".into()),
        _ => wrong(error.to_string()),
    })?;
    match resolved.is_dir() {
        true => Ok(resolved),
        false => Err(wrong("it is not a directory".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_not_there_is_told_with_what_makes_it() {
        let told = |option| directory(option, Path::new("/not/there")).expect_err(option).to_string();
        assert_eq!(told("--cgi"), "--cgi /not/there: there is no such directory");
        assert!(told("--virtualenv").ends_with("run: python3 -m venv /not/there"));
        let file = directory("--cgi", Path::new("/dev/null")).expect_err("a file").to_string();
        assert_eq!(file, "--cgi /dev/null: it is not a directory");
    }

    #[test]
    fn addresses_of_web_servers_are_checked_before_anything_starts() {
        for (list, kept) in [("", None), ("127.0.0.1, ::1", Some("127.0.0.1, ::1"))] {
            assert_eq!(web_server_addrs(list.into()).expect(list).as_deref(), kept);
        }
        for list in ["localhost", "127.0.0.1,", "10.0.0.0/8"] {
            let error = web_server_addrs(list.into()).expect_err(list);
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().starts_with(&format!("--web-server-addrs {list}: ")), "{error}");
        }
    }
}
