//! Whether each service of an image can be started in it: its program is there, its user may execute
//! it, and what the program itself needs to be started is there too.

use noonmark_contract::config::{Capability, SEARCH_PATH, Service};
use thiserror::Error;

use crate::cpio::{Entry, Kind, Tree};
use crate::elf;
use crate::layout::MOUNT_POINTS;
use crate::loader::{self, Folders, LoaderError, Program};
use crate::lookup;
use crate::spec::Spec;

/// So many scripts may be each other's interpreters (fs/exec.c, `exec_binprm`).
const SCRIPTS_MAX: usize = 5;

/// As much of a script's first line as the kernel reads (include/uapi/linux/binfmts.h,
/// `BINPRM_BUF_SIZE`).
const SCRIPT_LINE_MAX: usize = 256;

/// What glibc's linker looks libraries up in, beside folders. Whoever brings one knows where they are.
const LINKER_CACHE: &str = "/etc/ld.so.cache";

/// The folders of [`MOUNT_POINTS`] from which PID 1 lets nothing be executed.
const NOT_EXECUTED: [&str; 3] = ["/dev", "/run", "/sys"];

const READ: u32 = 0o4;
const EXECUTE: u32 = 0o1;

/// A service that could not be started.
#[derive(Debug, Error)]
#[error("the service `{service}` of the image could not be started: {problem}")]
pub struct ExecError {
    /// Its name.
    pub service: String,
    /// Why, and what can be done.
    pub problem: String,
}

/// Checks the spec's services in the whole tree of the image.
///
/// # Errors
/// The first that could not be started.
pub fn check(spec: &Spec, tree: &Tree) -> Result<(), ExecError> {
    for service in &spec.services {
        let Some(program) = service.exec.first() else {
            continue;
        };
        let image = Image {
            spec,
            tree,
            service,
        };
        image
            .program(program, SCRIPTS_MAX)
            .map_err(|problem| ExecError {
                service: service.name.clone(),
                problem,
            })?;
    }
    Ok(())
}

/// An image as one of its services sees it.
struct Image<'a> {
    spec: &'a Spec,
    tree: &'a Tree,
    service: &'a Service,
}

impl Image<'_> {
    /// Checks a program or script at this path.
    fn program(&self, path: &str, scripts: usize) -> Result<(), String> {
        let Some((place, entry)) = self.lookup(path)? else {
            return Ok(());
        };
        let Kind::File(bytes) = &entry.kind else {
            return Err(format!("{path} is no file"));
        };
        self.access(path, place, entry, EXECUTE)?;
        if let Some(line) = bytes.strip_prefix(b"#!") {
            self.access(path, place, entry, READ)?;
            return self.script(path, line, scripts);
        }
        if !bytes.starts_with(elf::MAGIC) {
            return Err(format!(
                "{path} is neither an ELF program nor a script whose first line begins with #!"
            ));
        }
        let env = &self.service.env;
        let folders = Folders {
            library_path: env.get("LD_LIBRARY_PATH").map_or("", String::as_str),
            configured: &self.cached_folders(),
        };
        let program = Program {
            at: path,
            place: path,
            bytes,
        };
        let needed = loader::needs(self.tree, program, folders).map_err(|error| missing(&error))?;
        for file in needed {
            if let Some((place, entry)) = lookup::find(self.tree, &file.at) {
                self.access(&file.at, place, entry, READ)?;
            }
        }
        Ok(())
    }

    /// What a path leads to; none where that is on a file system that is mounted when the image runs.
    fn lookup(&self, path: &str) -> Result<Option<(&str, &Entry)>, String> {
        if let Some((place, entry)) = lookup::find(self.tree, path) {
            return Ok(Some((place, entry)));
        }
        let place = lookup::place(self.tree, path).unwrap_or_default();
        let place = format!("/{place}");
        let is_on = |folder: &str| {
            let rest = place.strip_prefix(folder);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        if let Some(disk) = self.spec.mounts.iter().find(|d| is_on(d.path.as_str())) {
            if disk.exec {
                return Ok(None);
            }
            return Err(format!(
                "{path} is on the disk that is mounted on {}, from which nothing can be executed; \
                 give that [[mount]] `exec = true`",
                disk.path
            ));
        }
        if let Some(folder) = NOT_EXECUTED.iter().find(|folder| is_on(folder)) {
            return Err(format!(
                "{path} is on {folder}, from which PID 1 lets nothing be executed; put the program \
                 elsewhere"
            ));
        }
        if MOUNT_POINTS.iter().any(|(folder, _)| is_on(folder)) {
            return Ok(None);
        }
        Err(format!(
            "{path} is not in the image{}; put it there with [[file]], [[tree]], [[program]] or \
             [[package]]",
            self.same_name(path)
        ))
    }

    /// Where a file of that name is instead.
    fn same_name(&self, path: &str) -> String {
        let end = format!("/{}", path.rsplit('/').next().unwrap_or_default());
        let mut others = self.tree.iter().filter(|(other, entry)| {
            entry.kind != Kind::Directory && format!("/{other}").ends_with(&end)
        });
        let other = others.next().map(|(other, _)| other);
        other.map_or_else(String::new, |other| format!(", but /{other} is"))
    }

    /// Whether the service's user may do that with a file, and come to it.
    fn access(&self, path: &str, place: &str, entry: &Entry, wanted: u32) -> Result<(), String> {
        let user = self.service.user_id();
        for (at, _) in place.match_indices('/') {
            let folder = &place[..at];
            let entry = self.tree.get(folder);
            if entry.is_some_and(|entry| !self.may(entry, EXECUTE)) {
                return Err(format!(
                    "{path} lies below /{folder}, into which its user {user} may not go (mode {})",
                    entry.map_or_else(String::new, mode)
                ));
            }
        }
        if self.may(entry, wanted) {
            return Ok(());
        }
        let (what, bit) = match wanted {
            EXECUTE => ("execute", "0o755"),
            _ => ("read", "0o644"),
        };
        Err(format!(
            "its user {user} may not {what} {path} (mode {}); give it `mode = {bit}`, or in a \
             [[tree]] its source the right for everybody",
            mode(entry)
        ))
    }

    /// Whether the service's user may do that with an entry (path_resolution(7), "Permissions").
    fn may(&self, entry: &Entry, wanted: u32) -> bool {
        let service = self.service;
        let overrides = service.capabilities.contains(&Capability::DAC_OVERRIDE);
        if service.user_id() == 0 || overrides {
            let nobody_may = entry.permissions & 0o111 == 0;
            return wanted != EXECUTE || entry.kind == Kind::Directory || !nobody_may;
        }
        let shift = if entry.uid == service.user_id() {
            6
        } else if entry.gid == service.group_id() {
            3
        } else {
            0
        };
        entry.permissions >> shift & wanted != 0
    }

    /// Checks what runs a script, by what is behind its `#!`.
    fn script(&self, path: &str, line: &[u8], scripts: usize) -> Result<(), String> {
        if scripts == 0 {
            return Err(format!(
                "{path} is run by too many scripts, one by the other"
            ));
        }
        let line = &line[..line.len().min(SCRIPT_LINE_MAX - 2)];
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        let Some(interpreter) = words.next() else {
            return Err(format!("the first line of {path} names no program"));
        };
        let run_by = |problem: String| format!("{path} is run by {interpreter}: {problem}");
        if interpreter.ends_with('\r') || words.clone().any(|word| word.ends_with('\r')) {
            return Err(format!(
                "the first line of {path} ends with a carriage return"
            ));
        }
        let absolute = match interpreter.starts_with('/') {
            true => interpreter.to_owned(),
            false => format!("{}/{interpreter}", self.service.cwd),
        };
        self.program(&absolute, scripts - 1).map_err(run_by)?;
        if !interpreter.ends_with("/env") {
            return Ok(());
        }
        let Some(name) = words.find(|word| !word.starts_with('-') && !word.contains('=')) else {
            return Ok(());
        };
        let env = &self.service.env;
        let search = env.get("PATH").map_or(SEARCH_PATH, String::as_str);
        let found = search
            .split(':')
            .map(|folder| format!("{folder}/{name}"))
            .find(|path| lookup::find(self.tree, path).is_some());
        match found {
            Some(program) => self.program(&program, scripts - 1).map_err(run_by),
            None => Err(run_by(format!(
                "there is no {name} in {search}{}",
                self.same_name(name)
            ))),
        }
    }

    /// The folders that the image's linker cache, where it has one, may have libraries in: any.
    fn cached_folders(&self) -> Vec<String> {
        if lookup::find(self.tree, LINKER_CACHE).is_none() {
            return Vec::new();
        }
        let mut folders: Vec<String> = self
            .tree
            .iter()
            .filter(|(_, entry)| entry.kind != Kind::Directory)
            .filter_map(|(path, _)| path.rsplit_once('/'))
            .filter(|(_, name)| name.contains(".so"))
            .map(|(folder, _)| format!("/{folder}"))
            .collect();
        folders.dedup();
        folders
    }
}

fn mode(entry: &Entry) -> String {
    format!(
        "{:#o}, of user {} and group {}",
        entry.permissions, entry.uid, entry.gid
    )
}

/// What is said of a program whose parts are missing.
fn missing(error: &LoaderError) -> String {
    let way_out = match error {
        LoaderError::Interpreter { .. } | LoaderError::Library { .. } => {
            ", and the image has none for it; [[program]] takes a program with all that it loads, \
             [[package]] a package with all that it depends on"
        }
        LoaderError::NotElf { .. }
        | LoaderError::NotLinked(_)
        | LoaderError::Machine { .. }
        | LoaderError::TooMany(_) => "",
    };
    format!("{error}{way_out}")
}
