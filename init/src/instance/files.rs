//! Writes a seed's files: all of them or none.
//!
//! Everything is written beside its place first, under a name of PID 1's own, and takes its place
//! only when all the rest is there too. No part of a path is followed through a symbolic link; one that
//! stands in a file's own place, as the image's `/etc/resolv.conf`, is replaced. Where they can't all be
//! written, the folders that were made for them are gone again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use noonmark_contract::config::values::GuestPath;
use noonmark_contract::seed::instance::{CONTENT_MAX, SeedFile};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, mkdirat, openat,
    renameat, unlinkat,
};
use rustix::io::Errno;
use thiserror::Error;

/// A seed's file that can't be written.
#[derive(Debug, Error)]
#[error("the file {path}: {problem}")]
pub struct FileError {
    path: String,
    problem: String,
}

/// A file that is written, but not in its place yet.
struct Staged {
    folder: OwnedFd,
    name: String,
    temporary: String,
}

/// A folder that was made: the one that it is in, and its name.
type MadeFolder = (OwnedFd, String);

/// Writes them below the folder `root`, which for PID 1 is `/`.
///
/// # Errors
/// Where one of them can't be written; then none is.
pub fn write_all(root: &str, files: &[SeedFile]) -> Result<(), FileError> {
    check_nesting(files)?;
    let mut staged: BTreeMap<&GuestPath, Staged> = BTreeMap::new();
    let mut made = Vec::new();
    let mut outcome = Ok(());
    for (index, file) in files.iter().enumerate() {
        let wrong = |problem: String| FileError {
            path: file.path.to_string(),
            problem,
        };
        let before = staged.get(&file.path);
        match stage(root, file, before, index, &mut made) {
            Ok(new) => {
                // What an earlier entry for the same path has staged is in the new one, or gone.
                if let Some(old) = staged.insert(&file.path, new) {
                    let _ = unlinkat(&old.folder, old.temporary.as_str(), AtFlags::empty());
                }
            }
            Err(problem) => {
                outcome = Err(wrong(problem));
                break;
            }
        }
    }
    for (path, file) in &staged {
        let place = |file: &Staged| {
            renameat(
                &file.folder,
                file.temporary.as_str(),
                &file.folder,
                file.name.as_str(),
            )
        };
        if outcome.is_ok()
            && let Err(errno) = place(file)
        {
            outcome = Err(FileError {
                path: path.to_string(),
                problem: errno.to_string(),
            });
        }
        if outcome.is_err() {
            let _ = unlinkat(&file.folder, file.temporary.as_str(), AtFlags::empty());
        }
    }
    if outcome.is_err() {
        for (folder, name) in made.iter().rev() {
            // One that is not empty holds what was put in its place before the failure.
            let _ = unlinkat(folder, name.as_str(), AtFlags::REMOVEDIR);
        }
    }
    outcome
}

/// A file can't be a folder on another one's path as well.
fn check_nesting(files: &[SeedFile]) -> Result<(), FileError> {
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    for path in &paths {
        let mut folder = Path::new(path);
        while let Some(above) = folder.parent() {
            if above.to_str().is_some_and(|above| paths.contains(above)) {
                return Err(FileError {
                    path: (*path).to_owned(),
                    problem: format!("the seed has a file `{}` as well", above.display()),
                });
            }
            folder = above;
        }
    }
    Ok(())
}

fn stage(
    root: &str,
    file: &SeedFile,
    before: Option<&Staged>,
    index: usize,
    made: &mut Vec<MadeFolder>,
) -> Result<Staged, String> {
    let (folder, name) = folder_of(root, file.path.as_str(), made)?;
    let temporary = format!(".noonmark-seed.{index}");
    // Whatever stands there must be a plain file or a link: a folder or a device is not replaced.
    let existing = open_existing(&folder, &name)?;
    let mut content = Vec::new();
    if file.append {
        let earlier = match before {
            Some(staged) => open_existing(&staged.folder, &staged.temporary)?,
            None => existing,
        };
        match earlier {
            Existing::Plain(earlier) => content = read_all(&earlier)?,
            Existing::Nothing => {}
            Existing::Link => return Err("it is a symbolic link, and none is followed".into()),
        }
    }
    content.extend_from_slice(&file.content);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(&folder, temporary.as_str(), flags, Mode::RUSR | Mode::WUSR);
    let target = opened.map_err(|errno| errno.to_string())?;
    let written = write_to(&target, &content, file);
    if let Err(errno) = written {
        let _ = unlinkat(&folder, temporary.as_str(), AtFlags::empty());
        return Err(errno.to_string());
    }
    Ok(Staged {
        folder,
        name,
        temporary,
    })
}

fn write_to(target: &OwnedFd, mut content: &[u8], file: &SeedFile) -> Result<(), Errno> {
    while !content.is_empty() {
        match rustix::io::write(target, content) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(count) => content = &content[count..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    // The owner first: changing it takes set-user-ID bits away.
    fchown(
        target,
        Some(Uid::from_raw(file.uid)),
        Some(Gid::from_raw(file.gid)),
    )?;
    fchmod(target, Mode::from_raw_mode(file.mode.get()))
}

/// Opens the folder that a file is in, making what is missing of it, and gives the file's name.
fn folder_of(
    root: &str,
    path: &str,
    all_made: &mut Vec<MadeFolder>,
) -> Result<(OwnedFd, String), String> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let opened = openat(CWD, root, flags, Mode::empty());
    let mut folder = opened.map_err(|errno| format!("{root}: {errno}"))?;
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let name = parts.pop().ok_or("no name")?;
    for part in parts {
        let made = mkdirat(&folder, part, Mode::from_raw_mode(0o755));
        if let Err(errno) = made
            && errno != Errno::EXIST
        {
            return Err(format!("the folder `{part}` in its path: {errno}"));
        }
        // ENOTDIR or ELOOP where it is a file or a symbolic link.
        let within = openat(&folder, part, flags, Mode::empty()).map_err(|errno| {
            format!("`{part}` in its path is no folder (links are not followed): {errno}")
        })?;
        let above = std::mem::replace(&mut folder, within);
        if made.is_ok() {
            all_made.push((above, part.to_owned()));
        }
    }
    Ok((folder, name.to_owned()))
}

/// What stands in a file's place and may be replaced.
enum Existing {
    Nothing,
    Plain(OwnedFd),
    Link,
}

/// Opens a plain file that is there.
fn open_existing(folder: impl AsFd, name: &str) -> Result<Existing, String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(Existing::Nothing),
        Err(Errno::LOOP) => return Ok(Existing::Link),
        Err(errno) => return Err(format!("it can't be replaced: {errno}")),
    };
    let stat = fstat(&file).map_err(|errno| errno.to_string())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("it is there, and no plain file".into());
    }
    Ok(Existing::Plain(file))
}

fn read_all(file: &OwnedFd) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match rustix::io::read(file, chunk.as_mut_slice()) {
            Ok(0) => return Ok(content),
            Ok(count) => content.extend_from_slice(&chunk[..count]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.to_string()),
        }
        if content.len() > CONTENT_MAX {
            return Err("it is too large to be appended to".into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use tempfile::TempDir;

    use super::*;

    fn file(path: &str, content: &str, append: bool) -> SeedFile {
        // The test's own user: another's can't be given.
        SeedFile {
            path: path.parse().unwrap(),
            mode: noonmark_contract::config::values::Mode::try_from(0o640).unwrap(),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            append,
            length: content.len(),
            content: content.into(),
        }
    }

    fn root() -> (TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        (folder, path)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn files_are_written_with_their_folders_and_modes_and_appended_to() {
        let (folder, root) = root();
        fs::write(folder.path().join("old"), "a").unwrap();
        let files = [
            file("/etc/x/motd", "hi", false),
            file("/old", "b", true),
            file("/old", "c", true),
            file("/etc/x/motd", "ho", false),
        ];
        write_all(&root, &files).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("etc/x/motd"), "ho");
        assert_eq!(read("old"), "abc");
        let mode = fs::metadata(folder.path().join("old")).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o640);
        assert_eq!(names(&folder.path().join("etc/x")), ["motd"]);
        assert_eq!(names(folder.path()).len(), 2);
    }

    #[test]
    fn one_that_cant_be_written_leaves_all_others_as_they_were() {
        let (folder, root) = root();
        fs::write(folder.path().join("old"), "a").unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        for bad in ["/folder", "/old/below"] {
            let files = [file("/old", "b", false), file(bad, "x", false)];
            let error = write_all(&root, &files).unwrap_err().to_string();
            assert!(error.contains(bad), "{error}");
            assert_eq!(fs::read_to_string(folder.path().join("old")).unwrap(), "a");
            assert_eq!(names(folder.path()).len(), 2);
        }
    }

    #[test]
    fn a_file_that_is_a_folder_of_another_leaves_nothing_behind() {
        let (folder, root) = root();
        for order in [["/0", "/a", "/a/b"], ["/a/b", "/a", "/0"]] {
            let files = order.map(|path| file(path, "x", false));
            let error = write_all(&root, &files).unwrap_err().to_string();
            assert!(error.contains("/a/b"), "{error}");
            assert!(names(folder.path()).is_empty());
        }
        fs::create_dir(folder.path().join("stands")).unwrap();
        let files = ["/new/deep/x", "/stands"].map(|path| file(path, "x", false));
        assert!(write_all(&root, &files).is_err());
        assert_eq!(names(folder.path()), ["stands"]);
    }

    #[test]
    fn no_link_leads_a_file_elsewhere() {
        let (folder, root) = root();
        let (outside, outside_path) = self::root();
        fs::write(outside.path().join("target"), "a").unwrap();
        symlink(&outside_path, folder.path().join("way")).unwrap();
        symlink(outside.path().join("target"), folder.path().join("link")).unwrap();
        for (bad, append) in [("/way/target", false), ("/link", true)] {
            let files = [file(bad, "x", append)];
            assert!(write_all(&root, &files).is_err(), "{bad}");
        }
        write_all(&root, &[file("/link", "x", false)]).unwrap();
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!(read(&outside.path().join("target")), "a");
        assert_eq!(read(&folder.path().join("link")), "x");
        let link = fs::symlink_metadata(folder.path().join("link")).unwrap();
        assert!(link.is_file());
    }
}
