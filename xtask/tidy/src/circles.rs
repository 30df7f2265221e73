//! No file of a crate imports, by however many others, itself.
//!
//! A file imports another where a `use` or a path in it names something of that file's module;
//! declaring a module (`mod x;`) is no import, and unit tests don't count. So a parent that takes
//! from its children, and gives to none of them, is as good as the other way round; both at once is
//! a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

use crate::{packages, report};

/// Module path from the crate's root, e.g. `["vm", "argv"]`; the root itself is empty.
type Module = Vec<String>;

/// The modules of one crate that stand in files of their own, and what each file imports.
#[derive(Default)]
struct Crate {
    files: BTreeMap<Module, PathBuf>,
    parsed: BTreeMap<Module, syn::File>,
}

impl Crate {
    fn load(root: &Path) -> Self {
        let mut found = Self::default();
        let folder = root.parent().expect("a file lies in a folder");
        found.add(Vec::new(), root, folder);
        found
    }

    /// Adds a file and, below `folder`, those of the modules that it declares.
    fn add(&mut self, module: Module, path: &Path, folder: &Path) {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for item in &parsed.items {
            let syn::Item::Mod(declared) = item else {
                continue;
            };
            if declared.content.is_some() || is_test(&declared.attrs) {
                continue;
            }
            let name = declared.ident.to_string();
            let below = folder.join(&name);
            let candidates = [folder.join(format!("{name}.rs")), below.join("mod.rs")];
            let file = candidates.iter().find(|file| file.is_file());
            let file = file.unwrap_or_else(|| panic!("{}: no file of mod {name}", path.display()));
            let child = [module.clone(), vec![name]].concat();
            self.add(child, file, &below);
        }
        self.files.insert(module.clone(), path.to_path_buf());
        self.parsed.insert(module, parsed);
    }

    /// The file's module that a path leads to: as many of its names as are modules.
    fn file_of(&self, path: &[String]) -> Module {
        let longest = (0..=path.len()).rev();
        let modules = longest.map(|length| path[..length].to_vec());
        modules
            .into_iter()
            .find(|module| self.files.contains_key(module))
            .unwrap_or_default()
    }

    fn imports(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let of = |(module, parsed): (_, &syn::File)| {
            let mut imports = Imports {
                all: self,
                own: module,
                within: Module::clone(module),
                found: BTreeSet::new(),
            };
            imports.visit_file(parsed);
            (module, imports.found)
        };
        self.parsed.iter().map(of).collect()
    }

    /// A circle through a file, as the files on the shortest way from it back to it.
    fn circle_of(
        start: &Module,
        imports: &BTreeMap<&Module, BTreeSet<Module>>,
    ) -> Option<Vec<Module>> {
        let mut ways = vec![vec![start.clone()]];
        let mut seen = BTreeSet::new();
        while !ways.is_empty() {
            let mut longer = Vec::new();
            for way in &ways {
                let last = way.last().expect("a way has a start");
                for next in &imports[last] {
                    let further = [way.clone(), vec![next.clone()]].concat();
                    if next == start {
                        return Some(further);
                    }
                    if seen.insert(next.clone()) {
                        longer.push(further);
                    }
                }
            }
            ways = longer;
        }
        None
    }
}

/// Collects what one file imports.
struct Imports<'a> {
    all: &'a Crate,
    own: &'a Module,
    /// The file's module, or one that stands in it between braces.
    within: Module,
    found: BTreeSet<Module>,
}

impl Imports<'_> {
    fn add(&mut self, path: &[String]) {
        let first = path.first().map_or("", String::as_str);
        // Any other name was imported by a `use`, or is no module of ours.
        if !matches!(first, "crate" | "self" | "super") && !self.is_child(first) {
            return;
        }
        let mut module = self.within.clone();
        for name in path {
            match name.as_str() {
                "crate" => module.clear(),
                "self" => {}
                "super" => drop(module.pop()),
                _ => module.push(name.clone()),
            }
        }
        let file = self.all.file_of(&module);
        if file != *self.own {
            self.found.insert(file);
        }
    }

    fn is_child(&self, name: &str) -> bool {
        let child = [self.within.clone(), vec![name.into()]].concat();
        self.all.files.contains_key(&child)
    }

    fn add_tree(&mut self, tree: &syn::UseTree, before: &[String]) {
        let named = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_tree(&path.tree, &named(&path.ident)),
            syn::UseTree::Name(name) => self.add(&named(&name.ident)),
            syn::UseTree::Rename(rename) => self.add(&named(&rename.ident)),
            syn::UseTree::Glob(_) => self.add(before),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(tree, before);
                }
            }
        }
    }
}

impl<'ast> Visit<'ast> for Imports<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let is_test = match item {
            syn::Item::Mod(item) => is_test(&item.attrs),
            syn::Item::Fn(item) => is_test(&item.attrs),
            syn::Item::Impl(item) => is_test(&item.attrs),
            syn::Item::Use(item) => is_test(&item.attrs),
            _ => false,
        };
        if !is_test {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_some() {
            self.within.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.within.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if names.len() > 1 {
            self.add(&names);
        }
        visit::visit_path(self, path);
    }
}

/// Whether something is compiled for unit tests alone.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|path| path.is_ident("test"))
    })
}

#[test]
fn no_file_imports_itself_by_others() {
    let packages = packages();
    let targets = packages.iter().flat_map(|package| &package.targets);
    let mut complaints = Vec::new();
    for target in targets.filter(|target| target.is_lib() || target.is_bin()) {
        let found = Crate::load(target.src_path.as_std_path());
        let imports = found.imports();
        let mut told = BTreeSet::new();
        for module in found.files.keys() {
            let Some(circle) = Crate::circle_of(module, &imports) else {
                continue;
            };
            let members: BTreeSet<Module> = circle.iter().cloned().collect();
            if told.insert(members) {
                let names: Vec<String> = circle.iter().map(|m| m.join("::")).collect();
                complaints.push(format!("{}: {}", target.name, names.join(" -> ")));
            }
        }
    }
    report("files that import each other", &complaints);
}
