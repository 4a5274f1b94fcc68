//! What the kernel says a process is doing (proc_pid_stat(5)).

use std::fs;

/// In words, for the log. `None`: there is no such process, or /proc is not there.
pub(crate) fn process_state(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold any character.
    let state = stat.rsplit_once(')')?.1.trim_start().chars().next()?;
    Some(match state {
        'R' => "it is running".to_owned(),
        'S' => format!("it is waiting{}", place(pid)),
        'D' => format!("it is waiting in the kernel, where it can't be interrupted{}", place(pid)),
        'T' => "it was stopped by a signal".to_owned(),
        't' => "it was stopped by a debugger".to_owned(),
        'Z' => "it has ended".to_owned(),
        other => format!("its state is {other}"),
    })
}

/// Where in the kernel, if that may be known.
fn place(pid: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    match name.as_str() {
        "" | "0" => String::new(),
        name => format!(" ({name})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_runs_and_one_that_is_not_there_are_told_apart() {
        let own = i32::try_from(std::process::id()).expect("a pid");
        assert!(process_state(own).expect("there").starts_with("it is "));
        assert_eq!(process_state(-1), None);
    }
}
