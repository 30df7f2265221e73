//! Finds UEFI firmware for QEMU: the one named, the distribution's, or the one that the crate
//! `ovmf-prebuilt` carries, so that a machine without network and without OVMF boots all the same.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::file_error::FileError;

/// Where Debian, Ubuntu, Fedora and Arch put code and variables, without Secure Boot.
const DISTRIBUTIONS: &[(&str, &str)] = &[
    (
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
    ),
    (
        "/usr/share/OVMF/OVMF_CODE.fd",
        "/usr/share/OVMF/OVMF_VARS.fd",
    ),
    (
        "/usr/share/edk2/ovmf/OVMF_CODE.fd",
        "/usr/share/edk2/ovmf/OVMF_VARS.fd",
    ),
    (
        "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
        "/usr/share/edk2/x64/OVMF_VARS.4m.fd",
    ),
];

/// UEFI firmware in the two parts that QEMU's flash takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// The program; it is not written to.
    pub code: PathBuf,
    /// The template of its variables.
    pub vars: PathBuf,
}

/// Why there is no firmware.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// A file or folder can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is something else.
    #[error(
        "firmware {}: expected a whole OVMF flash image (OVMF.fd), variables and code in one: it \
         does not begin with a firmware volume", path.display()
    )]
    NoFlashImage {
        /// The file.
        path: PathBuf,
    },
}

/// The firmware to boot with: `named`, else the distribution's, else the one carried along. Flash
/// images that hold both parts are cut in two in the folder `cache`, which is made where needed.
///
/// The distribution's comes first: it is kept up to date, and is what the disk meets elsewhere. The
/// one carried along boots sooner (to the first sync 13.5 and 13.9 s against 16.8 and 20.8 s with
/// Debian 12's, in turns on a busy machine under emulation).
///
/// # Errors
/// What was named is not there or is no firmware, or `cache` can't be written.
pub fn find(named: Option<&Path>, cache: &Path) -> Result<Firmware, FirmwareError> {
    if let Some(file) = named {
        return unpack(file, cache);
    }
    let installed = DISTRIBUTIONS
        .iter()
        .find(|(code, vars)| Path::new(code).is_file() && Path::new(vars).is_file());
    match installed {
        Some((code, vars)) => Ok(Firmware {
            code: code.into(),
            vars: vars.into(),
        }),
        None => unpack(&ovmf_prebuilt::ovmf_pure_efi(), cache),
    }
}

/// Cuts a whole flash image in two, and puts the parts into the cache.
fn unpack(file: &Path, cache: &Path) -> Result<Firmware, FirmwareError> {
    let flash = fs::read(file).map_err(FileError::of("read", file))?;
    let (vars, code) = split(&flash).ok_or_else(|| FirmwareError::NoFlashImage {
        path: file.to_owned(),
    })?;
    fs::create_dir_all(cache).map_err(FileError::of("create", cache))?;
    let firmware = Firmware {
        code: cache.join("OVMF_CODE.fd"),
        vars: cache.join("OVMF_VARS.fd"),
    };
    for (path, part) in [(&firmware.code, code), (&firmware.vars, vars)] {
        if fs::read(path).is_ok_and(|before| before == part) {
            continue;
        }
        // Another machine may be starting with the same cache: it finds a whole file or none.
        NamedTempFile::new_in(cache)
            .and_then(|mut whole| {
                whole.write_all(part)?;
                Ok(whole.persist(path)?)
            })
            .map_err(FileError::of("write", path))?;
    }
    Ok(firmware)
}

/// The variables, which are a flash image's first firmware volume, and the code behind it (UEFI
/// Platform Initialization Specification, volume 3, `EFI_FIRMWARE_VOLUME_HEADER`: the length at
/// byte 32, the signature at byte 40).
fn split(flash: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = flash
        .get(32..44)
        .filter(|header| &header[8..] == b"_FVH")
        .and_then(|header| header[..8].try_into().ok())
        .map(u64::from_le_bytes)
        .and_then(|length| usize::try_from(length).ok())
        .filter(|length| *length > 44 && *length < flash.len())?;
    Some(flash.split_at(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_firmware_carried_along_falls_into_variables_and_code() {
        let flash = fs::read(ovmf_prebuilt::ovmf_pure_efi()).unwrap();
        let (vars, code) = split(&flash).unwrap();
        assert_eq!((vars.len(), code.len()), (128 << 10, 1920 << 10));
        // The processor's first instruction is 16 bytes below 4 GiB, at the end of the code.
        assert_ne!(&code[code.len() - 16..], &[0; 16]);
    }

    #[test]
    fn what_is_no_flash_image_is_refused() {
        let mut flash = vec![0; 4096];
        assert!(split(&flash).is_none());
        flash[40..44].copy_from_slice(b"_FVH");
        for length in [0_u64, 44, 4096, u64::MAX] {
            flash[32..40].copy_from_slice(&length.to_le_bytes());
            assert!(split(&flash).is_none(), "{length}");
        }
        assert!(split(b"short").is_none());
    }

    #[test]
    fn what_is_named_goes_into_the_cache_in_two_parts_or_is_refused_by_name() {
        let cache = tempfile::tempdir().unwrap();
        let firmware = find(Some(&ovmf_prebuilt::ovmf_pure_efi()), cache.path()).unwrap();
        let length = |path| fs::metadata(path).unwrap().len();
        assert_eq!(length(&firmware.vars), 128 << 10);
        assert_eq!(length(&firmware.code), 1920 << 10);
        for wrong in ["/bin/true", "/no/such/firmware"] {
            let error = find(Some(Path::new(wrong)), cache.path()).unwrap_err();
            assert!(error.to_string().contains(wrong), "{error}");
        }
    }
}
