//! Which services an image can't have because nothing could start them.

use noonmark_image::build::{self, BuildError};
use noonmark_image::cpio::{Entry, Tree};
use noonmark_image::inputs::Inputs;

use crate::elf::{DT_RPATH, DT_RUNPATH, for_machine, object};
use crate::support::{kernel, program, spec, with_inputs};

const LINKER: &str = "/lib64/ld-linux-x86-64.so.2";
const ARM64: u16 = 183;

/// A dynamic program with a library in the linker's own folder, a script, and what runs it.
fn root() -> Tree {
    let executable = |bytes| Entry::file(bytes, 0o755);
    let library = |name, needed: &[&str]| Entry::file(object("", name, needed, &[]), 0o644);
    Tree::from([
        (
            "bin/daemon".into(),
            executable(object(LINKER, "", &["liba.so.1"], &[])),
        ),
        ("bin/env".into(), executable(program(b"env"))),
        ("bin/sh".into(), executable(program(b"sh"))),
        (
            "bin/script".into(),
            executable(b"#!/usr/bin/env -S sh -e\n".to_vec()),
        ),
        ("lib64".into(), Entry::symlink("usr/lib64")),
        ("usr/bin".into(), Entry::symlink("/bin")),
        (
            "usr/lib64/ld-linux-x86-64.so.2".into(),
            executable(object("", "ld-linux-x86-64.so.2", &[], &[])),
        ),
        (
            "lib/x86_64-linux-gnu/liba.so.1".into(),
            Entry::symlink("../liba.so.1.2"),
        ),
        (
            "lib/liba.so.1.2".into(),
            library("liba.so.1", &["libc.so.6"]),
        ),
        (
            "usr/lib/libc.so.6".into(),
            library("libc.so.6", &["ld-linux-x86-64.so.2"]),
        ),
    ])
}

/// What a build says of an image with this tree and a service of these keys; nothing where it is one.
fn said(tree: &Tree, service: &str) -> Option<String> {
    let spec = spec(&format!("[[service]]\nname = \"web\"\n{service}\n"));
    with_inputs(
        &spec,
        &kernel(),
        &program(b"init"),
        |inputs| match build::build(&Inputs {
            content: tree,
            ..inputs
        }) {
            Ok(_) => None,
            Err(BuildError::Service(error)) => Some(error.to_string()),
            Err(other) => panic!("{other}"),
        },
    )
}

/// The tree with one more or another entry.
fn with(path: &str, entry: Entry) -> Tree {
    let mut tree = root();
    tree.insert(path.into(), entry);
    tree
}

fn without(path: &str) -> Tree {
    let mut tree = root();
    tree.remove(path).expect("an entry");
    tree
}

#[test]
fn programs_and_scripts_that_have_all_they_need_can_be_services() {
    let tree = root();
    for path in [
        "/bin/daemon",
        "/usr/bin/daemon",
        "/bin/script",
        "/bin/sh",
        "/bin/../bin/sh",
    ] {
        assert_eq!(said(&tree, &format!("exec = [\"{path}\"]")), None, "{path}");
    }
    // What is there only when the image runs can't be judged.
    let disk = "exec = [\"/data/x\"]\n[[mount]]\nlabel = \"d\"\npath = \"/data\"\ntype = \"ext4\"\nexec = true";
    assert_eq!(said(&tree, disk), None);
    assert_eq!(said(&tree, "exec = [\"/tmp/made-by-another\"]"), None);
}

#[test]
fn what_could_not_be_started_is_told_with_service_file_and_way_out() {
    let daemon = "exec = [\"/bin/daemon\"]";
    let script = "exec = [\"/bin/script\"]";
    let file = |bytes: &[u8], mode| Entry::file(bytes.to_vec(), mode);
    let arm = for_machine(object(LINKER, "", &[], &[]), ARM64);
    let arm_library = for_machine(object("", "libc.so.6", &[], &[]), ARM64);
    let cases = [
        (
            root(),
            "exec = [\"/sbin/daemon\"]",
            "/sbin/daemon is not in the image, but /bin/daemon is; put it there with [[file]]",
        ),
        (root(), "exec = [\"/lib\"]", "/lib is not in the image"),
        (
            with("bin/daemon", Entry::directory(0o755)),
            daemon,
            "/bin/daemon is no file",
        ),
        (
            with("bin/daemon", file(&program(b""), 0o644)),
            daemon,
            "its user 65534 may not execute /bin/daemon (mode 0o644, of user 0 and group 0); give it `mode = 0o755`",
        ),
        (
            with("bin/daemon", file(&program(b""), 0o644)),
            "user = 0\nexec = [\"/bin/daemon\"]",
            "its user 0 may not execute",
        ),
        (
            with(
                "bin/daemon",
                Entry {
                    uid: 7,
                    ..file(&program(b""), 0o077)
                },
            ),
            "user = 7\nexec = [\"/bin/daemon\"]",
            "its user 7 may not execute",
        ),
        (
            with("bin", Entry::directory(0o700)),
            daemon,
            "below /bin, into which its user 65534 may not go",
        ),
        (
            with("bin/daemon", file(b"text", 0o755)),
            daemon,
            "neither an ELF program nor a script",
        ),
        (
            with("bin/daemon", file(b"\x7fELF", 0o755)),
            daemon,
            "/bin/daemon is no whole ELF file",
        ),
        (
            with("bin/daemon", file(&arm, 0o755)),
            daemon,
            "/bin/daemon is for arm64, and the guest is x86-64",
        ),
        (
            without("usr/lib64/ld-linux-x86-64.so.2"),
            daemon,
            "/bin/daemon needs the dynamic linker /lib64/ld-linux-x86-64.so.2, and the image has none for it; [[program]]",
        ),
        (
            without("lib/liba.so.1.2"),
            daemon,
            "/bin/daemon needs the library liba.so.1, which is looked for in /lib/x86_64-linux-gnu, /usr/lib/x86_64-linux-gnu, /lib, /usr/lib, and",
        ),
        (
            without("usr/lib/libc.so.6"),
            daemon,
            "/lib/x86_64-linux-gnu/liba.so.1 needs the library libc.so.6",
        ),
        (
            with("usr/lib/libc.so.6", file(&arm_library, 0o644)),
            daemon,
            "needs the library libc.so.6",
        ),
        (
            with(
                "usr/lib/libc.so.6",
                file(&object("", "libc.so.6", &[], &[]), 0o600),
            ),
            daemon,
            "its user 65534 may not read /usr/lib/libc.so.6",
        ),
        (
            without("bin/sh"),
            script,
            "/bin/script is run by /usr/bin/env: there is no sh in /bin:",
        ),
        (
            without("bin/env"),
            script,
            "/bin/script is run by /usr/bin/env: /usr/bin/env is not in the image",
        ),
        (
            with("bin/script", file(b"#!/bin/script\n", 0o755)),
            script,
            "too many scripts",
        ),
        (
            with("bin/script", file(b"#!/bin/sh\r\n", 0o755)),
            script,
            "carriage return",
        ),
        (
            with("bin/script", file(b"#!\n", 0o755)),
            script,
            "names no program",
        ),
        (
            with("bin/script", file(b"#!/bin/sh\n", 0o711)),
            script,
            "may not read /bin/script",
        ),
        (
            root(),
            "exec = [\"/run/x\"]",
            "is on /run, from which PID 1 lets nothing be executed",
        ),
        (
            root(),
            "exec = [\"/data/x\"]\n[[mount]]\nlabel = \"d\"\npath = \"/data\"\ntype = \"ext4\"",
            "give that [[mount]] `exec = true`",
        ),
    ];
    for (tree, service, expected) in cases {
        let said = said(&tree, service).unwrap_or_else(|| panic!("an image with {service}"));
        assert!(
            said.starts_with("the service `web` of the image could not be started: "),
            "{said}"
        );
        assert!(said.contains(expected), "{said:?} has no {expected:?}");
    }
}

#[test]
fn libraries_are_looked_for_where_the_dynamic_linker_does() {
    let exec = "exec = [\"/opt/app/bin/x\"]";
    let app = |needed: &[&str], paths: &[(u64, &str)]| {
        let mut tree = root();
        let bytes = object(LINKER, "", needed, paths);
        tree.insert("opt/app/bin/x".into(), Entry::file(bytes, 0o755));
        let library = |name, needed: &[&str], paths: &[(u64, &str)]| {
            Entry::file(object("", name, needed, paths), 0o644)
        };
        tree.insert(
            "opt/app/lib/libone.so".into(),
            library("libone.so", &["libtwo.so"], &[]),
        );
        tree.insert(
            "opt/app/lib/libtwo.so".into(),
            library("libtwo.so", &[], &[]),
        );
        let own = [(DT_RUNPATH, "/opt/app/lib")];
        tree.insert(
            "opt/own/libthree.so".into(),
            library("libthree.so", &["libtwo.so"], &own),
        );
        tree
    };
    // What a program's DT_RPATH says holds for its libraries too, what DT_RUNPATH says does not.
    let rpath = app(&["libone.so"], &[(DT_RPATH, "$ORIGIN/../lib")]);
    assert_eq!(said(&rpath, exec), None);
    let runpath = app(&["libone.so"], &[(DT_RUNPATH, "/none:${ORIGIN}/../lib")]);
    let error = said(&runpath, exec).expect("an error");
    assert!(
        error.contains("/opt/app/lib/libone.so needs the library libtwo.so"),
        "{error}"
    );
    let own = app(&["libthree.so"], &[(DT_RUNPATH, "/opt/own")]);
    assert_eq!(said(&own, exec), None);
    // Once it is loaded, a library is there for all.
    let first = app(&["libtwo.so", "libone.so"], &[(DT_RUNPATH, "/opt/app/lib")]);
    assert_eq!(said(&first, exec), None);
    let path = app(&["/opt/app/lib/libtwo.so"], &[]);
    assert_eq!(said(&path, exec), None);
    let none = app(&["libone.so"], &[]);
    assert!(said(&none, exec).is_some());
    let env = format!("{exec}\nenv = {{ LD_LIBRARY_PATH = \"/opt/app/lib\" }}");
    assert_eq!(said(&none, &env), None);
    let mut cached = none;
    cached.insert("etc/ld.so.cache".into(), Entry::file(vec![1], 0o644));
    assert_eq!(said(&cached, exec), None);
}

#[test]
fn a_linker_of_others_has_folders_of_its_own() {
    let musl = "/lib/ld-musl-x86_64.so.1";
    let mut tree = root();
    let daemon = object(musl, "", &["libc.musl-x86_64.so.1", "libx.so"], &[]);
    tree.insert("bin/daemon".into(), Entry::file(daemon, 0o755));
    tree.insert(
        "lib/ld-musl-x86_64.so.1".into(),
        Entry::file(object("", "", &[], &[]), 0o755),
    );
    let library = Entry::file(object("", "libx.so", &[], &[]), 0o644);
    let exec = "exec = [\"/bin/daemon\"]";
    assert!(said(&tree, exec).is_some_and(|said| said.contains("libx.so")));
    tree.insert("usr/local/lib/libx.so".into(), library.clone());
    assert_eq!(said(&tree, exec), None);
    // glibc's carries its list.
    let mut fedora = object("", "ld-linux-x86-64.so.2", &[], &[]);
    fedora.extend_from_slice(b"\0/lib64/\0/usr/lib64/\0");
    let mut tree = with("usr/lib64/ld-linux-x86-64.so.2", Entry::file(fedora, 0o755));
    let said_before = said(&tree, exec).expect("an error");
    assert!(
        said_before.contains("looked for in /lib64, /usr/lib64, and"),
        "{said_before}"
    );
    for name in ["liba.so.1", "libc.so.6"] {
        let library = Entry::file(object("", name, &[], &[]), 0o644);
        tree.insert(format!("usr/lib64/{name}"), library);
    }
    assert_eq!(said(&tree, exec), None);
}
