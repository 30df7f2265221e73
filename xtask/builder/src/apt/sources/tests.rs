//! Claims about source entries and those derived from them.

use super::*;

const BOOKWORM: &str = "\
Types: deb
# a comment in the middle
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb deb-src
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
";

const THIRD_PARTY: &str = "\
Types: deb
URIs: https://vendor.example/apt
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/vendor.gpg
";

fn derived(machine: &[Source], suite: &str) -> Vec<(String, Vec<String>)> {
    for_suite(machine, "bookworm", suite)
        .into_iter()
        .map(|source| (source.uris.join(" "), source.suites))
        .collect()
}

fn entry(uri: &str, suites: &[&str]) -> (String, Vec<String>) {
    (
        uri.to_owned(),
        suites.iter().map(|suite| (*suite).to_owned()).collect(),
    )
}

#[test]
fn the_machines_own_suite_is_derived_as_it_stands() {
    assert_eq!(
        derived(&parse_stanzas(BOOKWORM), "bookworm"),
        [
            entry(
                "http://mirror.example/debian",
                &["bookworm", "bookworm-updates"]
            ),
            entry(
                "http://mirror.example/debian-security",
                &["bookworm-security"]
            ),
        ]
    );
}

#[test]
fn backports_come_from_the_release_entry_and_never_from_the_security_archive() {
    assert_eq!(
        derived(&parse_stanzas(BOOKWORM), "bookworm-backports"),
        [
            entry(
                "http://mirror.example/debian",
                &["bookworm", "bookworm-backports", "bookworm-updates"]
            ),
            entry(
                "http://mirror.example/debian-security",
                &["bookworm-security"]
            ),
        ]
    );
}

#[test]
fn a_rolling_suite_has_no_updates_and_no_security_archive() {
    assert_eq!(
        derived(&parse_stanzas(BOOKWORM), "sid"),
        [entry("http://mirror.example/debian", &["sid"])]
    );
}

#[test]
fn third_parties_are_left_out_even_where_they_use_the_releases_name() {
    let both = parse_stanzas(&format!("{THIRD_PARTY}\n{BOOKWORM}"));
    assert_eq!(both.len(), 3);
    assert!(
        for_suite(&both, "bookworm", "trixie")
            .iter()
            .all(|source| source.uris != ["https://vendor.example/apt"])
    );
}

#[test]
fn one_line_entries_keep_their_options() {
    let text = "\
# deb http://commented.example/debian bookworm main
deb [ arch=amd64,arm64 signed-by=/keys/debian-archive-keyring.gpg check-valid-until=no ] \
http://mirror.example/debian bookworm main contrib # a remark
deb-src http://mirror.example/debian bookworm main
deb cdrom:[Debian]/ bookworm main
";
    let machine: Vec<Source> = text.lines().filter_map(parse_line).collect();
    assert_eq!(
        render(&for_suite(&machine, "bookworm", "bookworm-backports")),
        "\
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-backports
Components: main contrib
Targets: Packages
Architectures: amd64 arm64
Signed-By: /keys/debian-archive-keyring.gpg
Check-Valid-Until: no

"
    );
}

#[test]
fn entries_without_a_key_are_the_distributions_where_none_names_its_keyring() {
    let machine: Vec<Source> = "deb http://mirror.example/debian stable main\n\
                                deb [signed-by=/keys/v.gpg] http://vendor.example/ bookworm main"
        .lines()
        .filter_map(parse_line)
        .collect();
    assert_eq!(
        derived(&machine, "bookworm-backports"),
        [entry(
            "http://mirror.example/debian",
            &["bookworm", "bookworm-backports"]
        )]
    );
}

#[test]
fn a_disabled_stanza_is_no_source() {
    assert_eq!(parse_stanzas(&format!("Enabled: no\n{THIRD_PARTY}")), []);
}

#[test]
fn an_embedded_key_survives_with_its_lines() {
    let text = "\
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBFyy
 -----END PGP PUBLIC KEY BLOCK-----
";
    let rendered = render(&parse_stanzas(text));
    assert!(
        rendered.contains(
            "Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBFyy\n -----END"
        ),
        "{rendered}"
    );
}
