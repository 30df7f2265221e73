//! Kernel modules: which ones a wanted one needs, in the order in which they must be loaded.
//!
//! Everything is read from the modules themselves (`.modinfo`, include/linux/module.h) and from
//! `modules.builtin`; `depmod` has not run on a package that was only unpacked.

use std::collections::{BTreeMap, BTreeSet};

use goblin::elf::{Elf, header::EM_X86_64};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::compress;

/// No module of a kernel is larger than this when unpacked.
const MODULE_LIMIT: u64 = 256 << 20;

/// Modules that can't be used.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum ModuleError {
    /// A required module is neither a file nor built in.
    #[error(
        "the kernel {release} has no module `{name}`, which {needed_by} needs; take another kernel\
         {}", .key.as_ref().map(|key| format!(", or change `{key}`")).unwrap_or_default()
    )]
    Missing {
        /// The kernel's release.
        release: String,
        /// The module.
        name: String,
        /// What needs it: a module, or a part of noonmark.
        needed_by: String,
        /// The key of the spec with which to do without it.
        key: Option<String>,
    },
    /// A module's file is damaged.
    #[error("module `{path}` is damaged: {problem}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A module was built for another kernel.
    #[error(
        "module `{path}` was built for kernel `{found}`, not for `{release}`; it would be refused \
         when loaded"
    )]
    Vermagic {
        /// The file.
        path: String,
        /// The release in its `vermagic`.
        found: String,
        /// The kernel's release.
        release: String,
    },
    /// Modules need each other in a circle.
    #[error("modules need each other in a circle: {}", .0.join(" -> "))]
    Cycle(Vec<String>),
}

/// A module that an image should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedModule {
    /// Its name; `-` and `_` are the same.
    pub name: String,
    /// What needs it, in words.
    pub needed_by: String,
    /// The key of the spec with which to do without it.
    pub key: Option<String>,
    /// Whether a kernel without it can't be used.
    pub required: bool,
}

/// A module as an image carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name, with underscores.
    pub name: String,
    /// Its file name, `NAME.ko`.
    pub file: String,
    /// The uncompressed ELF object.
    pub bytes: Vec<u8>,
}

/// Modules to load and those that need no loading.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    /// Names to load, each after those that it needs.
    pub load: Vec<String>,
    /// Wanted ones that are built into the kernel.
    pub builtin: Vec<String>,
    /// Optional ones that this kernel doesn't have.
    pub absent: Vec<String>,
}

/// The modules of one kernel, by name; files as they are shipped, compressed or not.
#[derive(Debug, Default)]
pub struct ModuleFiles {
    files: BTreeMap<String, (String, Vec<u8>)>,
    builtin: Option<BTreeSet<String>>,
}

/// The list of what is built into a kernel, a path a line.
const BUILTIN_LIST: &str = "modules.builtin";

impl ModuleFiles {
    /// Adds a file of `/lib/modules/RELEASE` by its path in there: a module, or
    /// `modules.builtin`. Any other changes nothing.
    pub fn add(&mut self, path: &str, bytes: Vec<u8>) {
        if path == BUILTIN_LIST {
            let list = String::from_utf8_lossy(&bytes);
            let names = list.lines().filter_map(name_of);
            self.builtin.get_or_insert_default().extend(names);
        } else if let Some(name) = name_of(path) {
            self.files.insert(name, (path.into(), bytes));
        }
    }

    /// Whether [`ModuleFiles::add`] takes a file of this path.
    #[must_use]
    pub fn takes(path: &str) -> bool {
        path == BUILTIN_LIST || name_of(path).is_some()
    }

    /// Whether there is no file at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.builtin.is_none()
    }

    /// Whether `modules.builtin` was there.
    #[must_use]
    pub fn knows_builtin(&self) -> bool {
        self.builtin.is_some()
    }

    fn is_builtin(&self, name: &str) -> bool {
        self.builtin
            .as_ref()
            .is_some_and(|list| list.contains(name))
    }

    /// Resolves what is wanted: the modules in the order in which to load them.
    ///
    /// # Errors
    /// If a required one is missing, damaged, or made for another kernel than `release`.
    pub fn resolve(
        &self,
        wanted: &[WantedModule],
        release: &str,
    ) -> Result<(Resolution, Vec<Module>), ModuleError> {
        let mut walk = Walk {
            files: self,
            release,
            resolution: Resolution::default(),
            modules: Vec::new(),
            done: BTreeSet::new(),
        };
        for wanted in wanted {
            let name = normalised(&wanted.name);
            if self.files.contains_key(&name) {
                walk.add(&name, wanted, &mut Vec::new())?;
            } else if self.is_builtin(&name) {
                push_new(&mut walk.resolution.builtin, name);
            } else if wanted.required {
                return Err(walk.missing(&name, &wanted.needed_by, wanted));
            } else {
                push_new(&mut walk.resolution.absent, name);
            }
        }
        Ok((walk.resolution, walk.modules))
    }
}

/// A depth-first walk through the dependencies.
struct Walk<'a> {
    files: &'a ModuleFiles,
    release: &'a str,
    resolution: Resolution,
    modules: Vec<Module>,
    done: BTreeSet<String>,
}

impl Walk<'_> {
    /// Adds a module after those that it needs. `path` is the way to it from a wanted one.
    fn add(
        &mut self,
        name: &str,
        wanted: &WantedModule,
        path: &mut Vec<String>,
    ) -> Result<(), ModuleError> {
        if self.done.contains(name) {
            return Ok(());
        }
        if path.iter().any(|above| above == name) {
            path.push(name.into());
            return Err(ModuleError::Cycle(path.clone()));
        }
        let Some((file, shipped)) = self.files.files.get(name) else {
            let needed_by = path.last().map(|above| format!("module `{above}`"));
            let needed_by = needed_by.as_ref().unwrap_or(&wanted.needed_by);
            return Err(self.missing(name, needed_by, wanted));
        };
        let damaged = |problem: String| ModuleError::Damaged {
            path: file.clone(),
            problem,
        };
        let bytes = compress::decompress(shipped, MODULE_LIMIT)
            .map_err(|e| damaged(format!("it can't be unpacked: {e}")))?;
        let info = ModInfo::read(&bytes).map_err(damaged)?;
        if info.release != self.release {
            return Err(ModuleError::Vermagic {
                path: file.clone(),
                found: info.release,
                release: self.release.into(),
            });
        }
        path.push(name.into());
        for needed in &info.soft {
            // A soft dependency may name an alias, or something that this kernel lacks.
            if self.files.files.contains_key(needed) {
                self.add(needed, wanted, path)?;
            }
        }
        for needed in &info.hard {
            if self.files.files.contains_key(needed) || !self.files.is_builtin(needed) {
                self.add(needed, wanted, path)?;
            }
        }
        path.pop();
        self.done.insert(name.into());
        self.resolution.load.push(name.into());
        self.modules.push(Module {
            name: name.into(),
            file: format!("{name}.ko"),
            bytes,
        });
        Ok(())
    }

    fn missing(&self, name: &str, needed_by: &str, wanted: &WantedModule) -> ModuleError {
        ModuleError::Missing {
            release: self.release.into(),
            name: name.into(),
            needed_by: needed_by.into(),
            key: wanted.key.clone(),
        }
    }
}

/// What a module says of itself.
struct ModInfo {
    /// The release in `vermagic`.
    release: String,
    /// `depends`: modules without which it can't be loaded.
    hard: Vec<String>,
    /// `softdep`'s `pre:` part: modules that should be there first.
    soft: Vec<String>,
}

impl ModInfo {
    /// Reads the `.modinfo` section: `KEY=VALUE`, each ended by a NUL.
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let elf = Elf::parse(bytes).map_err(|e| format!("it is no whole ELF object: {e}"))?;
        if elf.header.e_machine != EM_X86_64 {
            return Err("it is for another processor than x86-64".into());
        }
        // A file that was cut off may still have its header; what the header points to is gone.
        for section in &elf.section_headers {
            if let Some(range) = section.file_range()
                && bytes.get(range).is_none()
            {
                return Err("it is cut off: a section lies beyond its end".into());
            }
        }
        let section = elf
            .section_headers
            .iter()
            .find(|header| elf.shdr_strtab.get_at(header.sh_name) == Some(".modinfo"))
            .and_then(goblin::elf::SectionHeader::file_range)
            .and_then(|range| bytes.get(range))
            .ok_or("it has no section .modinfo")?;
        let mut info = Self {
            release: String::new(),
            hard: Vec::new(),
            soft: Vec::new(),
        };
        for field in section.split(|byte| *byte == 0) {
            let field = String::from_utf8_lossy(field);
            match field.split_once('=') {
                Some(("vermagic", value)) => {
                    info.release = value.split(' ').next().unwrap_or_default().into();
                }
                Some(("depends", value)) => {
                    let names = value.split(',').filter(|name| !name.is_empty());
                    info.hard.extend(names.map(normalised));
                }
                Some(("softdep", value)) => {
                    let pre = value
                        .split_whitespace()
                        .scan(false, |in_pre, word| {
                            if word.ends_with(':') {
                                *in_pre = word == "pre:";
                                return Some(None);
                            }
                            Some(in_pre.then_some(word))
                        })
                        .flatten();
                    info.soft.extend(pre.map(normalised));
                }
                _ => {}
            }
        }
        if info.release.is_empty() {
            return Err("it does not say for which kernel it was built (vermagic)".into());
        }
        Ok(info)
    }
}

/// A module's name as the kernel shows it.
fn normalised(name: &str) -> String {
    name.replace('-', "_")
}

/// The name of the module at a path like `kernel/drivers/ptp/ptp_kvm.ko.xz`.
fn name_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (stem, extension) = file.split_once(".ko")?;
    matches!(extension, "" | ".xz" | ".gz" | ".zst").then(|| normalised(stem))
}

fn push_new(list: &mut Vec<String>, name: String) {
    if !list.contains(&name) {
        list.push(name);
    }
}
