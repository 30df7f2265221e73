//! `noonmark`: the command line with the guest's programs in it, for use outside the checkout.

use std::process::ExitCode;

fn main() -> ExitCode {
    xtask::installed(include_bytes!(concat!(env!("OUT_DIR"), "/bundle")))
}
