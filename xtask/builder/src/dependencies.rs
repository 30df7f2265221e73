//! Which packages a package comes with.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::apt::{Apt, Package};

/// More packages than this are no kernel's chain of dependencies, nor a daemon's.
const NAMED_MAX: usize = 40;

/// Which dependencies of a package are taken too.
#[derive(Clone, Copy, Debug)]
pub enum Follow {
    /// Those whose names this accepts, by the first alternative of each.
    Named(fn(&str) -> bool),
    /// All that APT would install with it on a machine that has nothing yet, but for recommendations.
    All,
}

/// The package and its dependencies. `way_out` is told where there is no such package.
///
/// # Errors
///
/// There is none, or APT finds that it can't be installed.
pub(crate) fn resolve(
    apt: &Apt,
    name: &str,
    follow: Follow,
    way_out: &str,
) -> Result<Vec<Package>> {
    let candidate = |name: &str| match apt.candidate(name)? {
        Some(package) => Ok(package),
        None => bail!("{} has no package {name}{way_out}", apt.what()),
    };
    let accepts = match follow {
        Follow::Named(accepts) => accepts,
        Follow::All => {
            // A name that only stands for others gets a word of its own.
            candidate(name)?;
            return apt.with_dependencies(name);
        }
    };
    let mut names = vec![name.to_owned()];
    let mut packages = Vec::new();
    let mut seen = BTreeSet::from([name.to_owned()]);
    while let Some(next) = names.get(packages.len()) {
        let package = candidate(next)?;
        for dependency in &package.depends {
            if accepts(dependency) && seen.insert(dependency.clone()) {
                names.push(dependency.clone());
            }
        }
        if names.len() > NAMED_MAX {
            bail!(
                "{name} needs more than {NAMED_MAX} packages: {}",
                names.join(", ")
            );
        }
        packages.push(package);
    }
    Ok(packages)
}
