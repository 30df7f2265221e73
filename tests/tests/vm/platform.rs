//! A QEMU with an accelerator, what its guests can follow, and the images that they boot.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use noonmark_contract::record::{Record, Status};
use noonmark_contract::sample::{Method, Source};
use noonmark_contract::units::{Nanos, Utc};
use noonmark_image::artifact::{CMDLINE, INITRD, KERNEL};
use noonmark_qemu::accel::{self, Choice, Decision};
use noonmark_qemu::{Boot, Config, DEFAULT_PROGRAM, Machine, Qemu, Subscription};
use noonmark_tests::{build_image, test_folder};

/// Lines of the console that a failure shows.
const TAIL_LINES: usize = 30;

/// How long a record may be on its way, on a busy emulated machine.
const DELIVERY: Nanos = Nanos::from_secs(30);

/// Where guests run.
pub struct Platform {
    /// Its name in the tests' names.
    pub name: &'static str,
    pub qemu: Qemu,
    pub decision: Decision,
    /// What a guest here follows by itself.
    pub follows: Source,
    method: Option<Method>,
    /// Why ptp_kvm could not be used, in the guest's words.
    without_kvm: Option<String>,
}

/// The images, built by the command that a user would call.
pub struct Images {
    pub base: PathBuf,
    pub test: PathBuf,
}

/// A running guest whose clock is synced.
pub struct Guest {
    pub machine: Machine,
    pub records: Subscription,
    /// The first status record of a synced clock.
    pub status: Status,
}

impl Images {
    /// Builds both.
    pub fn build() -> Result<Self> {
        let images = Self {
            base: test_folder("base")?,
            test: test_folder("test")?,
        };
        build_image(&images.base, &[])?;
        build_image(&images.test, &["--test"])?;
        Ok(images)
    }
}

/// The variable by which `cargo xtask test --accel` says what runs guests.
const ACCEL: &str = "NOONMARK_ACCEL";

/// What is to run guests: what was asked for, else whatever works here.
pub fn accel() -> Result<Choice> {
    match std::env::var(ACCEL) {
        Ok(word) => word.parse().with_context(|| format!("{ACCEL}={word}")),
        Err(_) => Ok(Choice::Auto),
    }
}

/// The host's clock.
pub fn now() -> Result<Utc> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(Utc(i64::try_from(now.as_nanos())?))
}

/// Checks that a guest's clock was right to its own bound when it sent this status.
pub fn ensure_right(status: &Status) -> Result<()> {
    let off = now()? - status.time_ns;
    ensure!(
        off >= -status.bound_ns && off <= DELIVERY + status.bound_ns,
        "the guest is {off} behind the host"
    );
    Ok(())
}

impl Platform {
    /// All that this machine offers; each is booted once to see what its guests follow.
    pub fn all(images: &Images) -> Result<Vec<Self>> {
        let named = std::env::var_os("NOONMARK_QEMU").map(PathBuf::from);
        let first = Qemu::find(named.as_deref())?;
        let mut decision = accel::choose(accel()?, &first)?;
        if decision.accelerator == accel::Accelerator::Nested {
            // Guests run there by commands alone, as in the tests of `nested`.
            decision = accel::choose(Choice::Tcg, &first)?;
        }
        let plain = Qemu::find(Some(Path::new(DEFAULT_PROGRAM)));
        let tcg = decision.accelerator == accel::Accelerator::Tcg;
        let mut platforms = Vec::new();
        if named.is_none() && tcg {
            platforms.push(Self::probe("tcg", first, decision, images)?);
        } else {
            platforms.push(Self::probe("auto", first, decision, images)?);
            let plain = plain?;
            let decision = accel::choose(Choice::Tcg, &plain)?;
            platforms.push(Self::probe("tcg", plain, decision, images)?);
        }
        Ok(platforms)
    }

    fn probe(name: &'static str, qemu: Qemu, decision: Decision, images: &Images) -> Result<Self> {
        let mut platform = Self {
            name,
            qemu,
            decision,
            follows: Source::Rtc,
            method: None,
            without_kvm: None,
        };
        let mut guest = platform
            .boot(&images.test)
            .with_context(|| format!("probing {name}"))?;
        let status = guest.settled()?;
        let Some(source) = status.source else {
            bail!("{name}: a synced guest names no source\n{}", guest.tail());
        };
        platform.follows = source;
        platform.method = status.method;
        platform.without_kvm = status
            .sources
            .into_iter()
            .find(|source| source.source == Source::Kvm)
            .and_then(|source| source.last_failure);
        eprintln!("{}", platform.offer());
        Ok(platform)
    }

    /// One sentence about what a guest here follows.
    pub fn offer(&self) -> String {
        let mut text = format!(
            "{}: QEMU {} with {} offers {}",
            self.name,
            self.qemu.version(),
            self.decision.accelerator,
            self.follows
        );
        if let Some(why) = &self.without_kvm {
            text += &format!(" (kvm: {why})");
        }
        text
    }

    /// A machine of two processors that boots `folder`'s image directly.
    pub fn config(&self, folder: &Path) -> Result<Config> {
        let boot = Boot::direct(
            folder.join(KERNEL),
            folder.join(INITRD),
            &folder.join(CMDLINE),
        )?;
        let name = format!("test-{}", self.name);
        Ok(Config {
            test_port: true,
            ..Config::new(name, self.decision.accelerator, boot)
        })
    }

    /// Boots that machine and waits for its first sync.
    pub fn boot(&self, folder: &Path) -> Result<Guest> {
        self.boot_config(self.config(folder)?)
    }

    /// Boots any machine and waits for its first sync.
    pub fn boot_config(&self, config: Config) -> Result<Guest> {
        let mut machine = Machine::start(&self.qemu, config)?;
        let records = machine.subscribe();
        let status = machine.wait_synced(&records, |_| {})?;
        Ok(Guest {
            machine,
            records,
            status,
        })
    }
}

impl Guest {
    /// The status once the guest has had time to climb to its best source.
    fn settled(&mut self) -> Result<Status> {
        let until = Instant::now() + self.machine.timeouts().sync() / 8;
        let mut last = self.status.clone();
        while Instant::now() < until && last.source == Some(Source::Rtc) {
            let deadline = Instant::now() + self.machine.timeouts().answer();
            if let Record::Status(status) =
                self.machine
                    .record(&self.records, "a status record", deadline)?
            {
                last = status;
            }
        }
        Ok(last)
    }

    /// The console's last lines, for a failure's message.
    pub fn tail(&mut self) -> String {
        format!(
            "the guest's console:\n{}",
            self.machine.console_tail(TAIL_LINES).join("\n")
        )
    }

    /// Runs a check, and adds the guest's console to its failure.
    pub fn check(&mut self, check: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        check(self).map_err(|error| anyhow!("{error:#}\n{}", self.tail()))
    }
}
