//! The checks of `[[file]]` and `[[service]]`.

use std::collections::BTreeSet;

use noonmark_contract::config::Service;
use noonmark_contract::config::system::DataDisk;
use toml::Spanned;

use crate::layout::check_place;
use crate::text::TomlDocument;

use super::FileSpec;
use super::raw::RawFile;
use super::value::{Checked, number, path, text};

/// How the names of services that noonmark itself adds begin.
const OWN_SERVICES: &str = "noonmark-";

/// How many services an image may have: the status record with all of them fits a line.
const SERVICES_MAX: usize = 256;

pub(super) fn files(raw: Vec<RawFile>, doc: &TomlDocument<'_>) -> Checked<Vec<FileSpec>> {
    let mut seen = BTreeSet::new();
    raw.into_iter()
        .map(|raw| {
            let span = raw.path.span();
            let guest_path = text(raw.path, "file.path", doc, check_place)?;
            if !seen.insert(guest_path.clone()) {
                return Err(doc.error(
                    Some(span),
                    "file.path",
                    format!("`{guest_path}` is there twice"),
                ));
            }
            Ok(FileSpec {
                path: guest_path,
                source: path(raw.source, "file.source", doc)?,
                mode: number(raw.mode, "file.mode", 0..=0o7777, doc)?.unwrap_or(0o644),
                uid: number(raw.uid, "file.uid", 0..=u32::MAX - 1, doc)?.unwrap_or(0),
                gid: number(raw.gid, "file.gid", 0..=u32::MAX - 1, doc)?.unwrap_or(0),
            })
        })
        .collect()
}

pub(super) fn services(
    raw: Vec<Spanned<Service>>,
    disks: &[DataDisk],
    doc: &TomlDocument<'_>,
) -> Checked<Vec<Service>> {
    if let Some(first_too_many) = raw.get(SERVICES_MAX) {
        return Err(doc.error(
            Some(first_too_many.span()),
            "service",
            format!(
                "there are {} services; at most {SERVICES_MAX} are started",
                raw.len()
            ),
        ));
    }
    let mut services: Vec<Service> = Vec::with_capacity(raw.len());
    for raw in raw {
        let span = raw.span();
        let service = raw.into_inner();
        let bad = |key: &str, problem: String| {
            Err(doc.error(Some(span.clone()), format!("service.{key}"), problem))
        };
        if service.name.starts_with(OWN_SERVICES) {
            return bad("name", "the name of noonmark's own service".into());
        }
        let names = || services.iter().map(|service| service.name.as_str());
        if names().any(|name| name == service.name) {
            return bad("name", format!("there are two services `{}`", service.name));
        }
        let checked = service
            .check()
            .and_then(|()| service.check_after(names()))
            .and_then(|()| service.check_directories(&services))
            .and_then(|()| service.check_state(disks));
        if let Err(error) = checked {
            return bad(error.key, error.problem);
        }
        services.push(service);
    }
    Ok(services)
}
