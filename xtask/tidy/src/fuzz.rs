//! The page that lists the parsers of foreign bytes names every target and test, and only those.

use std::collections::BTreeSet;

use crate::{File, files, report};

const PAGE: &str = "init/docs/fuzzing.md";
const TARGETS: &str = "init/seed/tests/fuzz/main.rs";

/// Where parsers of foreign bytes stand: every file here has to be on the page, but for those that
/// only put others together.
const FOLDERS: [&str; 5] = [
    "init/label/src/",
    "init/nts/src/",
    "init/seed/src/",
    "sync/contract/src/agent/",
    "sync/contract/src/ntp/",
];

/// Files of [`FOLDERS`] that read no bytes themselves, or only by a parser that is on the page.
const NO_PARSERS: [&str; 27] = [
    "init/label/src/disk.rs",
    "init/label/src/fat/tests.rs",
    "init/label/src/lib.rs",
    "init/nts/src/establish.rs",
    "init/nts/src/lib.rs",
    "init/nts/src/main.rs",
    "init/nts/src/session.rs",
    "init/nts/src/trust.rs",
    "init/seed/src/cloud_config/commands.rs",
    "init/seed/src/cloud_config/hostname.rs",
    "init/seed/src/cloud_config/ntp.rs",
    "init/seed/src/cloud_config/write_files.rs",
    "init/seed/src/instances.rs",
    "init/seed/src/lib.rs",
    "init/seed/src/main.rs",
    "init/seed/src/merge.rs",
    "init/seed/src/network_config/entry.rs",
    "init/seed/src/network_config/v1.rs",
    "init/seed/src/network_config/v2.rs",
    "init/seed/src/nocloud.rs",
    "init/seed/src/root.rs",
    "init/seed/src/user_data/form.rs",
    "init/seed/src/value.rs",
    "init/seed/src/volume.rs",
    "init/seed/src/volume/error.rs",
    "init/seed/src/volume/file_system.rs",
    "init/seed/src/yaml/node.rs",
];

/// The second and third column of the page's table: a file, and the tests that feed it.
fn rows(page: &str) -> Vec<(&str, Vec<&str>)> {
    let rows = page.lines().filter(|line| line.starts_with("| "));
    rows.filter_map(|row| {
        let mut columns = row.split(" | ").skip(1);
        let file = columns.next()?.strip_prefix('`')?.strip_suffix('`')?;
        let tests = columns.next()?.split('`').skip(1).step_by(2);
        Some((file, tests.collect()))
    })
    .collect()
}

fn find<'a>(files: &'a [File], path: &str) -> Option<&'a str> {
    let found = files.iter().find(|file| file.path == path);
    found.map(|file| file.text.as_str())
}

#[test]
fn every_parser_of_foreign_bytes_is_on_the_page_with_tests_that_exist() {
    let files = files();
    let rows = rows(find(&files, PAGE).expect("the page"));
    let targets = find(&files, TARGETS).expect("the targets");
    let mut complaints = Vec::new();
    let mut named = BTreeSet::new();
    for (path, tests) in &rows {
        let own = find(&files, path);
        if own.is_none() {
            complaints.push(format!("{PAGE} names {path}, which is not there"));
        }
        for test in tests {
            named.insert(*test);
            let written = format!("fn {test}(");
            if ![own.unwrap_or_default(), targets]
                .iter()
                .any(|text| text.contains(&written))
            {
                complaints.push(format!("{PAGE} names {test}, which {path} has not"));
            }
        }
    }
    let on_page = |path: &str| rows.iter().any(|(listed, _)| *listed == path);
    for file in files.iter().filter(|file| file.is_rust()) {
        let foreign = FOLDERS.iter().any(|folder| file.path.starts_with(folder));
        if foreign && !NO_PARSERS.contains(&file.path.as_str()) && !on_page(&file.path) {
            complaints.push(format!("{} is not on {PAGE}", file.path));
        }
    }
    for target in targets.split("#[test]\nfn ").skip(1) {
        let name = target.split('(').next().unwrap_or_default();
        if !named.contains(name) {
            complaints.push(format!("the target {name} is not on {PAGE}"));
        }
    }
    report("the list of parsers does not hold", &complaints);
}
