//! Datagrams of local sockets, with the process that sent each.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::Pid;

/// Takes in the next datagram, if one waits: how long it is, at most as `bytes`, and which process the
/// kernel says that it is from (SCM_CREDENTIALS, unix(7)); none where the socket has no `SO_PASSCRED`.
/// There is no room for descriptors: the kernel closes those that come.
pub fn receive(socket: impl AsFd, bytes: &mut [u8]) -> Option<(Option<Pid>, usize)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(bytes)];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = recvmsg(socket, &mut parts, &mut control, flags).ok()?;
    let sender = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(credentials) => Some(credentials.pid),
        _ => None,
    });
    Some((sender, message.bytes))
}
