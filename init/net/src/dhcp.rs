//! A DHCP lease on one interface: got, renewed, given up when it ends.
//!
//! The protocol is smoltcp's (RFC 2131); here are only the clock, the frames, and how often to ask.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use noonmark_contract::config::network::{Cidr, Mac};
use noonmark_contract::units::Nanos;
use noonmark_linux::clocks;
use rustix::rand::{GetRandomFlags, getrandom};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::dhcpv4::{Event, RetryConfig, Socket};
use smoltcp::time::Instant;
use smoltcp::wire::{DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress, HardwareAddress, IpCidr};

use super::frames::Frames;

/// Option 12, host name (RFC 2132, 3.14).
const OPTION_HOSTNAME: u8 = 12;

/// How soon to ask again while nobody answers: often at first, because an interface that has just
/// come up loses frames.
const ASK_SOON: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(1);
const ASK_LATER: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(8);

/// The longest answer of which everything is known: what a frame holds.
const ANSWER_MAX: usize = 1500;

/// Until when it is asked often.
const PATIENT_AFTER: Duration = Duration::from_secs(15);

/// What a server granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The interface's address.
    pub address: Cidr,
    /// The default route's router.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    pub nameservers: Vec<IpAddr>,
    /// How long it is granted for, in seconds from now; [`u32::MAX`] for ever (RFC 2131, 3.3). None
    /// where the server's answer was too long to be read whole.
    pub seconds: Option<u32>,
}

/// What became of the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A lease was granted, renewed, or it now says something else.
    Granted(Lease),
    /// It has ended, and nobody renewed it.
    Lost,
}

/// The client of one interface.
pub struct Client {
    frames: Frames,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    started: Instant,
}

impl Client {
    /// Of the interface with this number and address. `options` go into every request: see
    /// [`hostname_option`].
    pub fn new(interface_index: u32, mac: Mac, options: &'static [DhcpOption<'static>]) -> Self {
        let now = now();
        let mut frames = Frames::new(interface_index);
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac.0)));
        config.random_seed = seed(mac);
        let interface = Interface::new(config, &mut frames, now);
        let mut socket = Socket::new();
        socket.set_outgoing_options(options);
        // One for each time that an interface appears.
        socket.set_receive_packet_buffer(vec![0; ANSWER_MAX].leak());
        socket.set_retry_config(retry(ASK_SOON));
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Self {
            frames,
            interface,
            sockets,
            handle,
            started: now,
        }
    }

    /// Takes in what has come, sends what is due; says what became of the lease.
    pub fn proceed(&mut self) -> Option<Change> {
        let now = now();
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        if now - self.started > PATIENT_AFTER.into() {
            socket.set_retry_config(retry(ASK_LATER));
        }
        self.frames.begin(now);
        self.interface
            .poll(now, &mut self.frames, &mut self.sockets);
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        let change = match socket.poll()? {
            Event::Configured(config) => Change::Granted(Lease {
                address: Cidr {
                    address: config.address.address().into(),
                    prefix: config.address.prefix_len(),
                },
                router: config.router,
                nameservers: config.dns_servers.iter().map(|&ip| ip.into()).collect(),
                seconds: config.packet.as_ref().and_then(granted_for),
            }),
            Event::Deconfigured => Change::Lost,
        };
        self.take_up(&change);
        Some(change)
    }

    /// When [`Client::proceed`] must be called at the latest; none while only a frame matters.
    pub fn deadline(&mut self) -> Option<Nanos> {
        let now = now();
        let due = self.interface.poll_delay(now, &self.sockets);
        let closes = self.frames.listening_until().map(|until| until - now);
        let first = [due, closes].into_iter().flatten().min()?;
        Some(Nanos::from_micros(
            i64::try_from(first.total_micros()).unwrap_or(i64::MAX),
        ))
    }

    /// The descriptor to wait on, while an answer is awaited.
    pub fn descriptor(&self) -> Option<&OwnedFd> {
        self.frames.descriptor()
    }

    /// Why a request could not be sent; given once.
    pub fn take_problem(&mut self) -> Option<String> {
        let errno = self.frames.take_problem()?;
        Some(format!("a DHCP request could not be sent: {errno}"))
    }

    /// A renewal is sent from the address to the server itself, so the client's own stack has to
    /// know the address and the route.
    fn take_up(&mut self, change: &Change) {
        let routes = self.interface.routes_mut();
        routes.remove_default_ipv4_route();
        if let Change::Granted(Lease {
            router: Some(router),
            ..
        }) = change
        {
            // Fails only where the table is full, and this is its one route.
            let _ = routes.add_default_ipv4_route(*router);
        }
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            if let Change::Granted(lease) = change
                && let IpAddr::V4(address) = lease.address.address
            {
                // Fails only where the list is full, and this is its one address.
                let _ = addresses.push(IpCidr::new(address.into(), lease.address.prefix));
            }
        });
    }
}

/// The option by which a server learns the guest's name. It lives as long as the program.
pub fn hostname_option(hostname: &str) -> &'static [DhcpOption<'static>] {
    let data: &'static [u8] = hostname.as_bytes().to_vec().leak();
    if data.is_empty() {
        return &[];
    }
    vec![DhcpOption {
        kind: OPTION_HOSTNAME,
        data,
    }]
    .leak()
}

/// The seconds that a server's answer grants.
fn granted_for(answer: &DhcpPacket<&[u8]>) -> Option<u32> {
    DhcpRepr::parse(answer).ok()?.lease_duration
}

fn retry(ask_every: smoltcp::time::Duration) -> RetryConfig {
    let mut retry = RetryConfig::default();
    retry.discover_timeout = ask_every;
    retry.initial_request_timeout = ask_every;
    retry
}

/// The time that passes while the machine is suspended too: a lease doesn't wait.
fn now() -> Instant {
    Instant::from_micros(clocks::boottime().0 / 1_000)
}

/// Two guests that are alike must not choose alike; where the kernel has no random bytes to read,
/// their addresses still differ.
fn seed(mac: Mac) -> u64 {
    let mut bytes = [0u8; 8];
    if getrandom(&mut bytes, GetRandomFlags::INSECURE).is_err() {
        bytes[..6].copy_from_slice(&mac.0);
    }
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_without_a_name_sends_none() {
        assert!(hostname_option("").is_empty());
        let option = hostname_option("web-1");
        assert_eq!((option[0].kind, option[0].data), (12, &b"web-1"[..]));
    }

    #[test]
    fn a_new_client_asks_at_once() {
        let mut client = Client::new(u32::MAX >> 1, Mac([2, 0, 0, 0, 0, 1]), &[]);
        assert_eq!(client.deadline(), Some(Nanos::ZERO));
        // There is no such interface, which is told, and asked again later.
        assert_eq!(client.proceed(), Some(Change::Lost));
        assert!(client.take_problem().is_some());
        assert_eq!(client.take_problem(), None);
        assert!(client.deadline().unwrap() > Nanos::ZERO);
    }
}
