//! Threads beside the loop, for what a disk can hold up in the kernel.

use std::io;
use std::thread;

/// A thread's stack: it looks at one piece of a disk at a time.
const STACK_BYTES: usize = 64 * 1024;

/// Starts one. What it does is boxed, because each kind of thread would take some KiB of the program.
///
/// # Errors
/// There can be no thread.
pub fn start(work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    let thread = thread::Builder::new().stack_size(STACK_BYTES);
    thread.spawn(work).map(drop)
}
