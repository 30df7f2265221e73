//! `write_files`.

use noonmark_contract::config::values::{GuestPath, Mode};
use noonmark_contract::seed::instance::{CONTENT_MAX, FILES_MAX, Instance, SeedFile, printable};

use crate::content::Encoding;
use crate::instances::Instances;
use crate::root::Root;
use crate::value::{Checked, Field, UNKNOWN};
use crate::yaml::Value;

/// What a file has that says nothing of its permissions.
const MODE: i64 = 0o644;

/// Takes in the files, in the list's order.
pub fn write_files(field: &Field<'_>, root: &Root, instances: &mut Instances) -> Checked<()> {
    for item in field.items()? {
        let instance = instances.of(&item);
        let taken = file(&item, root, instance);
        match taken.and_then(|file| fits(&item, instance, file.length).map(|()| file)) {
            Ok(file) => {
                instance.files.push(file);
                item.take(instance);
            }
            Err(error) => instance.refuse(error),
        }
    }
    Ok(())
}

/// Whether one more file of so many bytes is not too much together with the others.
///
/// # Errors
/// If it is.
pub fn fits(item: &Field<'_>, instance: &Instance, length: usize) -> Checked<()> {
    let written: usize = instance.files.iter().map(|file| file.length).sum();
    if written + length > CONTENT_MAX || instance.files.len() >= FILES_MAX {
        return item.wrong(format!(
            "more than {FILES_MAX} files, or {CONTENT_MAX} bytes in them"
        ));
    }
    Ok(())
}

fn file(item: &Field<'_>, root: &Root, instance: &mut Instance) -> Checked<SeedFile> {
    let mut path = None;
    let mut content = Vec::new();
    let mut encoding = Encoding::Plain;
    let mut mode = MODE;
    let (mut uid, mut gid) = (0, 0);
    let mut append = false;
    let mut content_at = item.clone();
    for (key, field) in item.entries()? {
        match key {
            "path" => path = Some(guest_path(&field)?),
            "content" => {
                content = field.bytes()?;
                content_at = field;
            }
            // cloud-init takes what it doesn't know for plain text.
            "encoding" => match Encoding::try_from(field.text()?.to_owned()) {
                Ok(known) => encoding = known,
                Err(error) => field.ignore(instance, &error.to_string()),
            },
            "permissions" => mode = permissions(&field)?,
            "owner" => (uid, gid) = owner(&field, root, instance)?,
            "append" => append = field.switch(instance),
            // Nothing that files could wait for comes after the seed.
            "defer" => _ = field.switch(instance),
            // Without its content the file would be wrong.
            "source" => return field.wrong("nothing is fetched for a seed; write its `content`"),
            _ => field.ignore(instance, UNKNOWN),
        }
    }
    let Some(path) = path else {
        return item.wrong("`path` is missing");
    };
    let decoded = encoding.decode(content, CONTENT_MAX);
    let content = decoded.or_else(|error| content_at.wrong(error))?;
    Ok(SeedFile {
        path,
        mode: Mode::try_from(mode).or_else(|unfit| item.wrong(format!("permissions: {unfit}")))?,
        uid,
        gid,
        append,
        length: content.len(),
        content,
    })
}

/// The path from the root folder, with `.` and `..` taken out, as cloud-init's `os.path.abspath` does.
///
/// # Errors
/// If it is no path of a file.
pub fn guest_path(field: &Field<'_>) -> Checked<GuestPath> {
    let mut parts = Vec::new();
    for part in field.text()?.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let path: Result<GuestPath, _> = format!("/{}", parts.join("/")).parse();
    path.or_else(|unfit| field.wrong(unfit))
}

/// In quotes the digits are octal, as cloud-init reads a text, and no digits say nothing. Without quotes they are what PyYAML
/// makes of them by YAML 1.1: octal after a `0`, else decimal, binary or hexadecimal.
fn permissions(field: &Field<'_>) -> Checked<i64> {
    let text = field.text()?.trim();
    if text.is_empty() {
        return Ok(MODE);
    }
    let number = match field.value() {
        Value::Plain(_) => integer(text),
        _ => None,
    };
    let octal = || {
        let digits = text.strip_prefix("0o").or(text.strip_prefix("0O"));
        i64::from_str_radix(digits.unwrap_or(text), 8).ok()
    };
    match number.or_else(octal) {
        Some(mode) => Ok(mode),
        None => field.wrong("expected octal digits in quotes, as in '0644'"),
    }
}

/// A scalar that YAML 1.1 has for an integer (<https://yaml.org/type/int.html>), but for those with
/// colons, or for a number with a fraction.
fn integer(text: &str) -> Option<i64> {
    let digits = text.replace('_', "");
    let (digits, radix) = if let Some(digits) = digits.strip_prefix("0x") {
        (digits, 16)
    } else if let Some(digits) = digits.strip_prefix("0b") {
        (digits, 2)
    } else if let Some(digits) = digits.strip_prefix('0').filter(|digits| !digits.is_empty()) {
        (digits, 8)
    } else {
        (digits.as_str(), 10)
    };
    let whole = match digits.split_once('.') {
        // A number with a fraction loses it.
        Some((whole, fraction)) if radix == 10 && fraction.bytes().all(|b| b.is_ascii_digit()) => {
            whole
        }
        _ => digits,
    };
    i64::from_str_radix(whole, radix).ok()
}

/// `1000:1000`, `root:root`, `app`: numbers, or names of the image's users and groups. The file of one
/// that the image lacks stays root's.
fn owner(field: &Field<'_>, root: &Root, instance: &mut Instance) -> Checked<(u32, u32)> {
    let text = field.text()?.trim();
    let id = |name: &str, known: &dyn Fn(&str) -> Option<u32>| match name {
        "" | "root" | "-1" | "None" => Some(0),
        _ => match name.parse() {
            Ok(id) => Some(id).filter(|id| *id != u32::MAX),
            Err(_) => known(name),
        },
    };
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let user = id(user, &|name| root.user(name));
    let group = id(group, &|name| root.group(name));
    if user.is_none() || group.is_none() {
        let what = format!("{field}: `{}`", printable(text, 60));
        instance.ignore(
            what,
            "the image has no such user or group; the file is root's",
        );
        return Ok((0, 0));
    }
    Ok((user.unwrap_or_default(), group.unwrap_or_default()))
}
