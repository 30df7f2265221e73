//! VDI of dynamic size (`VirtualBox`, `VDICore.h`; QEMU, block/vdi.c): blocks of 1 MiB, those of zeros left out.

use uuid::Uuid;

use super::bytes::{FormatError, is_zero, pad, whole};

const BLOCK: usize = 1 << 20;
const SIGNATURE: u32 = 0xbeda_107f;
const VERSION: u32 = 0x0001_0001;
/// Bytes of the header from its own length on.
const HEADER_LEN: u32 = 0x190;
const DYNAMIC: u32 = 1;
/// Where the map of blocks begins.
const MAP_AT: usize = 512;
/// An entry of the map whose block is left out.
const FREE: u32 = u32::MAX;

pub fn write(disk: &[u8], [image, snapshot]: [Uuid; 2]) -> Result<Vec<u8>, FormatError> {
    let size = whole(disk, BLOCK, "MiB")?;
    let mut map = Vec::new();
    let mut data = Vec::new();
    for block in disk.chunks(BLOCK) {
        if is_zero(block) {
            map.push(FREE);
        } else {
            map.push((data.len() / BLOCK) as u32);
            data.extend_from_slice(block);
        }
    }
    let data_at = (MAP_AT + 4 * map.len()).next_multiple_of(BLOCK);
    let word = |number: usize| (number as u32).to_le_bytes();
    let mut text = b"<<< noonmark disk image >>>\n".to_vec();
    text.resize(64, 0);
    let parts: [&[u8]; 21] = [
        &text,
        &SIGNATURE.to_le_bytes(),
        &VERSION.to_le_bytes(),
        &HEADER_LEN.to_le_bytes(),
        &DYNAMIC.to_le_bytes(),
        &[0; 4],   // no flags
        &[0; 256], // no description
        &word(MAP_AT),
        &word(data_at),
        &[0; 12], // no geometry
        &512u32.to_le_bytes(),
        &[0; 4],
        &size.to_le_bytes(),
        &word(BLOCK),
        &[0; 4], // nothing beside a block's data
        &word(map.len()),
        &word(data.len() / BLOCK),
        &image.to_bytes_le(),
        &snapshot.to_bytes_le(),
        &[0; 32], // no other image below it
        &[0; 56],
    ];
    let mut file = parts.concat();
    pad(&mut file, MAP_AT);
    file.extend(map.iter().flat_map(|entry| entry.to_le_bytes()));
    pad(&mut file, BLOCK);
    file.extend(data);
    Ok(file)
}
