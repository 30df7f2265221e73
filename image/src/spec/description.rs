//! A description's files: the one that is named, and those that it extends.
//!
//! What they say is put together table by table, each value with its place, so that whatever is wrong
//! is told with the file and line where it stands.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use crate::text::{TextError, TomlDocument};

/// The key that names the file which another one builds on.
const EXTENDS: &str = "extends";

/// The keys of tables that name files of the host.
const PATHS: [(&str, &[&str]); 3] = [
    ("kernel", &["image", "modules"]),
    ("file", &["source"]),
    ("tree", &["source"]),
];

/// One file of a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescriptionFile {
    /// Its path.
    pub file: PathBuf,
    /// What is in it.
    pub text: String,
    /// Its folder, relative to that of the description's own file.
    folder: PathBuf,
}

/// A description with all that it extends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Each before those that extend it; the description's own is the last.
    files: Vec<DescriptionFile>,
}

impl Description {
    /// Reads a description and what it extends.
    ///
    /// # Errors
    /// A file that can't be read or is no TOML, or that extends itself; with the place of the `extends`
    /// that leads to it.
    pub fn read(file: &Path) -> Result<Self, TextError> {
        let text = fs::read_to_string(file).map_err(|error| TextError {
            file: file.to_owned(),
            position: None,
            key: String::new(),
            problem: format!("cannot read it: {error}"),
        })?;
        Self::new(text, file)
    }

    /// The same of a text that has been read; where it extends nothing, no file is looked for.
    ///
    /// # Errors
    /// As [`Description::read`].
    pub fn new(text: String, file: &Path) -> Result<Self, TextError> {
        let own = DescriptionFile {
            file: file.to_owned(),
            text,
            folder: PathBuf::new(),
        };
        // Nearest first, until all are known.
        let mut files = vec![own];
        while let Some(base) = files.last().map(|last| base_of(last, &files)).transpose()? {
            match base {
                Some(base) => files.push(base),
                None => break,
            }
        }
        files.reverse();
        Ok(Self { files })
    }

    /// Its files, each before those that extend it.
    #[must_use]
    pub fn files(&self) -> &[DescriptionFile] {
        &self.files
    }

    /// All of them as a document, for messages.
    pub(crate) fn document(&self) -> TomlDocument<'_> {
        let parts = self.files.iter();
        TomlDocument {
            parts: parts
                .map(|part| (part.file.as_path(), part.text.as_str()))
                .collect(),
        }
    }

    /// What they say together.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, TextError> {
        let doc = self.document();
        // Blanks for all that stands in the files before: so a place tells the file as well.
        let mut before = 0;
        let texts: Vec<String> = self
            .files
            .iter()
            .map(|part| {
                let padded = " ".repeat(before) + &part.text;
                before += part.text.len() + 1;
                padded
            })
            .collect();
        let mut merged: Option<Spanned<DeTable<'_>>> = None;
        for (part, text) in self.files.iter().zip(&texts) {
            let mut table = doc.checked(DeTable::parse(text))?;
            rebase(table.get_mut(), &part.folder);
            match &mut merged {
                None => merged = Some(table),
                Some(base) => merge(base.get_mut(), table.into_inner()),
            }
        }
        let merged = merged.unwrap_or_else(|| Spanned::new(0..0, DeTable::new()));
        doc.deserialize(Deserializer::from(merged))
    }
}

/// The file that this one extends, with its text; none where it extends none.
fn base_of(
    part: &DescriptionFile,
    known: &[DescriptionFile],
) -> Result<Option<DescriptionFile>, TextError> {
    let doc = TomlDocument::of(&part.text, &part.file);
    let table = doc.checked(DeTable::parse(&part.text))?;
    let Some(value) = table.get_ref().get(EXTENDS) else {
        return Ok(None);
    };
    let wrong = |problem: String| doc.error(Some(value.span()), EXTENDS, problem);
    let named = match value.get_ref() {
        DeValue::String(named) if !named.is_empty() => Path::new(&**named),
        _ => return Err(wrong("expected the path of a file".to_owned())),
    };
    let parent = |file: &Path| file.parent().unwrap_or(Path::new("")).to_owned();
    let file = parent(&part.file).join(named);
    let text = fs::read_to_string(&file)
        .map_err(|error| wrong(format!("cannot read {}: {error}", file.display())))?;
    let real = |file: &Path| fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    if known.iter().any(|other| real(&other.file) == real(&file)) {
        let way: Vec<String> = known
            .iter()
            .map(|part| part.file.display().to_string())
            .collect();
        return Err(wrong(format!(
            "{} would extend itself, by way of {}; one of them must not extend the next",
            file.display(),
            way.join(", ")
        )));
    }
    Ok(Some(DescriptionFile {
        folder: part.folder.join(parent(named)),
        file,
        text,
    }))
}

/// Makes the relative paths of a file in another folder start at the description's own.
fn rebase(table: &mut DeTable<'_>, folder: &Path) {
    if folder.as_os_str().is_empty() {
        return;
    }
    for (name, keys) in PATHS {
        let tables: Vec<&mut DeTable<'_>> = match table.get_mut(name).map(Spanned::get_mut) {
            Some(DeValue::Table(table)) => vec![table],
            Some(DeValue::Array(list)) => list
                .iter_mut()
                .filter_map(|item| match item.get_mut() {
                    DeValue::Table(table) => Some(table),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        };
        for table in tables {
            for key in keys {
                if let Some(DeValue::String(path)) = table.get_mut(*key).map(Spanned::get_mut) {
                    let joined = folder.join(&**path);
                    *path = joined.to_string_lossy().into_owned().into();
                }
            }
        }
    }
}

/// Tables become one, tables of a list go behind those of the other, any other value takes the place of
/// the other's.
fn merge<'a>(base: &mut DeTable<'a>, own: DeTable<'a>) {
    for (name, value) in own {
        let Some(there) = base.get_mut(&**name.get_ref()) else {
            base.insert(name, value);
            continue;
        };
        let span = value.span();
        match (there.get_mut(), value.into_inner()) {
            (DeValue::Table(there), DeValue::Table(own)) => merge(there, own),
            (DeValue::Array(there), DeValue::Array(own))
                if are_tables(there) && are_tables(&own) =>
            {
                for item in own {
                    there.push(item);
                }
            }
            (_, value) => *there = Spanned::new(span, value),
        }
    }
}

/// Whether a list has nothing but tables in it.
fn are_tables(list: &[Spanned<DeValue<'_>>]) -> bool {
    list.iter()
        .all(|item| matches!(item.get_ref(), DeValue::Table(_)))
}
