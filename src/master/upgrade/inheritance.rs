//! What a new master gets from the one that it replaces.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::unistd::Uid;
use socket2::SockRef;

use super::{FromSuccessor, Inherited, ToSuccessor};
use crate::channel::{Channel, ChannelError};
use crate::config::{Address, StartupError, UPGRADE_VARIABLE};
use crate::hand_off::{self, HandOffQueue};
use crate::master::sockets::{Listener, OwnedPath};
use crate::sys;

/// A listener, and device and inode of its name, if it has one that the master removes.
type Gift = (Rc<Listener>, Option<(u64, u64)>);

/// What the old master gives, until it is ours.
#[derive(Debug)]
pub(in crate::master) struct Inheritance {
    channel: Channel,
    /// All of them, those that the configuration does not name any more too: their names in the file system are ours to
    /// remove, once we have taken over.
    listeners: Vec<Gift>,
    /// `None`: the old master's workers speak another language, so that each master has a queue of its own.
    hand_off: Option<HandOffQueue>,
    told_ready: bool,
}

impl Inheritance {
    /// `None` if this process replaces nobody. To be called before this process opens anything.
    ///
    /// # Errors
    /// The variable is set, but not by an old master.
    pub(in crate::master) fn take() -> Result<Option<Inheritance>, StartupError> {
        let Some(number) = std::env::var_os(UPGRADE_VARIABLE) else { return Ok(None) };
        let wrong = |why: &str| {
            StartupError::other(format!(
                "{UPGRADE_VARIABLE} is set in the environment, but {why}: it is for a master that replaces another one \
                 (USR2); unset it"
            ))
        };
        let number: Option<RawFd> = number.to_str().and_then(|text| text.parse().ok());
        let number = number.filter(|number| *number > 2).ok_or_else(|| wrong("is no descriptor"))?;
        let socket = sys::copy_inherited(number)
            .map_err(|error| wrong(&error.to_string()))?
            .ok_or_else(|| wrong("the descriptor is not open"))?;
        if !is_from_parent(socket.as_fd()) {
            return Err(wrong("the descriptor is no channel to the process that has started this one"));
        }
        sys::close_inherited(number).map_err(|error| wrong(&error.to_string()))?;
        let channel = Channel::new(socket);
        let received = channel.try_receive::<ToSuccessor>();
        let (message, descriptors) = match received {
            Ok(Some(received)) => received,
            Ok(None) => return Err(wrong("nothing has come")),
            Err(error) => return Err(wrong(&format!("the old master can't be understood ({error})"))),
        };
        let ToSuccessor::Inherit { version, hand_off_version, listeners } = message else {
            return Err(wrong("the old master has said something else first"));
        };
        log::info!("upgrade: from version {version} to {}", env!("CARGO_PKG_VERSION"));
        let inherited = Inheritance::of(channel, (listeners, descriptors), hand_off_version);
        inherited.map(Some).map_err(|why| wrong(&why))
    }

    fn of(
        channel: Channel,
        (listeners, mut descriptors): (Vec<Inherited>, Vec<OwnedFd>),
        hand_off_version: u8,
    ) -> Result<Inheritance, String> {
        if descriptors.len() != listeners.len() + 2 {
            return Err("the listeners did not come".to_owned());
        }
        let (Some(receiving), Some(sending)) = (descriptors.pop(), descriptors.pop()) else {
            return Err("the hand-off queue did not come".to_owned());
        };
        let listeners: Result<Vec<_>, String> = listeners
            .into_iter()
            .zip(descriptors)
            .map(|(told, descriptor)| listener(told, descriptor))
            .collect();
        Ok(Inheritance {
            channel,
            listeners: listeners?,
            hand_off: (hand_off_version == hand_off::VERSION)
                .then(|| HandOffQueue::from_ends(sending, receiving)),
            told_ready: false,
        })
    }

    pub(in crate::master) fn listeners(&self) -> Vec<Rc<Listener>> {
        self.listeners.iter().map(|(listener, _)| listener.clone()).collect()
    }

    pub(in crate::master) fn hand_off(&self) -> Option<std::io::Result<HandOffQueue>> {
        self.hand_off.as_ref().map(HandOffQueue::try_clone)
    }

    pub(in crate::master) fn raw_fd(&self) -> RawFd {
        self.channel.as_fd().as_raw_fd()
    }

    /// Says once that all workers accept requests.
    pub(super) fn tell_ready(&mut self, ready: bool) {
        if !ready || std::mem::replace(&mut self.told_ready, true) {
            return;
        }
        let message = FromSuccessor::Ready { hand_over: self.hand_off.is_some() };
        if let Err(error) = self.channel.send(&message, &[]) {
            log::warn!("the old master can't be told that this one is ready: {error}");
        }
    }

    /// The old master has given everything away, or is gone.
    pub(super) fn is_ours(&self) -> bool {
        match self.channel.try_receive::<ToSuccessor>() {
            Ok(None) => false,
            Ok(Some((ToSuccessor::TakeOver, _))) => true,
            Err(ChannelError::Closed) => {
                log::warn!("upgrade: the old master has ended before it was time");
                true
            }
            Ok(Some(_)) | Err(_) => {
                log::error!("upgrade: the old master can't be understood");
                false
            }
        }
    }

    /// The names of Unix sockets are ours to remove, at the end or, if nobody listens on them here, now.
    pub(super) fn adopt_names(self) {
        for (listener, name) in self.listeners {
            if let (Some(identity), Address::Unix(path)) = (name, &listener.bound) {
                *listener.name.borrow_mut() = Some(OwnedPath::adopt(path, identity));
            }
        }
    }
}

fn listener(told: Inherited, descriptor: OwnedFd) -> Result<Gift, String> {
    if !SockRef::from(&descriptor).is_listener().unwrap_or(false) {
        return Err(format!("{} came without its listening socket", told.bound));
    }
    let Inherited { given, bound, name } = told;
    Ok((Rc::new(Listener { given, bound, descriptor, name: None.into() }), name))
}

/// One end of a pair that our parent has made, as root or as our own user.
fn is_from_parent(socket: BorrowedFd<'_>) -> bool {
    let is_channel = getsockopt(&socket, sockopt::SockType) == Ok(SockType::SeqPacket);
    is_channel
        && getsockopt(&socket, sockopt::PeerCredentials).is_ok_and(|peer| {
            let trusted = peer.uid() == 0 || Uid::from_raw(peer.uid()) == Uid::effective();
            trusted && peer.pid() == nix::unistd::getppid().as_raw()
        })
}
