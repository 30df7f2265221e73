//! The checks of `[[package]]` and `[[program]]`.

use std::collections::BTreeSet;

use toml::Spanned;

use crate::layout::check_place;
use crate::text::TomlDocument;

use super::raw::{Key, RawPackage, RawProgram};
use super::value::{Checked, package_name, path, patterns, text};
use super::{PackageSpec, ProgramSource, ProgramSpec, WantedPackage};

pub(super) fn packages(raw: Vec<RawPackage>, doc: &TomlDocument<'_>) -> Checked<Vec<PackageSpec>> {
    let mut seen = BTreeSet::new();
    raw.into_iter()
        .map(|raw| {
            let span = raw.name.span();
            let wanted = wanted("package.name", raw.name, "package.suite", raw.suite, doc)?;
            if !seen.insert(wanted.name.clone()) {
                let problem = format!("`{}` is there twice", wanted.name);
                return Err(doc.error(Some(span), "package.name", problem));
            }
            Ok(PackageSpec {
                wanted,
                include: patterns(raw.include, "package.include", doc)?,
                exclude: patterns(raw.exclude, "package.exclude", doc)?,
            })
        })
        .collect()
}

pub(super) fn programs(raw: Vec<RawProgram>, doc: &TomlDocument<'_>) -> Checked<Vec<ProgramSpec>> {
    raw.into_iter()
        .map(|raw| {
            let span = raw.path.span();
            let place = text(raw.path, "program.path", doc, check_place)?;
            let bad = |span, key: &str, problem: &str| Err(doc.error(Some(span), key, problem));
            let source = match (raw.source, raw.package) {
                (Some(source), None) => {
                    if let Some(suite) = raw.suite {
                        let problem = "a suite is of a `package`; expected one, or no suite";
                        return bad(suite.span(), "program.suite", problem);
                    }
                    ProgramSource::File {
                        file: path(source, "program.source", doc)?,
                        root: match raw.root {
                            Some(root) => path(root, "program.root", doc)?,
                            None => "/".into(),
                        },
                    }
                }
                (None, Some(package)) => {
                    if let Some(root) = raw.root {
                        let problem = "a package is a root of its own; expected `source` with it";
                        return bad(root.span(), "program.root", problem);
                    }
                    let (name, suite) = ("program.package", "program.suite");
                    ProgramSource::Package(wanted(name, package, suite, raw.suite, doc)?)
                }
                (None, None) | (Some(_), Some(_)) => {
                    let problem = "expected either `source`, a file of this machine, or `package`";
                    return bad(span, "program", problem);
                }
            };
            Ok(ProgramSpec {
                path: place,
                source,
            })
        })
        .collect()
}

fn wanted(
    name_key: &str,
    name: Spanned<String>,
    suite_key: &str,
    suite: Key<String>,
    doc: &TomlDocument<'_>,
) -> Checked<WantedPackage> {
    let suite = suite.map(|suite| package_name(suite, suite_key, doc));
    Ok(WantedPackage {
        name: package_name(name, name_key, doc)?,
        suite: suite.transpose()?,
    })
}
