//! The unsafe corner: what neither std nor nix offers safely. Each block says why its contract holds.

pub(crate) mod adopted;
mod append;
mod command;
mod descriptors;
pub(crate) mod epoll;
mod fork;
mod heap;
mod shared_words;
mod signals;
pub(crate) mod spawn;
mod state;
mod title;
mod wait;

pub(crate) use append::{MOST_RUNS, append_runs};
pub(crate) use command::{as_identity, in_clean_state, with_clean_signals};
#[cfg(test)]
pub(crate) use descriptors::data_segments_sent;
pub use descriptors::peek;
pub(crate) use descriptors::{
    MAX_DESCRIPTORS, Received, close_inherited, copy_inherited, enlarge_table, has_room_for_descriptors,
    hide_inherited, receive_message, send_message, unread_by_peer,
};
pub(crate) use fork::in_child;
pub use fork::{Forked, fork_worker, try_in_copy};
pub use heap::return_free_memory;
pub(crate) use shared_words::{SharedWords, sealed_memory};
pub use signals::LOG_STACKS_OFFSET;
pub(crate) use signals::{ask_for_stacks, heed_children, survive_file_size_limit};
pub(crate) use spawn::{open_pidfd as pidfd, set_nonblocking};
pub(crate) use state::process_state;
pub(crate) use title::set_title;
pub(crate) use wait::{ended_child, is_child, reap};
