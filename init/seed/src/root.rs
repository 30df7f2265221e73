//! What the image has that a seed can build on: programs, users and groups.

use std::fs;
use std::path::PathBuf;

/// Where programs are looked up that a command names without their folder: a service's search path.
const PATH: [&str; 4] = ["/bin", "/sbin", "/usr/bin", "/usr/sbin"];

/// The longest `passwd` or `group` file that is read.
const ACCOUNTS_MAX: u64 = 1 << 20;

/// The image's root folder, or that nothing is known of it.
#[derive(Clone, Debug, Default)]
pub struct Root {
    path: Option<PathBuf>,
    users: String,
    groups: String,
}

impl Root {
    /// No image is known, as on a host: it has nothing.
    #[must_use]
    pub fn unknown() -> Self {
        Self::default()
    }

    /// The image whose root folder this is. Its users and groups are read now.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        let accounts = |name: &str| {
            let file = path.join("etc").join(name);
            match fs::metadata(&file) {
                Ok(found) if found.is_file() && found.len() <= ACCOUNTS_MAX => {
                    fs::read_to_string(&file).unwrap_or_default()
                }
                _ => String::new(),
            }
        };
        Self {
            users: accounts("passwd"),
            groups: accounts("group"),
            path: Some(path),
        }
    }

    /// The absolute path of this program, which may be named without its folder; none where the image
    /// lacks it.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<String> {
        let is_there = |path: &str| {
            let root = self.path.as_ref()?;
            let found = fs::metadata(root.join(path.trim_start_matches('/'))).ok()?;
            found.is_file().then(|| path.to_owned())
        };
        if name.starts_with('/') {
            return is_there(name);
        }
        if name.is_empty() || name.contains('/') {
            return None;
        }
        PATH.iter()
            .find_map(|folder| is_there(&format!("{folder}/{name}")))
    }

    /// The number of this user (passwd(5)).
    #[must_use]
    pub fn user(&self, name: &str) -> Option<u32> {
        number(&self.users, name)
    }

    /// The number of this group (group(5)).
    #[must_use]
    pub fn group(&self, name: &str) -> Option<u32> {
        number(&self.groups, name)
    }
}

/// The third field of the line whose first field is this name; -1 is no user and no group.
fn number(accounts: &str, name: &str) -> Option<u32> {
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    };
    let id = accounts.lines().find_map(of_line)?;
    Some(id).filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_users_and_groups_are_the_images() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["etc", "bin", "usr/bin"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        fs::write(
            at("etc/passwd"),
            "root:x:0:0::/:/bin/sh\napp:x:1500:1501::/:/x\nbad:x:-1:0\n",
        )
        .unwrap();
        fs::write(at("etc/group"), "app:x:1501:\n").unwrap();
        fs::write(at("bin/sh"), "").unwrap();
        let root = Root::at(folder.path().to_owned());
        assert_eq!(root.program("sh").as_deref(), Some("/bin/sh"));
        assert_eq!(root.program("/bin/sh").as_deref(), Some("/bin/sh"));
        for none in ["", "bin/sh", "/bin", "/bin/x", "x"] {
            assert_eq!(root.program(none), None, "{none}");
        }
        assert_eq!(root.user("app"), Some(1500));
        assert_eq!(root.group("app"), Some(1501));
        assert_eq!((root.user("bad"), root.user("x")), (None, None));
        let unknown = Root::unknown();
        assert_eq!(
            (unknown.program("/bin/sh"), unknown.user("root")),
            (None, None)
        );
    }
}
