//! `write_files`.

use noonmark_contract::config::values::Mode;
use noonmark_contract::seed::instance::{CONTENT_MAX, Instance, SeedFile};

use crate::content::{ContentError, Encoding};
use crate::value::{Checked, UNKNOWN, boolean, bytes, list, string, wrong};
use crate::yaml::Node;

/// Takes in the files, in the list's order.
pub fn write_files(value: &Node, instance: &mut Instance) -> Checked<()> {
    for (index, item) in list(value, "write_files")?.iter().enumerate() {
        let at = format!("write_files[{index}]");
        let Node::Map(entries) = item else {
            return wrong(&at, "expected `path`, `content` and so on");
        };
        let file = write_file(entries, &at, instance)?;
        instance.files.push(file);
    }
    Ok(())
}

fn write_file(entries: &[(String, Node)], at: &str, instance: &mut Instance) -> Checked<SeedFile> {
    let mut path = None;
    let mut content = Vec::new();
    let mut encoding = Encoding::Plain;
    let mut mode = 0o644;
    let (mut uid, mut gid) = (0, 0);
    let mut append = false;
    for (key, value) in entries {
        let name = format!("{at}.{key}");
        match key.as_str() {
            "path" => path = string(value, &name)?,
            "content" => content = bytes(value, &name)?,
            "encoding" => {
                let written = string(value, &name)?.unwrap_or_default();
                encoding = Encoding::try_from(written).or_else(|error| wrong(&name, error))?;
            }
            "permissions" => mode = permissions(value, &name)?.unwrap_or(mode),
            "owner" => (uid, gid) = owner(value, &name)?,
            "append" => append = boolean(value, &name)?,
            _ => instance.ignore(&name, UNKNOWN),
        }
    }
    let Some(path) = path else {
        return wrong(&format!("{at}.path"), "is missing");
    };
    let content = encoding
        .decode(content, CONTENT_MAX)
        .or_else(|error: ContentError| wrong(&format!("{at}.content"), error))?;
    Ok(SeedFile {
        path: path
            .parse()
            .or_else(|unfit| wrong(&format!("{at}.path"), unfit))?,
        mode: Mode::try_from(mode).or_else(|unfit| wrong(&format!("{at}.permissions"), unfit))?,
        uid,
        gid,
        append,
        length: content.len(),
        content,
    })
}

/// `0644`, `'0o644'`: octal, as YAML 1.1 has numbers that begin with a 0, and cloud-init texts.
fn permissions(value: &Node, key: &str) -> Checked<Option<i64>> {
    let Some(text) = string(value, key)? else {
        return Ok(None);
    };
    let digits = text.trim_start_matches("0o");
    match i64::from_str_radix(digits, 8) {
        Ok(mode) => Ok(Some(mode)),
        Err(_) => wrong(key, "expected octal digits, as in '0644'"),
    }
}

/// `1000:1000`, `root:root`; there is no list of users to look another name up in.
fn owner(value: &Node, key: &str) -> Checked<(u32, u32)> {
    let Some(text) = string(value, key)? else {
        return Ok((0, 0));
    };
    let number = |name: &str| match name {
        "root" => Some(0),
        _ => name.parse().ok().filter(|id| *id != u32::MAX),
    };
    let (user, group) = text.split_once(':').unwrap_or((&text, "root"));
    match (number(user), number(group)) {
        (Some(uid), Some(gid)) => Ok((uid, gid)),
        _ => wrong(key, "expected numbers, as in 1000:1000, or `root`"),
    }
}
