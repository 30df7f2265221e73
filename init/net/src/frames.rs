//! An interface as the DHCP client sees it: frames in and out, and only those that are its own.
//!
//! The kernel's network stack has the interface as well. This one must answer nothing that is meant
//! for that, and must not be woken by its traffic: the socket is open only for a while after
//! something was sent, and of what comes in only ARP and answers to the DHCP client are taken.

use std::os::fd::OwnedFd;
use std::time::Duration;

use noonmark_linux::sys;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use smoltcp::phy::{self, Checksum, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use smoltcp::wire::{
    DHCP_CLIENT_PORT, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, UdpPacket,
};

/// The largest frame: DHCP's own messages are far smaller than Ethernet's usual 1500 bytes.
const FRAME_MAX: usize = 1514;

/// How long an answer is waited for; the client asks again before that.
const LISTEN: Duration = Duration::from_secs(20);

/// How many frames one look takes in, ours or not, so that a flood can't hold the loop.
const FRAMES_PER_LOOK: u32 = 256;

/// One interface's packet socket, opened when there is something to send.
#[derive(Debug)]
pub struct Frames {
    interface_index: u32,
    socket: Option<OwnedFd>,
    listen_until: Instant,
    budget: u32,
    problem: Option<Errno>,
}

impl Frames {
    /// Of this interface; nothing is opened yet.
    pub fn new(interface_index: u32) -> Self {
        Self {
            interface_index,
            socket: None,
            listen_until: Instant::ZERO,
            budget: 0,
            problem: None,
        }
    }

    /// Begins a look at what has come in.
    pub fn begin(&mut self, now: Instant) {
        self.budget = FRAMES_PER_LOOK;
        if now >= self.listen_until {
            self.socket = None;
        }
    }

    /// The descriptor to wait on, while an answer is awaited.
    pub fn descriptor(&self) -> Option<&OwnedFd> {
        self.socket.as_ref()
    }

    /// Until when an answer is awaited.
    pub fn listening_until(&self) -> Option<Instant> {
        self.socket.is_some().then_some(self.listen_until)
    }

    /// Why the last frame could not be sent; given once.
    pub fn take_problem(&mut self) -> Option<Errno> {
        self.problem.take()
    }

    fn send(&mut self, frame: &[u8], now: Instant) -> Result<(), Errno> {
        if self.socket.is_none() {
            self.socket = Some(sys::packet_socket(self.interface_index)?);
        }
        self.listen_until = now + LISTEN.into();
        if let Some(socket) = &self.socket {
            send(socket, frame, SendFlags::DONTWAIT)?;
        }
        Ok(())
    }

    /// The next frame that is the client's.
    fn next(&mut self) -> Option<Vec<u8>> {
        let socket = self.socket.as_ref()?;
        let mut buffer = [0u8; FRAME_MAX];
        while self.budget > 0 {
            self.budget -= 1;
            // A longer frame is cut, and then no whole packet.
            let (used, _) = recv(socket, &mut buffer[..], RecvFlags::DONTWAIT).ok()?;
            let frame = &buffer[..used];
            if is_ours(frame) {
                return Some(frame.to_vec());
            }
        }
        None
    }
}

/// Whether a frame is ARP, or a UDP packet to the DHCP client.
fn is_ours(frame: &[u8]) -> bool {
    let Ok(frame) = EthernetFrame::new_checked(frame) else {
        return false;
    };
    match frame.ethertype() {
        EthernetProtocol::Arp => true,
        EthernetProtocol::Ipv4 => {
            let Ok(packet) = Ipv4Packet::new_checked(frame.payload()) else {
                return false;
            };
            packet.next_header() == IpProtocol::Udp
                && UdpPacket::new_checked(packet.payload())
                    .is_ok_and(|datagram| datagram.dst_port() == DHCP_CLIENT_PORT)
        }
        _ => false,
    }
}

/// A frame that came in.
pub struct Received(Vec<u8>);

/// The right to send one.
pub struct Sender<'a> {
    frames: &'a mut Frames,
    now: Instant,
}

impl Device for Frames {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, now: Instant) -> Option<(Received, Sender<'_>)> {
        let frame = self.next()?;
        Some((Received(frame), Sender { frames: self, now }))
    }

    fn transmit(&mut self, now: Instant) -> Option<Sender<'_>> {
        Some(Sender { frames: self, now })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_MAX;
        // A server on the same machine leaves the checksum to a card that doesn't exist.
        capabilities.checksum.udp = Checksum::Tx;
        capabilities
    }
}

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

impl phy::TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let filled = fill(&mut frame);
        // The client has no place for an error; it sends again.
        if let Err(errno) = self.frames.send(&frame, self.now) {
            self.frames.socket = None;
            self.frames.problem = Some(errno);
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An Ethernet, IPv4 and UDP header to this port.
    fn datagram(protocol: u8, port: u16) -> Vec<u8> {
        let mut frame = vec![0; 14 + 20 + 8];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        frame[14] = 0x45;
        frame[14 + 3] = 28;
        frame[14 + 9] = protocol;
        frame[34 + 2..34 + 4].copy_from_slice(&port.to_be_bytes());
        frame[34 + 5] = 8;
        frame
    }

    #[test]
    fn only_arp_and_answers_to_the_dhcp_client_are_taken() {
        const UDP: u8 = 17;
        const TCP: u8 = 6;
        assert!(is_ours(&datagram(UDP, 68)));
        assert!(!is_ours(&datagram(UDP, 53)));
        assert!(!is_ours(&datagram(TCP, 68)));
        let mut arp = vec![0; 42];
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        assert!(is_ours(&arp));
        assert!(!is_ours(&[]));
    }

    proptest! {
        #[test]
        fn no_frame_upsets_the_filter(
            start in prop::collection::vec(any::<u8>(), 12),
            rest in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let frame = [&start[..], &[0x08, 0x00], &rest[..]].concat();
            let _ = is_ours(&frame);
        }
    }
}
