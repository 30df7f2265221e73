//! `[[package]]`, and `[[program]]` of a package: what distribution's packages have, with those that
//! they depend on.

use std::collections::{BTreeMap, BTreeSet};

use crate::cpio::{Entry, Kind, Tree};
use crate::deb::{Deb, PackageId};
use crate::layout::{RESOLV_CONF_LINK, RUN_LINK, check_place};
use crate::lookup;
use crate::package::{self, PackageError, Unpacked};
use crate::spec::{PackageSpec, ProgramSpec, WantedPackage};

use super::error::ContentError;
use super::gathered::Gathered;
use super::patterns::Patterns;
use super::program;

/// A package's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageFile {
    /// Its name in messages.
    pub file: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Each package that a spec names, with all that it depends on.
pub type Fetched = BTreeMap<WantedPackage, Vec<PackageFile>>;

/// One of them unpacked.
#[derive(Debug)]
struct Root {
    ids: Vec<PackageId>,
    /// Which scripts the installation of each would run.
    scripts: Vec<Vec<&'static str>>,
    unpacked: Unpacked,
}

/// The packages on their way into the image.
#[derive(Debug)]
pub(super) struct Packages<'a> {
    fetched: &'a Fetched,
    roots: BTreeMap<&'a WantedPackage, Root>,
    used: BTreeSet<PackageId>,
    scripts: BTreeMap<String, Vec<&'static str>>,
}

impl<'a> Packages<'a> {
    pub(super) fn new(fetched: &'a Fetched) -> Self {
        Self {
            fetched,
            roots: BTreeMap::new(),
            used: BTreeSet::new(),
            scripts: BTreeMap::new(),
        }
    }

    /// Takes what the patterns leave of a package and what it depends on.
    pub(super) fn take(
        &mut self,
        spec: &PackageSpec,
        all: &mut Gathered,
    ) -> Result<(), ContentError> {
        let name = &spec.wanted.name;
        let root = self.root(&spec.wanted, "package")?;
        let paths = taken(spec, &root.unpacked.tree)?;
        let mut owners = BTreeSet::new();
        for path in paths {
            let entry = root.unpacked.tree[&path].clone();
            if let Err(problem) = check_place(&format!("/{path}")) {
                // noonmark has these where it needs them.
                if path == RESOLV_CONF_LINK[1..] {
                    continue;
                }
                if path != RUN_LINK[1..] {
                    return Err(ContentError::UnfitInPackage {
                        package: name.clone(),
                        path,
                        problem,
                    });
                }
            }
            let owner = root.unpacked.owners.get(&path).copied();
            if entry.kind != Kind::Directory {
                owners.extend(owner);
            }
            let id = owner.map_or(name, |owner| &root.ids[owner].package);
            all.share(&path, &format!("[[package]] {id}"), entry)?;
        }
        let (used, scripts): (Vec<_>, Vec<_>) = owners
            .iter()
            .map(|&owner| (root.ids[owner].clone(), root.scripts[owner].clone()))
            .unzip();
        let with_scripts = used.iter().zip(scripts).filter(|(_, s)| !s.is_empty());
        let with_scripts: Vec<_> = with_scripts
            .map(|(id, scripts)| (id.package.clone(), scripts))
            .collect();
        self.scripts.extend(with_scripts);
        self.used.extend(used);
        Ok(())
    }

    /// Takes a program of a package with the libraries that it needs, and nothing else.
    pub(super) fn take_program(
        &mut self,
        spec: &ProgramSpec,
        wanted: &'a WantedPackage,
        all: &mut Gathered,
    ) -> Result<(), ContentError> {
        let root = self.root(wanted, "program")?;
        let tree = &root.unpacked.tree;
        let Some(Kind::File(bytes)) = lookup::find(tree, &spec.path).map(|(_, e)| &e.kind) else {
            return Err(ContentError::Program {
                path: spec.path.clone(),
                problem: format!(
                    "neither the package {} nor what it depends on has this file",
                    wanted.name
                ),
            });
        };
        let found = program::take(spec, tree, &spec.path, bytes, all)?;
        let owners: BTreeSet<PackageId> = found
            .iter()
            .filter_map(|at| lookup::find(tree, at))
            .filter_map(|(path, _)| root.unpacked.owners.get(path))
            .map(|&owner| root.ids[owner].clone())
            .collect();
        self.used.extend(owners);
        Ok(())
    }

    /// The packages that something was taken of, and those whose scripts were not run.
    pub(super) fn used(self) -> (Vec<PackageId>, Vec<(String, Vec<&'static str>)>) {
        let used = self.used.into_iter().collect();
        (used, self.scripts.into_iter().collect())
    }

    fn root(&mut self, wanted: &WantedPackage, table: &'static str) -> Result<&Root, ContentError> {
        let unfit = |source: PackageError| ContentError::Package { table, source };
        let Some((wanted, files)) = self.fetched.get_key_value(wanted) else {
            let problem = format!("the package {} was not fetched", wanted.name);
            return Err(ContentError::Program {
                path: wanted.name.clone(),
                problem,
            });
        };
        if !self.roots.contains_key(wanted) {
            let debs = files.iter().map(|file| Deb::open(&file.file, &file.bytes));
            let debs = debs.collect::<Result<Vec<_>, _>>();
            let debs = debs.map_err(|error| unfit(error.into()))?;
            let root = Root {
                unpacked: package::unpack(&debs).map_err(unfit)?,
                ids: debs.iter().map(|deb| deb.id.clone()).collect(),
                scripts: debs.iter().map(|deb| deb.scripts.clone()).collect(),
            };
            self.roots.insert(wanted, root);
        }
        Ok(&self.roots[wanted])
    }
}

/// The paths that the patterns take, with the folders in which they lie and the links that lead there.
fn taken(spec: &PackageSpec, tree: &Tree) -> Result<BTreeSet<String>, ContentError> {
    let name = &spec.wanted.name;
    let patterns = Patterns::new(&spec.include, &spec.exclude);
    let mut patterns = patterns.map_err(|_| ContentError::NothingOfPackage {
        package: name.clone(),
        pattern: "too many patterns".to_owned(),
    })?;
    let mut paths = BTreeSet::new();
    let is_merged = |path: &str, entry: &Entry| match &entry.kind {
        Kind::Symlink(target) => *target == format!("usr/{path}"),
        Kind::File(_) | Kind::Directory | Kind::CharacterDevice { .. } => false,
    };
    for (path, entry) in tree {
        if is_merged(path, entry) {
            continue;
        }
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        let with_above: Vec<&str> = above.chain([path.as_str()]).collect();
        if with_above.iter().any(|path| patterns.leave_out(path)) {
            continue;
        }
        let mut wanted = patterns.take_all();
        for path in &with_above {
            wanted |= patterns.take(path);
        }
        if wanted {
            let there = with_above.iter().filter(|path| tree.contains_key(**path));
            paths.extend(there.map(|path| (*path).to_owned()));
        }
    }
    // The links of a merged /usr are as good as the folders themselves.
    for (path, _) in tree.iter().filter(|(path, entry)| is_merged(path, entry)) {
        let below = format!("usr/{path}/");
        let first = paths.range(below.clone()..).next();
        if first.is_some_and(|first| first.starts_with(&below)) {
            paths.insert(path.clone());
        }
    }
    match patterns.unused() {
        Some(pattern) => Err(ContentError::NothingOfPackage {
            package: name.clone(),
            pattern: pattern.to_owned(),
        }),
        None => Ok(paths),
    }
}
