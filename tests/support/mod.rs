//! What the end-to-end tests stand on. Nothing here uses forkhorn's own code: an error in one of its codecs can't hide
//! behind the same error in its tests.
//!
//! | module | job |
//! | --- | --- |
//! | [`forkhorn`] | starts the real binary, reads its log, stops it, looks for what it left behind |
//! | [`http`], [`fastcgi`] | clients that can send any bytes at any pace |
//! | [`fronts`] | real web servers in front of forkhorn |
//! | [`python`] | the interpreters of this machine |
//! | [`process`], [`log`], [`folder`], [`wait`] | child processes, what they say, where they work, how long we wait |

pub mod fastcgi;
pub mod folder;
pub mod forkhorn;
pub mod fronts;
pub mod http;
pub mod log;
pub mod process;
pub mod python;
pub mod wait;

pub use folder::{Folder, fixture, project};
pub use forkhorn::{Forkhorn, Running};
pub use http::{Address, Connection, Response};
pub use wait::wait_until;
