//! `guest.lock`.

use std::path::Path;

use noonmark_image::deb::PackageId;
use noonmark_image::hash::Sha256Hex;
use noonmark_image::lock::{Lock, LockedPackage, Role};
use proptest::prelude::*;

fn package(name: &str, version: &str) -> LockedPackage {
    LockedPackage {
        role: Role::Kernel,
        requested: "linux-image-cloud-amd64".into(),
        suite: "debian bookworm".into(),
        id: PackageId {
            package: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            sha256: Sha256Hex::of(version.as_bytes()),
            size: 26_713_492,
        },
    }
}

fn parse(text: &str) -> Result<Lock, String> {
    Lock::parse(text, Path::new("guest.lock")).map_err(|e| e.to_string())
}

#[test]
fn a_lock_is_text_that_a_person_can_read() {
    let lock = Lock::new(vec![package("linux-image-6.1.0-9-cloud-amd64", "6.1.1-1")]);
    let expected = "\
# The packages that the image is made of, by release of the machine that builds it.
# `cargo xtask lock` writes this file.
version = 1

[[package]]
name = \"linux-image-6.1.0-9-cloud-amd64\"
version = \"6.1.1-1\"
architecture = \"amd64\"
sha256 = \"HASH\"
size = 26713492
role = \"kernel\"
requested = \"linux-image-cloud-amd64\"
suite = \"debian bookworm\"
";
    let hash = Sha256Hex::of(b"6.1.1-1").to_string();
    assert_eq!(lock.to_toml(), expected.replace("HASH", &hash));
}

#[test]
fn a_package_is_checked_by_version_and_hash() {
    let locked = package("linux-image-6.1", "6.1.1-1");
    let lock = Lock::new(vec![locked.clone()]);
    assert_eq!(
        lock.check(Role::Kernel, "debian bookworm", &locked.id),
        Ok(())
    );
    let message = |role, id: &PackageId| {
        lock.check(role, "debian bookworm", id)
            .expect_err("another package")
            .to_string()
    };
    let newer = package("linux-image-6.1", "6.1.2-1").id;
    assert_eq!(
        message(Role::Kernel, &newer),
        "guest.lock has linux-image-6.1 6.1.1-1, but this is 6.1.2-1; run `cargo xtask lock` to \
         take the new one"
    );
    let mut changed = locked.id.clone();
    changed.sha256 = Sha256Hex::of(b"changed on its way");
    assert!(message(Role::Kernel, &changed).contains("changed on its way, or rebuilt"));
    let unlocked = "guest.lock has no package `linux-image-6.1` of debian bookworm";
    assert!(message(Role::Stub, &locked.id).starts_with(unlocked));
}

#[test]
fn each_release_finds_its_own_packages_by_what_the_spec_asks_for() {
    let newer = |name: &str| LockedPackage {
        suite: "debian trixie".into(),
        ..package(name, "2")
    };
    let lock = Lock::new(vec![package("a", "1"), package("b", "1"), newer("a")]);
    let found = |requested, suite| -> Vec<&str> {
        let found = lock.of(Role::Kernel, requested, suite);
        found.iter().map(|p| p.id.version.as_str()).collect()
    };
    assert_eq!(
        found("linux-image-cloud-amd64", "debian bookworm"),
        ["1", "1"]
    );
    assert_eq!(found("linux-image-cloud-amd64", "debian trixie"), ["2"]);
    assert_eq!(found("linux-image-cloud-amd64", "debian sid"), [""; 0]);
    assert_eq!(found("linux-image-amd64", "debian bookworm"), [""; 0]);
    assert_eq!(
        Vec::from_iter(lock.suites(Role::Kernel, "linux-image-cloud-amd64")),
        ["debian bookworm", "debian trixie"]
    );
    let trixies = newer("a").id;
    assert_eq!(lock.check(Role::Kernel, "debian trixie", &trixies), Ok(()));
    assert!(
        lock.check(Role::Kernel, "debian bookworm", &trixies)
            .is_err()
    );
}

#[test]
fn a_broken_lock_is_told_with_place_and_key() {
    assert_eq!(
        parse("version = 2\n"),
        Err("guest.lock: `version`: 2: expected 1; take a newer noonmark".into())
    );
    assert_eq!(
        parse("version = 1\npackages = []\n"),
        Err(
            "guest.lock:2:1: `packages`: unknown field `packages`, expected `version` or \
             `package`; did you mean `package`?"
                .into()
        )
    );
    let text = Lock::new(vec![package("a", "1")])
        .to_toml()
        .replace("sha256 = \"", "sha256 = \"x");
    let message = parse(&text).expect_err("a bad hash");
    assert!(
        message.starts_with("guest.lock:9:10: `package[0].sha256`: `x"),
        "{message}"
    );
    assert!(message.ends_with("is no SHA-256; expected 64 lower-case hexadecimal digits"));
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        name in "\\PC{1,30}",
        version in "\\PC{1,30}",
        suite in "\\PC{1,30}",
        size in 0_u64..1 << 62,
    ) {
        let mut one = package(&name, &version);
        one.suite = suite;
        one.id.size = size;
        let lock = Lock::new(vec![one, package("b", "2")]);
        prop_assert_eq!(parse(&lock.to_toml()), Ok(lock));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
        let _ = parse(&text);
        let _ = parse(&format!("version = 1\n[[package]]\n{text}"));
    }
}
