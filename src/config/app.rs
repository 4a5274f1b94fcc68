//! Which application: `module:callable`, `module:factory()`, `path/to/file.py[:callable]`.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::StartupError;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppSource {
    /// Imported by its dotted name.
    Module(String),
    /// Run from its file; absolute.
    File(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSpec {
    /// As the operator wrote it, for messages.
    pub given: String,
    pub source: AppSource,
    /// Dotted attributes of the module.
    pub callable: String,
    /// The callable is called without arguments and returns the application.
    pub factory: bool,
}

impl AppSpec {
    /// `text` with the file that it names, if it names one, looked for in `directory` instead of the working directory.
    pub fn from_directory(text: &str, directory: &std::path::Path) -> String {
        let source = text.rsplit_once(':').map_or(text, |(source, _)| source);
        match is_path(source) {
            true => directory.join(text).to_string_lossy().into_owned(),
            false => text.to_owned(),
        }
    }

    pub fn parse(text: &str) -> Result<AppSpec, StartupError> {
        let wrong = |why: &str| StartupError::usage(format!("application '{text}': {why}"));
        let (source, callable) = match text.rsplit_once(':') {
            Some((source, callable)) => (source, callable),
            None => (text, "application"),
        };
        let (callable, factory) = match callable.strip_suffix("()") {
            Some(name) => (name, true),
            None => (callable, false),
        };
        if callable.ends_with(')') && !factory {
            return Err(wrong(
                "a factory is called without arguments: write a function of your own that passes them",
            ));
        }
        if !callable.split('.').all(is_identifier) {
            return Err(wrong("what follows the colon must be a name, or a name and ()"));
        }
        let source = if is_path(source) {
            let path = std::path::absolute(source).map_err(|error| wrong(&error.to_string()))?;
            if !path.is_file() {
                return Err(wrong(&format!("there is no file {}", path.display())));
            }
            AppSource::File(path)
        } else if source.split('.').all(is_identifier) {
            AppSource::Module(source.to_owned())
        } else {
            return Err(wrong("expected module:callable, module:factory() or path/to/file.py[:callable]"));
        };
        Ok(AppSpec { given: text.to_owned(), source, callable: callable.to_owned(), factory })
    }
}

fn is_path(source: &str) -> bool {
    source.ends_with(".py") || source.contains('/')
}

/// Python allows more letters than ASCII has (Python reference §2.3); the interpreter has the last word.
fn is_identifier(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(|character| character.is_alphanumeric() || character == '_')
}

impl fmt::Display for AppSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applications_are_read_in_all_their_forms() {
        for (text, module, callable, factory) in [
            ("shop", "shop", "application", false),
            ("shop.wsgi:app", "shop.wsgi", "app", false),
            ("shop:create_app()", "shop", "create_app", true),
            ("shop:site.app", "shop", "site.app", false),
        ] {
            let app = AppSpec::parse(text).expect(text);
            assert_eq!(app.source, AppSource::Module(module.to_owned()));
            assert_eq!((app.callable.as_str(), app.factory), (callable, factory), "{text}");
        }
        for text in
            ["", ":app", "shop:", "shop:app(1)", "shop:1", "a-b:app", "missing/file.py", "missing.py:app"]
        {
            assert_eq!(AppSpec::parse(text).expect_err(text).exit_code(), 2);
        }
    }
}
