//! The checks of `[[file]]` and `[[service]]`.

use std::collections::BTreeSet;

use noonmark_contract::config::Service;
use noonmark_contract::config::system::SEED_PROGRAM;
use noonmark_contract::config::values::check_guest_path;
use toml::Spanned;

use crate::initrd::{FAULT_PROGRAM, INIT_PROGRAM, NET_PROGRAM, NTP_PROGRAM, RESOLV_CONF_LINK};
use crate::text::Place;

use super::FileSpec;
use super::check::{Checked, number, path, text};
use super::raw::RawFile;

/// How the names of services that noonmark itself adds begin.
const OWN_SERVICES: &str = "noonmark-";

/// How many services an image may have: the status record with all of them fits a line.
const SERVICES_MAX: usize = 256;

/// Folders over which PID 1 mounts; a file of the image there would be hidden.
pub(super) const MOUNTED_OVER: [&str; 5] = ["/dev", "/proc", "/sys", "/run", "/tmp"];

/// Files that noonmark itself puts into the image.
const OWN_FILES: [&str; 7] = [
    INIT_PROGRAM,
    noonmark_contract::config::PATH,
    FAULT_PROGRAM,
    NET_PROGRAM,
    NTP_PROGRAM,
    SEED_PROGRAM,
    RESOLV_CONF_LINK,
];

pub(super) fn files(raw: Vec<RawFile>, place: &Place<'_>) -> Checked<Vec<FileSpec>> {
    let mut seen = BTreeSet::new();
    raw.into_iter()
        .map(|raw| {
            let span = raw.path.span();
            let guest_path = text(raw.path, "file.path", place, guest_path)?;
            if !seen.insert(guest_path.clone()) {
                return Err(place.error(
                    Some(span),
                    "file.path",
                    format!("`{guest_path}` is there twice"),
                ));
            }
            Ok(FileSpec {
                path: guest_path,
                source: path(raw.source, "file.source", place)?,
                mode: number(raw.mode, "file.mode", 0..=0o7777, place)?.unwrap_or(0o644),
                uid: number(raw.uid, "file.uid", 0..=u32::MAX - 1, place)?.unwrap_or(0),
                gid: number(raw.gid, "file.gid", 0..=u32::MAX - 1, place)?.unwrap_or(0),
            })
        })
        .collect()
}

/// Whether a file of the image may have this path.
fn guest_path(path: &str) -> Result<(), &'static str> {
    check_guest_path(path)?;
    if OWN_FILES.contains(&path) {
        return Err("noonmark's own file; choose another path");
    }
    let hidden = MOUNTED_OVER
        .iter()
        .any(|folder| path == *folder || path.starts_with(&format!("{folder}/")));
    if hidden {
        return Err(
            "PID 1 mounts over /dev, /proc, /sys, /run and /tmp, so the file could not be seen; \
             choose another folder",
        );
    }
    Ok(())
}

pub(super) fn services(raw: Vec<Spanned<Service>>, place: &Place<'_>) -> Checked<Vec<Service>> {
    if let Some(first_too_many) = raw.get(SERVICES_MAX) {
        return Err(place.error(
            Some(first_too_many.span()),
            "service",
            format!(
                "there are {} services; at most {SERVICES_MAX} are started",
                raw.len()
            ),
        ));
    }
    let mut seen = BTreeSet::new();
    raw.into_iter()
        .map(|raw| {
            let span = raw.span();
            let service = raw.into_inner();
            let bad = |key: &str, problem: String| {
                Err(place.error(Some(span.clone()), format!("service.{key}"), problem))
            };
            if let Err(error) = service.check() {
                return bad(error.key, error.problem);
            }
            if service.name.starts_with(OWN_SERVICES) {
                return bad("name", "the name of noonmark's own service".into());
            }
            if let Err(error) = service.check_after(seen.iter().map(String::as_str)) {
                return bad(error.key, error.problem);
            }
            if !seen.insert(service.name.clone()) {
                return bad("name", format!("there are two services `{}`", service.name));
            }
            Ok(service)
        })
        .collect()
}
