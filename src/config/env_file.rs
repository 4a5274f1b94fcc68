//! The files of `--env-file`: a variable a line, as container tools and systemd read them.

use std::ffi::OsString;
use std::path::Path;

use super::StartupError;

/// The variables of a file, in its order.
pub(super) fn read(path: &Path) -> Result<Vec<(OsString, OsString)>, StartupError> {
    let text = super::file::read_text(path)
        .map_err(|why| StartupError::usage(format!("--env-file {}: {why}", path.display())))?;
    let mut variables = Vec::new();
    for (index, line) in text.lines().enumerate() {
        match variable(line) {
            Ok(found) => variables.extend(found),
            Err(why) => {
                return Err(StartupError::usage(format!("{}:{}: {why}", path.display(), index + 1)));
            }
        }
    }
    Ok(variables)
}

/// `None`: an empty line or a comment.
fn variable(line: &str) -> Result<Option<(OsString, OsString)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (name, value) = line.split_once('=').ok_or("expected KEY=VALUE")?;
    let name = name.trim_end();
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err("expected the name of a variable before the equals sign");
    }
    if line.contains('\0') {
        return Err("the line holds a NUL");
    }
    let value = value.trim_start();
    let unquoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    Ok(Some((name.into(), unquoted.unwrap_or(value).into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_variables_and_one_pair_of_quotes_is_taken_off() {
        for (line, expected) in [
            ("", None),
            ("  # KEY=1", None),
            ("KEY=value", Some(("KEY", "value"))),
            ("KEY=", Some(("KEY", ""))),
            (" KEY = two words ", Some(("KEY", "two words"))),
            ("KEY=\"a 'b' # c\"", Some(("KEY", "a 'b' # c"))),
            ("KEY='$HOME'", Some(("KEY", "$HOME"))),
            ("KEY='", Some(("KEY", "'"))),
            ("KEY=a=b", Some(("KEY", "a=b"))),
        ] {
            let expected = expected.map(|(name, value)| (name.into(), value.into()));
            assert_eq!(variable(line).expect(line), expected, "{line}");
        }
        for line in ["KEY", "=value", "export KEY=1", "KEY=a\0b"] {
            variable(line).expect_err(line);
        }
    }

    #[test]
    fn a_wrong_line_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("site.env");
        std::fs::write(&path, "A=1\n\nnonsense\n").expect("written");
        let error = read(&path).expect_err("wrong");
        assert_eq!(error.to_string(), format!("{}:3: expected KEY=VALUE", path.display()));
        assert_eq!(error.exit_code(), 2);
        let missing = dir.path().join("missing");
        let error = read(&missing).expect_err("missing").to_string();
        assert!(error.starts_with(&format!("--env-file {}: ", missing.display())), "{error}");
    }
}
