//! The reference page says what `guest.toml` and the parser say: its table of keys is made of them.
//!
//! `NOONMARK_UPDATE=1 cargo test -p noonmark-image reference` writes it anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use noonmark_contract::config::settings::Cmdline;
use noonmark_image::spec::Spec;

use crate::spec::COMMENTED;

/// What the made part of the page lies between.
const BEGIN: &str = "<!-- made from guest.toml; see image/tests/image/reference.rs -->\n";
const END: &str = "<!-- end -->\n";

/// A section of `guest.toml`: its name as it is written, what is said of it, its keys.
#[derive(Default)]
struct Section {
    title: String,
    said: String,
    keys: Vec<Key>,
}

struct Key {
    name: String,
    value: String,
    said: String,
}

/// Reads the comments; a key's are those above it, or the one behind it.
fn sections() -> Vec<Section> {
    // The first is what stands above all sections.
    let mut sections = vec![Section::default()];
    let mut said = String::new();
    for line in COMMENTED.lines() {
        let text = line.strip_prefix('#').unwrap_or(line).trim();
        if let Some(title) = title(text) {
            sections.push(Section {
                title,
                said: std::mem::take(&mut said),
                keys: Vec::new(),
            });
        } else if let Some(key) = key(text, &mut said)
            && let Some(section) = sections.last_mut()
        {
            section.keys.push(key);
        } else if line.is_empty() {
            said.clear();
        } else {
            let space = if said.is_empty() { "" } else { " " };
            // Writing to a String can't fail.
            let _ = write!(said, "{space}{text}");
        }
    }
    sections
}

/// `[image]` or `[[file]]`.
fn title(text: &str) -> Option<String> {
    let inner = text.trim_start_matches('[').trim_end_matches(']');
    let name = inner.bytes().all(|b| b.is_ascii_lowercase() || b == b'.');
    (name && text.starts_with('[') && text.ends_with(']')).then(|| text.to_owned())
}

/// `key = value # meaning`
fn key(text: &str, said: &mut String) -> Option<Key> {
    let (name, value) = text.split_once(" = ")?;
    let is_name = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b"_46\".".contains(&b));
    if !is_name {
        return None;
    }
    let (value, behind) = value.split_once(" # ").unwrap_or((value, ""));
    let above = std::mem::take(said);
    Some(Key {
        name: name.to_owned(),
        value: value.trim().to_owned(),
        said: if behind.is_empty() {
            above
        } else {
            behind.to_owned()
        },
    })
}

/// What the parser itself expects of a key, as it says when it meets something else.
fn expected(title: &str, key: &Key) -> String {
    let needed = match title {
        "[[package]]" => "name = \"a\"\n",
        "[[program]]" if ["package", "suite"].contains(&&*key.name) => {
            "path = \"/a\"\npackage = \"a\"\n"
        }
        "[[program]]" => "path = \"/a\"\nsource = \"a\"\n",
        "[[file]]" => "path = \"/a\"\nsource = \"a\"\n",
        "[[tree]]" => "path = \"/a\"\nsource = \"a\"\n",
        "[[symlink]]" => "path = \"/a\"\ntarget = \"b\"\n",
        "[[dir]]" => "path = \"/a\"\n",
        "[[service]]" => "name = \"a\"\nexec = [\"/a\"]\n",
        "[[mount]]" => "label = \"a\"\npath = \"/a\"\ntype = \"ext4\"\n",
        _ => "",
    };
    let others: String = needed
        .lines()
        .filter(|line| !line.starts_with(&format!("{} ", key.name)))
        .map(|line| format!("{line}\n"))
        .collect();
    let wrong = [
        "-1",
        "\"\\u0001\"",
        "[\"\\u0001\"]",
        "[]",
        "true",
        "[true]",
        "0",
        "4294967295",
        "9999999999",
    ];
    let told = wrong.iter().filter_map(|value| {
        let text = format!("{title}\n{others}{} = {value}\n", key.name);
        let error = Spec::parse(&text, Path::new("guest.toml")).err()?;
        let (_, expected) = error.problem.split_once("expected ")?;
        Some(expected.split("; did you mean").next()?.to_owned())
    });
    // What is said of a value of the right type says more than that another type is expected, or
    // another key.
    let types = [
        "a string",
        "a sequence",
        "a map",
        "a boolean",
        "path string",
        "i64",
        "u16",
        "u32",
        "`dhcp4",
    ];
    let mut told = told.filter(|text| !types.iter().any(|kind| text.starts_with(kind)));
    told.next().unwrap_or_else(|| {
        let kind = match key.value.as_bytes().first() {
            Some(b'0'..=b'9') => "a whole number",
            Some(b't' | b'f') => "`true` or `false`",
            Some(b'{') => "names and texts",
            _ => "a path",
        };
        kind.to_owned()
    })
}

/// The made part of the page.
fn tables() -> String {
    let cell = |text: &str| text.replace('|', "\\|");
    let mut page = String::new();
    for section in sections() {
        let is_example = section.title.is_empty() || section.title.starts_with("[[");
        let value = if is_example {
            "for example"
        } else {
            "in guest.toml"
        };
        let mut line = |text: String| page.push_str(&(text + "\n"));
        let heading = match section.title.as_str() {
            "" => "Above all sections".to_owned(),
            title => format!("`{title}`"),
        };
        line(format!("### {heading}\n"));
        if !section.said.is_empty() {
            line(format!("{}\n", section.said));
        }
        line(format!(
            "| key | {value} | expected | meaning |\n|---|---|---|---|"
        ));
        for key in &section.keys {
            let said = match key.said.as_str() {
                "" if !is_example => "as above",
                said => said,
            };
            let expected = expected(&section.title, key);
            line(format!(
                "| `{}` | `{}` | {} | {} |",
                key.name,
                cell(&key.value),
                cell(&expected),
                cell(said)
            ));
        }
        line(String::new());
    }
    page
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md")
}

fn read_page() -> String {
    let page = page();
    fs::read_to_string(&page).unwrap_or_else(|e| panic!("{}: {e}", page.display()))
}

#[test]
fn the_reference_page_has_every_key_as_guest_toml_and_the_parser_have_it() {
    let text = read_page();
    let (before, rest) = text.split_once(BEGIN).expect("the beginning of the tables");
    let (found, after) = rest.split_once(END).expect("the end of the tables");
    let tables = format!("\n{}", tables());
    if std::env::var_os("NOONMARK_UPDATE").is_some() {
        let whole = format!("{before}{BEGIN}{tables}{END}{after}");
        fs::write(page(), whole).expect("a writable page");
        return;
    }
    assert!(
        found == tables,
        "{} is out of date; write it anew with `NOONMARK_UPDATE=1 cargo test -p noonmark-image \
         reference`. It should have:\n{tables}",
        page().display()
    );
}

#[test]
fn guest_toml_has_the_sections_and_keys_that_the_parser_knows_and_no_others() {
    let sections = sections();
    let mut named: Vec<&str> = Vec::new();
    for section in &sections {
        let name = section.title.trim_matches(['[', ']']);
        if name.is_empty() {
            named.extend(section.keys.iter().map(|key| key.name.as_str()));
            continue;
        }
        // A list of interfaces is all that a network has.
        let top = name.split('.').next().unwrap_or(name);
        if top != name {
            assert_eq!(known(&format!("[{top}]\n")), [&name[top.len() + 1..]]);
        }
        named.push(top);
        // The kernel's own settings have the kernel's names.
        if name == "sysctl" {
            continue;
        }
        let mut keys: Vec<&str> = section.keys.iter().map(|key| key.name.as_str()).collect();
        let mut all = known(&format!("{}\n", section.title));
        keys.sort_unstable();
        all.sort_unstable();
        assert_eq!(keys, all, "{}", section.title);
    }
    let mut all = known("");
    named.sort_unstable();
    all.sort_unstable();
    assert_eq!(named, all);
}

/// The keys that may stand here, as the parser itself lists them when it meets one that it doesn't
/// know.
fn known(before: &str) -> Vec<String> {
    let error = Spec::parse(&format!("{before}\"?\" = 0\n"), Path::new("guest.toml"))
        .expect_err("no such key");
    let (_, list) = error
        .problem
        .split_once("expected")
        .expect("a list of keys");
    let keys = list.split('`').skip(1).step_by(2);
    keys.map(String::from).collect()
}

#[test]
fn the_reference_page_has_every_word_of_the_kernel_command_line() {
    let text = read_page();
    let (_, part) = text.split_once("## Kernel command line").expect("the part");
    let words: Vec<&str> = part
        .split('`')
        .filter(|word| word.starts_with("noonmark.") && word.contains('='))
        .collect();
    let cmdline = Cmdline::parse(&words.join(" "));
    assert_eq!(cmdline.problems, Vec::<String>::new());
    // The parser itself lists what it knows when it meets another word.
    let unknown = Cmdline::parse("noonmark.?=1").problems.join("\n");
    let (_, known) = unknown.split_once("expected ").expect("a list of words");
    for key in known.split([',', ' ']).filter(|key| key.len() > 2) {
        let key = key.trim_end_matches("NAME");
        let start = format!("noonmark.{key}");
        let described = words.iter().any(|word| word.starts_with(&start));
        assert!(described, "the page lacks {start}");
    }
}
