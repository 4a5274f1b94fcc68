//! The options of warm interpreters.

use std::path::PathBuf;

use super::{StartupError, WarmConfig, WarmInterpreter, WarmLanguage};
use crate::cli::CgiOptions;

/// What `--warm` and its companions say.
pub(super) fn resolve(options: &CgiOptions, has_scripts: bool) -> Result<Option<WarmConfig>, StartupError> {
    let mut interpreters = Vec::new();
    for list in &options.warm {
        for item in list.split(',') {
            interpreters.push(interpreter(item)?);
        }
    }
    for interpreter in &interpreters {
        if let Some(path) = &interpreter.path
            && !path.is_file()
        {
            return Err(StartupError::usage(format!("--warm {}: there is no such file", path.display())));
        }
    }
    if !interpreters.is_empty() && !has_scripts {
        return Err(StartupError::usage("--warm: there is no --cgi whose scripts could be run so"));
    }
    // What names a path goes before what holds for all of the language.
    interpreters.sort_by_key(|entry: &WarmInterpreter| entry.path.is_none());
    Ok((!interpreters.is_empty()).then_some(WarmConfig {
        interpreters,
        spares: options.warm_spares,
        max_forks: options.warm_max_forks,
        learn: !options.warm_no_learning,
    }))
}

/// `python`, `perl`, `/usr/bin/python3.12`; then perhaps a colon and modules, with a plus sign between them.
fn interpreter(item: &str) -> Result<WarmInterpreter, StartupError> {
    let wrong = |why: &str| StartupError::usage(format!("--warm {item}: {why}"));
    let (name, modules) = item.split_once(':').unwrap_or((item, ""));
    let path = name.starts_with('/').then(|| PathBuf::from(name));
    let last = name.rsplit('/').next().unwrap_or_default();
    let is_version = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let fits = |language: &WarmLanguage| match path {
        Some(_) => last.strip_prefix(language.name()).is_some_and(is_version),
        None => name == language.name(),
    };
    let language = [WarmLanguage::Python, WarmLanguage::Perl]
        .into_iter()
        .find(fits)
        .ok_or_else(|| wrong(&unknown(name)))?;
    let modules = modules.split('+').filter(|module| !module.is_empty());
    let modules = modules.map(|module| {
        module_name(language, module).ok_or_else(|| wrong(&format!("'{module}' is not the name of a module")))
    });
    Ok(WarmInterpreter { language, path, modules: modules.collect::<Result<_, _>>()? })
}

/// What to write instead of `name`, which is neither a language nor the path of an interpreter.
fn unknown(name: &str) -> String {
    let languages = [WarmLanguage::Python, WarmLanguage::Perl].map(WarmLanguage::name);
    match languages.iter().find(|language| name.starts_with(**language)) {
        Some(language) => format!(
            "write {language}, which holds for {name} too, or the whole path of the only interpreter that is meant"
        ),
        None => "expected python, perl, or the whole path of such an interpreter".to_owned(),
    }
}

/// As the interpreter loads it: Perl's `CGI::Util` is the file `CGI/Util.pm`.
fn module_name(language: WarmLanguage, module: &str) -> Option<String> {
    let is_word = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    match language {
        WarmLanguage::Python => module.split('.').all(is_word).then(|| module.to_owned()),
        WarmLanguage::Perl => module.split("::").all(is_word).then(|| module.replace("::", "/") + ".pm"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_and_their_modules_are_read_from_one_word() {
        let shown = |item| {
            let WarmInterpreter { language, path, modules } = interpreter(item).expect(item);
            format!("{} {} {}", language.name(), path.unwrap_or_default().display(), modules.join(" "))
        };
        assert_eq!(shown("python"), "python  ");
        assert_eq!(shown("perl:CGI+DBI"), "perl  CGI.pm DBI.pm");
        assert_eq!(shown("python:json+os.path"), "python  json os.path");
        assert_eq!(shown("/opt/bin/python3.12:json"), "python /opt/bin/python3.12 json");
        assert_eq!(shown("/usr/bin/perl:CGI::Util"), "perl /usr/bin/perl CGI/Util.pm");
        for item in [
            "",
            "ruby",
            "python3",
            "bin/python3",
            "/bin/sh",
            "/usr/bin/python-config",
            "python:a b",
            "perl:../x",
        ] {
            let error = interpreter(item).expect_err(item);
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().starts_with(&format!("--warm {item}: ")), "{error}");
        }
        let told = interpreter("python3").expect_err("refused").to_string();
        assert!(told.contains("write python, which holds for python3 too"), "{told}");
    }

    #[test]
    fn what_could_never_run_warm_is_refused_at_once() {
        let resolve = |item: &str, has_scripts| {
            let mut serve = crate::cli::Serve::default_for("a:b");
            serve.cgi.warm = vec![item.to_owned()];
            resolve(&serve.cgi, has_scripts).map(|config| config.is_some()).map_err(|error| error.to_string())
        };
        assert_eq!(resolve("python,perl", true), Ok(true));
        let missing = resolve("perl,/not/there/python3", true).expect_err("refused");
        assert_eq!(missing, "--warm /not/there/python3: there is no such file");
        assert!(resolve("perl", false).expect_err("refused").starts_with("--warm: there is no --cgi"));
    }
}
