//! Descriptions that build on others.

use std::fs;
use std::path::{Path, PathBuf};

use noonmark_image::spec::{Description, KernelSource, Spec};
use tempfile::TempDir;

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a writable folder");
        fs::write(file, text).expect("a writable folder");
    }
    folder
}

/// What `guest.toml` among these files comes to.
fn spec(files: &[(&str, &str)]) -> Spec {
    let folder = folder(files);
    let description = Description::read(&folder.path().join("guest.toml")).expect("files");
    Spec::of(&description).expect("a description")
}

/// What is said of a `guest.toml` among these files that is wrong, without the folder's own path.
fn error(files: &[(&str, &str)]) -> String {
    let folder = folder(files);
    let file = folder.path().join("guest.toml");
    let error = Description::read(&file).and_then(|description| Spec::of(&description));
    let error = error.expect_err("something wrong").to_string();
    error.replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn tables_become_one_lists_of_tables_grow_and_other_values_are_replaced() {
    let spec = spec(&[
        (
            "base.toml",
            "[image]\nname = \"base\"\nhostname = \"host\"\n[modules]\nload = [\"a\", \"b\"]\n\
             [[dir]]\npath = \"/one\"\n[vm]\nvcpus = 1\n",
        ),
        (
            "guest.toml",
            "extends = \"base.toml\"\n[image]\nname = \"own\"\n[modules]\nload = [\"c\"]\n\
             [[dir]]\npath = \"/two\"\n[budget]\ndisk_mib = 64\n",
        ),
    ]);
    assert_eq!((&*spec.image.name, &*spec.image.hostname), ("own", "host"));
    assert_eq!(spec.modules.load, ["c"]);
    let dirs: Vec<&str> = spec.content.dirs.iter().map(|dir| &*dir.path).collect();
    assert_eq!(dirs, ["/one", "/two"]);
    assert_eq!((spec.vm.vcpus, spec.budget.disk_mib), (1, Some(64)));
}

#[test]
fn a_base_may_have_a_base_and_each_file_s_paths_start_at_its_own_folder() {
    let kernel = "[kernel]\nimage = \"vmlinuz\"\nmodules = \"/abs\"\n\
                  [[file]]\npath = \"/a\"\nsource = \"a\"\n";
    let spec = spec(&[
        ("shared/deep/root.toml", kernel),
        (
            "shared/base.toml",
            "extends = \"deep/root.toml\"\n[[tree]]\npath = \"/t\"\nsource = \"t\"\n",
        ),
        (
            "guest.toml",
            "extends = \"shared/base.toml\"\n[[file]]\npath = \"/b\"\nsource = \"b\"\n",
        ),
    ]);
    let sources: Vec<PathBuf> = spec.files.iter().map(|file| file.source.clone()).collect();
    assert_eq!(
        sources,
        [PathBuf::from("shared/deep/a"), PathBuf::from("b")]
    );
    assert_eq!(spec.content.trees[0].source, Path::new("shared/t"));
    let KernelSource::Files { image, modules } = spec.kernel.source else {
        panic!("expected files");
    };
    assert_eq!(image, Path::new("shared/deep/vmlinuz"));
    assert_eq!(modules, Path::new("/abs"));
}

#[test]
fn what_is_wrong_is_told_with_the_file_and_line_where_it_stands() {
    let base = ("base.toml", "[clock]\n\nstep_us = -5\n");
    let own = ("guest.toml", "extends = \"base.toml\"\n");
    let told = error(&[base, own]);
    assert!(
        told.starts_with("base.toml:3:11: `clock.step_us`: "),
        "{told}"
    );

    let wrong = "extends = \"base.toml\"\n[vm]\nvcpus = \"two\"\n";
    let told = error(&[("base.toml", "[vm]\nvcpus = 2\n"), ("guest.toml", wrong)]);
    assert!(told.starts_with("guest.toml:3:9: `vm.vcpus`: "), "{told}");

    let told = error(&[("base.toml", "[vmm]\n"), own]);
    assert!(
        told.starts_with("base.toml:1:2: `vmm`: unknown field"),
        "{told}"
    );

    let told = error(&[("base.toml", "[vm\n"), own]);
    assert!(told.starts_with("base.toml:1:"), "{told}");

    let dirs = "[[dir]]\npath = \"/a\"\n";
    let both = format!("extends = \"base.toml\"\n{dirs}");
    let told = error(&[("base.toml", dirs), ("guest.toml", &both)]);
    assert!(told.starts_with("guest.toml:3:8: `dir.path`: "), "{told}");
}

#[test]
fn a_base_that_is_missing_or_leads_back_is_told_by_name() {
    let told = error(&[("guest.toml", "extends = \"no.toml\"\n")]);
    assert!(
        told.starts_with("guest.toml:1:11: `extends`: cannot read no.toml: No such file"),
        "{told}"
    );
    let told = error(&[
        ("guest.toml", "extends = \"a.toml\"\n"),
        ("a.toml", "extends = \"./guest.toml\"\n"),
    ]);
    assert!(
        told.starts_with("a.toml:1:11: `extends`: ./guest.toml would extend itself, by way of "),
        "{told}"
    );
    assert!(told.contains("guest.toml, a.toml"), "{told}");
    for wrong in ["7", "\"\"", "[\"a.toml\"]"] {
        let text = format!("extends = {wrong}\n");
        let told = error(&[("guest.toml", &text)]);
        assert!(told.contains("expected the path of a file"), "{told}");
    }
    let told = error(&[]);
    assert!(
        told.starts_with("guest.toml: cannot read it: No such file"),
        "{told}"
    );
}
