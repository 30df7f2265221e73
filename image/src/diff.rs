//! Where two outputs differ: not only that their hashes do, but the innermost part that is not the
//! same, through disk, partition, file, section and archive.

use std::collections::BTreeMap;
use std::fmt;

use goblin::elf::Elf;

use crate::compress::{self, Compression};
use crate::cpio::{self, Kind};
use crate::{disk, fat, uki};

/// No more differences are told than this.
const LIMIT: usize = 32;

/// No initrd unpacks to more than this.
const UNPACKED_LIMIT: u64 = 1 << 30;

/// Containers in containers are opened no deeper than this.
const DEPTH_LIMIT: usize = 16;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The way to it, outermost first: `disk.img`, `partition 1`, `EFI/BOOT/BOOTX64.EFI`, ...
    pub path: Vec<String>,
    /// What differs there.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.join(" > "), self.what)
    }
}

/// The innermost differences of two files of this name; none if they are equal.
#[must_use]
pub fn innermost(name: &str, left: &[u8], right: &[u8]) -> Vec<Difference> {
    let mut search = Search {
        path: vec![name.into()],
        found: Vec::new(),
    };
    search.compare(left, right);
    search.found
}

/// Parts of a container by name.
type Parts = BTreeMap<String, Vec<u8>>;

/// Facts of a container in words, by name.
type Facts = BTreeMap<String, String>;

/// A container, opened.
#[derive(Default)]
struct Opened {
    fields: Facts,
    /// Identifiers and checksums, which follow from the parts: a difference only where the parts
    /// have none.
    derived: Facts,
    parts: Parts,
}

struct Search {
    path: Vec<String>,
    found: Vec<Difference>,
}

impl Search {
    fn compare(&mut self, left: &[u8], right: &[u8]) {
        if left == right || self.found.len() >= LIMIT {
            return;
        }
        let before = self.found.len();
        if self.path.len() < DEPTH_LIMIT
            && let (Some(left), Some(right)) = (open(left), open(right))
        {
            self.compare_fields(&left.fields, &right.fields);
            self.compare_parts(&left.parts, &right.parts);
            if self.found.len() == before {
                self.compare_fields(&left.derived, &right.derived);
            }
        }
        // Nothing within explains it: padding, a header's checksum, or no container at all.
        if self.found.len() == before {
            self.tell(first_difference(left, right));
        }
    }

    fn compare_fields(&mut self, left: &Facts, right: &Facts) {
        for key in keys(left, right) {
            let value = |side: &Facts| side.get(key).cloned().unwrap_or_else(|| "nothing".into());
            let (left, right) = (value(left), value(right));
            if left != right {
                self.tell(format!("{key} is {left} against {right}"));
            }
        }
    }

    fn compare_parts(&mut self, left: &Parts, right: &Parts) {
        for key in keys(left, right) {
            match (left.get(key), right.get(key)) {
                (Some(left), Some(right)) => {
                    self.path.push(key.clone());
                    self.compare(left, right);
                    self.path.pop();
                }
                (Some(_), None) => self.tell(format!("{key} is only in the first")),
                _ => self.tell(format!("{key} is only in the second")),
            }
        }
    }

    fn tell(&mut self, what: String) {
        if self.found.len() < LIMIT {
            let path = self.path.clone();
            self.found.push(Difference { path, what });
        }
    }
}

/// The keys of both, in order, each once.
fn keys<'a, T>(
    left: &'a BTreeMap<String, T>,
    right: &'a BTreeMap<String, T>,
) -> impl Iterator<Item = &'a String> {
    let only_right = right.keys().filter(|key| !left.contains_key(*key));
    let mut keys: Vec<_> = left.keys().chain(only_right).collect();
    keys.sort();
    keys.into_iter()
}

/// Opens what is a container; none for anything else, a broken one included.
fn open(bytes: &[u8]) -> Option<Opened> {
    if bytes.get(512..520) == Some(b"EFI PART") {
        open_disk(bytes)
    } else if bytes.get(54..62) == Some(b"FAT16   ") {
        open_volume(bytes)
    } else if bytes.starts_with(b"MZ") {
        open_pe(bytes)
    } else if bytes.starts_with(b"\x7fELF") {
        open_elf(bytes)
    } else if bytes.starts_with(b"070701") {
        open_cpio(bytes)
    } else if compress::detect(bytes) != Compression::None {
        let unpacked = compress::decompress(bytes, UNPACKED_LIMIT).ok()?;
        let how = format!("{:?}", compress::detect(bytes));
        Some(Opened {
            fields: Facts::from([("the compression".into(), how)]),
            parts: Parts::from([("unpacked".into(), unpacked)]),
            ..Opened::default()
        })
    } else {
        None
    }
}

fn open_disk(bytes: &[u8]) -> Option<Opened> {
    let disk = disk::read(bytes).ok()?;
    let mut opened = Opened::default();
    let mut add = |name: String, value: String| {
        let derived = name.contains("GUID") || name.contains("CRC");
        let facts = match derived {
            true => &mut opened.derived,
            false => &mut opened.fields,
        };
        facts.insert(name, value);
    };
    for (name, value) in disk.fields {
        add(format!("the table's {name}"), value);
    }
    for (number, partition) in (1..).zip(disk.partitions) {
        for (name, value) in partition.fields {
            add(format!("partition {number}'s {name}"), value);
        }
        opened
            .parts
            .insert(format!("partition {number}"), partition.bytes);
    }
    Some(opened)
}

fn open_volume(bytes: &[u8]) -> Option<Opened> {
    let volume = fat::read(bytes).ok()?;
    let mut fields = volume.entries;
    fields.insert("the volume's label".into(), volume.label);
    let id = format!("{:08x}", volume.id);
    Some(Opened {
        fields,
        derived: Facts::from([("the volume's id".into(), id)]),
        parts: volume.files,
    })
}

fn open_pe(bytes: &[u8]) -> Option<Opened> {
    let sections = uki::read_sections(bytes, "").ok()?;
    let part = |(name, content): (String, &[u8])| (format!("section {name}"), content.to_vec());
    Some(Opened {
        parts: sections.into_iter().map(part).collect(),
        ..Opened::default()
    })
}

fn open_elf(bytes: &[u8]) -> Option<Opened> {
    let elf = Elf::parse(bytes).ok()?;
    let mut parts = Parts::new();
    for header in &elf.section_headers {
        let name = elf.shdr_strtab.get_at(header.sh_name)?;
        if let Some(range) = header.file_range() {
            parts.insert(format!("section {name}"), bytes.get(range)?.to_vec());
        }
    }
    Some(Opened {
        derived: Facts::from([("the entry point".into(), format!("{:#x}", elf.entry))]),
        parts,
        ..Opened::default()
    })
}

fn open_cpio(bytes: &[u8]) -> Option<Opened> {
    let mut opened = Opened::default();
    for (path, entry) in cpio::read(bytes).ok()? {
        let kind = match entry.kind {
            Kind::File(content) => {
                opened.parts.insert(format!("/{path}"), content);
                "file".into()
            }
            other => format!("{other:?}"),
        };
        let (uid, gid, mode) = (entry.uid, entry.gid, entry.permissions);
        let entry = format!("a {kind}, {mode:#o}, owner {uid}:{gid}");
        opened.fields.insert(format!("/{path}"), entry);
    }
    Some(opened)
}

/// The first difference of what can't be opened: a line of a text, else a byte.
fn first_difference(left: &[u8], right: &[u8]) -> String {
    let at = left
        .iter()
        .zip(right)
        .position(|(left, right)| left != right)
        .unwrap_or(left.len().min(right.len()));
    let lengths = if left.len() == right.len() {
        String::new()
    } else {
        format!(" ({} bytes against {})", left.len(), right.len())
    };
    if let (Some(left), Some(right)) = (line_at(left, at), line_at(right, at)) {
        let number = 1 + left.0;
        return format!(
            "line {number} is `{}` against `{}`{lengths}",
            left.1, right.1
        );
    }
    let byte = |side: &[u8]| {
        side.get(at)
            .map_or("the end".into(), |byte| format!("{byte:#04x}"))
    };
    format!(
        "byte {at} is {} against {}{lengths}",
        byte(left),
        byte(right)
    )
}

/// The line of a text that holds this byte, counted from 0; none if it is no short text.
fn line_at(bytes: &[u8], at: usize) -> Option<(usize, &str)> {
    let text = str::from_utf8(bytes).ok()?;
    if text.contains('\0') {
        return None;
    }
    let before = text.get(..at)?;
    let number = before.matches('\n').count();
    let line = text.lines().nth(number).unwrap_or_default();
    (line.len() <= 200).then_some((number, line))
}
