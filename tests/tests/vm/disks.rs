//! Data disks: mounted by label before any service, taken down clean; and what is done without one.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use noonmark_contract::record::{Alert, DiskState, Event, Record, Status};
use noonmark_image::fat;
use noonmark_image::spec::DEFAULT_SOURCE_DATE;
use noonmark_qemu::{Config, Device, ExitCause, Machine, MachineError};
use noonmark_tests::{build_spec, not_run, spec_with_trouble, test_folder};

use crate::platform::{Guest, Images, Platform};

/// How much each service finds in a guest that is as [`SPEC`] says, and exits with.
const FOUND: [(&str, &str); 3] = [
    ("look-around", "exited 17"),
    ("namespaces", "exited 1"),
    ("unfiltered", "exited 2"),
];

/// What it writes to the data disk.
const KEPT: &str = "kept";

/// Where on the disk: in the folder that the service is given there.
const KEPT_PATH: &str = "look-around/kept";

/// Two disks that are attached, one that isn't, and sizes for the file systems in memory. A service with
/// folders, and two to which the image opens what it keeps from others.
const SPEC: &str = r#"
[tmpfs]
run_kib = 8192
tmp_kib = 4096
[[mount]]
label = "data"
path = "/var/lib"
type = "ext4"
required = true
[[mount]]
label = "MEDIA"
path = "/media/films"
type = "vfat"
read_only = true
[[mount]]
label = "none"
path = "/none"
type = "ext4"
[[service]]
name = "look-around"
exec = ["/trouble", "look-around"]
state_directory = "look-around"
runtime_directory = "look-around"
[[service]]
name = "namespaces"
exec = ["/trouble", "open"]
restrict_namespaces = false
[[service]]
name = "unfiltered"
exec = ["/trouble", "open"]
system_call_filter = "none"
no_new_privileges = false
"#;

pub fn mounted_by_label_and_taken_down_clean(platform: &Platform, _: &Images) -> Result<()> {
    let Some(tools) = Tools::find("mounts_data_disks_by_label")? else {
        return Ok(());
    };
    let image = build_spec("disks", &(spec_with_trouble()? + SPEC))?;
    let folder = test_folder("disks")?;
    let data = folder.join("data.img");
    tools.format(&data, "data")?;
    let media = folder.join("media.img");
    fs::write(&media, media_volume()?)?;
    let mut config = platform.config(&image)?;
    config.test_port = false;
    config.devices = vec![disk(&media, false), disk(&data, true)];
    let mut guest = platform.boot_config(config)?;
    guest.check(|guest| {
        let status = looked_around(guest)?;
        let states: Vec<(&str, DiskState)> = status
            .disks
            .iter()
            .map(|disk| (disk.label.as_str(), disk.state))
            .collect();
        let expected = [
            ("data", DiskState::Mounted),
            ("MEDIA", DiskState::Mounted),
            ("none", DiskState::Absent),
        ];
        ensure!(states == expected, "{:?}", status.disks);
        ensure!(status.alerts == [Alert::DiskMissing], "{:?}", status.alerts);
        Ok(())
    })?;
    let deadline = Instant::now() + guest.machine.timeouts().shutdown();
    guest.machine.press_power_button()?;
    ensure!(guest.machine.wait_off(deadline)?, "it is still on");
    drop(guest);
    tools.is_clean(&data)?;
    let kept = tools.cat(&data, KEPT_PATH)?;
    ensure!(kept == KEPT, "the disk has {kept:?}");
    Ok(())
}

/// A disk that the image requires is PID 1's own failure, which ends as the image says.
pub fn without_a_required_disk(platform: &Platform, _: &Images) -> Result<()> {
    for (action, expected) in [
        ("power-off", Some(ExitCause::PoweredOff)),
        ("reboot", Some(ExitCause::Rebooted)),
        ("halt", None),
    ] {
        let trouble = spec_with_trouble()?;
        let spec = format!("{trouble}[image]\non_failure = \"{action}\"\n{SPEC}");
        let image = build_spec(&format!("required-{action}"), &spec)?;
        let mut config = platform.config(&image)?;
        config.test_port = false;
        failed(platform, config, expected).context(action)?;
    }
    Ok(())
}

/// Boots a guest that must fail, and checks its last words and its end; none is a machine that stands
/// still.
fn failed(platform: &Platform, config: Config, expected: Option<ExitCause>) -> Result<()> {
    let mut machine = Machine::start(&platform.qemu, config)?;
    let records = machine.subscribe();
    let deadline = Instant::now() + machine.timeouts().boot() + machine.timeouts().shutdown();
    let why = loop {
        let record = machine.record(&records, "PID 1's last words", deadline)?;
        if let Record::Event(record) = record
            && let Event::Shutdown { why } = record.event
        {
            break why;
        }
    };
    ensure!(why.contains("no disk is labelled `data`"), "{why}");
    let Some(expected) = expected else {
        return halts(&mut machine, deadline);
    };
    match machine.wait_off(deadline) {
        Ok(true) if expected == ExitCause::PoweredOff => Ok(()),
        Err(MachineError::Exited(exit)) if exit.cause == expected => Ok(()),
        outcome => bail!("it ended with {outcome:?}, expected {expected:?}"),
    }
}

/// The kernel stops the processors, and QEMU stays.
fn halts(machine: &mut Machine, deadline: Instant) -> Result<()> {
    let glance = Duration::from_millis(100);
    while !machine
        .console_tail(20)
        .join("\n")
        .contains("System halted")
    {
        let console = machine.console_tail(20).join("\n");
        ensure!(!machine.wait_off(Instant::now() + glance)?, "it is off");
        ensure!(Instant::now() < deadline, "no halt in:\n{console}");
    }
    ensure!(!machine.wait_off(Instant::now() + glance)?, "it is off");
    Ok(())
}

fn media_volume() -> Result<Vec<u8>> {
    let files = BTreeMap::from([("film".to_owned(), b"a film".as_slice())]);
    Ok(fat::write(&fat::Volume {
        label: "MEDIA",
        date: DEFAULT_SOURCE_DATE,
        files: &files,
    })?)
}

fn disk(path: &Path, writable: bool) -> Device {
    Device::Disk {
        path: path.to_owned(),
        writable,
    }
}

/// The first status record in which each service has found what it is to find.
fn looked_around(guest: &mut Guest) -> Result<Status> {
    let deadline = Instant::now() + guest.machine.timeouts().answer();
    loop {
        let next = guest
            .machine
            .record(&guest.records, "the services' look around", deadline)?;
        let Record::Status(status) = next else {
            continue;
        };
        let found: Option<Vec<(&str, &str)>> = status
            .services
            .iter()
            .map(|service| Some((service.name.as_str(), service.last_exit.as_deref()?)))
            .collect();
        if let Some(found) = found {
            ensure!(found == FOUND, "found {found:?}, not {FOUND:?}");
            return Ok(status);
        }
    }
}

/// The programs of e2fsprogs.
pub struct Tools {
    mkfs: PathBuf,
    fsck: PathBuf,
    debugfs: PathBuf,
}

impl Tools {
    /// None, which is listed for this test, where they aren't installed.
    pub fn find(test: &str) -> Result<Option<Self>> {
        let program = |name: &str| {
            let search = env::var_os("PATH").unwrap_or_default();
            // Where administrators' programs are, which a user's `PATH` may lack.
            env::split_paths(&search)
                .chain(["/usr/sbin".into(), "/sbin".into()])
                .map(|folder| folder.join(name))
                .find(|path| path.is_file())
        };
        let found = [program("mkfs.ext4"), program("e2fsck"), program("debugfs")];
        let [Some(mkfs), Some(fsck), Some(debugfs)] = found else {
            not_run(
                test,
                "needs mkfs.ext4, e2fsck and debugfs; install them with: apt-get install e2fsprogs",
            )?;
            return Ok(None);
        };
        Ok(Some(Self {
            mkfs,
            fsck,
            debugfs,
        }))
    }

    /// Makes a disk with an empty ext4 of this label.
    pub fn format(&self, disk: &Path, label: &str) -> Result<()> {
        // A used one that is made shorter and longer again holds zeros alone.
        let file = fs::File::create(disk).with_context(|| disk.display().to_string())?;
        file.set_len(16 << 20)?;
        let mut command = Command::new(&self.mkfs);
        done(command.args(["-q", "-L", label]).arg(disk)).map(drop)
    }

    /// Neither errors nor a journal that is to be replayed.
    pub fn is_clean(&self, disk: &Path) -> Result<()> {
        done(Command::new(&self.fsck).arg("-fn").arg(disk))?;
        let told = done(
            Command::new(&self.debugfs)
                .args(["-R", "stats -h"])
                .arg(disk),
        )?;
        let text = String::from_utf8_lossy(&told.stdout).into_owned();
        let field = |name: &str| text.lines().find(|line| line.starts_with(name));
        let state = field("Filesystem state:").unwrap_or_default();
        let features = field("Filesystem features:").unwrap_or_default();
        ensure!(state.ends_with("clean"), "not unmounted: {state}");
        ensure!(!features.contains("needs_recovery"), "{features}");
        Ok(())
    }

    fn cat(&self, disk: &Path, file: &str) -> Result<String> {
        let request = format!("cat {file}");
        let told = done(Command::new(&self.debugfs).args(["-R", &request]).arg(disk))?;
        Ok(String::from_utf8(told.stdout)?)
    }
}

fn done(command: &mut Command) -> Result<Output> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}
