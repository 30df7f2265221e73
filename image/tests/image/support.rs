//! Small stand-ins for what a build is made of: real formats, with next to nothing in them.

use std::io::Write;
use std::path::Path;

use noonmark_image::build::{self, Outputs};
use noonmark_image::compress::{self, Compression};
use noonmark_image::cpio::Tree;
use noonmark_image::inputs::{Inputs, Provenance};
use noonmark_image::kernel::Kernel;
use noonmark_image::modules::{Module, Resolution};
use noonmark_image::spec::Spec;
use noonmark_image::uki::Stub;

/// The release of the kernels made here.
pub const RELEASE: &str = "6.1.0-9-test";

/// The spec that says nothing.
pub fn empty_spec() -> Spec {
    spec("")
}

/// A spec that parses.
pub fn spec(text: &str) -> Spec {
    Spec::parse(text, Path::new("guest.toml")).expect("a spec that parses")
}

/// A kernel module: an ELF object with a `.modinfo`.
pub fn module(name: &str, fields: &[&str]) -> Vec<u8> {
    let mut info = Vec::new();
    for field in fields {
        info.extend_from_slice(field.as_bytes());
        info.push(0);
    }
    info.extend_from_slice(format!("name={name}\0").as_bytes());
    elf(ET_REL, &[], &[(".modinfo", &info)])
}

/// A kernel module for [`RELEASE`] that needs these.
pub fn module_needing(name: &str, depends: &str) -> Vec<u8> {
    let vermagic = format!("vermagic={RELEASE} SMP preempt mod_unload modversions ");
    module(name, &[&format!("depends={depends}"), &vermagic])
}

/// A static program.
pub fn program(content: &[u8]) -> Vec<u8> {
    elf(ET_EXEC, &[PT_LOAD], &[(".text", content)])
}

/// A program that needs a dynamic linker.
pub fn dynamic_program() -> Vec<u8> {
    elf(ET_EXEC, &[PT_LOAD, PT_INTERP], &[(".text", b"code")])
}

const ET_REL: u16 = 1;
const ET_EXEC: u16 = 2;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;

/// An ELF file for x86-64 with program headers of these types and these sections.
fn elf(file_type: u16, segments: &[u32], sections: &[(&str, &[u8])]) -> Vec<u8> {
    const HEADER_LEN: usize = 64;
    const SEGMENT_LEN: usize = 56;
    const SECTION_LEN: usize = 64;
    let mut names = vec![0];
    let mut bodies = Vec::new();
    let mut headers = vec![[0; SECTION_LEN]];
    let body_start = HEADER_LEN + SEGMENT_LEN * segments.len();
    let with_names = sections
        .iter()
        .copied()
        .chain([(".shstrtab", [].as_slice())]);
    for (name, content) in with_names {
        let mut header = [0; SECTION_LEN];
        header[0..4].copy_from_slice(&(names.len() as u32).to_le_bytes());
        names.extend_from_slice(name.as_bytes());
        names.push(0);
        let content = if name == ".shstrtab" {
            names.as_slice()
        } else {
            content
        };
        let kind: u32 = if name == ".shstrtab" { 3 } else { 1 };
        header[4..8].copy_from_slice(&kind.to_le_bytes());
        let start = body_start + bodies.len();
        header[24..32].copy_from_slice(&(start as u64).to_le_bytes());
        header[32..40].copy_from_slice(&(content.len() as u64).to_le_bytes());
        bodies.extend_from_slice(content);
        headers.push(header);
    }
    let mut file = vec![0; HEADER_LEN];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let mut half = |at: usize, value: u16| file[at..at + 2].copy_from_slice(&value.to_le_bytes());
    half(16, file_type);
    half(18, 62);
    half(20, 1);
    half(52, HEADER_LEN as u16);
    half(54, SEGMENT_LEN as u16);
    half(56, segments.len() as u16);
    half(58, SECTION_LEN as u16);
    half(60, headers.len() as u16);
    half(62, headers.len() as u16 - 1);
    let section_headers = (body_start + bodies.len()) as u64;
    file[40..48].copy_from_slice(&section_headers.to_le_bytes());
    if !segments.is_empty() {
        file[32..40].copy_from_slice(&(HEADER_LEN as u64).to_le_bytes());
    }
    for kind in segments {
        let mut segment = [0; SEGMENT_LEN];
        segment[..4].copy_from_slice(&kind.to_le_bytes());
        file.extend_from_slice(&segment);
    }
    file.extend_from_slice(&bodies);
    for header in headers {
        file.extend_from_slice(&header);
    }
    file
}

/// A bzImage of [`RELEASE`] that firmware can start.
pub fn bzimage() -> Vec<u8> {
    let mut image = bzimage_without_efi_stub();
    image[..2].copy_from_slice(b"MZ");
    image[0x3c] = 0x80;
    image[0x80..0x84].copy_from_slice(b"PE\0\0");
    image[0x84..0x86].copy_from_slice(&0x8664_u16.to_le_bytes());
    image
}

/// A bzImage that only a boot loader can start.
pub fn bzimage_without_efi_stub() -> Vec<u8> {
    let mut image = vec![0; 0x1000];
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
    image[0x20e..0x210].copy_from_slice(&0x300_u16.to_le_bytes());
    image[0x236] = 1;
    let version = format!("{RELEASE} (builder@test) #1 SMP\0");
    image[0x500..0x500 + version.len()].copy_from_slice(version.as_bytes());
    image
}

/// A kernel with two modules.
pub fn kernel() -> Kernel {
    let module = |name: &str| Module {
        name: name.into(),
        file: format!("{name}.ko"),
        bytes: module_needing(name, ""),
    };
    Kernel {
        release: RELEASE.into(),
        image: bzimage(),
        modules: vec![module("ptp_kvm"), module("virtio_console")],
        resolution: Resolution {
            load: vec!["ptp_kvm".into(), "virtio_console".into()],
            builtin: vec!["virtio_pci".into()],
            absent: vec!["ptp_vmclock".into()],
        },
        packages: Vec::new(),
    }
}

/// An EFI stub as systemd's: a PE program with a section `.sdmagic`, and room for `spare` more
/// section headers.
pub fn stub_with_room(spare: usize) -> Vec<u8> {
    const PE: usize = 0x80;
    const OPTIONAL_LEN: usize = 240;
    const ALIGNMENT: usize = 0x200;
    let sections = [".text", ".sbat", ".sdmagic"];
    let table = PE + 24 + OPTIONAL_LEN;
    let headers_end = table + 40 * (sections.len() + spare);
    let body_start = headers_end.next_multiple_of(ALIGNMENT);
    let mut file = vec![0; body_start + sections.len() * ALIGNMENT];
    let mut set = |at: usize, value: &[u8]| file[at..at + value.len()].copy_from_slice(value);
    set(0, b"MZ");
    set(0x3c, &(PE as u32).to_le_bytes());
    set(PE, b"PE\0\0");
    set(PE + 4, &0x8664_u16.to_le_bytes());
    set(PE + 6, &(sections.len() as u16).to_le_bytes());
    set(PE + 20, &(OPTIONAL_LEN as u16).to_le_bytes());
    set(PE + 22, &0x22e_u16.to_le_bytes());
    let optional = PE + 24;
    set(optional, &0x20b_u16.to_le_bytes());
    set(optional + 32, &0x1000_u32.to_le_bytes());
    set(optional + 36, &(ALIGNMENT as u32).to_le_bytes());
    set(optional + 56, &0x4000_u32.to_le_bytes());
    // Sections may follow the headers at once, so the size is not rounded up here.
    set(optional + 60, &(headers_end as u32).to_le_bytes());
    set(optional + 68, &10_u16.to_le_bytes());
    set(optional + 108, &16_u32.to_le_bytes());
    for (index, name) in sections.iter().enumerate() {
        let header = table + 40 * index;
        set(header, name.as_bytes());
        set(header + 8, &16_u32.to_le_bytes());
        set(header + 12, &(0x1000 * (index as u32 + 1)).to_le_bytes());
        set(header + 16, &(ALIGNMENT as u32).to_le_bytes());
        set(
            header + 20,
            &((body_start + index * ALIGNMENT) as u32).to_le_bytes(),
        );
    }
    file
}

/// A stub with room enough.
pub fn stub() -> Stub {
    Stub {
        bytes: stub_with_room(5),
        package: None,
    }
}

/// A Debian package of these files.
pub fn deb(package: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    deb_with_links(package, files, &[])
}

/// A Debian package of these files and symbolic links; it has a `postinst`.
pub fn deb_with_links(package: &str, files: &[(&str, &[u8])], links: &[(&str, &str)]) -> Vec<u8> {
    let mut data = tar::Builder::new(Vec::new());
    for (path, content) in files {
        append(&mut data, path, tar::EntryType::Regular, "", content);
    }
    for (path, target) in links {
        append(&mut data, path, tar::EntryType::Symlink, target, &[]);
    }
    deb_of(package, &data.into_inner().expect("in memory"))
}

/// A Debian package with this `data.tar`.
pub fn deb_of(package: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("Package: {package}\nVersion: 6.1-1\nArchitecture: amd64\n");
    let mut control = tar::Builder::new(Vec::new());
    for (path, content) in [("./control", text.as_str()), ("./postinst", "#!/bin/sh\n")] {
        let kind = tar::EntryType::Regular;
        append(&mut control, path, kind, "", content.as_bytes());
    }
    let control = control.into_inner().expect("in memory");
    let xz = |bytes: &[u8]| compress::compress(bytes, Compression::Xz).expect("xz in memory");
    let mut archive = b"!<arch>\n".to_vec();
    for (name, content) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.xz", xz(&control)),
        ("data.tar.xz", xz(data)),
    ] {
        let header = format!(
            "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
            0,
            0,
            0,
            "100644",
            content.len()
        );
        archive.write_all(header.as_bytes()).expect("in memory");
        archive.extend_from_slice(&content);
        if !content.len().is_multiple_of(2) {
            archive.push(b'\n');
        }
    }
    archive
}

/// Adds an entry, executable, whose name is taken as it is.
pub fn append(
    archive: &mut tar::Builder<Vec<u8>>,
    path: &str,
    kind: tar::EntryType,
    target: &str,
    content: &[u8],
) {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    archive.append(&header, content).expect("in memory");
}

/// Builds an image of these parts.
pub fn build(spec: &Spec, init: &[u8], fault: Option<&[u8]>) -> Outputs {
    try_build(spec, &kernel(), init, fault).expect("an image")
}

/// Builds an image, or says why not.
pub fn try_build(
    spec: &Spec,
    kernel: &Kernel,
    init: &[u8],
    fault: Option<&[u8]>,
) -> Result<Outputs, build::BuildError> {
    with_inputs(spec, kernel, init, |inputs| {
        build::build(&Inputs { fault, ..inputs })
    })
}

/// Does something with these inputs of an image, and with stand-ins for all others.
pub fn with_inputs<T>(
    spec: &Spec,
    kernel: &Kernel,
    init: &[u8],
    act: impl FnOnce(Inputs<'_>) -> T,
) -> T {
    act(Inputs {
        spec,
        kernel,
        init,
        fault: None,
        run: None,
        net: &program(b"net"),
        ntp: &program(b"ntp"),
        nts: &program(b"nts"),
        agent: &program(b"agent"),
        seed: &program(b"seed"),
        files: &[],
        content: &Tree::new(),
        packages: &[],
        stub: Some(&stub()),
        provenance: &Provenance::default(),
    })
}
