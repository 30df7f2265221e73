//! `noonmark-nts`: the NTP client of images that authenticate their time servers by NTS.

use std::process::ExitCode;
use std::sync::Arc;

use noonmark_ntp::association::Setup;
use noonmark_nts::Nts;

fn main() -> ExitCode {
    noonmark_ntp::run(|task| Ok(Arc::new(Nts::new(task)?) as Arc<dyn Setup>))
}
