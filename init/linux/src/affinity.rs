//! On which processors a program runs.

use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Keeps PID 1 on the first processor, which takes the devices' interrupts. Where there are more,
/// a reader of the clock on another one sees the repair as soon as it is done, rather than when
/// PID 1 has also reported it.
///
/// # Errors
/// What the kernel says.
pub fn keep_to_first() -> Result<(), Errno> {
    keep_to(allowed()?.first())
}

/// Keeps the observer of a fault away from PID 1, where there is more than one processor.
///
/// # Errors
/// What the kernel says.
pub fn keep_to_last() -> Result<(), Errno> {
    keep_to(allowed()?.last())
}

/// Lets a program that PID 1 starts run everywhere. Makes one system call and allocates nothing,
/// so that it can be called between fork and exec.
///
/// # Errors
/// What the kernel says.
pub fn allow_all() -> Result<(), Errno> {
    let mut all = CpuSet::new();
    // The kernel takes out those that the machine lacks.
    (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
    sched_setaffinity(None, &all)
}

/// The processors that this program may use now, in ascending order.
fn allowed() -> Result<Vec<usize>, Errno> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|&cpu| allowed.is_set(cpu))
        .collect())
}

fn keep_to(cpu: Option<&usize>) -> Result<(), Errno> {
    let mut one = CpuSet::new();
    match cpu {
        Some(&cpu) => one.set(cpu),
        None => return Ok(()),
    }
    sched_setaffinity(None, &one)
}
