//! Claims about what the tree's texts may and must say.

use crate::{files, report, workspace_root};

#[test]
fn texts_have_no_tabs_and_no_trailing_spaces() {
    let complaints: Vec<String> = files()
        .iter()
        .filter(|file| file.path != "LICENSE")
        .flat_map(|file| {
            let lines = file.text.lines().enumerate();
            lines
                .filter(|(_, line)| line.contains('\t') || line.ends_with(' '))
                .map(|(index, _)| format!("{}:{}", file.path, index + 1))
        })
        .collect();
    report("tabs or trailing spaces", &complaints);
}

#[test]
fn no_text_names_a_persons_folder_or_an_archive_host() {
    // Split so that this file doesn't find itself.
    let words = [
        ["/ro", "ot/"].concat(),
        ["/ho", "me/"].concat(),
        ["/wo", "rk/"].concat(),
        ["deb.deb", "ian.org"].concat(),
        ["archive.ubu", "ntu.com"].concat(),
        ["static.rust", "-lang.org"].concat(),
    ];
    let complaints: Vec<String> = files()
        .iter()
        .flat_map(|file| {
            words
                .iter()
                .filter(|word| file.text.contains(word.as_str()))
                .map(|word| format!("{}: {word}", file.path))
        })
        .collect();
    report(
        "paths of one machine, or a host that should come from the machine's own settings",
        &complaints,
    );
}

#[test]
fn every_path_that_the_architecture_names_exists() {
    let root = workspace_root();
    let mut complaints = Vec::new();
    for page in ["ARCHITECTURE.md", "README.md"] {
        let text =
            std::fs::read_to_string(root.join(page)).unwrap_or_else(|e| panic!("{page}: {e}"));
        for quoted in text.split('`').skip(1).step_by(2) {
            let path = quoted.split("::").next().unwrap_or_default();
            let first = path.split('/').next().unwrap_or_default();
            let ours = ["image", "init", "qemu", "sync", "tests", "xtask"].contains(&first)
                && path.contains('/');
            if ours && !path.contains([' ', '*']) && !root.join(path).exists() {
                complaints.push(format!("{page}: `{path}`"));
            }
        }
    }
    report("pages name files that don't exist", &complaints);
}
