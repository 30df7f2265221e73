//! Two builds' artifacts, byte by byte; where they differ, the innermost part that does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use noonmark_image::diff;

/// What a comparison came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Files that are the same, to the bit.
    pub identical: Vec<String>,
    /// What differs, a line each.
    pub differences: Vec<String>,
}

/// Compares the artifacts in two folders.
///
/// # Errors
///
/// A file can't be read.
pub fn folders(left: &Path, right: &Path) -> Result<Comparison> {
    let (left_names, right_names) = (names(left)?, names(right)?);
    let mut comparison = Comparison::default();
    for name in left_names.union(&right_names) {
        match (left_names.contains(name), right_names.contains(name)) {
            (true, false) => comparison
                .differences
                .push(format!("{name}: only in {}", left.display())),
            (false, true) => comparison
                .differences
                .push(format!("{name}: only in {}", right.display())),
            _ => {
                let (one, other) = (read(&left.join(name))?, read(&right.join(name))?);
                if one == other {
                    comparison.identical.push(name.clone());
                } else {
                    let differences = diff::innermost(name, &one, &other);
                    comparison
                        .differences
                        .extend(differences.iter().map(ToString::to_string));
                }
            }
        }
    }
    Ok(comparison)
}

/// The artifacts' names; hidden files are the build's own notes.
fn names(folder: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let problem = || format!("cannot list {}", folder.display());
    for entry in fs::read_dir(folder).with_context(problem)? {
        let name = entry.with_context(problem)?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') {
            names.insert(name.into_owned());
        }
    }
    Ok(names)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_and_what_differs_is_told_by_name() {
        let (left, right) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (folder, name, text) in [
            (&left, "same", "1"),
            (&right, "same", "1"),
            (&left, "other", "1"),
            (&right, "other", "2"),
            (&right, "new", "1"),
            (&right, ".stamp", "1"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let comparison = folders(left.path(), right.path()).unwrap();
        assert_eq!(comparison.identical, ["same"]);
        let told = comparison.differences.join("\n");
        assert!(told.starts_with("new: only in "), "{told}");
        assert!(told.contains("other: "), "{told}");
        assert!(!told.contains(".stamp"), "{told}");
    }
}
