//! Programs of packages with their libraries.

use noonmark_image::deb::Deb;
use noonmark_image::program::with_libraries;

use crate::elf::object;
use crate::support::deb_with_links;

/// The daemon's package, its library's package, and that of libc, as bytes.
fn packages() -> [Vec<u8>; 3] {
    let linker = "/lib64/ld-linux-x86-64.so.2";
    let daemon = object(linker, "", &["libcap.so.2", "libc.so.6"], &[]);
    let cap = object("", "libcap.so.2", &["libc.so.6"], &[]);
    let psx = object("", "libpsx.so.2", &["libc.so.6"], &[]);
    let libc = object("", "libc.so.6", &["ld-linux-x86-64.so.2"], &[]);
    let ld = object("", "ld-linux-x86-64.so.2", &[], &[]);
    let folder = "./usr/lib/x86_64-linux-gnu";
    [
        deb_with_links("chrony", &[("./usr/sbin/chronyd", &daemon)], &[]),
        deb_with_links(
            "libcap2",
            &[
                (&format!("{folder}/libcap.so.2.66"), &cap),
                (&format!("{folder}/libpsx.so.2.66"), &psx),
                (&format!("{folder}/deeper/libc.so.6"), b"no library"),
            ],
            &[(&format!("{folder}/libcap.so.2"), "libcap.so.2.66")],
        ),
        deb_with_links(
            "libc6",
            &[
                ("./lib/x86_64-linux-gnu/libc.so.6", &libc),
                ("./lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", &ld),
                (&format!("{folder}/libc.so"), b"a linker script"),
            ],
            &[(
                "./lib64/ld-linux-x86-64.so.2",
                "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
            )],
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
        "the packages chrony, libcap2 are not enough: /usr/sbin/chronyd needs the dynamic linker \
         /lib64/ld-linux-x86-64.so.2"
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
