//! APT's source entries: reads the machine's own, and derives those of another suite of the same
//! distribution from them (sources.list(5)).
//!
//! No archive is named here: whatever mirror, proxy path or key the machine uses is what the
//! derived entries use as well.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Keyrings of the distributions themselves. Where an entry names one of these it is theirs.
const DISTRIBUTION_KEYRINGS: &[&str] = &["debian-archive-keyring", "ubuntu-archive-keyring"];

/// Suites that have neither `-updates` nor `-security` beside them.
const ROLLING: &[&str] = &["sid", "unstable", "experimental"];

/// One source of binary packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    /// Every other field by its deb822 name, e.g. `Signed-By`; kept as it is.
    options: Vec<(String, String)>,
}

/// Reads `sources.list` and `sources.list.d` in APT's configuration folder (`/etc/apt`).
///
/// # Errors
///
/// A file can't be read. What is no source entry is passed over: APT itself complains of it.
pub fn of_machine(etc: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for file in source_files(etc)? {
        let text = fs::read_to_string(&file)
            .with_context(|| format!("cannot read APT's sources in {}", file.display()))?;
        if file
            .extension()
            .is_some_and(|extension| extension == "sources")
        {
            sources.extend(parse_stanzas(&text));
        } else {
            sources.extend(text.lines().filter_map(parse_line));
        }
    }
    Ok(sources)
}

/// The entries from which packages of `suite` can be had, derived from the machine's own:
/// the release with its updates and security fixes, and the suite itself where that is more than
/// the release (`bookworm-backports`). `codename` is the machine's release. Empty where the machine
/// has no entry of its distribution's own.
pub fn for_suite(machine: &[Source], codename: &str, suite: &str) -> Vec<Source> {
    let (release, pocket) = split_suite(suite);
    let mut derived = Vec::new();
    for source in distributions_own(machine, codename) {
        let mut suites = Vec::new();
        for own in &source.suites {
            match suite_kind(own, codename) {
                SuiteKind::Release => {
                    suites.push(release.to_owned());
                    suites.extend(pocket.map(|_| suite.to_owned()));
                    if release == "experimental" {
                        suites.push("sid".to_owned());
                    }
                }
                SuiteKind::Beside(which) if !ROLLING.contains(&release) => {
                    suites.push(format!("{release}-{which}"));
                }
                SuiteKind::Beside(_) | SuiteKind::Foreign => {}
            }
        }
        suites.sort();
        suites.dedup();
        if !suites.is_empty() {
            derived.push(Source {
                suites,
                ..source.clone()
            });
        }
    }
    derived
}

/// The machine's own entries of its distribution, without those of third parties.
pub fn own(machine: &[Source], codename: &str) -> Vec<Source> {
    distributions_own(machine, codename)
        .into_iter()
        .cloned()
        .collect()
}

/// Entries in deb822 form, for a `.sources` file. Only package lists are asked for.
pub fn render(sources: &[Source]) -> String {
    let mut text = String::new();
    for source in sources {
        // Writing to a string can't fail.
        let _ = writeln!(
            text,
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: {}\nTargets: Packages",
            source.uris.join(" "),
            source.suites.join(" "),
            source.components.join(" ")
        );
        for (name, value) in &source.options {
            let _ = writeln!(text, "{name}: {value}");
        }
        text.push('\n');
    }
    text
}

fn source_files(etc: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = Some(etc.join("sources.list"))
        .filter(|file| file.is_file())
        .into_iter()
        .collect();
    let parts = etc.join("sources.list.d");
    if parts.is_dir() {
        let mut found = Vec::new();
        for entry in
            fs::read_dir(&parts).with_context(|| format!("cannot list {}", parts.display()))?
        {
            let path = entry
                .with_context(|| format!("cannot list {}", parts.display()))?
                .path();
            if path
                .extension()
                .is_some_and(|extension| extension == "list" || extension == "sources")
            {
                found.push(path);
            }
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

/// `bookworm-backports` is `bookworm` and its pocket `backports`.
fn split_suite(suite: &str) -> (&str, Option<&str>) {
    match suite.split_once('-') {
        Some((release, pocket)) => (release, Some(pocket)),
        None => (suite, None),
    }
}

enum SuiteKind<'a> {
    Release,
    /// `updates`, `security`: what a release has beside it and is always wanted with it.
    Beside(&'a str),
    Foreign,
}

fn suite_kind<'a>(suite: &'a str, codename: &str) -> SuiteKind<'a> {
    let is_release = |name: &str| {
        name == codename
            || ["stable", "oldstable", "testing"].contains(&name)
            || ROLLING.contains(&name)
    };
    match split_suite(suite) {
        (release, None) if is_release(release) => SuiteKind::Release,
        (release, Some(pocket @ ("updates" | "security"))) if is_release(release) => {
            SuiteKind::Beside(pocket)
        }
        _ => SuiteKind::Foreign,
    }
}

/// The entries of the distribution, not of third parties: those that its own keyring signs; where
/// there is none such (an old `sources.list` names no key), those without a key of their own.
fn distributions_own<'a>(machine: &'a [Source], codename: &str) -> Vec<&'a Source> {
    let candidates: Vec<&Source> = machine
        .iter()
        .filter(|source| {
            source
                .components
                .iter()
                .any(|component| component == "main")
                && source
                    .suites
                    .iter()
                    .any(|suite| !matches!(suite_kind(suite, codename), SuiteKind::Foreign))
        })
        .collect();
    let signed_by = |source: &Source| source.option("Signed-By").map(str::to_owned);
    let (own, others): (Vec<&Source>, Vec<&Source>) = candidates.into_iter().partition(|source| {
        signed_by(source)
            .is_some_and(|key| DISTRIBUTION_KEYRINGS.iter().any(|own| key.contains(own)))
    });
    if own.is_empty() {
        others
            .into_iter()
            .filter(|source| signed_by(source).is_none())
            .collect()
    } else {
        own
    }
}

impl Source {
    fn option(&self, name: &str) -> Option<&str> {
        self.options
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// A line of a `.list` file: `deb [ option=value ... ] uri suite component ...`.
fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t']) {
        return None;
    }
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let uri = words.next().filter(|uri| !uri.starts_with("cdrom:"))?;
    let suite = words.next()?;
    Some(Source {
        uris: vec![uri],
        suites: vec![suite],
        components: words.collect(),
        options: options.split_whitespace().filter_map(line_option).collect(),
    })
}

/// `signed-by=/some/key.gpg` of a `.list` line, by its name in a `.sources` file.
fn line_option(option: &str) -> Option<(String, String)> {
    let (name, value) = option.split_once('=')?;
    let name = match name.trim_end_matches(['+', '-']) {
        "arch" => "Architectures",
        "lang" => "Languages",
        "signed-by" => "Signed-By",
        "trusted" => "Trusted",
        "check-valid-until" => "Check-Valid-Until",
        "check-date" => "Check-Date",
        "by-hash" => "By-Hash",
        "allow-insecure" => "Allow-Insecure",
        "allow-weak" => "Allow-Weak",
        "snapshot" => "Snapshot",
        // `target`, `pdiffs` and the like say which indexes are fetched; ours are fixed.
        _ => return None,
    };
    Some((name.to_owned(), value.replace(',', " ")))
}

/// A `.sources` file: stanzas of `Field: value`, where a line that begins with a blank goes on the
/// one before.
fn parse_stanzas(text: &str) -> Vec<Source> {
    stanzas(text).into_iter().filter_map(from_stanza).collect()
}

/// The stanzas of a deb822 text, each a list of fields; also what `apt-cache show` prints.
pub fn stanzas(text: &str) -> Vec<Vec<(String, String)>> {
    let mut all = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            if !fields.is_empty() {
                all.push(std::mem::take(&mut fields));
            }
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line.trim_end());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    if !fields.is_empty() {
        all.push(fields);
    }
    all
}

fn from_stanza(fields: Vec<(String, String)>) -> Option<Source> {
    let words = |wanted: &str| -> Vec<String> {
        fields
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default()
    };
    let disabled = words("Enabled")
        .first()
        .is_some_and(|word| ["no", "false", "0", "off"].contains(&word.to_lowercase().as_str()));
    let source = Source {
        uris: words("URIs"),
        suites: words("Suites"),
        components: words("Components"),
        options: fields
            .iter()
            .filter(|(name, _)| {
                ![
                    "Types",
                    "URIs",
                    "Suites",
                    "Components",
                    "Enabled",
                    "Targets",
                    "PDiffs",
                ]
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
            })
            .cloned()
            .collect(),
    };
    let is_binary = words("Types").iter().any(|kind| kind == "deb");
    (is_binary && !disabled && !source.uris.is_empty()).then_some(source)
}

#[cfg(test)]
mod tests;
