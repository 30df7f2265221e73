//! Disks for the tests.

use std::io::{Cursor, Read as _, Write as _};

use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use flate2::read::GzDecoder;

/// Unpacks one of `images/`.
pub fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut disk = Vec::new();
    let mut decoder = GzDecoder::new(packed);
    decoder.read_to_end(&mut disk).expect("gzip");
    disk
}

/// A FAT volume of this type and label with these files.
pub fn fat(kind: FatType, label: [u8; 11], files: &[(&str, &[u8])]) -> Vec<u8> {
    let size = match kind {
        FatType::Fat12 => 2 << 20,
        FatType::Fat16 => 16 << 20,
        FatType::Fat32 => 40 << 20,
    };
    let mut disk = Cursor::new(vec![0; size]);
    let options = FormatVolumeOptions::new()
        .fat_type(kind)
        .bytes_per_cluster(512)
        .volume_label(label);
    fatfs::format_volume(&mut disk, options).expect("a volume");
    let volume = FileSystem::new(&mut disk, FsOptions::new()).expect("a volume");
    for (name, content) in files {
        let root = volume.root_dir();
        let mut file = root.create_file(name).expect("a file");
        file.write_all(content).expect("room");
    }
    volume.unmount().expect("a whole volume");
    disk.into_inner()
}

/// A seed on FAT12 with this user-data.
pub fn seed(user_data: &[u8]) -> Vec<u8> {
    let files: [(&str, &[u8]); 2] = [
        ("meta-data", b"instance-id: i-1\n"),
        ("user-data", user_data),
    ];
    fat(FatType::Fat12, *b"CIDATA     ", &files)
}
