//! What process lists show: the role of each process, its slot and generation, and whether it drains.

use std::ffi::{CString, OsString};
use std::sync::Mutex;

use crate::channel::Role;
use crate::config::Config;
use crate::sys::set_title;

/// The title of this process, without its state.
static TITLE: Mutex<String> = Mutex::new(String::new());

/// `forkhorn: master (serve shop.wsgi:app --workers 4)`. To be called when nobody needs the arguments themselves any more.
pub(crate) fn show_master(arguments: impl Iterator<Item = OsString>) {
    let arguments: Vec<_> = arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();
    show(format!("forkhorn: master ({})", arguments.join(" ")));
}

/// `forkhorn: worker 0 gen 3 (shop.wsgi:app)`, and a name for tools that show no more than that: `forkhorn-w0`.
pub(crate) fn show_role(role: Role, config: &Config) {
    let (title, name) = match role {
        Role::Template { generation } => {
            (format!("forkhorn: template gen {generation}"), "forkhorn-tmpl".to_owned())
        }
        Role::Worker { slot, generation } => {
            (format!("forkhorn: worker {slot} gen {generation}"), format!("forkhorn-w{slot}"))
        }
    };
    let served: Vec<_> = config.applications.iter().map(|app| app.given.as_str()).collect();
    show(if served.is_empty() { title } else { format!("{title} ({})", served.join(", ")) });
    if let Ok(name) = CString::new(name) {
        // Cut to 15 bytes by the kernel; a process without a name of its own is none the worse.
        let _ = nix::sys::prctl::set_name(&name);
    }
}

/// The worker takes no new requests. Whether it is busy is not shown: that changes with every request.
pub(crate) fn show_draining() {
    let Ok(title) = TITLE.lock() else { return };
    if let Some(at) = title.find(" (") {
        let (role, served) = title.split_at(at);
        set_title(&format!("{role} draining{served}"));
    } else if !title.is_empty() {
        set_title(&format!("{title} draining"));
    }
}

fn show(title: String) {
    set_title(&title);
    if let Ok(mut kept) = TITLE.lock() {
        *kept = title;
    }
}
