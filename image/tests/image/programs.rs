//! What `[[program]]` takes of this machine, and where it puts it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use noonmark_image::build;
use noonmark_image::content::{self, Content, Fetched};
use noonmark_image::cpio::{Entry, Kind};
use noonmark_image::inputs::Inputs;

use crate::elf::{DT_RUNPATH, for_machine, object};
use crate::support::{kernel, program, spec, with_inputs};

const LINKER: &str = "/lib64/ld-linux-x86-64.so.2";

/// A folder that is the root of a system: a program in /opt, and libraries beside it, in a folder of
/// `ld.so.conf` and in the linker's own.
fn sysroot() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    let put = |path: &str, bytes: &[u8]| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    };
    let library = |name: &str, needed: &[&str]| object("", name, needed, &[]);
    let own = [(DT_RUNPATH, "$ORIGIN/../lib")];
    put(
        "opt/app/bin/x",
        &object(LINKER, "", &["libown.so", "libconf.so"], &own),
    );
    put(
        "opt/app/lib/libown.so",
        &library("libown.so", &["libc.so.6"]),
    );
    put("usr/local/lib/libconf.so", &library("libconf.so", &[]));
    put("usr/lib/libc.so.6.1", &library("libc.so.6", &[]));
    put("usr/lib/ld.so", &library("ld-linux-x86-64.so.2", &[]));
    put(
        "etc/ld.so.conf",
        b"# folders\ninclude ld.so.conf.d/*.conf\n",
    );
    put("etc/ld.so.conf.d/local.conf", b"/usr/local/lib/\n");
    put("etc/ld.so.conf.d/old", b"/none\n");
    put("opt/script", b"#!/bin/sh\n");
    put("opt/arm", &for_machine(library("", &[]), 183));
    fs::create_dir(root.path().join("lib64")).expect("a folder");
    let link = |target, path| symlink(target, root.path().join(path)).expect("a link");
    link("/usr/lib", "lib");
    link("/lib/ld.so", "lib64/ld-linux-x86-64.so.2");
    link("libc.so.6.1", "usr/lib/libc.so.6");
    root
}

fn take(root: &Path, keys: &str) -> Result<Content, String> {
    let text = format!("[[program]]\npath = \"/bin/y\"\n{keys}\n");
    content::load(&spec(&text), root, &Fetched::new()).map_err(|error| error.to_string())
}

#[test]
fn a_program_of_this_machine_comes_with_what_its_linker_finds_and_starts_in_the_image() {
    let root = sysroot();
    let keys = "source = \"opt/app/bin/x\"\nroot = \".\"";
    let content = take(root.path(), keys).expect("content");
    let files = content.tree.iter();
    let files = files.filter(|(_, entry)| entry.kind != Kind::Directory);
    let paths: Vec<&str> = files.map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "bin/y",
            "lib/libc.so.6",
            // What is found from the program's own place is put as far from its new one.
            "lib/libown.so",
            // The image's linker has no cache that would tell of it.
            "lib/x86_64-linux-gnu/libconf.so",
            "lib64/ld-linux-x86-64.so.2",
            "usr/local/lib/libconf.so",
        ]
    );
    assert_eq!(
        content.tree["lib/x86_64-linux-gnu/libconf.so"],
        Entry::symlink("/usr/local/lib/libconf.so")
    );
    let service = spec("[[service]]\nname = \"y\"\nexec = [\"/bin/y\"]\n");
    with_inputs(&service, &kernel(), &program(b"init"), |inputs| {
        let content = &content.tree;
        build::build(&Inputs { content, ..inputs }).expect("an image");
    });
}

#[test]
fn a_program_that_could_not_start_is_told_with_what_it_lacks() {
    let root = sysroot();
    fs::remove_file(root.path().join("usr/local/lib/libconf.so")).expect("a file");
    let cases = [
        (
            "source = \"opt/app/bin/x\"\nroot = \".\"",
            "[[program]] `/bin/y` of the image: /bin/y needs the library libconf.so, which is looked for in /lib",
        ),
        ("source = \"opt/app/bin/none\"\nroot = \".\"", "can't read"),
        (
            "source = \"opt/script\"\nroot = \".\"",
            "a script is a [[file]]",
        ),
        ("source = \"opt/arm\"\nroot = \".\"", "is for arm64"),
        (
            "source = \"opt/app/bin/x\"\nroot = \"usr\"",
            "is not below its root",
        ),
    ];
    for (keys, expected) in cases {
        let error = take(root.path(), keys).expect_err("no content");
        assert!(error.contains(expected), "{error:?} has no {expected:?}");
    }
}
