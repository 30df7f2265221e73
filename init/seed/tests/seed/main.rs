//! The program `noonmark-seed`, run on disks: those that others' programs made, and bad ones.
//!
//! `images/` has what `genisoimage -V CIDATA` (with `-joliet -rock`, `-J`, `-iso-level 1`, `-udf -J`, and
//! none of them), `xorriso -as mkisofs -r`, `cloud-localds` and `cloud-localds -f vfat` make of the same
//! `meta-data` and `user-data`, packed by gzip; and beside these
//!
//! - `fat32-small`: `mkfs.fat -F 32 -s 1`, cut to a MiB, which leaves 944 clusters; Linux mounts it.
//! - `mkudffs-*`: `mkudffs -m hd` with blocks of 2048 and 512 bytes, to which Linux 6.1 has written more
//!   files, and removed some.
//! - `mkudffs-2.50`: `mkudffs -m bdr -r 0x0250`, whose files are found by a table.
//! - `genisoimage-link`: `genisoimage -r` of a `user-data` that is a symbolic link, and a name of 240 letters.
//! - `config-2`: a ConfigDrive, as OpenStack's nova calls genisoimage.

mod bad;
mod config_drive;
mod disks;
mod good;
mod hostile;
mod reference;
mod volumes;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use noonmark_contract::seed::instance::Instance;
use noonmark_contract::seed::verdict::{Datasource, Document, Verdict};

/// Runs the program on disks of these names.
fn run(disks: &[(&str, &[u8])]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_noonmark-seed"));
    for (name, bytes) in disks {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("a writable folder");
        command.arg(path);
    }
    command.output().expect("the program runs")
}

/// What it says of these disks.
fn verdict(disks: &[(&str, &[u8])]) -> Verdict {
    let output = run(disks);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {told}", output.status);
    Verdict::decode(&output.stdout).expect("a whole verdict")
}

/// What it takes from a seed that it finds on the only disk.
fn found(disk: &[u8]) -> Instance {
    match verdict(&[("vda", disk)]).seed {
        Datasource::Found { device, documents } => {
            assert_eq!(device, "vda");
            all(documents)
        }
        other => panic!("no seed: {other:?}"),
    }
}

/// What the documents say together.
fn all(documents: Vec<Document>) -> Instance {
    let mut all = Instance::default();
    for Document { mut instance, .. } in documents {
        all.id = instance.id.or(all.id);
        let settings = instance.settings;
        all.settings.hostname = settings.hostname.or(all.settings.hostname);
        all.settings.network = settings.network.or(all.settings.network);
        all.settings.ntp.servers = settings.ntp.servers.or(all.settings.ntp.servers);
        all.files.append(&mut instance.files);
        all.services.append(&mut instance.services);
        all.taken.append(&mut instance.taken);
        all.ignored.append(&mut instance.ignored);
        all.refused.append(&mut instance.refused);
    }
    all
}

/// Why it refuses the seed on the only disk.
fn refused(disk: &[u8]) -> String {
    match verdict(&[("vda", disk)]).seed {
        Datasource::Refused { problem, .. } => problem,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn no_disk_and_a_disk_that_is_not_there_are_no_seed() {
    assert_eq!(verdict(&[]).seed, Datasource::Absent);
    let output = Command::new(env!("CARGO_BIN_EXE_noonmark-seed"))
        .arg(Path::new("/nowhere/vda"))
        .output()
        .expect("the program runs");
    let verdict = Verdict::decode(&output.stdout).expect("a whole verdict");
    assert_eq!(verdict, Verdict::default());
}
