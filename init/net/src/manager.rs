//! The loop of `noonmark-net`: interfaces appear and are set up, leases come and go.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use noonmark_contract::config::network::{Cidr, Interface, Network, RESOLV_CONF};
use noonmark_contract::units::Nanos;
use noonmark_linux::clocks;
use rustix::event::{PollFd, PollFlags, poll};
use smoltcp::wire::DhcpOption;

use super::choice::choose;
use super::dhcp::{self, Change, Client, Lease};
use super::names;
use super::resolv;
use super::rtnetlink::{Link, LinkMonitor, Rtnetlink, RtnetlinkError};

/// The loop looks around at least this often, whatever the kernel tells.
const LOOK: Nanos = Nanos::from_secs(60);

/// The first interface's metric, as network managers have it: room for a lower one by hand.
const METRIC_FIRST: u32 = 100;

/// How soon what the kernel refused is tried again.
const RETRY: Nanos = Nanos::from_secs(5);

/// Everything that the program knows.
pub struct Manager {
    rtnetlink: Rtnetlink,
    monitor: LinkMonitor,
    interfaces: Vec<Managed>,
    options: &'static [DhcpOption<'static>],
    nameservers: Vec<IpAddr>,
    /// SIGHUP: the machine may be a copy of another, whose leases are no longer its own.
    hangups: OwnedFd,
}

/// An interface of the configuration.
struct Managed {
    config: Interface,
    /// What it is here; none while there is no such interface.
    link: Option<Link>,
    client: Option<Client>,
    lease: Option<Lease>,
    /// Whether the client has begun anew and its predecessor's lease is kept until it has one.
    renews: bool,
    told_absent: bool,
}

impl Manager {
    /// Has done nothing yet.
    ///
    /// # Errors
    /// Where the kernel has no rtnetlink.
    pub fn new(config: Network, hangups: OwnedFd) -> Result<Self, RtnetlinkError> {
        let managed = |config| Managed {
            config,
            link: None,
            client: None,
            lease: None,
            renews: false,
            told_absent: false,
        };
        Ok(Self {
            rtnetlink: Rtnetlink::open()?,
            monitor: LinkMonitor::open()?,
            interfaces: config.interface.into_iter().map(managed).collect(),
            options: dhcp::hostname_option(&config.hostname),
            nameservers: Vec::new(),
            hangups,
        })
    }

    /// Runs until the kernel refuses what must not fail.
    pub fn run(&mut self) -> RtnetlinkError {
        loop {
            self.monitor.drain();
            self.renew();
            let mut wait = LOOK;
            match self.look_around() {
                Ok(true) => {}
                Ok(false) => wait = RETRY,
                Err(error) => return error,
            }
            for at in 0..self.interfaces.len() {
                self.proceed(at);
            }
            self.tell_nameservers();
            let leases = self.interfaces.iter_mut();
            let due = leases
                .filter_map(|managed| managed.client.as_mut()?.deadline())
                .fold(wait, Nanos::min);
            self.sleep(due);
        }
    }

    /// Sets up interfaces that have appeared and forgets those that are gone; false where one could
    /// not be set up.
    fn look_around(&mut self) -> Result<bool, RtnetlinkError> {
        let links = self.rtnetlink.links()?;
        let mut done = true;
        for at in 0..self.interfaces.len() {
            let managed = &mut self.interfaces[at];
            if managed
                .link
                .as_ref()
                .is_some_and(|link| !links.contains(link))
            {
                say(&managed.config, "is gone, or is another one now");
                managed.forget();
            }
            if managed.link.is_some() {
                continue;
            }
            let Some(link) = self.find(at, &links) else {
                let managed = &mut self.interfaces[at];
                if !managed.told_absent {
                    managed.told_absent = true;
                    say(&managed.config, "is not there yet");
                }
                continue;
            };
            match self.set_up(at, &link) {
                Ok(link) => self.interfaces[at].link = Some(link),
                Err(error) => {
                    say(
                        &self.interfaces[at].config,
                        &format!("{error}; trying again"),
                    );
                    done = false;
                }
            }
        }
        Ok(done)
    }

    /// The interface that this entry means.
    fn find(&self, at: usize, links: &[Link]) -> Option<Link> {
        let (entries, taken): (Vec<_>, Vec<_>) = self
            .interfaces
            .iter()
            .map(|managed| {
                (
                    &managed.config,
                    managed.link.as_ref().map(|link| link.index),
                )
            })
            .unzip();
        let names = |link: &Link| names::udev_names(Path::new(names::SYS), &link.name, link.mac);
        choose(&entries, at, links, &taken, names)
    }

    /// Brings an interface up and gives it what is fixed; DHCP begins. The interface as it is then.
    fn set_up(&mut self, at: usize, link: &Link) -> Result<Link, RtnetlinkError> {
        let config = self.interfaces[at].config.clone();
        let mut link = link.clone();
        // Known by its hardware address, it gets the name that is wanted, if no other has it.
        if let (Some(_), Some(name)) = (config.macaddress, &config.name)
            && name.as_str() != link.name
        {
            match self.rtnetlink.rename(&link, name.as_str()) {
                Ok(()) => name.as_str().clone_into(&mut link.name),
                Err(error) => say(&config, &format!("keeps its name: {error}")),
            }
        }
        let link = &link;
        // An earlier run of this program may have left a lease behind.
        for left in self.rtnetlink.addresses4(link)? {
            if !config.addresses.contains(&left) {
                self.rtnetlink.remove_address(link, left)?;
            }
        }
        self.rtnetlink.set_up(link, config.mtu)?;
        for address in &config.addresses {
            self.rtnetlink.add_address(link, *address, None)?;
        }
        let routers = [
            config.gateway4.map(IpAddr::from),
            config.gateway6.map(IpAddr::from),
        ];
        for router in routers.into_iter().flatten() {
            self.rtnetlink.set_default_route(link, router, metric(at))?;
        }
        let managed = &mut self.interfaces[at];
        if config.dhcp4 {
            match link.mac {
                Some(mac) => managed.client = Some(Client::new(link.index, mac, self.options)),
                None => say(&config, "is no Ethernet interface, so DHCP can't be used"),
            }
        }
        let addresses: Vec<String> = config.addresses.iter().map(Cidr::to_string).collect();
        let what = match (addresses.is_empty(), config.dhcp4) {
            (true, _) => format!("{} is up, asking by DHCP", link.name),
            (false, true) => format!(
                "{} is up with {}, asking by DHCP",
                link.name,
                addresses.join(", ")
            ),
            (false, false) => format!("{} is up with {}", link.name, addresses.join(", ")),
        };
        println!("noonmark-net: {what}");
        Ok(link.clone())
    }

    /// Has each lease asked for anew, if that is wanted. What there is stays until a server has spoken.
    fn renew(&mut self) {
        // The signal itself says all; how often it came doesn't matter.
        let mut signal = [0u8; 128];
        if rustix::io::read(&self.hangups, &mut signal).is_err() {
            return;
        }
        for managed in &mut self.interfaces {
            if let (Some(link), Some(_)) = (&managed.link, &managed.client)
                && let Some(mac) = link.mac
            {
                println!("noonmark-net: {}: its lease is asked for anew", link.name);
                managed.client = Some(Client::new(link.index, mac, self.options));
                managed.renews = true;
            }
        }
    }

    /// Lets an interface's DHCP client go on.
    fn proceed(&mut self, at: usize) {
        let managed = &mut self.interfaces[at];
        let (Some(link), Some(client)) = (&managed.link, &mut managed.client) else {
            return;
        };
        let change = client.proceed();
        if let Some(problem) = client.take_problem() {
            println!("noonmark-net: {}: {problem}", link.name);
        }
        let Some(change) = change else { return };
        // A client begins with the word that it has no lease.
        if std::mem::take(&mut managed.renews) && change == Change::Lost {
            return;
        }
        let before = managed.lease.take();
        let granted = match change {
            Change::Granted(lease) => Some(lease),
            Change::Lost => None,
        };
        let kept = granted.as_ref().map(|lease| lease.address);
        if let Some(before) = &before
            && kept != Some(before.address)
        {
            println!(
                "noonmark-net: {}: {} is no longer ours",
                link.name, before.address
            );
            report(self.rtnetlink.remove_address(link, before.address));
        }
        if let Some(lease) = &granted {
            // A program that stands still can't give the address up: the kernel does it then.
            let added = self
                .rtnetlink
                .add_address(link, lease.address, lease.seconds);
            report(added);
            // A router that the configuration names is not DHCP's to replace.
            if let Some(router) = lease.router
                && managed.config.gateway4.is_none()
            {
                let router = IpAddr::from(router);
                report(self.rtnetlink.set_default_route(link, router, metric(at)));
            }
            if before.as_ref() != granted.as_ref() {
                println!("noonmark-net: {}: {} by DHCP", link.name, lease.address);
            }
        }
        managed.lease = granted;
    }

    fn tell_nameservers(&mut self) {
        let fixed = self.interfaces.iter().flat_map(|m| &m.config.nameservers);
        let leased = self.interfaces.iter().filter_map(|m| m.lease.as_ref());
        let all: Vec<IpAddr> = fixed
            .chain(leased.flat_map(|lease| &lease.nameservers))
            .copied()
            .collect();
        if all != self.nameservers {
            if let Err(error) = resolv::write(io::stdin(), &all) {
                println!("noonmark-net: {RESOLV_CONF}: {error}");
            }
            self.nameservers = all;
        }
    }

    /// Waits for a frame, for news of an interface, or for so long.
    fn sleep(&self, at_most: Nanos) {
        let clients = self.interfaces.iter();
        let frames = clients.filter_map(|managed| managed.client.as_ref()?.descriptor());
        let mut waited: Vec<PollFd<'_>> = [self.monitor.descriptor(), &self.hangups]
            .into_iter()
            .chain(frames)
            .map(|descriptor| PollFd::new(descriptor, PollFlags::IN))
            .collect();
        // Never shorter than a millisecond, so that no deadline in the past becomes a spin.
        let at_most = at_most.max(Nanos::from_millis(1));
        // EINTR is the only failure of a valid call, and the loop comes back.
        let _ = poll(&mut waited, Some(&clocks::timespec(at_most)));
    }
}

impl Managed {
    fn forget(&mut self) {
        self.link = None;
        self.client = None;
        self.lease = None;
        self.renews = false;
        self.told_absent = false;
    }
}

/// The metric of an interface's default routes: the first of the configuration goes before the others,
/// and none takes another's away.
fn metric(at: usize) -> u32 {
    METRIC_FIRST.saturating_add(u32::try_from(at).unwrap_or(u32::MAX))
}

fn say(config: &Interface, what: &str) {
    println!("noonmark-net: {}: {what}", config.label());
}

fn report(outcome: Result<(), RtnetlinkError>) {
    if let Err(error) = outcome {
        println!("noonmark-net: {error}");
    }
}
