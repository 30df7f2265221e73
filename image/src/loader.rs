//! The libraries of a program, as its dynamic linker finds them: glibc's as in ld.so(8), musl's as in
//! its ldso/dynlink.c. What a program opens by itself while it runs (dlopen(3)) is not known here.

use std::borrow::Cow;

use thiserror::Error;

use crate::cpio::{Kind, Tree};
use crate::elf::{self, Object};
use crate::lookup;

/// Where Debian's and Ubuntu's linker looks, for one whose own list can't be read.
const USUAL_FOLDERS: [&str; 4] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib",
    "/usr/lib",
];

/// Where musl's linker looks where no file names other folders.
const MUSL_FOLDERS: [&str; 3] = ["/lib", "/usr/local/lib", "/usr/lib"];

/// The libraries that are in musl's linker itself: `lib`, one of these, and anything.
const MUSL_OWN: [&str; 7] = ["c.", "pthread.", "rt.", "m.", "dl.", "util.", "xnet."];

/// More objects than this are no program's.
const OBJECTS_MAX: usize = 4096;

/// The root folder that a program is to find its libraries in.
pub trait Root {
    /// The content of the file that this absolute path leads to; none where there is no file.
    fn file(&self, path: &str) -> Option<Cow<'_, [u8]>>;

    /// The names of what is in the folder that this absolute path leads to.
    fn names(&self, folder: &str) -> Vec<String>;
}

impl Root for Tree {
    fn file(&self, path: &str) -> Option<Cow<'_, [u8]>> {
        match &lookup::find(self, path)?.1.kind {
            Kind::File(bytes) => Some(Cow::Borrowed(bytes)),
            Kind::Directory | Kind::Symlink(_) | Kind::CharacterDevice { .. } => None,
        }
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let resolved = lookup::place(self, &format!("{folder}/x")).unwrap_or_default();
        let prefix = resolved.trim_end_matches('x');
        let paths = self.keys().filter_map(|path| path.strip_prefix(prefix));
        let names = paths.filter(|name| !name.contains('/'));
        names.map(str::to_owned).collect()
    }
}

/// A program whose libraries are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Its path in the root in which it lies now.
    pub at: &'a str,
    /// Its path in the image.
    pub place: &'a str,
    /// What is in it.
    pub bytes: &'a [u8],
}

/// Folders that count beside those that objects and the linker name themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Folders<'a> {
    /// `LD_LIBRARY_PATH`.
    pub library_path: &'a str,
    /// Those of the root's `ld.so.conf`, which the linker knows by its cache.
    pub configured: &'a [String],
}

/// A file that a program needs to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// Its path in the image.
    pub place: String,
    /// Its path in the root in which it was found.
    pub at: String,
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Where a link to it lets the linker find it that has no cache, if it was found by the root's
    /// `ld.so.conf` alone.
    pub link: Option<String>,
}

/// A program that can't be started.
#[derive(Debug, Error)]
pub enum LoaderError {
    /// It is no ELF file, or a broken one.
    #[error("{file} is no whole ELF file: {problem}")]
    NotElf {
        /// The file.
        file: String,
        /// What the reader says.
        problem: goblin::error::Error,
    },
    /// It is nothing that can be started.
    #[error("{0} is an ELF file, but no program: it has not been linked")]
    NotLinked(String),
    /// It is for another machine.
    #[error("{file} is for {machine}, and the guest is x86-64")]
    Machine {
        /// The file.
        file: String,
        /// Which processor it is for.
        machine: String,
    },
    /// Its dynamic linker is not there, or none for it.
    #[error("{file} needs the dynamic linker {interpreter}")]
    Interpreter {
        /// The program.
        file: String,
        /// The linker's path.
        interpreter: String,
    },
    /// A library is not there.
    #[error("{needed_by} needs the library {library}, which is looked for in {folders}")]
    Library {
        /// The library's name or path (`DT_NEEDED`).
        library: String,
        /// What needs it.
        needed_by: String,
        /// The folders in which it would be found, in the linker's order.
        folders: String,
    },
    /// It has no end.
    #[error("{0} needs more than {OBJECTS_MAX} libraries")]
    TooMany(String),
}

/// An object in memory, as the linker keeps it.
struct Loaded {
    object: Object,
    /// In the root, and in the image.
    at: String,
    place: String,
    /// What it was first needed by.
    loader: Option<usize>,
}

/// A folder in the root, and the same in the image.
struct Folder {
    at: String,
    place: String,
    by_configuration: bool,
}

/// The dynamic linker and the libraries that a program needs, directly or through each other; none
/// for a static one.
///
/// # Errors
/// [`LoaderError`]; the first thing that is missing.
pub fn needs(
    root: &dyn Root,
    program: Program<'_>,
    folders: Folders<'_>,
) -> Result<Vec<Needed>, LoaderError> {
    let file = || program.place.to_owned();
    let object = parse(program.place, program.bytes)?;
    if !object.is_loadable {
        return Err(LoaderError::NotLinked(file()));
    }
    if !object.runs_on_x86_64() {
        return Err(LoaderError::Machine {
            file: file(),
            machine: object.machine(),
        });
    }
    let Some(interpreter) = object.interpreter.clone() else {
        return Ok(Vec::new());
    };
    let linker = root.file(&interpreter).filter(|bytes| {
        Object::parse(bytes).is_ok_and(|linker| linker.is_loadable && linker.fits(&object))
    });
    let Some(linker) = linker else {
        return Err(LoaderError::Interpreter {
            file: file(),
            interpreter,
        });
    };
    let mut search = Search {
        root,
        folders,
        own: own_folders(&interpreter, &linker),
        is_musl: is_musl(&interpreter),
        loaded: vec![Loaded {
            object,
            at: program.at.to_owned(),
            place: program.place.to_owned(),
            loader: None,
        }],
        linker: base_name(&interpreter).to_owned(),
        found: vec![Needed {
            place: interpreter.clone(),
            at: interpreter,
            bytes: linker.into_owned(),
            link: None,
        }],
    };
    let mut next = 0;
    while next < search.loaded.len() {
        for name in search.loaded[next].object.needed.clone() {
            search.load(&name, next)?;
        }
        if search.loaded.len() > OBJECTS_MAX {
            return Err(LoaderError::TooMany(file()));
        }
        next += 1;
    }
    Ok(search.found)
}

struct Search<'a> {
    root: &'a dyn Root,
    folders: Folders<'a>,
    /// The linker's own folders.
    own: Vec<String>,
    is_musl: bool,
    /// The linker's name, by which libraries may need it.
    linker: String,
    /// In the order in which the linker loads them; the program is the first.
    loaded: Vec<Loaded>,
    found: Vec<Needed>,
}

impl Search<'_> {
    /// Finds what an object needs by this name.
    fn load(&mut self, name: &str, loader: usize) -> Result<(), LoaderError> {
        if self.has(name) {
            return Ok(());
        }
        let by = &self.loaded[loader];
        let folders = if name.contains('/') {
            Vec::new()
        } else {
            self.folders_for(loader)
        };
        let in_folders = folders.iter().map(|folder| Folder {
            at: format!("{}/{name}", folder.at),
            place: clean(&format!("{}/{name}", folder.place)),
            by_configuration: folder.by_configuration,
        });
        let by_path = name.contains('/').then(|| expand(name, by)).flatten();
        for file in in_folders.chain(by_path) {
            let Some(bytes) = self.root.file(&file.at) else {
                continue;
            };
            // The linker passes over what is for another machine.
            let Ok(object) = Object::parse(&bytes) else {
                continue;
            };
            if !object.fits(&by.object) {
                continue;
            }
            self.found.push(Needed {
                place: file.place.clone(),
                at: file.at.clone(),
                bytes: bytes.into_owned(),
                link: file
                    .by_configuration
                    .then(|| format!("{}/{name}", self.own[0])),
            });
            self.loaded.push(Loaded {
                object,
                at: file.at,
                place: file.place,
                loader: Some(loader),
            });
            return Ok(());
        }
        let mut places: Vec<String> = Vec::new();
        for folder in folders {
            let place = clean(&folder.place);
            if !places.contains(&place) {
                places.push(place);
            }
        }
        Err(LoaderError::Library {
            library: name.to_owned(),
            needed_by: by.place.clone(),
            folders: if places.is_empty() {
                "no folder".to_owned()
            } else {
                places.join(", ")
            },
        })
    }

    /// Whether the process has it already.
    fn has(&self, name: &str) -> bool {
        let own_of_musl = || {
            let rest = name.strip_prefix("lib");
            rest.is_some_and(|rest| MUSL_OWN.iter().any(|own| rest.starts_with(own)))
        };
        let is_it = |loaded: &Loaded| {
            loaded.object.soname.as_deref() == Some(name) || base_name(&loaded.at) == name
        };
        name == self.linker
            || (self.is_musl && own_of_musl())
            || self.loaded.iter().skip(1).any(is_it)
    }

    /// Where what this object needs is looked for, in order.
    fn folders_for(&self, loader: usize) -> Vec<Folder> {
        let by = &self.loaded[loader];
        let plain = |folder: &str, by_configuration| Folder {
            at: folder.to_owned(),
            place: folder.to_owned(),
            by_configuration,
        };
        let library_path = || {
            let folders = self.folders.library_path.split([':', ';']);
            let folders = folders.filter(|folder| folder.starts_with('/'));
            folders.map(|folder| plain(folder, false))
        };
        let mut folders: Vec<Folder> = Vec::new();
        if self.is_musl {
            // It makes no difference between the two.
            folders.extend(library_path());
            for of in self.chain(loader) {
                let paths = of.object.rpath.iter().chain(&of.object.runpath);
                folders.extend(paths.filter_map(|path| expand(path, of)));
            }
        } else {
            if by.object.runpath.is_empty() {
                let without_runpath = |of: &&Loaded| of.object.runpath.is_empty();
                for of in self.chain(loader).filter(without_runpath) {
                    folders.extend(of.object.rpath.iter().filter_map(|path| expand(path, of)));
                }
            }
            folders.extend(library_path());
            folders.extend(by.object.runpath.iter().filter_map(|path| expand(path, by)));
            let configured = self.folders.configured.iter();
            folders.extend(configured.map(|folder| plain(folder, !self.own.contains(folder))));
        }
        if !by.object.no_default_folders {
            folders.extend(self.own.iter().map(|folder| plain(folder, false)));
        }
        folders
    }

    /// The object, what it was needed by, and so on up to the program.
    fn chain(&self, object: usize) -> impl Iterator<Item = &Loaded> {
        let up = |of: &&Loaded| of.loader.map(|loader| &self.loaded[loader]);
        std::iter::successors(Some(&self.loaded[object]), up)
    }
}

/// The folder or file that an object names, `$ORIGIN` being where it lies itself. None for one that is
/// relative to wherever the process is, or of a token that no build makes.
fn expand(path: &str, of: &Loaded) -> Option<Folder> {
    let expand = |of: &str| {
        let origin = of.rsplit_once('/').map_or("", |(folder, _)| folder);
        path.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)
    };
    let (at, place) = (expand(&of.at), expand(&of.place));
    let is_plain = |path: &str| path.starts_with('/') && !path.contains('$');
    (is_plain(&at) && is_plain(&place)).then_some(Folder {
        at,
        place,
        by_configuration: false,
    })
}

/// Where a dynamic linker looks by itself: glibc's carries the list, one folder after the other with a
/// `/` at its end and a NUL behind it (elf/dl-load.c, `system_dirs`).
fn own_folders(path: &str, linker: &[u8]) -> Vec<String> {
    if is_musl(path) {
        return MUSL_FOLDERS.map(str::to_owned).to_vec();
    }
    let mut folders: Vec<String> = Vec::new();
    for text in linker.split(|&byte| byte == 0) {
        let Some(folder) = text.strip_suffix(b"/").and_then(|t| str::from_utf8(t).ok()) else {
            continue;
        };
        let is_folder = folder.starts_with('/')
            && folder.contains("lib")
            && folder.bytes().all(|b| b.is_ascii_graphic());
        if is_folder && !folders.iter().any(|known| known == folder) {
            folders.push(folder.to_owned());
        }
    }
    if folders.is_empty() {
        folders = USUAL_FOLDERS.map(str::to_owned).to_vec();
    }
    folders
}

fn is_musl(interpreter: &str) -> bool {
    base_name(interpreter).starts_with("ld-musl-")
}

fn parse(file: &str, bytes: &[u8]) -> Result<Object, LoaderError> {
    if !bytes.starts_with(elf::MAGIC) {
        let problem = goblin::error::Error::Malformed("it does not begin as one".into());
        return Err(LoaderError::NotElf {
            file: file.to_owned(),
            problem,
        });
    }
    Object::parse(bytes).map_err(|problem| LoaderError::NotElf {
        file: file.to_owned(),
        problem,
    })
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// A path without `.`, `..` and empty parts.
fn clean(path: &str) -> String {
    let cleaned = lookup::resolve(path, lookup::Last::Kept, |_| None);
    format!("/{}", cleaned.unwrap_or_default())
}
