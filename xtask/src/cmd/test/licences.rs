//! Checks that every dependency may be used as freely as this project itself.

use std::fs;

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{MetadataCommand, Package};
use noonmark_builder::workspace::Workspace;
use spdx::{Expression, ParseMode};

/// Licences that ask for no more than a notice (SPDX identifiers).
const PERMISSIVE: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-2-Clause-Patent",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Checks all packages of `Cargo.lock`, those of tests and other platforms as well.
///
/// # Errors
///
/// Each package whose licence is not permissive, or that names none.
pub fn check(workspace: &Workspace) -> Result<()> {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace.root().join("Cargo.toml"))
        .other_options(vec!["--locked".to_owned()])
        .exec()
        .context("cargo can't tell the dependencies")?;
    let complaints: Vec<String> = metadata.packages.iter().filter_map(complaint).collect();
    if !complaints.is_empty() {
        bail!("{}", complaints.join("; "));
    }
    println!("{} packages, all permissive", metadata.packages.len());
    Ok(())
}

fn complaint(package: &Package) -> Option<String> {
    let name = format!("{} {}", package.name, package.version);
    let Some(licence) = package.license.clone().or_else(|| tagged(package)) else {
        return Some(format!("{name} names no licence"));
    };
    match is_permissive(&licence) {
        Ok(true) => None,
        Ok(false) => Some(format!("{name} is licensed under {licence}")),
        Err(error) => Some(format!("{name}: licence `{licence}`: {error}")),
    }
}

/// The licence that a package's own licence file is tagged with.
fn tagged(package: &Package) -> Option<String> {
    let text = fs::read_to_string(package.license_file()?).ok()?;
    text.lines()
        .find_map(|line| line.trim().strip_prefix("SPDX-License-Identifier:"))
        .map(|licence| licence.trim().to_owned())
}

/// Whether an SPDX expression can be satisfied with permissive licences alone. The slash of older
/// crates means `OR`.
fn is_permissive(licence: &str) -> Result<bool, spdx::ParseError> {
    let expression = Expression::parse_mode(licence, ParseMode::LAX)?;
    // An exception (`WITH LLVM-exception`) only adds permissions.
    Ok(expression.evaluate(|wanted| {
        wanted
            .license
            .id()
            .is_some_and(|id| PERMISSIVE.contains(&id.name))
    }))
}

#[cfg(test)]
mod tests {
    use super::is_permissive;

    #[test]
    fn an_alternative_is_enough_and_an_addition_is_not() {
        for (licence, permissive) in [
            ("MIT OR Apache-2.0", true),
            ("MIT/Apache-2.0", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("MIT OR GPL-3.0-only", true),
            ("MIT AND GPL-2.0-only", false),
            ("MPL-2.0", false),
            ("LicenseRef-Own", false),
        ] {
            assert_eq!(is_permissive(licence).unwrap(), permissive, "{licence}");
        }
    }

    #[test]
    fn what_is_no_expression_is_an_error() {
        assert!(is_permissive("as you like").is_err());
    }
}
