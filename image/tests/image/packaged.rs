//! What `[[package]]` and `[[program]]` put into an image.

use std::path::Path;

use noonmark_image::artifact::{INITRD, MANIFEST, SBOM};
use noonmark_image::build;
use noonmark_image::content::{self, Content, Fetched, PackageFile};
use noonmark_image::cpio::{self, Entry, Kind, Tree};
use noonmark_image::inputs::Inputs;
use noonmark_image::spec::{Spec, WantedPackage};
use noonmark_image::{compress, manifest};
use tar::EntryType;

use crate::elf::object;
use crate::support::{append, deb_of, deb_with_links, kernel, program, spec, with_inputs};

const LINKER: &str = "/lib64/ld-linux-x86-64.so.2";

/// A package with a daemon that needs a library of libc's, as Debian 12 has it: libc is in /lib.
fn unmerged() -> Vec<Vec<u8>> {
    let daemon = object(LINKER, "", &["libc.so.6"], &[]);
    let libc = object("", "libc.so.6", &["ld-linux-x86-64.so.2"], &[]);
    let linker = object("", "ld-linux-x86-64.so.2", &[], &[]);
    vec![
        deb_with_links(
            "daemon",
            &[
                ("./usr/sbin/daemon", &daemon),
                ("./usr/share/doc/daemon/copyright", b"free"),
                ("./run/daemon/x", b"hidden"),
            ],
            &[("./etc/daemon", "/usr/share/daemon")],
        ),
        deb_with_links(
            "libc6",
            &[
                ("./lib/x86_64-linux-gnu/libc.so.6", &libc),
                ("./lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", &linker),
                ("./usr/share/doc/libc6/copyright", b"free"),
            ],
            &[(
                &LINKER.replacen('/', "./", 1),
                "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
            )],
        ),
    ]
}

/// The same as Debian 13 has it: libc is in /usr/lib, and a package of its own has the links.
fn merged() -> Vec<Vec<u8>> {
    let mut packages = unmerged();
    let libc = object("", "libc.so.6", &["ld-linux-x86-64.so.2"], &[]);
    let linker = object("", "ld-linux-x86-64.so.2", &[], &[]);
    packages[1] = deb_with_links(
        "libc6",
        &[
            ("./usr/lib/x86_64-linux-gnu/libc.so.6", &libc),
            ("./usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", &linker),
            ("./usr/share/doc/libc6/copyright", b"free"),
        ],
        &[(
            "./usr/lib64/ld-linux-x86-64.so.2",
            "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
        )],
    );
    let links = [
        ("./lib", "usr/lib"),
        ("./lib64", "usr/lib64"),
        ("./bin", "usr/bin"),
        ("./var/run", "/run"),
    ];
    packages.push(deb_with_links("base-files", &[], &links));
    packages
}

fn fetched(name: &str, packages: &[Vec<u8>]) -> Fetched {
    let wanted = WantedPackage {
        name: name.into(),
        suite: None,
    };
    let files = packages.iter().map(|bytes| PackageFile {
        file: "a.deb".into(),
        bytes: bytes.clone(),
    });
    Fetched::from([(wanted, files.collect())])
}

fn load(text: &str, packages: &[Vec<u8>]) -> Result<Content, String> {
    let fetched = fetched("daemon", packages);
    content::load(&spec(text), Path::new("/none"), &fetched).map_err(|error| error.to_string())
}

fn paths(tree: &Tree) -> Vec<&str> {
    let paths = tree
        .iter()
        .filter(|(_, entry)| entry.kind != Kind::Directory);
    paths.map(|(path, _)| path.as_str()).collect()
}

const PACKAGE: &str = "[[package]]\nname = \"daemon\"\n";
const SERVICE: &str = "[[service]]\nname = \"d\"\nexec = [\"/sbin/daemon\"]\n";

fn build(spec: &Spec, content: &Content) -> build::Outputs {
    with_inputs(spec, &kernel(), &program(b"init"), |inputs| {
        build::build(&Inputs {
            content: &content.tree,
            packages: &content.packages,
            ..inputs
        })
        .expect("an image")
    })
}

#[test]
fn packages_make_a_root_in_which_their_programs_start_whichever_release_they_are_of() {
    for packages in [unmerged(), merged()] {
        let content = load(PACKAGE, &packages).expect("content");
        let all = paths(&content.tree);
        let expected = [
            "etc/daemon",
            "lib",
            "lib64",
            "sbin",
            "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
            "usr/lib/x86_64-linux-gnu/libc.so.6",
            "usr/lib64/ld-linux-x86-64.so.2",
            "usr/sbin/daemon",
            "usr/share/doc/daemon/copyright",
            "usr/share/doc/libc6/copyright",
        ];
        let without_run: Vec<&str> = all.into_iter().filter(|path| *path != "var/run").collect();
        assert_eq!(without_run, expected);
        // The build itself looks whether the service can be started.
        let outputs = build(&spec(&format!("{PACKAGE}{SERVICE}")), &content);
        let initrd = outputs.artifact(INITRD).expect("an initrd");
        let archive = compress::decompress(initrd, 1 << 30).expect("an archive");
        let tree = cpio::read(&archive).expect("a tree");
        assert_eq!(tree["lib"], Entry::symlink("usr/lib"));
        assert!(tree.contains_key("usr/lib/modules/6.1.0-9-test/ptp_kvm.ko"));
    }
}

#[test]
fn packages_are_named_with_their_hashes_and_the_scripts_that_were_not_run() {
    let packages = unmerged();
    let content = load(PACKAGE, &packages).expect("content");
    let names: Vec<&str> = content.packages.iter().map(|id| &*id.package).collect();
    assert_eq!(names, ["daemon", "libc6"]);
    let scripts = |name: &str| (name.to_owned(), vec!["postinst"]);
    assert_eq!(content.scripts, [scripts("daemon"), scripts("libc6")]);
    let outputs = build(&spec(PACKAGE), &content);
    let text =
        |name| String::from_utf8(outputs.artifact(name).expect("it").to_vec()).expect("text");
    let manifest = manifest::Manifest::parse(&text(MANIFEST)).expect("a manifest");
    let listed = manifest
        .inputs
        .iter()
        .find(|input| input.name == "libc6:amd64");
    assert_eq!(
        listed.and_then(|input| input.sha256),
        Some(content.packages[1].sha256)
    );
    assert!(
        manifest
            .inputs
            .iter()
            .any(|input| input.name == "/usr/sbin/daemon")
    );
    assert!(text(SBOM).contains("pkg:deb/debian/libc6@6.1-1?arch=amd64"));
}

#[test]
fn patterns_take_of_a_package_what_they_say_and_packages_without_a_file_are_not_named() {
    let packages = merged();
    let taken = |keys: &str| load(&format!("{PACKAGE}{keys}"), &packages).expect("content");
    let without = taken("exclude = [\"usr/share/doc\", \"**/ld-*\"]\n");
    assert_eq!(
        paths(&without.tree),
        [
            "etc/daemon",
            "lib",
            "sbin",
            "usr/lib/x86_64-linux-gnu/libc.so.6",
            "usr/sbin/daemon",
            "var/run"
        ]
    );
    let only = taken("include = [\"usr/sbin/d*\"]\n");
    assert_eq!(paths(&only.tree), ["sbin", "usr/sbin/daemon"]);
    assert_eq!(only.packages.len(), 1);
    assert_eq!(only.scripts.len(), 1);
}

#[test]
fn a_file_of_the_image_takes_precedence_over_a_package_s_wherever_links_lead() {
    let text = format!("{PACKAGE}[[file]]\npath = \"/sbin/daemon\"\nsource = \"x\"\n");
    let content = load(&text, &unmerged()).expect("content");
    assert!(
        !content.tree.contains_key("usr/sbin/daemon"),
        "the [[file]] gives it"
    );
}

#[test]
fn a_program_of_a_package_comes_with_its_libraries_and_nothing_else() {
    let text = "[[program]]\npath = \"/usr/sbin/daemon\"\npackage = \"daemon\"\n";
    let content = load(text, &merged()).expect("content");
    assert_eq!(
        paths(&content.tree),
        [
            "lib/x86_64-linux-gnu/libc.so.6",
            "lib64/ld-linux-x86-64.so.2",
            "usr/sbin/daemon"
        ]
    );
    assert!(content.scripts.is_empty());
    let service = "[[service]]\nname = \"d\"\nexec = [\"/usr/sbin/daemon\"]\n";
    build(&spec(&format!("{text}{service}")), &content);
    // The same libraries by another way are the same.
    let both = load(&format!("{PACKAGE}{text}"), &merged()).expect("content");
    assert_eq!(both.tree, load(PACKAGE, &merged()).expect("content").tree);
}

/// A package whose archive has one odd entry.
fn odd(path: &str, kind: EntryType, target: &str) -> Vec<u8> {
    let mut data = tar::Builder::new(Vec::new());
    append(&mut data, "./usr/bin/x", EntryType::Regular, "", b"x");
    append(&mut data, "./etc/l", EntryType::Symlink, "../..", &[]);
    append(&mut data, path, kind, target, &[]);
    deb_of("daemon", &data.into_inner().expect("in memory"))
}

#[test]
fn packages_that_no_image_can_have_are_refused_with_package_and_file() {
    let mut twice = unmerged();
    twice.push(deb_with_links(
        "other",
        &[("./usr/sbin/daemon", b"another")],
        &[],
    ));
    let cut = unmerged()[0][..300].to_vec();
    let cases = [
        (
            vec![odd("./a/../../b", EntryType::Regular, "")],
            "a.deb: data.tar: its entry `./a/../../b` has a name that is outside",
        ),
        (
            vec![odd("./dev2/null", EntryType::Char, "")],
            "its entry `dev2/null` is a character device",
        ),
        (
            vec![odd("./p", EntryType::Fifo, "")],
            "its entry `p` is a named pipe",
        ),
        (
            vec![odd("./h", EntryType::Link, "./usr/bin/y")],
            "its entry `h` is a hard link to `./usr/bin/y`",
        ),
        (
            vec![odd("./h", EntryType::Link, "../../etc/passwd")],
            "its entry `h` is a hard link to",
        ),
        (
            vec![odd("./usr/bin/x/y", EntryType::Regular, "")],
            "`usr/bin/x/y` lies below `usr/bin/x`, which is no folder",
        ),
        (
            vec![odd("./init", EntryType::Regular, "")],
            "[[package]] `daemon` of the image: its /init can't be there: noonmark's own file",
        ),
        (
            twice,
            "the packages daemon and other both have the file /usr/sbin/daemon",
        ),
        (vec![cut], "a.deb: not a Debian package"),
    ];
    for (packages, expected) in cases {
        let error = load(PACKAGE, &packages).expect_err("no content");
        assert!(error.starts_with("[[package]]"), "{error}");
        assert!(error.contains(expected), "{error:?} has no {expected:?}");
    }
    let unused =
        load(&format!("{PACKAGE}include = [\"opt\"]\n"), &unmerged()).expect_err("no content");
    assert!(
        unused.contains("[[package]] `daemon` of the image")
            && unused.contains("`opt` of `include`"),
        "{unused}"
    );
    let none = "[[program]]\npath = \"/usr/bin/none\"\npackage = \"daemon\"\n";
    let none = load(none, &unmerged()).expect_err("no content");
    assert!(
        none.contains("neither the package daemon nor what it depends on"),
        "{none}"
    );
    let alone = "[[program]]\npath = \"/usr/sbin/daemon\"\npackage = \"daemon\"\n";
    let alone = load(alone, &unmerged()[..1]).expect_err("no content");
    assert!(
        alone.contains("/usr/sbin/daemon needs the dynamic linker /lib64/ld-linux-x86-64.so.2"),
        "{alone}"
    );
}

#[test]
fn a_package_s_links_of_either_kind_stay_in_the_image() {
    let whole = load(
        PACKAGE,
        &[odd("./usr/bin/h", EntryType::Link, "./usr/bin/x")],
    )
    .expect("content");
    assert_eq!(whole.tree["usr/bin/h"], whole.tree["usr/bin/x"]);
    assert_eq!(whole.tree["etc/l"], Entry::symlink("../.."));
    let below = load(PACKAGE, &[odd("./etc/l/etc/f", EntryType::Regular, "")]).expect("content");
    assert!(below.tree.contains_key("etc/f"), "{:?}", below.tree.keys());
}

#[test]
fn keys_of_packages_and_programs_that_say_nothing_useful_are_told_with_their_place() {
    let cases = [
        (
            "[[package]]\nname = \"A\"\n",
            "2:8: `package.name`: `A`: expected a name",
        ),
        (
            "[[package]]\nname = \"a\"\n[[package]]\nname = \"a\"\n",
            "4:8: `package.name`: `a` is there twice",
        ),
        (
            "[[package]]\nname = \"a\"\nexclude = [\"/usr\"]\n",
            "3:12: `package.exclude`",
        ),
        (
            "[[program]]\npath = \"/a\"\n",
            "expected either `source`, a file of this machine, or `package`",
        ),
        (
            "[[program]]\npath = \"/a\"\nsource = \"a\"\npackage = \"a\"\n",
            "expected either `source`",
        ),
        (
            "[[program]]\npath = \"/a\"\nsource = \"a\"\nsuite = \"sid\"\n",
            "4:9: `program.suite`",
        ),
        (
            "[[program]]\npath = \"/a\"\npackage = \"a\"\nroot = \"/\"\n",
            "4:8: `program.root`",
        ),
        (
            "[[program]]\npath = \"/init\"\nsource = \"a\"\n",
            "2:8: `program.path`",
        ),
    ];
    for (text, expected) in cases {
        let error = Spec::parse(text, Path::new("guest.toml")).expect_err("a wrong spec");
        assert!(error.to_string().contains(expected), "{error} for {text:?}");
    }
}
