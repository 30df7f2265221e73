//! What an x86 kernel image says of itself (Documentation/arch/x86/boot.rst).

use thiserror::Error;

/// `HdrS`, at 0x202.
const MAGIC: &[u8] = b"HdrS";
/// Where the setup header's `version` is.
const VERSION: usize = 0x206;
/// Where `kernel_version` is: the offset of a text, less 0x200.
const KERNEL_VERSION: usize = 0x20e;
/// Where `xloadflags` is.
const XLOADFLAGS: usize = 0x236;
/// The first boot protocol with `xloadflags`.
const VERSION_WITH_XLOADFLAGS: u16 = 0x020c;
/// `XLF_KERNEL_64`: the kernel is for x86-64.
const XLF_KERNEL_64: u16 = 1;
/// `IMAGE_FILE_MACHINE_AMD64`, PE's number for x86-64.
const PE_MACHINE_X86_64: u16 = 0x8664;
/// How long a version text can be.
const VERSION_TEXT_LIMIT: usize = 256;

/// A kernel image that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BzImageError {
    /// It has no setup header.
    #[error(
        "it is no bzImage (no `HdrS` at 0x202); expected what the kernel build leaves as \
         arch/x86/boot/bzImage, or a distribution's vmlinuz"
    )]
    NoHeader,
    /// It is for another processor, or too old to say.
    #[error("it is no kernel for x86-64")]
    NotX86_64,
    /// It doesn't say its release.
    #[error("it does not say its release (kernel_version)")]
    NoRelease,
}

/// The setup header's facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BzImage<'a> {
    /// As `uname -r` gives it.
    pub release: &'a str,
    /// Whether firmware and a UKI can start it (`CONFIG_EFI_STUB`).
    pub has_efi_stub: bool,
}

impl<'a> BzImage<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// If it is no bzImage for x86-64.
    pub fn parse(image: &'a [u8]) -> Result<Self, BzImageError> {
        if image.get(0x202..0x206) != Some(MAGIC) {
            return Err(BzImageError::NoHeader);
        }
        let word = |at| word(image, at).ok_or(BzImageError::NoHeader);
        if word(VERSION)? < VERSION_WITH_XLOADFLAGS || word(XLOADFLAGS)? & XLF_KERNEL_64 == 0 {
            return Err(BzImageError::NotX86_64);
        }
        let text = usize::from(word(KERNEL_VERSION)?) + 0x200;
        let release = image
            .get(text..)
            .and_then(|rest| {
                rest.iter()
                    .take(VERSION_TEXT_LIMIT)
                    .position(|byte| matches!(byte, b' ' | 0))
                    .and_then(|end| str::from_utf8(&rest[..end]).ok())
            })
            .filter(|release| !release.is_empty())
            .ok_or(BzImageError::NoRelease)?;
        Ok(Self {
            release,
            has_efi_stub: has_efi_stub(image),
        })
    }
}

/// Whether the image is a PE program for x86-64 as well.
fn has_efi_stub(image: &[u8]) -> bool {
    let header = word(image, 0x3c).map(usize::from).unwrap_or_default();
    image.starts_with(b"MZ")
        && image.get(header..header + 4) == Some(b"PE\0\0")
        && word(image, header + 4) == Some(PE_MACHINE_X86_64)
}

fn word(image: &[u8], at: usize) -> Option<u16> {
    image
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_le_bytes)
}
