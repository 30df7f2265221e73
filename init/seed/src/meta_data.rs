//! `meta-data`: the instance's id, and its host name unless user-data gives another.

use noonmark_contract::seed::instance::Instance;

use crate::value::{Checked, UNKNOWN, document, optional, string};

/// Takes in the document.
///
/// # Errors
/// [`DocumentError`](crate::value::DocumentError).
pub fn read(text: &str, instance: &mut Instance) -> Checked<()> {
    for (key, value) in document(text)? {
        match key.as_str() {
            "instance-id" => instance.id = string(&value, &key)?,
            "local-hostname" => instance.settings.hostname = optional(&value, &key)?,
            _ => instance.ignore(format_args!("meta-data {key}"), UNKNOWN),
        }
    }
    Ok(())
}
