//! Files appear whole or not at all.

use std::fs;
use std::path::Path;

use noonmark_image::artifact::Artifact;
use noonmark_image::output::{remove_unfinished, write_all, write_file};

fn artifacts() -> Vec<Artifact> {
    let artifact = |name, content: &[u8]| Artifact {
        name,
        bytes: content.to_vec(),
    };
    vec![artifact("one", b"1"), artifact("two", b"2")]
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

#[test]
fn a_folder_is_made_and_holds_the_artifacts_alone() {
    let base = tempfile::tempdir().expect("a folder");
    let folder = base.path().join("a/b");
    write_all(&folder, &artifacts()).expect("a folder of artifacts");
    assert_eq!(names(&folder), ["one", "two"]);
    assert_eq!(fs::read(folder.join("two")).expect("the file"), b"2");
}

#[test]
fn an_artifact_that_is_there_is_replaced() {
    let base = tempfile::tempdir().expect("a folder");
    fs::write(base.path().join("one"), b"old and longer").expect("a file");
    write_all(base.path(), &artifacts()).expect("a folder of artifacts");
    assert_eq!(fs::read(base.path().join("one")).expect("the file"), b"1");
}

#[test]
fn a_folder_that_can_not_be_is_named_with_the_way_out() {
    let base = tempfile::tempdir().expect("a folder");
    let file = base.path().join("file");
    fs::write(&file, b"").expect("a file");
    let message = write_all(&file, &artifacts())
        .expect_err("a file")
        .to_string();
    let start = format!("can't write {}: ", file.display());
    assert!(message.starts_with(&start), "{message}");
    assert!(
        message.ends_with("; a file is where a folder is needed"),
        "{message}"
    );
}

#[test]
fn after_an_error_nothing_half_written_is_left() {
    let base = tempfile::tempdir().expect("a folder");
    // A folder is where the second artifact belongs.
    fs::create_dir(base.path().join("two")).expect("a folder");
    write_all(base.path(), &artifacts()).expect_err("a folder in the way");
    let left = names(base.path());
    assert!(
        left.iter().all(|name| name == "one" || name == "two"),
        "{left:?}"
    );
}

#[test]
fn a_single_file_is_written_whole() {
    let base = tempfile::tempdir().expect("a folder");
    let path = base.path().join("seed.img");
    write_file(&path, b"content").expect("a file");
    assert_eq!(fs::read(&path).expect("the file"), b"content");
    assert_eq!(names(base.path()), ["seed.img"]);
    let missing = base.path().join("no/such/folder/seed.img");
    let message = write_file(&missing, b"")
        .expect_err("no folder")
        .to_string();
    assert!(message.starts_with(&format!("can't write {}: ", missing.display())));
}

#[test]
fn what_a_killed_writer_left_is_removed_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path(".noonmark-a1B2c3"), b"half").unwrap();
    fs::write(path("disk.img"), b"whole").unwrap();
    fs::write(path(".stamp.json"), b"{}").unwrap();

    remove_unfinished(folder.path());

    assert!(!path(".noonmark-a1B2c3").exists());
    assert!(path("disk.img").exists() && path(".stamp.json").exists());
    remove_unfinished(&path("absent"));
}
