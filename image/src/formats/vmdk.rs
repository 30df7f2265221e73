//! VMDK, stream-optimized (VMware, Virtual Disk Format 5.0): grains of 64 KiB, compressed, those of zeros left out.
//!
//! A header and a descriptor in text, then the grains, each with a marker of where it belongs, then tables of
//! where the grains are, a directory of the tables, and the header again, which now knows where the directory is.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use uuid::Uuid;

use super::bytes::{FormatError, is_zero, pad, whole};

const SECTOR: usize = 512;
const GRAIN: usize = 64 << 10;
const GRAIN_SECTORS: u64 = (GRAIN / SECTOR) as u64;
/// Entries of a grain table.
const ENTRIES: usize = 512;
/// Line ends can be told, grains are compressed, and markers are there.
const FLAGS: u32 = 1 | 1 << 16 | 1 << 17;
const DESCRIPTOR_AT: u64 = 1;
const DESCRIPTOR_SECTORS: u64 = 20;
/// Where the first grain may be.
const OVERHEAD: u64 = 128;
/// The directory is at the file's end.
const AT_END: u64 = u64::MAX;
const DEFLATE: u16 = 1;

/// What a marker without a grain announces.
#[derive(Clone, Copy)]
enum Marker {
    EndOfStream = 0,
    Table = 1,
    Directory = 2,
    Footer = 3,
}

pub fn write(disk: &[u8], id: Uuid) -> Result<Vec<u8>, FormatError> {
    let sectors = whole(disk, GRAIN, "64 KiB")? / SECTOR as u64;
    let mut file = header(sectors, AT_END);
    file.extend(descriptor(sectors, id).as_bytes());
    file.resize(OVERHEAD as usize * SECTOR, 0);

    let mut places = Vec::new();
    for (grain, first) in disk.chunks(GRAIN).zip((0u64..).step_by(GRAIN / SECTOR)) {
        if is_zero(grain) {
            places.push(0);
            continue;
        }
        places.push(here(&file));
        let mut packer = ZlibEncoder::new(Vec::new(), Compression::default());
        packer.write_all(grain)?;
        let packed = packer.finish()?;
        file.extend(first.to_le_bytes());
        file.extend((packed.len() as u32).to_le_bytes());
        file.extend(packed);
        pad(&mut file, SECTOR);
    }
    let mut directory = Vec::new();
    for table in places.chunks(ENTRIES) {
        let mut bytes = words(table);
        bytes.resize(ENTRIES * 4, 0);
        mark(&mut file, Marker::Table, bytes.len());
        directory.push(here(&file));
        file.extend(bytes);
    }
    let bytes = words(&directory);
    mark(&mut file, Marker::Directory, bytes.len());
    let directory_at = u64::from(here(&file));
    file.extend(bytes);
    pad(&mut file, SECTOR);
    mark(&mut file, Marker::Footer, SECTOR);
    file.extend(header(sectors, directory_at));
    mark(&mut file, Marker::EndOfStream, 0);
    Ok(file)
}

fn header(sectors: u64, directory_at: u64) -> Vec<u8> {
    let parts: [&[u8]; 15] = [
        b"KDMV",
        &3u32.to_le_bytes(),
        &FLAGS.to_le_bytes(),
        &sectors.to_le_bytes(),
        &GRAIN_SECTORS.to_le_bytes(),
        &DESCRIPTOR_AT.to_le_bytes(),
        &DESCRIPTOR_SECTORS.to_le_bytes(),
        &(ENTRIES as u32).to_le_bytes(),
        &[0; 8], // no second directory
        &directory_at.to_le_bytes(),
        &OVERHEAD.to_le_bytes(),
        &[0], // closed in order
        b"\n \r\n",
        &DEFLATE.to_le_bytes(),
        &[0; 433],
    ];
    parts.concat()
}

fn descriptor(sectors: u64, id: Uuid) -> String {
    let (cid, ..) = id.as_fields();
    let cylinders = sectors.div_ceil(16 * 63);
    format!(
        "# Disk DescriptorFile
version=1
CID={cid:08x}
parentCID=ffffffff
createType=\"streamOptimized\"

# Extent description
RW {sectors} SPARSE \"disk.vmdk\"

# The Disk Data Base
#DDB

ddb.virtualHWVersion = \"4\"
ddb.geometry.cylinders = \"{cylinders}\"
ddb.geometry.heads = \"16\"
ddb.geometry.sectors = \"63\"
ddb.adapterType = \"ide\"
"
    )
}

/// Announces so many bytes of something that is no grain.
fn mark(file: &mut Vec<u8>, marker: Marker, len: usize) {
    file.extend((len.div_ceil(SECTOR) as u64).to_le_bytes());
    file.extend([0; 4]);
    file.extend((marker as u32).to_le_bytes());
    pad(file, SECTOR);
}

/// The sector that comes next.
fn here(file: &[u8]) -> u32 {
    (file.len() / SECTOR) as u32
}

fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}
