//! How a path leads to a file of a tree: through its symbolic links, as the kernel goes
//! (path_resolution(7)), and never out of it.

use crate::cpio::{Entry, Kind, Tree};

/// So many links one path may go through (Linux: `MAXSYMLINKS`, include/linux/namei.h).
const LINKS_MAX: usize = 40;

/// What a path's last part may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// A link, which is followed.
    Followed,
    /// Whatever it is, it is what is meant.
    Kept,
}

/// The path without leading `/`, `.`, `..` and links; `link` tells what the link at such a path leads
/// to, and none where there is no link. What isn't there is no link either. None where links go in
/// circles.
pub fn resolve(path: &str, last: Last, link: impl Fn(&str) -> Option<String>) -> Option<String> {
    let parts = |path: &str| -> Vec<String> {
        let parts = path.split('/').rev();
        let parts = parts.filter(|part| !matches!(*part, "" | "."));
        parts.map(str::to_owned).collect()
    };
    let mut left = parts(path);
    let mut done = String::new();
    let mut links = 0;
    while let Some(part) = left.pop() {
        let parent = done.rfind('/').unwrap_or(0);
        if part == ".." {
            done.truncate(parent);
            continue;
        }
        let folder = done.len();
        if folder > 0 {
            done.push('/');
        }
        done.push_str(&part);
        if left.is_empty() && last == Last::Kept {
            break;
        }
        if let Some(target) = link(&done) {
            links += 1;
            if links > LINKS_MAX {
                return None;
            }
            done.truncate(if target.starts_with('/') { 0 } else { folder });
            left.extend(parts(&target));
        }
    }
    Some(done)
}

/// The entry that a path leads to, and its own path. A folder that the tree only implies, and a path
/// whose links go in circles, lead to none.
#[must_use]
pub fn find<'a>(tree: &'a Tree, path: &str) -> Option<(&'a str, &'a Entry)> {
    let resolved = resolve(path, Last::Followed, |path| link(tree, path))?;
    let (path, entry) = tree.get_key_value(&resolved)?;
    Some((path, entry))
}

/// Where something goes that is to be at this path: where its folder is a link, to where that leads.
/// None where links go in circles.
#[must_use]
pub fn place(tree: &Tree, path: &str) -> Option<String> {
    resolve(path, Last::Kept, |path| link(tree, path))
}

fn link(tree: &Tree, path: &str) -> Option<String> {
    match &tree.get(path)?.kind {
        Kind::Symlink(target) => Some(target.clone()),
        Kind::File(_) | Kind::Directory | Kind::CharacterDevice { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let file = || Entry::file(b"x".to_vec(), 0o644);
        Tree::from([
            ("lib".into(), Entry::symlink("usr/lib")),
            (
                "usr/lib/libx.so.1".into(),
                Entry::symlink("deep/../libx.so.1.2"),
            ),
            ("usr/lib/libx.so.1.2".into(), file()),
            ("up".into(), Entry::symlink("../../../usr/lib")),
            ("round".into(), Entry::symlink("/about")),
            ("about".into(), Entry::symlink("round/x")),
        ])
    }

    #[test]
    fn a_path_is_found_through_links_of_its_folders_and_its_own() {
        let tree = tree();
        for path in [
            "/lib/libx.so.1",
            "lib/./libx.so.1.2",
            "/up/libx.so.1",
            "//usr/lib/libx.so.1",
        ] {
            let found = find(&tree, path).map(|(path, _)| path);
            assert_eq!(found, Some("usr/lib/libx.so.1.2"), "{path}");
        }
        assert!(find(&tree, "/usr/lib/libx").is_none());
    }

    #[test]
    fn what_is_put_below_a_link_goes_to_where_that_leads() {
        let tree = tree();
        let placed = |path| place(&tree, path);
        assert_eq!(
            placed("/lib/modules/6.1/a.ko").as_deref(),
            Some("usr/lib/modules/6.1/a.ko")
        );
        assert_eq!(
            placed("lib").as_deref(),
            Some("lib"),
            "the link itself can be replaced"
        );
        assert_eq!(
            placed("/../../etc/x").as_deref(),
            Some("etc/x"),
            "nothing is above the root"
        );
    }

    #[test]
    fn links_that_go_in_circles_lead_nowhere() {
        let tree = tree();
        assert!(find(&tree, "/round").is_none());
        assert!(place(&tree, "/round/x").is_none());
    }
}
