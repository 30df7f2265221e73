//! Scripts as cloud-init has them: each a file, which is run when its name's turn comes.

/// Where cloud-init writes the scripts of user-data; those of vendor-data in a folder there.
const SCRIPTS: &str = "/var/lib/cloud/instance/scripts";
const VENDOR: &str = "vendor/";

/// The file among them that cloud-init makes of `runcmd`.
const RUNCMD: &str = "runcmd";

/// The longest name of a file that Linux has.
const NAME_MAX: usize = 255;

/// A text that begins with `#!`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Its name in messages.
    pub name: String,
    /// The file that it is written to.
    pub path: String,
    /// The text.
    pub content: String,
}

impl Script {
    /// The script in the document's part of this number, from 1, which may name its file. Lines that end as
    /// on Windows end as on Linux, if the first one does.
    #[must_use]
    pub fn new(name: &str, is_vendors: bool, part: usize, file: Option<&str>, text: &str) -> Self {
        let folder = if is_vendors { VENDOR } else { "" };
        let named: String = file.unwrap_or_default().chars().filter_map(kept).collect();
        let file = match named.len() {
            1..=NAME_MAX if !named.chars().all(|letter| letter == '.') => named,
            _ => format!("part-{part:03}"),
        };
        let first = text.lines().next().unwrap_or_default();
        let content = match text.as_bytes().get(first.len()) {
            Some(b'\r') => text.replace("\r\n", "\n"),
            _ => text.to_owned(),
        };
        Self {
            name: name.to_owned(),
            path: format!("{SCRIPTS}/{folder}{file}"),
            content,
        }
    }

    /// Whether it is vendor-data's.
    #[must_use]
    pub fn is_vendors(&self) -> bool {
        self.file().starts_with(VENDOR)
    }

    /// Whether it is run before the commands of `runcmd`: all of vendor-data's are, and those whose names
    /// come before that one's.
    #[must_use]
    pub fn is_before_runcmd(&self) -> bool {
        self.is_vendors() || self.file() < RUNCMD
    }

    fn file(&self) -> &str {
        let below = self.path.strip_prefix(SCRIPTS).unwrap_or(&self.path);
        below.trim_start_matches('/')
    }
}

/// Scripts in the order of their turns, vendor-data's first, and then by the names of their files; of several of
/// one name the last one counts, as it is written over the others.
#[must_use]
pub fn in_order(scripts: Vec<Script>) -> Vec<Script> {
    let mut ordered: Vec<Script> = Vec::new();
    for script in scripts {
        let turn = (!script.is_vendors(), &script.path);
        match ordered.binary_search_by(|other| (!other.is_vendors(), &other.path).cmp(&turn)) {
            Ok(at) => ordered[at] = script,
            Err(at) => ordered.insert(at, script),
        }
    }
    ordered
}

/// A character of a file's name as cloud-init keeps it; none where it doesn't.
fn kept(letter: char) -> Option<char> {
    match letter {
        '/' => Some('_'),
        '-' | '_' | '.' | '(' | ')' => Some(letter),
        _ => letter.is_ascii_alphanumeric().then_some(letter),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn script(file: Option<&str>, text: &str) -> Script {
        Script::new("user-data", false, 7, file, text)
    }

    #[test]
    fn a_script_has_the_name_of_its_part_or_its_number() {
        for (file, expected) in [
            (None, "part-007"),
            (Some("10-first.sh"), "10-first.sh"),
            (Some("../../etc/a b.sh"), ".._.._etc_ab.sh"),
            (Some(".."), "part-007"),
            (Some("\u{e9}"), "part-007"),
        ] {
            let path = script(file, "#!/x\n").path;
            assert_eq!(path, format!("{SCRIPTS}/{expected}"), "{file:?}");
        }
        let vendors = Script::new("vendor-data", true, 1, Some("z"), "#!/x\n");
        assert!(vendors.is_before_runcmd() && vendors.path.ends_with("/vendor/z"));
    }

    #[test]
    fn scripts_run_by_their_names_around_runcmd_and_the_last_of_a_name_counts() {
        let named = |name, text| script(Some(name), text);
        let ordered = in_order(vec![
            named("setup.sh", "1"),
            named("20-b", "2"),
            named("10-a", "3"),
            named("20-b", "4"),
        ]);
        let told: Vec<(&str, bool)> = ordered
            .iter()
            .map(|script| (script.content.as_str(), script.is_before_runcmd()))
            .collect();
        assert_eq!(told, [("3", true), ("4", true), ("1", false)]);
        let vendors = Script::new("vendor-data", true, 1, Some("z"), "5");
        let both = in_order(vec![named("20-b", "2"), vendors]);
        assert_eq!([&both[0].content, &both[1].content], ["5", "2"]);
    }

    #[test]
    fn lines_end_as_linux_takes_them() {
        assert_eq!(script(None, "#!/bin/sh\r\na\r\n").content, "#!/bin/sh\na\n");
        assert_eq!(script(None, "#!/bin/sh\na\r\n").content, "#!/bin/sh\na\r\n");
        assert_eq!(script(None, "#!/bin/sh").content, "#!/bin/sh");
    }

    proptest! {
        #[test]
        fn no_name_leaves_the_folder(file in any::<String>()) {
            let path = script(Some(&file), "#!/x\n").path;
            let name = path.strip_prefix(SCRIPTS).unwrap().strip_prefix('/').unwrap();
            prop_assert!(!name.contains('/') && !matches!(name, "" | "." | ".."));
        }
    }
}
