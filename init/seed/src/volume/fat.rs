//! Files in the root folder of a FAT volume, by the crate `fatfs`, on a disk that can't be written.

use std::io::{self, Read, Seek, SeekFrom, Write};

use fatfs::{FileSystem, FsOptions};

use super::error::VolumeError;

/// How many entries of the root folder are looked at: a chain of clusters that runs in a circle has
/// no end.
const ENTRIES_MAX: usize = 4096;

/// What `fatfs` is given, which asks for a disk that can be written: this one refuses every write.
#[derive(Debug)]
struct ReadOnly<'a, D>(&'a mut D);

impl<D: Read> Read for ReadOnly<'_, D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<D: Seek> Seek for ReadOnly<'_, D> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl<D> Write for ReadOnly<'_, D> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The label, as the boot sector has it, else as the root folder has it; none where the disk is no
/// FAT.
///
/// # Errors
/// If the volume is damaged.
pub fn label(disk: &mut (impl Read + Seek)) -> Result<Option<String>, VolumeError> {
    let mut boot = [0; 512];
    disk.seek(SeekFrom::Start(0))?;
    if disk.read_exact(&mut boot).is_err() || !is_fat(&boot) {
        return Ok(None);
    }
    let fat32 = boot[22..24] == [0, 0];
    let (signature, label) = if fat32 { (66, 71..82) } else { (38, 43..54) };
    let in_boot_sector = (boot[signature] == 0x29)
        .then(|| String::from_utf8_lossy(&boot[label]).trim_end().to_owned())
        .filter(|label| !label.is_empty() && label != "NO NAME");
    if in_boot_sector.is_some() {
        return Ok(in_boot_sector);
    }
    let in_root = open(disk)?.read_volume_label_from_root_dir()?;
    Ok(Some(in_root.unwrap_or_default()))
}

/// The content of the root folder's file of this name; none where there is no such file.
///
/// # Errors
/// If the volume is damaged, or the file longer than `max`.
pub fn read(
    disk: &mut (impl Read + Seek),
    name: &str,
    max: usize,
) -> Result<Option<Vec<u8>>, VolumeError> {
    let volume = open(disk)?;
    for entry in volume.root_dir().iter().take(ENTRIES_MAX) {
        let entry = entry?;
        if !entry.is_file() || !entry.file_name().eq_ignore_ascii_case(name) {
            continue;
        }
        if entry.len() > max as u64 {
            return Err(VolumeError::TooLarge {
                what: name.into(),
                length: entry.len(),
                max,
            });
        }
        let mut content = Vec::new();
        entry.to_file().take(max as u64).read_to_end(&mut content)?;
        if content.len() as u64 != entry.len() {
            return Err(VolumeError::Damaged(format!(
                "{name} has {} bytes of its {}",
                content.len(),
                entry.len()
            )));
        }
        return Ok(Some(content));
    }
    Ok(None)
}

fn open<D: Read + Seek>(disk: &mut D) -> Result<FileSystem<ReadOnly<'_, D>>, VolumeError> {
    disk.seek(SeekFrom::Start(0))?;
    Ok(FileSystem::new(ReadOnly(disk), FsOptions::new())?)
}

/// A FAT's boot sector: a jump, a sane sector size, one or two FATs, and the mark at its end. A
/// partition table has the mark too, but hardly the rest.
fn is_fat(boot: &[u8; 512]) -> bool {
    let sector_size = u16::from_le_bytes([boot[11], boot[12]]);
    let jump = boot[0] == 0xe9 || (boot[0] == 0xeb && boot[2] == 0x90);
    jump && matches!(sector_size, 512 | 1024 | 2048 | 4096)
        && boot[13].is_power_of_two()
        && matches!(boot[16], 1 | 2)
        && boot[510..] == [0x55, 0xaa]
}
