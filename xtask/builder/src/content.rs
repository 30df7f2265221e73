//! What the image has beside noonmark's own: trees, programs and packages, the last fetched with all that
//! they depend on.

use std::path::Path;

use anyhow::{Context as _, Result};
use noonmark_image::content::{self, Content, Fetched, PackageFile};
use noonmark_image::lock::Role;
use noonmark_image::spec::{Spec, WantedPackage};

use crate::dependencies::Follow;
use crate::packages::{self, Pins, Request};
use crate::progress;
use crate::workspace::Workspace;

/// The request for a package that the description names.
pub fn request(wanted: &WantedPackage) -> Request<'_> {
    Request {
        role: Role::Content,
        name: &wanted.name,
        suite: wanted.suite.as_deref(),
        follow: Follow::All,
    }
}

/// Reads it all; packages are downloaded where they are not in the cache. Paths of the description are
/// relative to `base`.
///
/// # Errors
///
/// Something can't be read or fetched, or can't be part of an image.
pub(crate) fn load(
    workspace: &Workspace,
    spec: &Spec,
    base: &Path,
    pins: &Pins,
) -> Result<Content> {
    let mut fetched = Fetched::new();
    for wanted in spec.content.wanted_packages() {
        let packages = packages::fetch(workspace, request(wanted), pins)
            .with_context(|| format!("no package {} for the image", wanted.name))?;
        let files = packages
            .iter()
            .map(|package| {
                let path = packages::path(workspace, &package.id);
                Ok(PackageFile {
                    file: path.display().to_string(),
                    bytes: packages::read(workspace, &package.id)?,
                })
            })
            .collect::<Result<_>>()?;
        fetched.insert(wanted.clone(), files);
    }
    let content = content::load(spec, base, &fetched)?;
    if !content.scripts.is_empty() {
        let named = content.scripts.iter();
        let named: Vec<String> = named
            .map(|(package, scripts)| format!("{package} ({})", scripts.join(", ")))
            .collect();
        progress::note(format!(
            "not run, so what they would set up is not in the image: the scripts of {}",
            named.join(", ")
        ));
    }
    Ok(content)
}
