//! The checks of single values of `guest.toml`.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use globset::{Glob, GlobBuilder};
use toml::Spanned;

use crate::text::{TextError, TomlDocument};

use super::raw::Key;

/// A checked value, or what is wrong with it and where.
pub(super) type Checked<T> = Result<T, TextError>;

/// A text that passes a test; the test's error says what was expected.
pub(super) fn text(
    value: Spanned<String>,
    key: &str,
    doc: &TomlDocument<'_>,
    test: impl Fn(&str) -> Result<(), &'static str>,
) -> Checked<String> {
    match test(value.get_ref()) {
        Ok(()) => Ok(value.into_inner()),
        Err(expected) => Err(doc.error(
            Some(value.span()),
            key,
            format!("`{}`: {expected}", value.get_ref().escape_debug()),
        )),
    }
}

/// A path that is not empty.
pub(super) fn path(value: Spanned<PathBuf>, key: &str, doc: &TomlDocument<'_>) -> Checked<PathBuf> {
    if value.get_ref().as_os_str().is_empty() {
        return Err(doc.error(Some(value.span()), key, "expected a path"));
    }
    Ok(value.into_inner())
}

/// A package's or a suite's name.
pub(super) fn package_name(
    value: Spanned<String>,
    key: &str,
    doc: &TomlDocument<'_>,
) -> Checked<String> {
    text(value, key, doc, |name| {
        let good = !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-._/~".contains(&b))
            && !name.starts_with('-');
        good.then_some(()).ok_or(
            "expected a name as the distribution writes it: lower-case letters, digits and `+-._~`",
        )
    })
}

/// A whole number in a range.
pub(super) fn number(
    value: Key<i64>,
    key: &str,
    range: RangeInclusive<u32>,
    doc: &TomlDocument<'_>,
) -> Checked<Option<u32>> {
    let Some(value) = value else {
        return Ok(None);
    };
    u32::try_from(*value.get_ref())
        .ok()
        .filter(|number| range.contains(number))
        .map(Some)
        .ok_or_else(|| {
            doc.error(
                Some(value.span()),
                key,
                format!(
                    "{}: expected {} to {}",
                    value.get_ref(),
                    range.start(),
                    range.end()
                ),
            )
        })
}

/// Patterns of paths below a folder. `*` and `?` stand for no `/`; `**` does.
pub(super) fn patterns(
    raw: Vec<Spanned<String>>,
    key: &str,
    doc: &TomlDocument<'_>,
) -> Checked<Vec<Glob>> {
    raw.into_iter()
        .map(|pattern| {
            let bad = |problem: String| Err(doc.error(Some(pattern.span()), key, problem));
            let text = pattern.get_ref();
            if text.is_empty() || text.starts_with('/') || text.ends_with('/') {
                return bad(format!(
                    "`{}`: expected a pattern for paths below the folder, without `/` at its ends",
                    text.escape_debug()
                ));
            }
            match GlobBuilder::new(text).literal_separator(true).build() {
                Ok(glob) => Ok(glob),
                Err(error) => bad(format!(
                    "`{}`: expected a pattern of `*`, `?`, `**`, `[a-z]` and `{{a,b}}`: {}",
                    text.escape_debug(),
                    error.kind()
                )),
            }
        })
        .collect()
}
