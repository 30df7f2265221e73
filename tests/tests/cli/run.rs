//! `run`: what it is told that can't be, before an image is built or a machine booted.

use super::refused;

#[test]
fn options_of_a_command_need_one() {
    for options in [
        ["--share", "."],
        ["--env", "A=b"],
        ["--cwd", "/"],
        ["--user", "0"],
        ["--timeout", "1s"],
        ["--json", "run.json"],
    ] {
        let told = refused(&[&["run"], &options[..]].concat());
        assert!(told.contains("COMMAND"), "{options:?}: {told}");
    }
}

#[test]
fn what_a_command_can_not_have_is_named() {
    for (options, parts) in [
        (&["--boot", "uefi"][..], &["--boot", "directly"][..]),
        (&["--console"], &["--console"]),
        (&["--user", "root"], &["root", "UID"]),
        (&["--timeout", "5"], &["5", "1.5s"]),
        (&["--share", ":/work"], &["DIR[:PATH]"]),
        (&["--json", "no/such/folder/run.json"], &["no/such/folder"]),
    ] {
        let told = refused(&[&["run"], options, &["--", "true"]].concat());
        for part in parts {
            assert!(told.contains(part), "no `{part}` in: {told}");
        }
    }
}

#[test]
fn a_forward_that_is_none_is_told_how_one_is_written() {
    for wrong in ["80", "80:80/sctp", "1-2:3", "host:1:2"] {
        let told = refused(&["run", "--forward", wrong]);
        assert!(
            told.contains(wrong) && told.contains("5353:53/udp"),
            "{told}"
        );
    }
    let told = refused(&["run", "--bridge", "br0", "--tap", "tap0"]);
    assert!(
        told.contains("--bridge") && told.contains("--tap"),
        "{told}"
    );
}
