//! A home of cargo's that has the user's crates and says where more of them come from, and nothing
//! else of what the user has set for builds: a profile, a linker or a flag there would be in every
//! guest program, and on no other machine.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use toml::{Table, Value};

/// The tables of cargo's settings that say only where crates come from, and how.
const CRATES: [&str; 6] = [
    "credential-alias",
    "http",
    "net",
    "registries",
    "registry",
    "source",
];

/// Further tables that no build depends on.
const HARMLESS: [&str; 6] = [
    "alias",
    "cache",
    "cargo-new",
    "future-incompat-report",
    "install",
    "term",
];

/// What of a home is the user's own: the crates, the keys to private registries, and the locks by
/// which cargo keeps two of itself from unpacking the same crate.
const SHARED: [&str; 5] = [
    "registry",
    "git",
    "credentials.toml",
    ".package-cache",
    ".package-cache-mutate",
];

/// The names of cargo's settings, the one that counts where both are there first.
const NAMES: [&str; 2] = ["config", "config.toml"];

/// What cargo would take of its settings for a build in `root` that has to do with where crates come
/// from: those of `root` and the folders above it, the nearest first, then those of the home. Relative
/// paths in it are made absolute.
///
/// # Errors
///
/// One of the files can't be read.
pub fn crates_settings(root: &Path, home: &Path) -> Result<Table> {
    let mut merged = Table::new();
    let folders = root.ancestors().map(|folder| folder.join(".cargo"));
    let mut seen = Vec::new();
    for folder in folders.chain([home.to_owned()]) {
        if seen.contains(&folder) {
            continue;
        }
        if let Some((_, mut settings)) = read(&folder)? {
            settings.retain(|name, _| CRATES.contains(&name));
            // Cargo takes a path as relative to the folder that `.cargo` is in.
            absolute(&mut settings, folder.parent().unwrap_or(&folder));
            fill(&mut merged, settings);
        }
        seen.push(folder);
    }
    Ok(merged)
}

/// Makes `home`, a home for builds in `root` that shares the crates of `users`.
///
/// # Errors
///
/// A file of settings can't be read, or the home can't be written.
pub(crate) fn make(home: &Path, users: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(home).with_context(|| format!("cannot create {}", home.display()))?;
    let settings = crates_settings(root, users)?.to_string();
    let file = home.join("config.toml");
    if fs::read_to_string(&file).ok().as_ref() != Some(&settings) {
        fs::write(&file, settings).with_context(|| format!("cannot write {}", file.display()))?;
    }
    // Cargo makes no folder where a link leads nowhere.
    let registry = users.join("registry");
    fs::create_dir_all(&registry)
        .with_context(|| format!("cannot create {}", registry.display()))?;
    for name in SHARED {
        link(&users.join(name), &home.join(name))?;
    }
    Ok(())
}

/// Refuses settings that shape builds in a folder that cargo looks at wherever it is started.
///
/// # Errors
///
/// The file and its tables.
pub(crate) fn refuse_shaping(folder: &Path) -> Result<()> {
    let Some((file, settings)) = read(folder)? else {
        return Ok(());
    };
    let shaping: Vec<String> = settings
        .keys()
        .filter(|name| !CRATES.contains(&name.as_str()) && !HARMLESS.contains(&name.as_str()))
        .map(|name| format!("[{name}]"))
        .collect();
    if shaping.is_empty() {
        return Ok(());
    }
    bail!(
        "{} has {}, which cargo applies to every build on this machine, so the guest's programs would \
         differ from those of other machines; move it to a CARGO_HOME that is elsewhere",
        file.display(),
        shaping.join(" and ")
    )
}

/// The settings in a folder; none where there is no such file.
fn read(folder: &Path) -> Result<Option<(PathBuf, Table)>> {
    for name in NAMES {
        let file = folder.join(name);
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                continue;
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", file.display()));
            }
        };
        let settings: Table = text
            .parse()
            .with_context(|| format!("{}: cargo's settings are broken", file.display()))?;
        return Ok(Some((file, settings)));
    }
    Ok(None)
}

/// Makes those paths absolute that settings about crates can have.
fn absolute(settings: &mut Table, base: &Path) {
    let against = |value: Option<&mut Value>| {
        if let Some(Value::String(path)) = value {
            *path = base.join(&*path).to_string_lossy().into_owned();
        }
    };
    if let Some(Value::Table(http)) = settings.get_mut("http") {
        against(http.get_mut("cainfo"));
        against(http.get_mut("proxy-cainfo"));
    }
    if let Some(Value::Table(sources)) = settings.get_mut("source") {
        for (_, source) in sources.iter_mut() {
            if let Value::Table(source) = source {
                against(source.get_mut("directory"));
                against(source.get_mut("local-registry"));
            }
        }
    }
}

/// Adds what is not there yet, table by table.
fn fill(into: &mut Table, more: Table) {
    for (name, value) in more {
        match (into.get_mut(&name), value) {
            (Some(Value::Table(into)), Value::Table(more)) => fill(into, more),
            (Some(_), _) => {}
            (None, value) => {
                into.insert(name, value);
            }
        }
    }
}

/// Makes a link, or finds that it is there.
fn link(to: &Path, link: &Path) -> Result<()> {
    let is_there = || fs::read_link(link).is_ok_and(|leads| leads == to);
    if is_there() {
        return Ok(());
    }
    let failed = || format!("cannot link {} to {}", link.display(), to.display());
    match fs::remove_file(link) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(failed);
        }
        _ => {}
    }
    match symlink(to, link) {
        // Another build has just made it.
        Err(error) if error.kind() != ErrorKind::AlreadyExists || !is_there() => {
            Err(error).with_context(failed)
        }
        _ => Ok(()),
    }
}

/// Cargo's home as cargo finds it in this environment.
///
/// # Errors
///
/// Neither `CARGO_HOME` nor `HOME` is in it.
pub fn users(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    variable("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".cargo")))
        .context("neither CARGO_HOME nor HOME says where cargo keeps the crates' sources")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_shape_programs_stay_behind_and_the_nearest_place_of_crates_wins() {
        let folder = tempfile::tempdir().unwrap();
        let (home, above) = (folder.path().join("home"), folder.path().join("above"));
        let root = above.join("checkout");
        for folder in [&home, &root.join(".cargo"), &above.join(".cargo")] {
            fs::create_dir_all(folder).unwrap();
        }
        let write = |file: PathBuf, text: &str| fs::write(file, text).unwrap();
        write(
            home.join("config.toml"),
            "[profile.guest]\nopt-level = 0\n[build]\nrustc-wrapper = \"x\"\n\
             [net]\nretry = 1\noffline = true\n[source.mine]\nlocal-registry = \"crates\"\n",
        );
        write(
            above.join(".cargo/config.toml"),
            "[target.x86_64-unknown-linux-musl]\nlinker = \"x\"\n[net]\nretry = 2\n\
             [source.crates-io]\nreplace-with = \"mine\"\n",
        );
        let own = folder.path().join("own");
        make(&own, &home, &root).unwrap();
        make(&own, &home, &root).unwrap();
        let made: Table = fs::read_to_string(own.join("config.toml"))
            .unwrap()
            .parse()
            .unwrap();
        let crates = folder.path().join("crates");
        let expected = format!(
            "[net]\nretry = 2\noffline = true\n[source.crates-io]\nreplace-with = \"mine\"\n\
             [source.mine]\nlocal-registry = \"{}\"\n",
            crates.display()
        );
        assert_eq!(made, expected.parse().unwrap());
        let registry = fs::canonicalize(own.join("registry")).unwrap();
        assert_eq!(registry, fs::canonicalize(home.join("registry")).unwrap());
    }

    #[test]
    fn settings_for_every_build_of_a_machine_are_refused_by_table_and_file() {
        let folder = tempfile::tempdir().unwrap();
        refuse_shaping(folder.path()).unwrap();
        let file = folder.path().join("config.toml");
        fs::write(&file, "[net]\nretry = 1\n[term]\nquiet = true\n").unwrap();
        refuse_shaping(folder.path()).unwrap();
        fs::write(&file, "[env]\nX = \"1\"\n[profile.release]\nlto = false\n").unwrap();
        let told = refuse_shaping(folder.path()).unwrap_err().to_string();
        for part in [file.to_str().unwrap(), "[env]", "[profile]"] {
            assert!(told.contains(part), "no `{part}` in: {told}");
        }
    }
}
