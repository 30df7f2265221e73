//! The kernel's interfaces, addresses and routes, by rtnetlink (rtnetlink(7)).

mod message;

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use noonmark_contract::config::network::{Cidr, Mac};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily as Domain, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send,
    socket_with,
};
use thiserror::Error;

/// The kernel's longest answer to a dump fits (NLMSG_GOODSIZE is at most 8 KiB, 32 KiB for dumps).
const ANSWER_MAX: usize = 64 * 1024;

/// Answers come within the system call that asks; this is for a kernel that is broken.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// How many datagrams one request may be answered by.
const ANSWERS_MAX: usize = 1_000;

/// `RTMGRP_LINK` (include/uapi/linux/rtnetlink.h).
const LINK_GROUP: u32 = 1;

/// Something that the kernel would not do.
#[derive(Debug, Error)]
pub enum RtnetlinkError {
    /// The socket failed.
    #[error("rtnetlink: {what}: {errno}")]
    Socket {
        /// What was tried.
        what: &'static str,
        /// Why not.
        errno: Errno,
    },
    /// The kernel refused the request.
    #[error("{what}: {error}")]
    Refused {
        /// What was asked for.
        what: String,
        /// What the kernel says.
        error: std::io::Error,
    },
    /// The kernel's answer can't be understood.
    #[error("rtnetlink: an answer that can't be understood: {0}")]
    Answer(String),
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number; never used again while the machine runs.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address; none where it is no Ethernet interface.
    pub mac: Option<Mac>,
}

/// The socket that asks.
#[derive(Debug)]
pub struct Rtnetlink {
    socket: OwnedFd,
    sequence: u32,
}

/// The socket that hears of interfaces that come, go or change.
#[derive(Debug)]
pub struct LinkMonitor(OwnedFd);

impl Rtnetlink {
    /// Opens it. Needs CAP_NET_ADMIN for everything but reading.
    ///
    /// # Errors
    /// As `socket` and `bind`.
    pub fn open() -> Result<Self, RtnetlinkError> {
        let socket = open(0, SocketFlags::CLOEXEC)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_DEADLINE))
            .map_err(|errno| failed("setting a deadline", errno))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// All interfaces, in the order in which they appeared.
    ///
    /// # Errors
    /// [`RtnetlinkError`].
    pub fn links(&mut self) -> Result<Vec<Link>, RtnetlinkError> {
        let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.request("listing interfaces", message, NLM_F_DUMP)?;
        let mut links: Vec<Link> = answers.iter().filter_map(link).collect();
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// Gives an interface another name. It is down afterwards: one that is up may refuse (dev_change_name,
    /// net/core/dev.c).
    ///
    /// # Errors
    /// [`RtnetlinkError`].
    pub fn rename(&mut self, link: &Link, name: &str) -> Result<(), RtnetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        message.header.change_mask = LinkFlags::Up;
        message.attributes = vec![LinkAttribute::IfName(name.into())];
        let what = format!("calling {} {name}", link.name);
        self.request(&what, RouteNetlinkMessage::SetLink(message), NLM_F_ACK)?;
        Ok(())
    }

    /// Brings an interface up.
    ///
    /// # Errors
    /// [`RtnetlinkError`].
    pub fn set_up(&mut self, link: &Link, mtu: Option<u16>) -> Result<(), RtnetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes = mtu
            .map(|mtu| LinkAttribute::Mtu(mtu.into()))
            .into_iter()
            .collect();
        let what = format!("bringing {} up", link.name);
        self.request(&what, RouteNetlinkMessage::SetLink(message), NLM_F_ACK)?;
        Ok(())
    }

    /// The IPv4 addresses of an interface.
    ///
    /// # Errors
    /// [`RtnetlinkError`].
    pub fn addresses4(&mut self, link: &Link) -> Result<Vec<Cidr>, RtnetlinkError> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        let message = RouteNetlinkMessage::GetAddress(message);
        let answers = self.request("listing addresses", message, NLM_F_DUMP)?;
        Ok(answers
            .iter()
            .filter_map(|answer| address(answer, link.index))
            .collect())
    }

    /// Gives an interface an address, with the route to its network; that it has it is fine. The kernel
    /// takes it away again after so many `seconds`, if it isn't given once more until then.
    ///
    /// # Errors
    /// [`RtnetlinkError`].
    pub fn add_address(
        &mut self,
        link: &Link,
        cidr: Cidr,
        seconds: Option<u32>,
    ) -> Result<(), RtnetlinkError> {
        let message = RouteNetlinkMessage::NewAddress(message::address(link.index, cidr, seconds));
        let what = format!("{}: adding {cidr}", link.name);
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.request(&what, message, flags)?;
        Ok(())
    }

    /// Takes an address away, and with it the routes through it.
    ///
    /// # Errors
    /// [`RtnetlinkError`].
    pub fn remove_address(&mut self, link: &Link, cidr: Cidr) -> Result<(), RtnetlinkError> {
        let message = RouteNetlinkMessage::DelAddress(message::address(link.index, cidr, None));
        let what = format!("{}: removing {cidr}", link.name);
        self.request(&what, message, NLM_F_ACK)?;
        Ok(())
    }

    /// Makes `router` a default route; replaces the one of the same metric. Of several, the kernel takes
    /// the one with the least metric.
    ///
    /// # Errors
    /// [`RtnetlinkError`].
    pub fn set_default_route(
        &mut self,
        link: &Link,
        router: IpAddr,
        metric: u32,
    ) -> Result<(), RtnetlinkError> {
        let what = format!("{}: routing by {router}", link.name);
        let message =
            RouteNetlinkMessage::NewRoute(message::default_route(link.index, router, metric));
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.request(&what, message, flags)?;
        Ok(())
    }

    /// Sends one request and collects its answers up to the last.
    fn request(
        &mut self,
        what: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, RtnetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut packet = NetlinkMessage::from(message);
        packet.header.flags = NLM_F_REQUEST | flags;
        packet.header.sequence_number = self.sequence;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        send(&self.socket, &bytes, SendFlags::empty()).map_err(|errno| failed("sending", errno))?;
        let mut buffer = vec![0; ANSWER_MAX];
        let mut answers = Vec::new();
        for _ in 0..ANSWERS_MAX {
            let (used, _) = recv(&self.socket, &mut buffer[..], RecvFlags::empty())
                .map_err(|errno| failed("waiting for an answer", errno))?;
            let last = read_answers(&buffer[..used], self.sequence, what, &mut answers)?;
            if last {
                return Ok(answers);
            }
        }
        Err(RtnetlinkError::Answer(format!("no end to {what}")))
    }
}

impl LinkMonitor {
    /// Opens it.
    ///
    /// # Errors
    /// As `socket` and `bind`.
    pub fn open() -> Result<Self, RtnetlinkError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(Self(open(LINK_GROUP, flags)?))
    }

    /// The descriptor to wait on.
    pub fn descriptor(&self) -> &OwnedFd {
        &self.0
    }

    /// Takes in what it heard; the interfaces are then to be listed anew.
    pub fn drain(&self) {
        let mut buffer = [0u8; 256];
        // What is in the messages doesn't matter, nor that they are cut or were lost.
        for _ in 0..ANSWERS_MAX {
            match recv(&self.0, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok(_) | Err(Errno::NOBUFS) => {}
                Err(_) => return,
            }
        }
    }
}

fn open(groups: u32, flags: SocketFlags) -> Result<OwnedFd, RtnetlinkError> {
    // NETLINK_ROUTE is protocol 0.
    let socket = socket_with(Domain::NETLINK, SocketType::RAW, flags, None)
        .map_err(|errno| failed("opening a socket", errno))?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))
        .map_err(|errno| failed("binding a socket", errno))?;
    Ok(socket)
}

fn failed(what: &'static str, errno: Errno) -> RtnetlinkError {
    RtnetlinkError::Socket { what, errno }
}

/// Reads one datagram of answers; true where the last one was in it.
fn read_answers(
    mut bytes: &[u8],
    sequence: u32,
    what: &str,
    answers: &mut Vec<RouteNetlinkMessage>,
) -> Result<bool, RtnetlinkError> {
    while !bytes.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes)
            .map_err(|error| RtnetlinkError::Answer(error.to_string()))?;
        // Messages are aligned to four bytes.
        let length = (message.header.length as usize).next_multiple_of(4).max(16);
        bytes = bytes.get(length..).unwrap_or_default();
        if message.header.sequence_number != sequence {
            continue;
        }
        match message.payload {
            NetlinkPayload::InnerMessage(answer) => answers.push(answer),
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
            NetlinkPayload::Error(error) => {
                return Err(RtnetlinkError::Refused {
                    what: what.into(),
                    error: error.to_io(),
                });
            }
            _ => {}
        }
    }
    Ok(false)
}

fn link(answer: &RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = answer else {
        return None;
    };
    let ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    let (mut name, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(told) => name = Some(told.clone()),
            LinkAttribute::Address(bytes) if ethernet => {
                mac = bytes.as_slice().try_into().ok().map(Mac);
            }
            _ => {}
        }
    }
    Some(Link {
        index: message.header.index,
        name: name?,
        mac,
    })
}

fn address(answer: &RouteNetlinkMessage, index: u32) -> Option<Cidr> {
    let RouteNetlinkMessage::NewAddress(message) = answer else {
        return None;
    };
    if message.header.index != index {
        return None;
    }
    message.attributes.iter().find_map(|attribute| {
        let AddressAttribute::Local(address) = attribute else {
            return None;
        };
        Some(Cidr {
            address: *address,
            prefix: message.header.prefix_len,
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn this_machines_interfaces_are_listed_and_the_loopback_is_no_ethernet() {
        let links = Rtnetlink::open().unwrap().links().unwrap();
        let loopback = links.iter().find(|link| link.name == "lo").unwrap();
        assert_eq!(loopback.mac, None);
    }

    #[test]
    fn a_refusal_says_what_was_asked_for() {
        let nowhere = Link {
            index: u32::MAX >> 1,
            name: "eth99".into(),
            mac: None,
        };
        let error = Rtnetlink::open()
            .unwrap()
            .set_up(&nowhere, None)
            .unwrap_err();
        assert!(error.to_string().contains("bringing eth99 up"), "{error}");
    }

    proptest! {
        #[test]
        fn no_answer_upsets_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_answers(&bytes, 1, "asking", &mut Vec::new());
        }
    }
}
