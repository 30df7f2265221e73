//! PID 1 of a noonmark guest.

use noonmark_init::boot::early::Started;
use noonmark_init::pid1;

fn main() {
    let started = Started::now();
    if !rustix::process::getpid().is_init() {
        eprintln!("noonmark-init is PID 1 of a guest image; it does nothing when run by hand");
        std::process::exit(2);
    }
    pid1::run(started)
}
