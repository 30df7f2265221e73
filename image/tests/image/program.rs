//! Programs of packages with their libraries.

use noonmark_image::deb::Deb;
use noonmark_image::program::with_libraries;

use crate::support::deb;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;

const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
const DT_SONAME: u64 = 14;

/// An ELF object of headers and a dynamic section alone, loaded at the addresses of its offsets.
fn object(interpreter: &str, soname: &str, needed: &[&str]) -> Vec<u8> {
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

/// The daemon's package, its library's package, and that of libc, as bytes.
fn packages() -> [Vec<u8>; 3] {
    let linker = "/lib64/ld-linux-x86-64.so.2";
    let daemon = object(linker, "", &["libcap.so.2", "libc.so.6"]);
    let cap = object("", "libcap.so.2", &["libc.so.6"]);
    let psx = object("", "libpsx.so.2", &["libc.so.6"]);
    let libc = object("", "libc.so.6", &["ld-linux-x86-64.so.2"]);
    let ld = object("", "ld-linux-x86-64.so.2", &[]);
    let folder = "./usr/lib/x86_64-linux-gnu";
    [
        deb("chrony", &[("./usr/sbin/chronyd", &daemon)]),
        deb(
            "libcap2",
            &[
                (&format!("{folder}/libcap.so.2.66"), &cap),
                (&format!("{folder}/libpsx.so.2.66"), &psx),
                (&format!("{folder}/deeper/libc.so.6"), b"no library"),
            ],
        ),
        deb(
            "libc6",
            &[
                (&format!("{folder}/libc.so.6"), &libc),
                (&format!("{folder}/ld-linux-x86-64.so.2"), &ld),
                (&format!("{folder}/libc.so"), b"a linker script"),
            ],
        ),
    ]
}

fn open(packages: &[Vec<u8>]) -> Vec<Deb<'_>> {
    packages
        .iter()
        .map(|bytes| Deb::open("a.deb", bytes).expect("a package"))
        .collect()
}

#[test]
fn a_program_brings_its_linker_and_the_libraries_it_needs_under_their_own_names() {
    let packages = packages();
    let files = with_libraries(&open(&packages), "usr/sbin/chronyd").expect("a whole program");
    let paths: Vec<&str> = files.iter().map(|file| &*file.spec.path).collect();
    assert_eq!(
        paths,
        [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib/x86_64-linux-gnu/libcap.so.2",
            "/lib64/ld-linux-x86-64.so.2",
            "/usr/sbin/chronyd",
        ]
    );
    assert!(files.iter().all(|file| file.spec.mode == 0o755));
}

#[test]
fn a_library_that_no_package_has_is_named_with_who_needs_it() {
    let packages = packages();
    let error = with_libraries(&open(&packages[..2]), "usr/sbin/chronyd")
        .expect_err("no libc")
        .to_string();
    assert_eq!(
        error,
        "usr/sbin/chronyd needs /lib64/ld-linux-x86-64.so.2, which none of the packages chrony, \
         libcap2 has"
    );
}

#[test]
fn a_program_that_no_package_has_is_named() {
    let packages = packages();
    let error = with_libraries(&open(&packages[1..]), "usr/sbin/chronyd")
        .expect_err("no chrony")
        .to_string();
    assert_eq!(
        error,
        "none of the packages libcap2, libc6 has the file usr/sbin/chronyd"
    );
}
