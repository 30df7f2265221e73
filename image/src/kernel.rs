//! The kernel: out of a distribution's packages or the host's files comes the little of it that an
//! image needs, a [`Kernel`].
//!
//! A package unpacks to a hundred megabytes, of which an image takes the bzImage and a handful of
//! modules. [`Kernel::to_archive`] keeps just those, so that a later build need not unpack again.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bzimage::{BzImage, BzImageError};
use crate::cpio::{self, CpioError, Entry, Kind, Tree};
use crate::deb::{Deb, DebError, PackageId};
use crate::modules::{Module, ModuleError, ModuleFiles, Resolution, WantedModule};

/// A kernel that can't be used.
#[derive(Debug, Error)]
pub enum KernelError {
    /// A package is no package.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// Its modules are not what is needed.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The image is no bzImage for x86-64.
    #[error("kernel image {path}: {source}")]
    Image {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: BzImageError,
    },
    /// No package holds a kernel image, or more than one does.
    #[error(
        "{count} kernel images (boot/vmlinuz-RELEASE or lib/modules/RELEASE/vmlinuz) in {}, \
         expected one; name the package of the kernel itself", .packages.join(", ")
    )]
    Images {
        /// How many there are.
        count: usize,
        /// The packages that were searched.
        packages: Vec<String>,
    },
    /// No package holds modules for the kernel image's release.
    #[error(
        "the kernel image is {release}, but there is no modules folder lib/modules/{release} in {}",
        .searched.join(", ")
    )]
    NoModules {
        /// The release.
        release: String,
        /// The packages or the folder that were searched.
        searched: Vec<String>,
    },
    /// What is built into the kernel isn't known.
    #[error(
        "there is no lib/modules/{release}/modules.builtin in {}, which says what is built into \
         the kernel; from Linux 7 on Debian has it in the package linux-base-{release}",
        .searched.join(", ")
    )]
    NoBuiltinList {
        /// The release.
        release: String,
        /// The packages or the folder that were searched.
        searched: Vec<String>,
    },
    /// A file of the host can't be read.
    #[error("{key}: can't read {}: {source}", .path.display())]
    Read {
        /// The key of the spec that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// An archive that [`Kernel::to_archive`] can't have made.
    #[error("broken kernel archive: {0}")]
    Archive(String),
}

/// What an image needs of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// As `uname -r` gives it.
    pub release: String,
    /// The bzImage.
    pub image: Vec<u8>,
    /// The modules to load, in that order.
    pub modules: Vec<Module>,
    /// Which of the wanted modules are loaded, built in, or absent.
    pub resolution: Resolution,
    /// The packages that it comes from; none where it comes from files of the host.
    pub packages: Vec<PackageId>,
}

/// What an archive says beside its files.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ArchiveIndex {
    release: String,
    resolution: Resolution,
    packages: Vec<PackageId>,
}

const INDEX: &str = "kernel.json";
const IMAGE: &str = "vmlinuz";

impl Kernel {
    /// Takes what is wanted out of a kernel's packages. Debian up to 6.12 ships one package with
    /// all; from 7 on there is one with the image (`linux-binary-*`), one with the modules
    /// (`linux-modules-*`) and one with `modules.builtin` (`linux-base-*`). Ubuntu has two.
    /// Packages with nothing of these are of no harm.
    ///
    /// # Errors
    /// If the packages hold no kernel, or not the modules that are wanted.
    pub fn from_packages(debs: &[Deb<'_>], wanted: &[WantedModule]) -> Result<Self, KernelError> {
        let mut images = Vec::new();
        let mut others = Vec::new();
        for deb in debs {
            deb.files(
                |path| is_image(path) || module_tree_path(path).is_some(),
                |path, bytes| match module_tree_path(path) {
                    Some((release, below)) => {
                        others.push((release.to_string(), below.to_string(), bytes));
                    }
                    None => images.push((path.to_string(), bytes)),
                },
            )?;
        }
        let names = || debs.iter().map(|deb| deb.id.package.clone()).collect();
        let count = images.len();
        let (Some((path, image)), 1) = (images.pop(), count) else {
            return Err(KernelError::Images {
                count,
                packages: names(),
            });
        };
        let release = release_of(&path, &image)?;
        let mut files = ModuleFiles::default();
        for (_, below, bytes) in others.into_iter().filter(|(of, ..)| *of == release) {
            files.add(&below, bytes);
        }
        check_complete(&files, &release, names)?;
        let mut packages: Vec<_> = debs.iter().map(|deb| deb.id.clone()).collect();
        packages.sort();
        Self::select(release, image, &files, wanted, packages)
    }

    /// Takes what is wanted out of files of the host: a bzImage and `/lib/modules/RELEASE`.
    ///
    /// # Errors
    /// If they can't be read, or don't hold what is wanted.
    pub fn from_files(
        image: &Path,
        folder: &Path,
        wanted: &[WantedModule],
    ) -> Result<Self, KernelError> {
        let bytes = std::fs::read(image).map_err(|source| KernelError::Read {
            key: "kernel.image",
            path: image.into(),
            source,
        })?;
        let release = release_of(&image.display().to_string(), &bytes)?;
        let mut files = ModuleFiles::default();
        walk(folder, &mut |path| {
            let below = path.strip_prefix(folder).unwrap_or(path).to_string_lossy();
            if ModuleFiles::takes(&below) {
                files.add(&below, std::fs::read(path)?);
            }
            Ok(())
        })
        .map_err(|(path, source)| KernelError::Read {
            key: "kernel.modules",
            path,
            source,
        })?;
        check_complete(&files, &release, || vec![folder.display().to_string()])?;
        Self::select(release, bytes, &files, wanted, Vec::new())
    }

    fn select(
        release: String,
        image: Vec<u8>,
        files: &ModuleFiles,
        wanted: &[WantedModule],
        packages: Vec<PackageId>,
    ) -> Result<Self, KernelError> {
        let (resolution, modules) = files.resolve(wanted, &release)?;
        Ok(Self {
            release,
            image,
            modules,
            resolution,
            packages,
        })
    }

    /// All of it in one cpio archive, for a cache.
    ///
    /// # Errors
    /// If a part is larger than the format holds.
    pub fn to_archive(&self) -> Result<Vec<u8>, CpioError> {
        let index = ArchiveIndex {
            release: self.release.clone(),
            resolution: self.resolution.clone(),
            packages: self.packages.clone(),
        };
        let mut tree = Tree::new();
        let mut add = |path: &str, content: &[u8]| {
            tree.insert(path.into(), Entry::file(content.to_vec(), 0o644));
        };
        add(IMAGE, &self.image);
        for module in &self.modules {
            add(&module.file, &module.bytes);
        }
        // Texts and lists of texts always have a JSON form.
        add(INDEX, &serde_json::to_vec(&index).unwrap_or_default());
        cpio::write(&tree, 0)
    }

    /// Reads what [`Kernel::to_archive`] wrote.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn from_archive(archive: &[u8]) -> Result<Self, KernelError> {
        let bad = |problem: String| KernelError::Archive(problem);
        let mut tree = cpio::read(archive).map_err(|e| bad(e.to_string()))?;
        let mut take = |path: &str| match tree.remove(path) {
            Some(Entry {
                kind: Kind::File(bytes),
                ..
            }) => Ok(bytes),
            _ => Err(bad(format!("it has no file `{path}`"))),
        };
        let index: ArchiveIndex =
            serde_json::from_slice(&take(INDEX)?).map_err(|e| bad(format!("{INDEX}: {e}")))?;
        let image = take(IMAGE)?;
        let modules = index
            .resolution
            .load
            .iter()
            .map(|name| {
                let file = format!("{name}.ko");
                Ok(Module {
                    name: name.clone(),
                    bytes: take(&file)?,
                    file,
                })
            })
            .collect::<Result<_, KernelError>>()?;
        Ok(Self {
            release: index.release,
            image,
            modules,
            resolution: index.resolution,
            packages: index.packages,
        })
    }
}

/// The release that a kernel image says it is.
fn release_of(path: &str, image: &[u8]) -> Result<String, KernelError> {
    BzImage::parse(image)
        .map(|image| image.release.to_string())
        .map_err(|source| KernelError::Image {
            path: path.into(),
            source,
        })
}

/// The release and the rest of a path like `usr/lib/modules/RELEASE/kernel/...`, where the file is
/// one that module resolution reads.
fn module_tree_path(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix("usr/").unwrap_or(path);
    let (release, below) = path.strip_prefix("lib/modules/")?.split_once('/')?;
    ModuleFiles::takes(below).then_some((release, below))
}

/// Whether a package's file is the kernel image: in `/boot`, or from Linux 7 on beside the modules.
fn is_image(path: &str) -> bool {
    path.starts_with("boot/vmlinuz-")
        || path
            .strip_prefix("usr/lib/modules/")
            .and_then(|rest| rest.split_once('/'))
            .is_some_and(|(_, file)| file == "vmlinuz")
}

/// Whether there is enough to resolve modules with.
fn check_complete(
    files: &ModuleFiles,
    release: &str,
    searched: impl Fn() -> Vec<String>,
) -> Result<(), KernelError> {
    let release = release.to_string();
    if files.is_empty() {
        return Err(KernelError::NoModules {
            release,
            searched: searched(),
        });
    }
    if !files.knows_builtin() {
        return Err(KernelError::NoBuiltinList {
            release,
            searched: searched(),
        });
    }
    Ok(())
}

/// Visits every file below a folder, without following links to folders.
fn walk(
    folder: &Path,
    visit: &mut impl FnMut(&Path) -> io::Result<()>,
) -> Result<(), (PathBuf, io::Error)> {
    let entries = std::fs::read_dir(folder).map_err(|e| (folder.into(), e))?;
    for entry in entries {
        let entry = entry.map_err(|e| (folder.into(), e))?;
        let path = entry.path();
        let is_folder = entry.file_type().map_err(|e| (path.clone(), e))?.is_dir();
        if is_folder {
            walk(&path, visit)?;
        } else {
            visit(&path).map_err(|e| (path, e))?;
        }
    }
    Ok(())
}
