//! The unified kernel image: an EFI program of a stub, kernel, initrd and command line
//! (UAPI Group specification UKI; systemd-stub(7)).
//!
//! The stub is the distribution's (`systemd-boot-efi`), pinned like the kernel: one that is kept by
//! others, boots on what they test, and is the same bytes for whoever has the same package. What
//! is written here is only what `objcopy` would do: sections appended to a PE file, its header set
//! right.

use goblin::pe::PE;
use thiserror::Error;

use crate::bzimage::BzImage;
use crate::deb::{Deb, DebError, PackageId};

/// Where `systemd-boot-efi` has the stub for x86-64.
const STUB_PATH: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// `IMAGE_FILE_MACHINE_AMD64`
const MACHINE_X86_64: u16 = 0x8664;
/// `IMAGE_NT_OPTIONAL_HDR64_MAGIC`
const MAGIC_PE32_PLUS: u16 = 0x20b;
/// `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`
const DATA_CHARACTERISTICS: u32 = 0x4000_0040;
/// The length of `IMAGE_SECTION_HEADER`.
const SECTION_HEADER_LEN: usize = 40;
/// The length of the PE signature and the COFF header after it.
const COFF_LEN: usize = 24;

/// Sections that are the image's own to fill; a stub that has one already is no bare stub.
const OWN_SECTIONS: [&str; 5] = [".osrel", ".cmdline", ".uname", ".initrd", ".linux"];

/// A unified kernel image that can't be made or read.
#[derive(Debug, Error)]
pub enum UkiError {
    /// A package is no package.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// The package has no stub.
    #[error("{package} has no {STUB_PATH}; expected the package systemd-boot-efi for amd64")]
    NoStub {
        /// The package.
        package: String,
    },
    /// It is no PE file, or a broken one.
    #[error("{what}: no whole PE program: {problem}")]
    NoPe {
        /// Which file.
        what: String,
        /// What is wrong.
        problem: String,
    },
    /// The stub is one, but can't be used.
    #[error("the EFI stub can't be used: {0}; expected linuxx64.efi.stub of systemd")]
    Stub(String),
    /// The kernel can't be started by firmware.
    #[error(
        "kernel {release} has no EFI stub (CONFIG_EFI_STUB), so that no firmware can start it; \
         take another kernel, or boot directly"
    )]
    KernelWithoutEfiStub {
        /// The kernel's release.
        release: String,
    },
    /// The whole is larger than PE can be.
    #[error("the unified kernel image is larger than the 4 GiB of a PE file")]
    TooLarge,
    /// What was written reads back as something else.
    #[error("section {0} of the unified kernel image reads back as something else than written")]
    Mismatch(String),
}

/// The program that the sections are added to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stub {
    /// The EFI program.
    pub bytes: Vec<u8>,
    /// The package that it comes from.
    pub package: Option<PackageId>,
}

impl Stub {
    /// Takes the stub out of `systemd-boot-efi`.
    ///
    /// # Errors
    /// If the package is broken, or another one.
    pub fn from_package(deb: &Deb<'_>) -> Result<Self, UkiError> {
        let mut stub = None;
        deb.files(|path| path == STUB_PATH, |_, bytes| stub = Some(bytes))?;
        Ok(Self {
            bytes: stub.ok_or_else(|| UkiError::NoStub {
                package: deb.id.package.clone(),
            })?,
            package: Some(deb.id.clone()),
        })
    }
}

/// The contents of the sections that are added to the stub.
#[derive(Clone, Copy, Debug)]
pub struct Sections<'a> {
    /// `/etc/os-release` of the image, for boot menus.
    pub os_release: &'a str,
    /// The kernel command line.
    pub cmdline: &'a str,
    /// The kernel's release.
    pub release: &'a str,
    /// The initrd, compressed or not.
    pub initrd: &'a [u8],
    /// The bzImage.
    pub kernel: &'a [u8],
}

/// Makes the image, and reads it back.
///
/// # Errors
/// If stub or kernel can't be used.
pub fn assemble(stub: &[u8], sections: &Sections<'_>) -> Result<Vec<u8>, UkiError> {
    if !BzImage::parse(sections.kernel).is_ok_and(|kernel| kernel.has_efi_stub) {
        return Err(UkiError::KernelWithoutEfiStub {
            release: sections.release.to_owned(),
        });
    }
    // The kernel is last: older stubs let it unpack in place, over what comes after it.
    let contents = [
        sections.os_release.as_bytes(),
        sections.cmdline.as_bytes(),
        sections.release.as_bytes(),
        sections.initrd,
        sections.kernel,
    ];
    let mut program = PeFile::open(stub)?;
    for (name, content) in OWN_SECTIONS.into_iter().zip(contents) {
        program.append(name, content)?;
    }
    let bytes = program.finish()?;
    let written = read_sections(&bytes, "the unified kernel image")?;
    for (name, content) in OWN_SECTIONS.into_iter().zip(contents) {
        let found = written.iter().find(|(found, _)| found == name);
        if found.map(|(_, bytes)| *bytes) != Some(content) {
            return Err(UkiError::Mismatch(name.into()));
        }
    }
    Ok(bytes)
}

/// The sections of a PE file with their contents, in the file's order; `what` names the file in
/// messages.
///
/// # Errors
/// If it is no PE file, or cut off.
pub fn read_sections<'a>(bytes: &'a [u8], what: &str) -> Result<Vec<(String, &'a [u8])>, UkiError> {
    let bad = |problem: String| UkiError::NoPe {
        what: what.into(),
        problem,
    };
    let pe = PE::parse(bytes).map_err(|e| bad(e.to_string()))?;
    pe.sections
        .iter()
        .map(|section| {
            let name = section
                .name()
                .map_err(|e| bad(format!("a section's name: {e}")))?;
            // The rest of the last file block is padding.
            let len = section.virtual_size.min(section.size_of_raw_data) as usize;
            let start = section.pointer_to_raw_data as usize;
            let content = bytes
                .get(start..start.saturating_add(len))
                .ok_or_else(|| bad(format!("section {name} lies beyond its end")))?;
            Ok((name.to_string(), content))
        })
        .collect()
}

/// A PE file that sections are being appended to.
struct PeFile {
    bytes: Vec<u8>,
    /// Where the COFF header's signature is.
    pe_header: usize,
    /// Where the next section header goes.
    next_header: usize,
    /// Section headers must end before this.
    headers_end: usize,
    file_alignment: usize,
    section_alignment: u32,
    /// The first address after the last section.
    next_address: u32,
    section_count: u16,
    initialized_data: u32,
}

impl PeFile {
    fn open(stub: &[u8]) -> Result<Self, UkiError> {
        let unusable = |problem: &str| UkiError::Stub(problem.into());
        let existing = read_sections(stub, "the EFI stub")?;
        if let Some((name, _)) = existing
            .iter()
            .find(|(name, _)| OWN_SECTIONS.contains(&name.as_str()))
        {
            return Err(unusable(&format!("it has a section {name} already")));
        }
        if !existing.iter().any(|(name, _)| name == ".sdmagic") {
            return Err(unusable("it is none of systemd's (no section .sdmagic)"));
        }
        let pe = PE::parse(stub).map_err(|e| unusable(&e.to_string()))?;
        let optional = pe
            .header
            .optional_header
            .ok_or_else(|| unusable("it has no optional header"))?;
        let coff = pe.header.coff_header;
        let windows = optional.windows_fields;
        if coff.machine != MACHINE_X86_64 || optional.standard_fields.magic != MAGIC_PE32_PLUS {
            return Err(unusable("it is not for x86-64"));
        }
        let (file_alignment, section_alignment) =
            (windows.file_alignment, windows.section_alignment);
        if !file_alignment.is_power_of_two() || !section_alignment.is_power_of_two() {
            return Err(unusable("its alignments are no powers of two"));
        }
        let signed = optional
            .data_directories
            .get_certificate_table()
            .is_some_and(|table| table.size != 0);
        if signed {
            return Err(unusable(
                "it is signed, and sections would break the signature",
            ));
        }
        let raw_end = pe.sections.iter().map(|section| {
            section.pointer_to_raw_data as usize + section.size_of_raw_data as usize
        });
        let address_end = pe
            .sections
            .iter()
            .map(|section| section.virtual_address.saturating_add(section.virtual_size));
        let pe_header = pe.header.dos_header.pe_pointer as usize;
        let first_header = pe_header + COFF_LEN + usize::from(coff.size_of_optional_header);
        let mut bytes = stub.to_vec();
        // What lies after the last section (symbols, padding) is not part of the program.
        bytes.truncate(raw_end.max().unwrap_or(0));
        Ok(Self {
            bytes,
            pe_header,
            next_header: first_header + SECTION_HEADER_LEN * usize::from(coff.number_of_sections),
            headers_end: windows.size_of_headers as usize,
            file_alignment: file_alignment as usize,
            section_alignment,
            next_address: address_end.max().unwrap_or(0),
            section_count: coff.number_of_sections,
            initialized_data: u32::try_from(optional.standard_fields.size_of_initialized_data)
                .map_err(|_| UkiError::TooLarge)?,
        })
    }

    fn append(&mut self, name: &str, content: &[u8]) -> Result<(), UkiError> {
        if self.next_header + SECTION_HEADER_LEN > self.headers_end {
            return Err(UkiError::Stub(
                "there is no room for more section headers in it".into(),
            ));
        }
        let length = u32::try_from(content.len()).map_err(|_| UkiError::TooLarge)?;
        self.pad();
        let start = u32::try_from(self.bytes.len()).map_err(|_| UkiError::TooLarge)?;
        self.bytes.extend_from_slice(content);
        self.pad();
        let end = u32::try_from(self.bytes.len()).map_err(|_| UkiError::TooLarge)?;
        let address = self
            .next_address
            .checked_next_multiple_of(self.section_alignment)
            .ok_or(UkiError::TooLarge)?;
        self.next_address = address.checked_add(length).ok_or(UkiError::TooLarge)?;
        self.initialized_data = self.initialized_data.saturating_add(end - start);
        self.section_count += 1;
        let mut header = [0; SECTION_HEADER_LEN];
        header[..name.len()].copy_from_slice(name.as_bytes());
        for (at, value) in [
            (8, length),
            (12, address),
            (16, end - start),
            (20, start),
            (36, DATA_CHARACTERISTICS),
        ] {
            header[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        self.bytes[self.next_header..][..SECTION_HEADER_LEN].copy_from_slice(&header);
        self.next_header += SECTION_HEADER_LEN;
        Ok(())
    }

    /// Up to the next multiple of the file alignment.
    fn pad(&mut self) {
        let len = self.bytes.len().next_multiple_of(self.file_alignment);
        self.bytes.resize(len, 0);
    }

    /// Sets the header's sums right.
    fn finish(mut self) -> Result<Vec<u8>, UkiError> {
        let optional = self.pe_header + COFF_LEN;
        let image_size = self
            .next_address
            .checked_next_multiple_of(self.section_alignment)
            .ok_or(UkiError::TooLarge)?;
        self.set(self.pe_header + 6, &self.section_count.to_le_bytes());
        // A symbol table would lie behind the sections, where it was cut off.
        self.set(self.pe_header + 12, &[0; 8]);
        self.set(optional + 8, &self.initialized_data.to_le_bytes());
        self.set(optional + 56, &image_size.to_le_bytes());
        // No loader of an unsigned program looks at the checksum; 0 means that there is none.
        self.set(optional + 64, &[0; 4]);
        Ok(self.bytes)
    }

    fn set(&mut self, at: usize, value: &[u8]) {
        self.bytes[at..at + value.len()].copy_from_slice(value);
    }
}
