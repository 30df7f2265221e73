//! The peers that `bench` compares with: programs of the distribution that keep a clock, each with
//! a setting, and how one becomes part of a guest. Nothing is installed on the host.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use noonmark_contract::config::network::{NetworkConfig, NtpConfig};
use noonmark_contract::config::{Capability, Service, Start};
use noonmark_image::deb::PackageId;
use noonmark_image::spec::{Budget, ContentSpec, LoadedFile, Spec};

use crate::packaged;
use crate::workspace::Workspace;

/// The driver whose clock every peer follows, as /dev/ptp0: the only one in their guest.
const DRIVER: &str = "ptp_kvm";

/// A program with a setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Peer {
    /// What `--peer` calls it.
    pub name: &'static str,
    /// What a table calls it.
    pub title: &'static str,
    /// The distribution's package that has the program.
    pub package: &'static str,
    /// The program's path in the package.
    program: &'static str,
    arguments: &'static [&'static str],
    /// chronyd's configuration; phc2sys has none.
    config: Option<Chrony>,
    /// How long it gets to settle after the boot before its clock is disturbed.
    pub warm_up: Duration,
}

/// chronyd in the foreground as root, which in this guest is the only user; it tells of errors
/// alone, because an emulated console is slow. It is scheduled by SCHED_FIFO and its memory locked, as
/// PID 1 is and its is.
const CHRONYD: &[&str] = &[
    "-d",
    "-L",
    "2",
    "-u",
    "root",
    "-P",
    "50",
    "-m",
    "-f",
    CHRONY_CONF,
];

/// The same as it is started without these options.
const CHRONYD_PLAIN: &[&str] = &["-d", "-L", "2", "-u", "root", "-f", CHRONY_CONF];

const CHRONY_CONF: &str = "/etc/chrony.conf";

/// What sets one chronyd apart from another.
#[derive(Debug, PartialEq, Eq)]
struct Chrony {
    /// The options of its `refclock`.
    refclock: &'static str,
    /// Its `makestep`.
    makestep: &'static str,
}

/// All of them. chronyd with `poll 1` takes its first four measurements in 8 s, and its `makestep
/// 1 3` is spent only then. phc2sys has no options for its priority and its memory.
pub const PEERS: [Peer; 5] = [
    Peer {
        name: "chronyd-debian",
        title: "chronyd poll 1, makestep 1 3",
        package: "chrony",
        program: "usr/sbin/chronyd",
        arguments: CHRONYD,
        config: Some(Chrony {
            refclock: "poll 1",
            makestep: "1 3",
        }),
        warm_up: Duration::from_secs(15),
    },
    Peer {
        name: "chronyd",
        title: "chronyd poll 1, makestep 0.1 -1",
        package: "chrony",
        program: "usr/sbin/chronyd",
        arguments: CHRONYD,
        config: Some(Chrony {
            refclock: "poll 1",
            makestep: "0.1 -1",
        }),
        warm_up: Duration::from_secs(15),
    },
    Peer {
        name: "chronyd-fast",
        title: "chronyd poll -2 dpoll -4 filter 1, makestep 0.001 -1",
        package: "chrony",
        program: "usr/sbin/chronyd",
        arguments: CHRONYD,
        config: Some(Chrony {
            refclock: "poll -2 dpoll -4 filter 1",
            makestep: "0.001 -1",
        }),
        warm_up: Duration::from_secs(5),
    },
    Peer {
        name: "chronyd-fast-plain",
        title: "chronyd poll -2 dpoll -4 filter 1, makestep 0.001 -1, without -P 50 -m",
        package: "chrony",
        program: "usr/sbin/chronyd",
        arguments: CHRONYD_PLAIN,
        config: Some(Chrony {
            refclock: "poll -2 dpoll -4 filter 1",
            makestep: "0.001 -1",
        }),
        warm_up: Duration::from_secs(5),
    },
    Peer {
        name: "phc2sys",
        title: "phc2sys -R 64 -S 0.001",
        package: "linuxptp",
        program: "usr/sbin/phc2sys",
        // Without `-O 0` it would look for ptp4l to tell TAI from UTC; ptp_kvm's clock is UTC.
        arguments: &[
            "-s",
            "/dev/ptp0",
            "-c",
            "CLOCK_REALTIME",
            "-O",
            "0",
            "-R",
            "64",
            "-S",
            "0.001",
            "-q",
            "-m",
            "-l",
            "3",
        ],
        config: None,
        warm_up: Duration::from_secs(5),
    },
];

impl Chrony {
    /// The file: the setting, the two lines of Debian's own file that concern a clock without
    /// network, and what chronyd needs where there is no folder of its own and nobody to talk to.
    fn text(&self) -> String {
        let Self { refclock, makestep } = self;
        format!(
            "refclock PHC /dev/ptp0 {refclock}\nmakestep {makestep}\nmaxupdateskew 100.0\nrtcsync\n\
             pidfile /run/chronyd.pid\ncmdport 0\nbindcmdaddress /\n"
        )
    }
}

impl Peer {
    /// The name of its service in the guest, and of its process.
    pub fn service(&self) -> &'static str {
        self.program.rsplit('/').next().unwrap_or(self.program)
    }

    /// Its arguments and its configuration, for a report.
    pub fn settings(&self) -> String {
        let mut text = format!("/{} {}\n", self.program, self.arguments.join(" "));
        if let Some(config) = &self.config {
            // Writing to a String can't fail.
            let _ = write!(text, "\n{CHRONY_CONF}:\n{}", config.text());
        }
        text
    }

    /// The package and those with its libraries, fetched where they are not in the cache.
    ///
    /// # Errors
    ///
    /// There is no such package, or it can't be fetched.
    pub(crate) fn fetch(&self, workspace: &Workspace) -> Result<Vec<PackageId>> {
        packaged::fetch(workspace, self.package)
    }

    /// The program with all that it needs, as files of a guest.
    ///
    /// # Errors
    ///
    /// The packages are not what was fetched, or lack a library.
    pub(crate) fn unpack(
        &self,
        workspace: &Workspace,
        packages: &[PackageId],
    ) -> Result<Vec<LoadedFile>> {
        let mut loaded = packaged::program(workspace, packages, self.program)?;
        // chronyd looks its own user up.
        loaded.push(packaged::text("/etc/passwd", packaged::PASSWD));
        let config = self.config.as_ref();
        loaded.extend(config.map(|config| packaged::text(CHRONY_CONF, &config.text())));
        Ok(loaded)
    }

    /// Makes of the image's description that of the peer's guest: the same kernel and machine,
    /// whose PID 1 leaves the clock to the peer. What the image has of its own besides is left
    /// out: it may need a clock that PID 1 keeps, and would be measured too.
    pub(crate) fn adapt(&self, spec: &mut Spec) {
        spec.clock.sources.clear();
        spec.modules.load.insert(0, DRIVER.to_owned());
        spec.network = NetworkConfig::default();
        spec.ntp = NtpConfig::default();
        spec.mounts.clear();
        spec.files.clear();
        spec.content = ContentSpec::default();
        let exec = [format!("/{}", self.program)]
            .into_iter()
            .chain(self.arguments.iter().map(|&word| word.to_owned()))
            .collect();
        spec.services = vec![Service {
            start: Start::Boot,
            user: Some(0),
            // The second and the third are for what `chronyd -P -m` asks the kernel for.
            capabilities: vec![
                Capability::SYS_TIME,
                Capability::SYS_NICE,
                Capability::IPC_LOCK,
            ],
            // It reads the host's clock.
            private_devices: false,
            ..Service::new(self.service(), exec)
        }];
        spec.budget = Budget::default();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn no_two_peers_are_called_the_same_and_none_like_our_own() {
        let names: BTreeSet<&str> = PEERS.iter().map(|peer| peer.name).collect();
        assert_eq!(names.len(), PEERS.len());
        assert!(!names.contains("noonmark"));
    }

    #[test]
    fn a_peer_s_guest_leaves_the_clock_to_the_peer_alone() {
        for peer in &PEERS {
            let mut spec = Spec::parse("", Path::new("guest.toml")).unwrap();
            peer.adapt(&mut spec);
            assert_eq!(spec.clock.sources, []);
            let wanted = spec.wanted_modules();
            assert!(wanted.iter().any(|module| module.name == DRIVER));
            let [service] = &*spec.services else {
                panic!("{:?}", spec.services)
            };
            assert_eq!(
                (&*service.name, service.start),
                (peer.service(), Start::Boot)
            );
            assert!(service.capabilities.contains(&Capability::SYS_TIME));
        }
    }

    #[test]
    fn a_report_can_tell_the_whole_setting() {
        let settings = PEERS[1].settings();
        assert!(settings.starts_with("/usr/sbin/chronyd -d "), "{settings}");
        assert!(settings.contains("\nrefclock PHC /dev/ptp0 poll 1\nmakestep 0.1 -1\n"));
    }
}
