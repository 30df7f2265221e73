//! The checks of `[[mount]]`.

use std::collections::BTreeSet;
use std::str::FromStr;

use noonmark_contract::config::system::{DataDisk, FileSystem};
use noonmark_contract::config::values::{GuestPath, Label, MountWaitMs, Unfit};
use noonmark_contract::units::Nanos;
use toml::Spanned;

use crate::layout::MOUNT_POINTS;
use crate::text::TomlDocument;

use super::FileSpec;
use super::raw::RawMount;
use super::value::{Checked, number};

/// How many data disks an image may have: the status record with all of them fits a line.
const MOUNTS_MAX: usize = 16;

/// As many characters as a FAT's label has room for.
const FAT_LABEL_MAX: usize = 11;

/// Checks them, and that no file of the image would be hidden by one.
pub(super) fn mounts(
    raw: Vec<RawMount>,
    files: &[FileSpec],
    doc: &TomlDocument<'_>,
) -> Checked<Vec<DataDisk>> {
    if let Some(extra) = raw.get(MOUNTS_MAX) {
        let problem = format!("expected at most {MOUNTS_MAX} of them");
        return Err(doc.error(Some(extra.label.span()), "mount", problem));
    }
    let (mut labels, mut paths) = (BTreeSet::new(), BTreeSet::new());
    raw.into_iter()
        .map(|raw| {
            let label = label(&raw, doc)?;
            let path: GuestPath = parsed(&raw.path, "mount.path", doc)?;
            path_is_free(&raw.path, files, doc)?;
            if !paths.insert(path.as_str().to_owned()) {
                let problem = format!("two disks are mounted on `{path}`");
                return Err(doc.error(Some(raw.path.span()), "mount.path", problem));
            }
            if !labels.insert(label.as_str().to_owned()) {
                let problem = format!("two mounts want the disk `{label}`");
                return Err(doc.error(Some(raw.label.span()), "mount.label", problem));
            }
            let wait_ms = number(raw.wait_ms, "mount.wait_ms", MountWaitMs::RANGE, doc)?;
            Ok(DataDisk {
                label,
                path,
                kind: raw.kind,
                read_only: raw.read_only,
                exec: raw.exec,
                required: raw.required,
                wait: wait_ms.map_or(DataDisk::WAIT, |ms| Nanos::from_millis(ms.into())),
            })
        })
        .collect()
}

fn label(raw: &RawMount, doc: &TomlDocument<'_>) -> Checked<Label> {
    let label: Label = parsed(&raw.label, "mount.label", doc)?;
    if raw.kind == FileSystem::Vfat && label.as_str().len() > FAT_LABEL_MAX {
        let problem = format!("`{label}`: expected at most {FAT_LABEL_MAX} characters for vfat");
        return Err(doc.error(Some(raw.label.span()), "mount.label", problem));
    }
    Ok(label)
}

/// What PID 1 mounts must stay reachable, and what the image has there would not be.
fn path_is_free(raw: &Spanned<String>, files: &[FileSpec], doc: &TomlDocument<'_>) -> Checked<()> {
    let path = raw.get_ref().as_str();
    let bad = |problem: String| Err(doc.error(Some(raw.span()), "mount.path", problem));
    if MOUNT_POINTS.iter().any(|(mounted, _)| path == *mounted) {
        return bad(format!("PID 1 mounts something else on `{path}`"));
    }
    let below = |file: &&FileSpec| {
        let rest = file.path.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match files.iter().find(below) {
        Some(file) => bad(format!(
            "the disk would hide the image's file `{}`",
            file.path
        )),
        None => Ok(()),
    }
}

fn parsed<T: FromStr<Err = Unfit>>(
    value: &Spanned<String>,
    key: &str,
    doc: &TomlDocument<'_>,
) -> Checked<T> {
    let unfit = |error: Unfit| doc.error(Some(value.span()), key, error.to_string());
    value.get_ref().parse().map_err(unfit)
}
