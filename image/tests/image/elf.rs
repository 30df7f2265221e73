//! ELF files of headers and a dynamic section alone, as a dynamic linker reads them.

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;

const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
const DT_SONAME: u64 = 14;
/// Where libraries are looked for, for all that an object loads.
pub const DT_RPATH: u64 = 15;
/// Where libraries are looked for, for the object alone.
pub const DT_RUNPATH: u64 = 29;

/// An object that is loaded at the addresses of its offsets; `paths` are [`DT_RPATH`]s and
/// [`DT_RUNPATH`]s.
pub fn object(interpreter: &str, soname: &str, needed: &[&str], paths: &[(u64, &str)]) -> Vec<u8> {
    let mut strings = vec![0];
    let mut string = |text: &str| {
        let at = strings.len() as u64;
        strings.extend_from_slice(text.as_bytes());
        strings.push(0);
        at
    };
    let interpreter_at = string(interpreter);
    let mut dynamic: Vec<(u64, u64)> = needed
        .iter()
        .map(|name| (DT_NEEDED, string(name)))
        .collect();
    dynamic.extend(paths.iter().map(|(tag, path)| (*tag, string(path))));
    if !soname.is_empty() {
        dynamic.push((DT_SONAME, string(soname)));
    }
    const STRINGS_AT: u64 = 64 + 3 * 56;
    let length = strings.len() as u64;
    dynamic.extend([(DT_STRTAB, STRINGS_AT), (DT_STRSZ, length), (DT_NULL, 0)]);
    let dynamic_at = (STRINGS_AT + length).next_multiple_of(8);
    let dynamic_length = dynamic.len() as u64 * 16;
    let total = dynamic_at + dynamic_length;
    let interpreter_kind = if interpreter.is_empty() { 0 } else { PT_INTERP };
    let segments = [
        (PT_LOAD, 0, total),
        (PT_DYNAMIC, dynamic_at, dynamic_length),
        (
            interpreter_kind,
            STRINGS_AT + interpreter_at,
            interpreter.len() as u64 + 1,
        ),
    ];
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend_from_slice(&[3, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0_u64, 64, 0] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 0, 0, 64, 0, 56, 0, 3, 0, 64, 0, 0, 0, 0, 0]);
    for (kind, at, size) in segments {
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&5_u32.to_le_bytes());
        for word in [at, at, at, size, size, 8] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }
    bytes.extend_from_slice(&strings);
    bytes.resize(dynamic_at as usize, 0);
    for (tag, value) in dynamic {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// The same for another processor (ELF's `EM_*`).
pub fn for_machine(mut object: Vec<u8>, machine: u16) -> Vec<u8> {
    object[18..20].copy_from_slice(&machine.to_le_bytes());
    object
}
