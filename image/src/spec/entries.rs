//! The checks of `[[file]]` and `[[service]]`.

use std::collections::BTreeSet;

use noonmark_sync::config::Service;
use noonmark_sync::config::system::SEED_PROGRAM;
use noonmark_sync::config::values::check_guest_path;
use toml::Spanned;

use super::FileSpec;
use super::check::{Checked, number, path, text};
use super::raw::RawFile;
use crate::initrd::{
    FAULT_PROGRAM, FAULT_SERVICE, INIT_PROGRAM, NET_PROGRAM, NET_SERVICE, NTP_PROGRAM, NTP_SERVICE,
    RESOLV_CONF_LINK,
};
use crate::text::Place;

/// Capabilities that a service may keep of those that PID 1 takes away.
const CAPABILITIES: [&str; 3] = ["CAP_SYS_TIME", "CAP_SYS_MODULE", "CAP_SYS_BOOT"];

/// Folders over which PID 1 mounts; a file of the image there would be hidden.
pub(super) const MOUNTED_OVER: [&str; 5] = ["/dev", "/proc", "/sys", "/run", "/tmp"];

/// Files that noonmark itself puts into the image.
const OWN_FILES: [&str; 7] = [
    INIT_PROGRAM,
    noonmark_sync::config::PATH,
    FAULT_PROGRAM,
    NET_PROGRAM,
    NTP_PROGRAM,
    SEED_PROGRAM,
    RESOLV_CONF_LINK,
];

/// Services that noonmark itself puts into the image.
const OWN_SERVICES: [&str; 3] = [FAULT_SERVICE, NET_SERVICE, NTP_SERVICE];

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
    let mut seen = BTreeSet::new();
    raw.into_iter()
        .map(|raw| {
            let span = raw.span();
            let service = raw.into_inner();
            let bad = |key: &str, problem: String| {
                Err(place.error(Some(span.clone()), format!("service.{key}"), problem))
            };
            let good_name = (1..=64).contains(&service.name.len())
                && service
                    .name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b));
            if !good_name {
                return bad(
                    "name",
                    "expected 1 to 64 letters, digits and `-_.@`".to_string(),
                );
            }
            if OWN_SERVICES.contains(&service.name.as_str()) {
                return bad("name", "the name of noonmark's own service".to_string());
            }
            if !seen.insert(service.name.clone()) {
                return bad("name", format!("there are two services `{}`", service.name));
            }
            if !service.exec.first().is_some_and(|p| p.starts_with('/')) {
                return bad(
                    "exec",
                    "expected the program's absolute path, then its arguments".to_string(),
                );
            }
            if service.exec.iter().any(|word| word.contains('\0')) {
                return bad("exec", "a NUL byte can't be in an argument".to_string());
            }
            if let Some(unknown) = service
                .capabilities
                .iter()
                .find(|name| !CAPABILITIES.contains(&name.as_str()))
            {
                return bad(
                    "capabilities",
                    format!("unknown `{unknown}`; expected {}", CAPABILITIES.join(", ")),
                );
            }
            Ok(service)
        })
        .collect()
}
