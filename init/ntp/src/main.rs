//! `noonmark-ntp`: the NTP client of images whose time servers are asked without protection.

use std::process::ExitCode;
use std::sync::Arc;

use noonmark_ntp::association::Unprotected;

fn main() -> ExitCode {
    noonmark_ntp::run(|_| Ok(Arc::new(Unprotected)))
}
