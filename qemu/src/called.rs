//! What the command line is called that uses this library. Errors, notes and reports name a command to
//! run, and it is `cargo xtask` in a checkout and `noonmark` where that is installed.

use std::borrow::Cow;
use std::sync::OnceLock;

/// In a checkout.
const FROM_SOURCE: &str = "cargo xtask";

static NAME: OnceLock<&str> = OnceLock::new();

/// Says once, at the start, what it is called: `cargo xtask` where nobody does.
pub fn set(name: &'static str) {
    // A second name would contradict what has been said by then.
    let _ = NAME.set(name);
}

/// What it is called.
#[must_use]
pub fn name() -> &'static str {
    NAME.get().copied().unwrap_or(FROM_SOURCE)
}

/// A text that was written for a checkout, with the name that holds here.
#[must_use]
pub fn renamed(text: &str) -> Cow<'_, str> {
    match name() {
        FROM_SOURCE => Cow::Borrowed(text),
        name => Cow::Owned(text.replace(FROM_SOURCE, name)),
    }
}
