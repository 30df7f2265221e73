//! `noonmark-seed`: reads foreign disks, so that PID 1 doesn't have to.
//!
//! `noonmark-seed DEVICE...` opens the devices, and takes the hypervisor's credentials as they are; then
//! it gives up every right that it has, and only then reads from them. Its answer, one [`Verdict`](noonmark_contract::seed::verdict::Verdict), goes to
//! standard output.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use noonmark_seed::credentials::{Credentials, FW_CFG, SIZE_MAX, SMBIOS_TABLE};
use noonmark_seed::nocloud::{self, Disk};
use noonmark_seed::root::Root;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

/// The user and group `nobody`: they own nothing, and nothing else in the guest runs as them.
const NOBODY: u32 = 65_534;

/// What reading a seed may take. The address space has room for a seed's files several times over;
/// the time is for a slow, emulated processor.
const LIMITS: [(Resource, u64); 6] = [
    (Resource::As, 96 << 20),
    (Resource::Cpu, 10),
    (Resource::Core, 0),
    (Resource::Fsize, 0),
    (Resource::Nproc, 0),
    (Resource::Nofile, 80),
];

fn main() -> ExitCode {
    let disks: Vec<Disk<File>> = std::env::args_os()
        .skip(1)
        .filter_map(|argument| open(Path::new(&argument)))
        .collect();
    let root = Root::at("/".into());
    let smbios = read_whole(Path::new(SMBIOS_TABLE));
    let fw_cfg = fw_cfg_credentials();
    if let Err(errno) = give_up_rights() {
        eprintln!("noonmark-seed: giving up rights: {errno}; nothing was read");
        return ExitCode::FAILURE;
    }
    let mut credentials = Credentials::default();
    credentials.add_smbios(&smbios);
    for (name, value) in fw_cfg {
        credentials.add(&name, value);
    }
    let verdict = nocloud::read(disks, credentials, &root);
    match std::io::stdout().write_all(&verdict.encode()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("noonmark-seed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Opens a device; one that can't be opened, such as a drive without a disk, is left out.
fn open(path: &Path) -> Option<Disk<File>> {
    let disk = OpenOptions::new()
        .read(true)
        // A drive without a disk is not waited for.
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .ok()?;
    let name = path.file_name()?.to_string_lossy().into_owned();
    Some(Disk { name, disk })
}

/// A file's bytes; none where it is not there or too long.
fn read_whole(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = File::open(path).map(|file| file.take(SIZE_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(Ok(length)) if length as u64 <= SIZE_MAX => bytes,
        _ => Vec::new(),
    }
}

/// QEMU's credentials: names and values.
fn fw_cfg_credentials() -> Vec<(String, Vec<u8>)> {
    let folders = fs::read_dir(FW_CFG).into_iter().flatten().flatten();
    let credential = |folder: fs::DirEntry| {
        let name = folder.file_name().into_string().ok()?;
        Some((name, read_whole(&folder.path().join("raw"))))
    };
    let mut found: Vec<_> = folders.filter_map(credential).collect();
    found.sort();
    found
}

/// Gives up user, group, capabilities and the way back to them, and sets bounds to everything else.
fn give_up_rights() -> Result<(), Errno> {
    for (resource, limit) in LIMITS {
        let limit = Some(limit);
        setrlimit(
            resource,
            Rlimit {
                current: limit,
                maximum: limit,
            },
        )?;
    }
    rustix::thread::set_no_new_privs(true)?;
    if rustix::process::getuid().is_root() {
        let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    }
    let none = CapabilitySet::empty();
    set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )
}
