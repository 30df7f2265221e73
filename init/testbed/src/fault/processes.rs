//! What the guest's programs cost: processor time and memory, from `/proc`.

use std::fs;
use std::path::Path;

use noonmark_contract::testport::ProcessCost;
use noonmark_contract::units::Nanos;

/// The most processes of one list; a test image has a handful.
const PROCESSES_MAX: usize = 32;

/// Every program that runs now, with the processor time that it has used so far. Kernel threads,
/// which have no memory of their own, are left out, and so is what ends while it is looked at.
pub fn list(proc: &Path) -> Vec<ProcessCost> {
    let Ok(entries) = fs::read_dir(proc) else {
        return Vec::new();
    };
    let mut list: Vec<ProcessCost> = entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            read(&entry.path(), pid)
        })
        .take(PROCESSES_MAX)
        .collect();
    list.sort_by_key(|process| process.pid);
    list
}

/// What those processes of `before` that still run have used since.
pub fn since(before: &[ProcessCost], now: Vec<ProcessCost>) -> Vec<ProcessCost> {
    now.into_iter()
        .filter_map(|process| {
            let earlier = before.iter().find(|other| other.pid == process.pid)?;
            Some(ProcessCost {
                cpu_ns: process.cpu_ns - earlier.cpu_ns,
                ..process
            })
        })
        .collect()
}

fn read(folder: &Path, pid: u32) -> Option<ProcessCost> {
    let resident = number(&folder.join("statm"), 1)?;
    if resident == 0 {
        return None;
    }
    let threads = fs::read_dir(folder.join("task")).ok()?;
    // The first field is the time on a processor in nanoseconds (Documentation/scheduler/
    // sched-stats.rst); `stat` counts in whole ticks, which is too coarse for a good daemon.
    let cpu = threads
        .flatten()
        .filter_map(|thread| number(&thread.path().join("schedstat"), 0))
        .fold(0_u64, u64::saturating_add);
    Some(ProcessCost {
        pid,
        name: fs::read_to_string(folder.join("comm"))
            .ok()?
            .trim_end()
            .to_owned(),
        cpu_ns: Nanos(i64::try_from(cpu).unwrap_or(i64::MAX)),
        rss_kib: resident.saturating_mul(rustix::param::page_size() as u64 / 1024),
    })
}

/// The number at this place of a line of numbers.
fn number(file: &Path, place: usize) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.split_ascii_whitespace().nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, cpu: i64) -> ProcessCost {
        ProcessCost {
            pid,
            name: "daemon".into(),
            cpu_ns: Nanos(cpu),
            rss_kib: 4,
        }
    }

    #[test]
    fn this_process_runs_and_uses_memory() {
        let own = read(Path::new("/proc/self"), 7).unwrap();
        assert!(own.rss_kib > 0 && own.cpu_ns > Nanos::ZERO && !own.name.is_empty());
    }

    #[test]
    fn only_what_ran_all_the_time_is_counted_and_only_for_that_time() {
        let before = [process(1, 100), process(7, 50)];
        let now = vec![process(1, 130), process(9, 500)];
        assert_eq!(since(&before, now), [process(1, 30)]);
    }

    #[test]
    fn without_a_list_there_is_nothing_to_tell() {
        assert_eq!(list(Path::new("/nowhere")), []);
    }
}
