//! The disk in the formats that hypervisors and clouds take: the same bytes to their guest, wrapped.
//!
//! Each is a pure function of the disk. Where a format wants an identity, that follows from the disk's hash.

mod bytes;
mod container_disk;
mod gce;
mod qcow2;
mod vdi;
mod vhd;
mod vmdk;

use uuid::Uuid;

use crate::hash::Sha256Hex;

pub use bytes::FormatError;

/// Under which identities are derived.
const NAMESPACE: Uuid = Uuid::from_u128(0x1b0c_63a2_54cd_4fd2_a4a1_3e5e_2f0d_9c11);

/// A format of disks other than the raw one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFormat {
    /// QEMU's own, version 3.
    Qcow2,
    /// VMware's, stream-optimized, as an OVF package has it.
    Vmdk,
    /// Hyper-V's and Azure's, of fixed size.
    Vhd,
    /// `VirtualBox`'s, of dynamic size.
    Vdi,
    /// Google Compute Engine's: `disk.raw`, a whole number of GiB, in a tar archive.
    TarGz,
    /// `KubeVirt`'s: a container image with the disk in it, an archive of an OCI image layout.
    ContainerDisk,
}

impl DiskFormat {
    /// Its file's usual name.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Qcow2 => "disk.qcow2",
            Self::Vmdk => "disk.vmdk",
            Self::Vhd => "disk.vhd",
            Self::Vdi => "disk.vdi",
            Self::TarGz => "disk.tar.gz",
            Self::ContainerDisk => "containerdisk.tar",
        }
    }

    /// The disk in this format. `source_date` is the image's own, in seconds since 1970.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn write(self, disk: &[u8], source_date: u32) -> Result<Vec<u8>, FormatError> {
        let hash = Sha256Hex::of(disk);
        let id = |what: &[u8]| Uuid::new_v5(&NAMESPACE, &[what, &hash.0].concat());
        match self {
            Self::Qcow2 => qcow2::write(disk),
            Self::Vmdk => vmdk::write(disk, id(b"vmdk")),
            Self::Vhd => vhd::write(disk, source_date, id(b"vhd")),
            Self::Vdi => vdi::write(disk, [id(b"vdi"), id(b"vdi snapshot")]),
            Self::TarGz => gce::write(disk, source_date),
            Self::ContainerDisk => container_disk::write(disk, source_date),
        }
    }
}
