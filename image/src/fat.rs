//! FAT volumes: the EFI system partition and the seed disk, a pure function of files, label and
//! date.

mod dots;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Write};

use fatfs::{
    Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider,
};
use noonmark_contract::units::Utc;
use thiserror::Error;

use crate::hash::Sha256Hex;

/// Bytes in a sector.
const SECTOR_LEN: u64 = 512;

/// Volumes are a multiple of this.
const VOLUME_UNIT: u64 = 1 << 20;

/// Entries of the root folder; 512 is what every other formatter takes.
const ROOT_ENTRIES: u16 = 512;

/// A volume with more files and folders than this is not one of noonmark's.
const ENTRIES_MAX: usize = 4096;

/// Nor is one with folders deeper than this.
const DEPTH_MAX: usize = 16;

/// Bytes in a label.
const LABEL_LEN: usize = 11;

/// The fewest clusters that make a volume FAT16, and a few more, so that no reader that counts
/// otherwise takes it for FAT12.
const FAT16_CLUSTERS_MIN: u64 = 4_085 + 64;

/// The most that make a volume FAT16, less a few.
const FAT16_CLUSTERS_MAX: u64 = 65_524 - 64;

/// A volume that can't be written or read.
#[derive(Debug, Error)]
pub enum FatError {
    /// A label that FAT can't hold.
    #[error(
        "FAT label `{0}`: expected 1 to 11 of `A` to `Z`, `0` to `9`, `-` and `_`, and no more"
    )]
    Label(String),
    /// More than a FAT16 volume holds.
    #[error("{mib} MiB of files are too much for a FAT16 volume (at most 1024 MiB)")]
    TooLarge {
        /// How much it is.
        mib: u64,
    },
    /// A date that FAT can't hold.
    #[error("a FAT volume can't hold the date {0} s after 1970; expected 1980 to 2107")]
    Date(i64),
    /// A file can't be written or read.
    #[error("FAT volume: {path}: {source}")]
    File {
        /// Its path, or what was being done.
        path: String,
        /// What the library says.
        source: io::Error,
    },
}

/// What a volume is to hold.
#[derive(Clone, Copy, Debug)]
pub struct Volume<'a> {
    /// Its label, in the boot sector and in the root folder.
    pub label: &'a str,
    /// The date of every entry, from 1980 to 2107; two seconds is the format's grain.
    pub date: Utc,
    /// Contents by path, with `/` between folders and none at the start.
    pub files: &'a BTreeMap<String, &'a [u8]>,
}

/// Writes a FAT16 volume that has just room for its files, in whole MiB.
///
/// It is FAT16 and not FAT32 because that needs 65,525 clusters, and so at least 33 MiB, more than
/// the whole image. The UEFI specification (13.3) has firmware read all of FAT12, FAT16 and FAT32.
///
/// # Errors
/// If label, date or files don't fit the format.
pub fn write(volume: &Volume<'_>) -> Result<Vec<u8>, FatError> {
    let label = label_bytes(volume.label)?;
    let geometry = Geometry::of(volume.files)?;
    let failed = |path: &str, source| FatError::File {
        path: path.into(),
        source,
    };
    let mut disk = Cursor::new(vec![0; geometry.len as usize]);
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat16)
        .bytes_per_cluster(geometry.cluster_len)
        .max_root_dir_entries(ROOT_ENTRIES)
        .volume_id(volume_id(volume))
        .volume_label(label);
    fatfs::format_volume(&mut disk, options).map_err(|e| failed("formatting it", e))?;
    let date = fat_date(volume.date)?;
    DATE.set(date);
    {
        let options = FsOptions::new().time_provider(&FIXED_DATE);
        let system = FileSystem::new(&mut disk, options).map_err(|e| failed("opening it", e))?;
        for (path, content) in volume.files {
            add(&system, path, content).map_err(|e| failed(path, e))?;
        }
        system.unmount().map_err(|e| failed("closing it", e))?;
    }
    let mut bytes = disk.into_inner();
    dots::set_right(&mut bytes).ok_or_else(|| {
        let problem = "the library wrote its folders in an unknown way";
        failed("checking it", io::Error::other(problem))
    })?;
    Ok(bytes)
}

/// A volume that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeContent {
    /// The label, as the root folder has it.
    pub label: String,
    /// The volume's id.
    pub id: u32,
    /// Contents by path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Dates and attributes of files and folders by path, in words.
    pub entries: BTreeMap<String, String>,
}

/// Reads a volume.
///
/// # Errors
/// If it is no FAT volume, or a broken one.
pub fn read(volume: &[u8]) -> Result<VolumeContent, FatError> {
    let failed = |path: &str, source| FatError::File {
        path: path.into(),
        source,
    };
    let system = FileSystem::new(Cursor::new(volume.to_vec()), FsOptions::new())
        .map_err(|e| failed("opening it", e))?;
    let label = system
        .read_volume_label_from_root_dir()
        .map_err(|e| failed("reading its label", e))?;
    let mut content = VolumeContent {
        label: label.unwrap_or_default(),
        id: system.volume_id(),
        ..VolumeContent::default()
    };
    collect(&system.root_dir(), "", &mut content).map_err(|(path, e)| failed(&path, e))?;
    Ok(content)
}

/// Whether a volume can have this label.
#[must_use]
pub fn is_label(label: &str) -> bool {
    (1..=LABEL_LEN).contains(&label.len())
        && label
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"-_".contains(&b))
}

type Disk<'a> = &'a mut Cursor<Vec<u8>>;

fn add(system: &FileSystem<Disk<'_>>, path: &str, content: &[u8]) -> io::Result<()> {
    let root = system.root_dir();
    for (at, _) in path.match_indices('/') {
        root.create_dir(&path[..at])?;
    }
    root.create_file(path)?.write_all(content)
}

/// Reads a folder and those in it. A broken volume can have folders that contain themselves, so
/// depth and number are bounded.
fn collect(
    folder: &fatfs::Dir<'_, Cursor<Vec<u8>>>,
    prefix: &str,
    content: &mut VolumeContent,
) -> Result<(), (String, io::Error)> {
    let too_much = |path: &str| {
        (
            path.to_string(),
            io::Error::other("too deep or too many files"),
        )
    };
    for entry in folder.iter() {
        let entry = entry.map_err(|e| (prefix.to_string(), e))?;
        let name = entry.file_name();
        if name == "." || name == ".." {
            continue;
        }
        let path = format!("{prefix}{name}");
        if content.entries.len() >= ENTRIES_MAX || path.matches('/').count() > DEPTH_MAX {
            return Err(too_much(&path));
        }
        let facts = format!(
            "attributes {:#04x}, created {}, modified {}",
            entry.attributes().bits(),
            written(entry.created()),
            written(entry.modified()),
        );
        content.entries.insert(path.clone(), facts);
        if entry.is_dir() {
            collect(&entry.to_dir(), &format!("{path}/"), content)?;
        } else {
            let mut bytes = Vec::new();
            let read = entry.to_file().read_to_end(&mut bytes);
            read.map_err(|e| (path.clone(), e))?;
            content.files.insert(path, bytes);
        }
    }
    Ok(())
}

/// A date and time as people write it.
fn written(DateTime { date, time }: DateTime) -> String {
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        date.year, date.month, date.day, time.hour, time.min, time.sec
    )
}

/// The size of a volume and of its clusters.
#[derive(Debug, PartialEq, Eq)]
struct Geometry {
    len: u64,
    cluster_len: u32,
}

impl Geometry {
    /// The largest clusters with which it still is a FAT16 volume, since firmware reads large ones
    /// faster; the fewest MiB in which the files find room with them.
    fn of(files: &BTreeMap<String, &[u8]>) -> Result<Self, FatError> {
        let content: u64 = files.values().map(|content| content.len() as u64).sum();
        for cluster_len in (9..=14).rev().map(|bits| 1_u64 << bits) {
            let clusters = clusters_of(files, cluster_len);
            // Boot sector, two FATs of two bytes for each cluster, root folder.
            let overhead = |clusters: u64| {
                SECTOR_LEN + 2 * (2 * (clusters + 2) + SECTOR_LEN) + 32 * u64::from(ROOT_ENTRIES)
            };
            let wanted = clusters.max(FAT16_CLUSTERS_MIN);
            let len = (wanted * cluster_len + overhead(wanted)).next_multiple_of(VOLUME_UNIT);
            let wasteful = clusters < FAT16_CLUSTERS_MIN && cluster_len > SECTOR_LEN;
            if !wasteful && len / cluster_len <= FAT16_CLUSTERS_MAX {
                return Ok(Self {
                    len,
                    cluster_len: cluster_len as u32,
                });
            }
        }
        Err(FatError::TooLarge { mib: content >> 20 })
    }
}

/// Clusters that files and folders take.
fn clusters_of(files: &BTreeMap<String, &[u8]>, cluster_len: u64) -> u64 {
    let contents: u64 = files
        .values()
        .map(|content| (content.len() as u64).div_ceil(cluster_len))
        .sum();
    // An entry with a long name takes at most 21 times 32 bytes; a folder begins in its own
    // cluster.
    let entries: u64 = files
        .keys()
        .map(|path| path.split('/').count() as u64 * (21 * 32_u64).div_ceil(cluster_len).max(1))
        .sum();
    contents + entries
}

/// An id that follows from the content.
fn volume_id(volume: &Volume<'_>) -> u32 {
    let mut parts = vec![volume.label.as_bytes()];
    for (path, content) in volume.files {
        parts.push(path.as_bytes());
        parts.push(content);
    }
    let hash = Sha256Hex::of_parts(&parts).0;
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

/// A label as the format has it: padded with spaces.
fn label_bytes(label: &str) -> Result<[u8; LABEL_LEN], FatError> {
    if !is_label(label) {
        return Err(FatError::Label(label.into()));
    }
    let mut bytes = [b' '; LABEL_LEN];
    bytes[..label.len()].copy_from_slice(label.as_bytes());
    Ok(bytes)
}

fn fat_date(date: Utc) -> Result<DateTime, FatError> {
    let seconds = date.0.div_euclid(1_000_000_000);
    let civil = jiff::Timestamp::from_second(seconds)
        .map(|instant| instant.to_zoned(jiff::tz::TimeZone::UTC).datetime())
        .map_err(|_| FatError::Date(seconds))?;
    let part = |value: i8| u16::from(value.unsigned_abs());
    let year = civil.year().unsigned_abs();
    if !(1980..=2107).contains(&year) {
        return Err(FatError::Date(seconds));
    }
    Ok(DateTime {
        date: Date {
            year,
            month: part(civil.month()),
            day: part(civil.day()),
        },
        time: Time {
            hour: part(civil.hour()),
            min: part(civil.minute()),
            sec: part(civil.second()),
            millis: 0,
        },
    })
}

thread_local! {
    /// The date that [`FixedDate`] gives. The library asks for a provider that lives as long as
    /// the program, so the date of the volume being written on this thread can't be in it.
    static DATE: Cell<DateTime> = const {
        Cell::new(DateTime {
            date: Date { year: 1980, month: 1, day: 1 },
            time: Time { hour: 0, min: 0, sec: 0, millis: 0 },
        })
    };
}

/// Gives every entry the volume's date; the library's own provider reads the machine's clock.
#[derive(Debug)]
struct FixedDate;

static FIXED_DATE: FixedDate = FixedDate;

impl TimeProvider for FixedDate {
    fn get_current_date(&self) -> Date {
        DATE.get().date
    }

    fn get_current_date_time(&self) -> DateTime {
        DATE.get()
    }
}
