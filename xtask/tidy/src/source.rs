//! Claims about each source file.

use crate::{File, files, report};

/// STYLE's "about 400 lines": beyond this a file has more than one job.
const LINES_MAX: usize = 450;

/// The only files that may contain `unsafe`, each for the reason beside it.
const UNSAFE_ALLOWED: &[&str] = &[
    // The guest's system calls.
    "init/linux/src/sys.rs",
    // What a test's intruder attempts.
    "init/linux/src/sys/attempt.rs",
    // What a child of PID 1 does to itself between clone and exec.
    "init/linux/src/sys/child.rs",
    // What PID 1 does when it faults.
    "init/linux/src/sys/fatal.rs",
    // Memory that is shared with devices and other programs.
    "init/linux/src/sys/page.rs",
    // The host's adjtimex.
    "qemu/src/time_server/host_clock.rs",
    // Stands in for functions of the C library in one of `reproduce`'s builds; part of no program.
    "xtask/preload/date.rs",
];

fn complaints(of: impl Fn(&File) -> Vec<String>) -> Vec<String> {
    files()
        .iter()
        .filter(|file| file.is_rust())
        .flat_map(of)
        .collect()
}

#[test]
fn every_source_file_says_its_job_first() {
    let missing = complaints(|file| match file.text.starts_with("//! ") {
        true => vec![],
        false => vec![file.path.clone()],
    });
    report("these files don't open with `//! ` and their job", &missing);
}

#[test]
fn no_source_file_outgrows_a_head() {
    let long = complaints(|file| {
        let lines = file.text.lines().count();
        if lines > LINES_MAX {
            vec![format!("{}: {lines} lines", file.path)]
        } else {
            vec![]
        }
    });
    report(
        &format!("these files have more than {LINES_MAX} lines"),
        &long,
    );
}

#[test]
fn unsafe_code_stands_only_where_it_is_allowed() {
    let word = ["un", "safe"].concat();
    let found = complaints(|file| {
        if UNSAFE_ALLOWED.contains(&file.path.as_str()) {
            return vec![];
        }
        code_lines(&file.text)
            .filter(|(_, line)| {
                [" {", " fn ", " impl ", " extern "]
                    .iter()
                    .any(|next| line.contains(&format!("{word}{next}")))
            })
            .map(|(number, line)| format!("{}:{number}: {}", file.path, line.trim()))
            .collect()
    });
    report("unsafe code outside the files that may have it", &found);
    for allowed in UNSAFE_ALLOWED {
        assert!(
            files()
                .iter()
                .any(|file| file.path == *allowed && file.text.contains(&word)),
            "{allowed} may have unsafe code but has none, or is gone: take it off the list"
        );
    }
}

#[test]
fn no_test_is_switched_off() {
    let ignore = ["#[ig", "nore"].concat();
    let found = complaints(|file| {
        code_lines(&file.text)
            .filter(|(_, line)| line.contains(&ignore))
            .map(|(number, _)| format!("{}:{number}", file.path))
            .collect()
    });
    report("ignored tests", &found);
}

#[test]
fn the_clock_logic_reads_no_clock_and_does_no_io() {
    let found = complaints(|file| {
        let sans_io = ["sync/src/", "sync/contract/src/"];
        if !sans_io.iter().any(|folder| file.path.starts_with(folder)) {
            return vec![];
        }
        code_lines(&file.text)
            .filter(|(_, line)| line.contains("std::") || line.contains("extern crate std"))
            .map(|(number, line)| format!("{}:{number}: {}", file.path, line.trim()))
            .collect()
    });
    report("sync/ is sans I/O and without std", &found);
    for path in ["sync/src/lib.rs", "sync/contract/src/lib.rs"] {
        let files = files();
        let lib = files.iter().find(|file| file.path == path).expect(path);
        assert!(lib.text.contains("#![no_std]") && lib.text.contains("#![forbid(unsafe_code)]"));
    }
}

/// Numbered lines that are not comments, up to the file's unit tests.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}
