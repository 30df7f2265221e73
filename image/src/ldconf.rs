//! The folders that a root's `ld.so.conf` adds to those of the dynamic linker (ldconfig(8)).

use globset::GlobBuilder;

use crate::loader::Root;

const CONFIGURATION: &str = "/etc/ld.so.conf";

/// So deep may files include each other.
const DEPTH_MAX: usize = 4;

/// The folders, in the files' order; none where there is no such file.
pub fn folders(root: &dyn Root) -> Vec<String> {
    let mut folders = Vec::new();
    read(root, CONFIGURATION, DEPTH_MAX, &mut folders);
    folders
}

fn read(root: &dyn Root, file: &str, depth: usize, folders: &mut Vec<String>) {
    let Some(bytes) = root.file(file) else { return };
    let text = String::from_utf8_lossy(&bytes);
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(pattern) = line
            .strip_prefix("include")
            .filter(|p| p.starts_with([' ', '\t']))
        else {
            // A kind of library may stand behind the folder, of systems long gone.
            let folder = line.split('=').next().unwrap_or_default();
            let folder = folder.trim().trim_end_matches('/');
            if folder.starts_with('/') && !folders.iter().any(|known| known == folder) {
                folders.push(folder.to_owned());
            }
            continue;
        };
        for pattern in pattern.split_whitespace().filter(|_| depth > 0) {
            for file in matching(root, pattern) {
                read(root, &file, depth - 1, folders);
            }
        }
    }
}

/// The files of a pattern like `/etc/ld.so.conf.d/*.conf`, by name; a relative one starts where the
/// configuration lies.
fn matching(root: &dyn Root, pattern: &str) -> Vec<String> {
    let pattern = match pattern.starts_with('/') {
        true => pattern.to_owned(),
        false => format!("/etc/{pattern}"),
    };
    let (folder, name) = pattern.rsplit_once('/').unwrap_or(("", &pattern));
    let Ok(glob) = GlobBuilder::new(name).build() else {
        return Vec::new();
    };
    let glob = glob.compile_matcher();
    let mut names = root.names(folder);
    names.retain(|name| glob.is_match(name));
    names.sort();
    let path = |name: &String| format!("{folder}/{name}");
    names.iter().map(path).collect()
}
