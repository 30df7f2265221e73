//! `user-data`: which of the forms that are understood it has, told by its first line.

use noonmark_contract::seed::instance::{Instance, printable};
use thiserror::Error;

use crate::cloud_config;
use crate::content::{self, ContentError};
use crate::noonmark_config::{self, NoonmarkConfigError};
use crate::value::DocumentError;

/// A document that can't be honoured.
#[derive(Debug, Error)]
pub enum UserDataError {
    /// It is neither text nor text that is packed by gzip.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// It is a wrong cloud-config.
    #[error(transparent)]
    CloudConfig(#[from] DocumentError),
    /// It is a wrong noonmark-config.
    #[error(transparent)]
    NoonmarkConfig(#[from] NoonmarkConfigError),
    /// It is something else.
    #[error(
        "its first line is `{line}`; expected {} or {}",
        cloud_config::HEADER,
        noonmark_config::HEADER
    )]
    Unknown {
        /// Its first line.
        line: String,
    },
}

/// Takes in the document, packed by gzip or not; at most `max` bytes of it.
///
/// # Errors
/// [`UserDataError`].
pub fn read(mut bytes: Vec<u8>, max: usize, instance: &mut Instance) -> Result<(), UserDataError> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        bytes = content::gunzip(&bytes, max)?;
    }
    let text = content::text(&bytes)?;
    if text.trim().is_empty() {
        return Ok(());
    }
    match text.lines().next().unwrap_or_default().trim_end() {
        cloud_config::HEADER => cloud_config::read(text, instance)?,
        noonmark_config::HEADER => noonmark_config::read(text, instance)?,
        other => {
            let line = printable(other, 60);
            return Err(UserDataError::Unknown { line });
        }
    }
    Ok(())
}
