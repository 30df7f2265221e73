//! Finds UEFI firmware for QEMU: the one named, the distribution's, or the one that the crate
//! `ovmf-prebuilt` carries, so that a machine without network and without OVMF boots all the same.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use noonmark_image::output;

use crate::workspace::Workspace;

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

/// The firmware to boot with.
///
/// # Errors
///
/// What was named is not there or is no firmware, or the one carried along can't be unpacked.
pub fn find(workspace: &Workspace, named: Option<&Path>) -> Result<Firmware> {
    if let Some(file) = named {
        let flash =
            fs::read(file).with_context(|| format!("cannot read firmware {}", file.display()))?;
        return unpack(workspace, &flash).with_context(|| {
            format!(
                "firmware {}: expected a whole OVMF flash image (OVMF.fd), variables and code in \
                 one",
                file.display()
            )
        });
    }
    let installed = DISTRIBUTIONS
        .iter()
        .find(|(code, vars)| Path::new(code).is_file() && Path::new(vars).is_file());
    if let Some((code, vars)) = installed {
        return Ok(Firmware {
            code: code.into(),
            vars: vars.into(),
        });
    }
    let carried = ovmf_prebuilt::ovmf_pure_efi();
    let flash = fs::read(&carried).with_context(|| format!("cannot read {}", carried.display()))?;
    unpack(workspace, &flash).with_context(|| format!("firmware {}", carried.display()))
}

/// Cuts a whole flash image in two, and puts the parts into the cache.
fn unpack(workspace: &Workspace, flash: &[u8]) -> Result<Firmware> {
    let (vars, code) = split(flash)?;
    let folder = workspace.cache().join("firmware");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let firmware = Firmware {
        code: folder.join("OVMF_CODE.fd"),
        vars: folder.join("OVMF_VARS.fd"),
    };
    for (path, part) in [(&firmware.code, code), (&firmware.vars, vars)] {
        if fs::read(path).is_ok_and(|before| before == part) {
            continue;
        }
        output::write_file(path, part)?;
    }
    Ok(firmware)
}

/// The variables, which are a flash image's first firmware volume, and the code behind it (UEFI
/// Platform Initialization Specification, volume 3, `EFI_FIRMWARE_VOLUME_HEADER`: the length at
/// byte 32, the signature at byte 40).
fn split(flash: &[u8]) -> Result<(&[u8], &[u8])> {
    let length = flash
        .get(32..44)
        .filter(|header| &header[8..] == b"_FVH")
        .and_then(|header| header[..8].try_into().ok())
        .map(u64::from_le_bytes)
        .and_then(|length| usize::try_from(length).ok())
        .filter(|length| *length > 44 && *length < flash.len());
    match length {
        Some(length) => Ok(flash.split_at(length)),
        None => bail!("it does not begin with a firmware volume"),
    }
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
        assert!(split(&flash).is_err());
        flash[40..44].copy_from_slice(b"_FVH");
        for length in [0_u64, 44, 4096, u64::MAX] {
            flash[32..40].copy_from_slice(&length.to_le_bytes());
            assert!(split(&flash).is_err(), "{length}");
        }
        assert!(split(b"short").is_err());
    }
}
