//! `time-server`: the host's end of the time channel for any QEMU.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use clap::Args;
use noonmark_builder::progress;
use noonmark_qemu::time_server::{self, Connection, Counts};

/// Answers a guest's questions for the time on a virtio-serial port of any QEMU, until Ctrl-C.
///
/// The port is one that QEMU itself serves:
///   -chardev socket,id=time,path=PATH,server=on,wait=off
///   -device virtserialport,chardev=time,name=noonmark.time
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Example: cargo xtask time-server --port /run/vm/time.sock"
)]
pub struct TimeServerCommand {
    /// The chardev's socket.
    #[arg(long, value_name = "PATH")]
    port: PathBuf,
}

impl TimeServerCommand {
    pub fn run(self) -> Result<ExitCode> {
        let counts = Counts::default();
        let stop = AtomicBool::new(false);
        let port = self.port.display();
        time_server::serve(
            &self.port,
            time_server::host_utc,
            &stop,
            &counts,
            &mut |event| match event {
                Connection::Made => progress::note(format!("answering on {port}")),
                Connection::Lost => progress::note(format!(
                    "{port} was closed after {} answers; connecting again",
                    counts.answered.load(Ordering::Relaxed)
                )),
            },
        )?;
        Ok(ExitCode::SUCCESS)
    }
}
