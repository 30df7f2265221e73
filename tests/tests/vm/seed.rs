//! Guests that are configured by a seed disk, by the kernel command line, or by neither.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use noonmark_contract::record::{Event, Origin, Record, SeedState, Status};
use noonmark_contract::seed::verdict::NO_DISK;
use noonmark_image::seed::{self, Format, Seed};
use noonmark_qemu::{Boot, Credential, Device, MachineError};
use noonmark_tests::build_spec;
use tempfile::TempDir;

use crate::platform::{Guest, Images, Platform};

/// What `cloud-localds` made of a cloud-config with the host name `sundial`, packed by gzip.
const ISO: &[u8] = include_bytes!("../../../init/seed/tests/seed/images/cloud-localds.gz");

/// An image that takes seeds, from a CD-ROM drive too.
const SPEC: &str = "[seed]\nenabled = true\ncdrom = true\n";

/// A ConfigDrive, as OpenStack's nova calls genisoimage, with the same host name.
const CONFIG_DRIVE: &[u8] = include_bytes!("../../../init/seed/tests/seed/images/config-2.gz");

/// More than either unpacks to.
const ISO_MAX: u64 = 16 << 20;

/// A program that exits with 7 and does nothing else: an ELF header, one segment, and
/// `mov edi, 7; mov eax, 60; syscall`.
const PROGRAM: &str = "f0VMRgIBAQAAAAAAAAAAAAIAPgABAAAAeABAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAAAAEAAOAABAAAAAAAAAAEA\
                       AAAFAAAAAAAAAAAAAAAAAEAAAAAAAAAAQAAAAAAAhAAAAAAAAACEAAAAAAAAAAAQAAAAAAAAvwcAAAC4PAAAAA8F";

/// Name, files and programs come from a FAT seed, the watch from the command line over the seed.
pub fn is_configured_by_seed_and_command_line(platform: &Platform, _: &Images) -> Result<()> {
    let user_data = format!(
        "#cloud-config\nhostname: sundial\npackages: [vim]\nwrite_files:\n- path: /opt/seven\n  \
         encoding: b64\n  permissions: '0755'\n  content: {PROGRAM}\nruncmd:\n- [/opt/seven]\n- [/opt/seven]\n"
    );
    let disk = seed::write(
        &Seed {
            user_data: user_data.as_bytes(),
            meta_data: b"instance-id: i-1\nlocal-hostname: other\n",
            network_config: None,
            vendor_data: None,
        },
        Format::Fat,
    )?;
    let words = " noonmark.clock.watch_ms=50 noonmark.colour=red";
    let (mut guest, _disks) = boot(platform, &[&disk], words)?;
    guest.check(|guest| {
        let (status, events) = set_up(guest, "runcmd.1: exited 7")?;
        let place = |text: &str| events.iter().position(|event| event.contains(text));
        ensure!(
            place("runcmd.0: exited 7") < place("runcmd.1: started"),
            "not one after the other: {events:?}"
        );
        ensure!(status.seed.state == SeedState::Applied, "{:?}", status.seed);
        ensure!(
            status.seed.instance_id.as_deref() == Some("i-1"),
            "{:?}",
            status.seed
        );
        ensure!(
            status.seed.ignored == ["user-data line 3: packages: the guest has no package manager"],
            "{:?}",
            status.seed
        );
        is_from(&status, "hostname", "sundial", Origin::Seed)?;
        is_from(&status, "clock.watch_ms", "50", Origin::Cmdline)?;
        is_from(&status, "clock.step_us", "100", Origin::Image)?;
        // It was told before the clock was right, and so before anybody listened.
        let console = guest.tail();
        ensure!(console.contains("noonmark.colour: unknown key"), "not told");
        Ok(())
    })
}

/// An ISO 9660 seed is read; with another one beside it neither is taken, and the guest's clock is
/// right and its own name stands all the same.
pub fn takes_one_seed_and_refuses_two(platform: &Platform, _: &Images) -> Result<()> {
    let iso = noonmark_image::compress::decompress(ISO, ISO_MAX)?;
    // In a CD-ROM drive, where most people put it.
    let (mut guest, _disks) = boot_with(platform, &[&iso], "", |path| Device::Cdrom { path })?;
    guest.check(|guest| {
        let (status, _) = set_up(guest, "")?;
        ensure!(
            status.seed.device.as_deref() == Some("sr0"),
            "{:?}",
            status.seed
        );
        is_from(&status, "hostname", "sundial", Origin::Seed)
    })?;
    drop(guest);
    let (mut guest, _disks) = boot(platform, &[&iso, &iso], "")?;
    guest.check(|guest| {
        let (status, _) = set_up(guest, "")?;
        ensure!(status.seed.state == SeedState::Refused, "{:?}", status.seed);
        let problem = status.seed.problem.clone().unwrap_or_default();
        ensure!(problem.contains("vda, vdb"), "{problem}");
        is_from(&status, "hostname", "noonmark", Origin::Image)
    })
}

/// OpenStack's ConfigDrive is read from a CD-ROM drive, which is where nova puts it.
pub fn is_configured_by_a_config_drive(platform: &Platform, _: &Images) -> Result<()> {
    let iso = noonmark_image::compress::decompress(CONFIG_DRIVE, ISO_MAX)?;
    let (mut guest, _disks) = boot_with(platform, &[&iso], "", |path| Device::Cdrom { path })?;
    guest.check(|guest| {
        let (status, _) = set_up(guest, "")?;
        ensure!(status.seed.state == SeedState::Applied, "{:?}", status.seed);
        let seed = (
            status.seed.device.as_deref(),
            status.seed.instance_id.as_deref(),
        );
        ensure!(
            seed == (Some("sr0"), Some("i-fixture")),
            "{:?}",
            status.seed
        );
        is_from(&status, "hostname", "sundial", Origin::Seed)
    })
}

/// Without a disk, what the hypervisor gives counts, by either of its ways; with a disk it takes the place
/// of the document of that name.
pub fn is_configured_by_credentials(platform: &Platform, _: &Images) -> Result<()> {
    let credential = |text: &str| text.parse::<Credential>();
    let user_data = "noonmark.user-data=#cloud-config\nhostname: sundial\nntp: {servers: [a, b]}\n";
    for device in [Device::Credential, Device::FirmwareCredential] {
        let devices = vec![device(credential(user_data)?)];
        let mut guest = boot_devices(platform, devices, "")?;
        guest.check(|guest| {
            let (status, _) = set_up(guest, "")?;
            ensure!(status.seed.state == SeedState::Applied, "{:?}", status.seed);
            ensure!(
                status.seed.device.as_deref() == Some(NO_DISK),
                "{:?}",
                status.seed
            );
            is_from(&status, "hostname", "sundial", Origin::Seed)
        })?;
    }
    // cloud-init's line, as the serial number that hosts set for it, and as a string beside.
    for words in [
        "type=1,serial=ds=nocloud;h=sundial.example;i=i-9",
        "type=11,value=ds=nocloud;h=sundial;i=i-9;",
    ] {
        let mut guest = boot_more(platform, Vec::new(), "", &["-smbios", words])?;
        guest.check(|guest| {
            let (status, _) = set_up(guest, "")?;
            let told = &status.seed;
            ensure!(told.state == SeedState::Applied, "{told:?}");
            let seed = (told.device.as_deref(), told.instance_id.as_deref());
            ensure!(seed == (Some(NO_DISK), Some("i-9")), "{told:?}");
            is_from(&status, "hostname", "sundial", Origin::Seed)
        })?;
    }
    let documents = Seed {
        user_data: b"#cloud-config\nhostname: other\n",
        meta_data: b"instance-id: i-1\n",
        network_config: None,
        vendor_data: None,
    };
    let disk = seed::write(&documents, seed::Format::Fat)?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("seed.img");
    std::fs::write(&path, &disk)?;
    let writable = false;
    let devices = vec![
        Device::Credential(credential(user_data)?),
        Device::Disk { path, writable },
    ];
    let mut guest = boot_devices(platform, devices, "")?;
    guest.check(|guest| {
        let (status, _) = set_up(guest, "")?;
        ensure!(
            status.seed.device.as_deref() == Some("vda"),
            "{:?}",
            status.seed
        );
        let id = status.seed.instance_id.as_deref();
        ensure!(id == Some("i-1"), "{:?}", status.seed);
        is_from(&status, "hostname", "sundial", Origin::Seed)
    })
}

/// Boots an image that takes seeds, with these disks and further words on its command line.
fn boot(platform: &Platform, disks: &[&[u8]], words: &str) -> Result<(Guest, TempDir)> {
    boot_with(platform, disks, words, |path| Device::Disk {
        path,
        writable: false,
    })
}

/// The same, with the disks in such a device.
fn boot_with(
    platform: &Platform,
    disks: &[&[u8]],
    words: &str,
    device: fn(PathBuf) -> Device,
) -> Result<(Guest, TempDir)> {
    let folder = tempfile::tempdir()?;
    let mut devices = Vec::new();
    for (index, disk) in disks.iter().enumerate() {
        let path = folder.path().join(format!("seed{index}.img"));
        std::fs::write(&path, disk).with_context(|| path.display().to_string())?;
        devices.push(device(path));
    }
    Ok((boot_devices(platform, devices, words)?, folder))
}

/// The same, with these devices.
fn boot_devices(platform: &Platform, devices: Vec<Device>, words: &str) -> Result<Guest> {
    boot_more(platform, devices, words, &[])
}

/// The same, with further arguments of QEMU's.
fn boot_more(
    platform: &Platform,
    mut devices: Vec<Device>,
    words: &str,
    more: &[&str],
) -> Result<Guest> {
    let image = build_spec("seed", SPEC)?;
    let mut config = platform.config(&image)?;
    config.test_port = false;
    if let Boot::Direct { cmdline, .. } = &mut config.boot {
        cmdline.push_str(words);
    }
    config.devices.append(&mut devices);
    config.more = more.iter().map(Into::into).collect();
    platform.boot_config(config)
}

/// Waits until the seed is dealt with and an event with this text has come; gives the events so far.
fn set_up(guest: &mut Guest, wanted: &str) -> Result<(Status, Vec<String>)> {
    let deadline = Instant::now() + guest.machine.timeouts().sync();
    let mut events: Vec<String> = Vec::new();
    let mut last = guest.status.clone();
    loop {
        let done = last.seed.state != SeedState::Looking
            && (wanted.is_empty() || events.iter().any(|event| event.contains(wanted)));
        if done {
            return Ok((last, events));
        }
        match guest
            .machine
            .record(&guest.records, "the seed's end", deadline)
        {
            Ok(Record::Status(status)) => last = status,
            Ok(Record::Event(record)) => events.push(match record.event {
                Event::Service { name, what } => format!("{name}: {what}"),
                other => format!("{other:?}"),
            }),
            Err(MachineError::Deadline { .. }) => {
                bail!("no `{wanted}`: {:?}; {events:?}", last.seed)
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_from(status: &Status, key: &str, value: &str, origin: Origin) -> Result<()> {
    let Some(effective) = status.config.get(key) else {
        bail!("the status lacks {key}: {:?}", status.config);
    };
    ensure!(
        effective.value == value && effective.origin == origin,
        "{key}: {effective:?}, expected {value} from {origin:?}"
    );
    Ok(())
}
