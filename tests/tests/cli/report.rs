//! `report` and the gates of `recover`: what is read back, compared and held to limits, and what a
//! user is told whose file or limits are wrong.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{refused, run};

/// A report that an earlier run wrote; it must stay readable.
const REPORT: &str = include_str!("report.json");

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn file(folder: &tempfile::TempDir, name: &str, content: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).expect("a writable folder");
    path
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// What a command printed, and whether it succeeded.
fn printed(arguments: &[&str]) -> (String, bool) {
    let output = run(arguments);
    let told = String::from_utf8(output.stdout).expect("a table in UTF-8");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!error.contains("panicked"), "{arguments:?}: {error}");
    (told, output.status.success())
}

/// The report with all times of `step:-1h` this many times as long, as if each sample were of a boot
/// of its own: samples of one boot alone are compared with nothing.
fn slowed(factor: i64) -> String {
    let mut report: serde_json::Value = serde_json::from_str(REPORT).expect("JSON");
    let samples = report["faults"][0]["samples"].as_array_mut();
    for (boot, sample) in samples.expect("samples").iter_mut().enumerate() {
        sample["boot"] = boot.into();
        let took = sample["recovered_ns"].as_i64().expect("a time");
        sample["recovered_ns"] = (took * factor).into();
    }
    report.to_string()
}

#[test]
fn a_report_s_table_page_and_xml_are_made_again() {
    let folder = folder();
    let report = file(&folder, "report.json", REPORT);
    let (page, xml) = (folder.path().join("r.html"), folder.path().join("r.xml"));
    let (told, good) = printed(&[
        "report",
        text(&report),
        "--html",
        text(&page),
        "--junit",
        text(&xml),
    ]);
    assert!(
        good && told.contains("step:-1h") && told.contains("701.481 us"),
        "{told}"
    );
    let page = fs::read_to_string(page).expect("a page");
    assert!(page.contains("<svg") && page.contains("step:+500ms"));
    let xml = fs::read_to_string(xml).expect("XML");
    assert!(
        xml.contains(r#"<testcase name="step:-1h" classname="recover.step""#),
        "{xml}"
    );
    let replay = "cargo xtask recover --fault step:+500ms --seed 1 --only";
    for place in [&told, &page, &xml] {
        assert!(
            place.contains(replay),
            "no command for the failing sample in: {place}"
        );
    }
}

#[test]
fn limits_decide_the_exit_status() {
    let folder = folder();
    let report = file(&folder, "report.json", REPORT);
    let loose = file(&folder, "loose.toml", "[default]\nmax_recovery = \"1s\"\n");
    let tight = file(&folder, "tight.toml", "[family.step]\np50 = \"100us\"\n");
    let (told, good) = printed(&["report", text(&report), "--limits", text(&loose)]);
    assert!(good, "{told}");
    let (told, good) = printed(&["report", text(&report), "--limits", text(&tight)]);
    assert!(
        !good && told.contains("p50 is 701.481 us, beyond 100.000 us"),
        "{told}"
    );
}

#[test]
fn what_got_slower_is_told_and_fails_only_where_that_was_asked_for() {
    let folder = folder();
    let before = file(&folder, "before.json", &slowed(1));
    let after = file(&folder, "after.json", &slowed(100));
    let files = ["report", text(&before), text(&after)];
    let (told, good) = printed(&files);
    assert!(good && told.contains("step:-1h: got slower, "), "{told}");
    assert!(!told.contains("step:+500ms: got slower"), "{told}");
    let failing = [&files[..], &["--fail-on-slower"]].concat();
    assert!(!printed(&failing).1);
    let same = ["report", text(&before), text(&before), "--fail-on-slower"];
    let (told, good) = printed(&same);
    assert!(good && told.contains("nothing got slower"), "{told}");
    let mut short: serde_json::Value = serde_json::from_str(&slowed(1)).expect("JSON");
    short["faults"].as_array_mut().expect("faults").remove(0);
    let short = file(&folder, "short.json", &short.to_string());
    let (told, good) = printed(&["report", text(&before), text(&short), "--fail-on-slower"]);
    assert!(
        !good && told.contains("lacking: noonmark, step:-1h"),
        "{told}"
    );
}

#[test]
fn a_file_that_is_no_report_is_named_with_what_it_lacks() {
    let folder = folder();
    let other = REPORT.replacen("\"v\": 1", "\"v\": 7", 1);
    let half = &REPORT[..REPORT.len() / 2];
    for (name, content, expected) in [
        ("empty.json", "", "empty"),
        ("notes.txt", "dear diary", "no JSON"),
        ("half.json", half, "no JSON"),
        ("package.json", "{\"name\": \"x\"}", "no report"),
        ("newer.json", &other, "version 7"),
    ] {
        let path = file(&folder, name, content);
        let told = refused(&["report", text(&path)]);
        assert!(
            told.contains(name) && told.contains(expected),
            "{name}: {told}"
        );
    }
    let told = refused(&["report", "no-such-report.json"]);
    assert!(told.contains("no-such-report.json"), "{told}");
}

#[test]
fn limits_that_make_no_sense_are_told_before_a_guest_boots() {
    let folder = folder();
    for (content, expected) in [
        ("[fault.\"wobble:1\"]\n", "unknown fault `wobble:1`"),
        ("[family.step]\np95 = \"1ms\"\n", "did you mean `p99`"),
        ("[family.steps]\n", "did you mean `step`"),
        ("[default]\np50 = 3\n", "a span of time"),
        ("[default\n", "line 1"),
    ] {
        let limits = file(&folder, "limits.toml", content);
        // No QEMU is there either: had a guest been near, this would be the complaint.
        let told = refused(&[
            "recover",
            "--limits",
            text(&limits),
            "--qemu",
            "no/such/qemu",
        ]);
        assert!(
            told.contains("limits.toml") && told.contains(expected),
            "{told}"
        );
    }
    let told = refused(&[
        "recover",
        "--limits",
        "no-such.toml",
        "--qemu",
        "no/such/qemu",
    ]);
    assert!(told.contains("no-such.toml"), "{told}");
}

#[test]
fn a_preset_or_a_soak_that_makes_no_sense_is_told_before_a_guest_boots() {
    let told = refused(&["recover", "--preset", "fast"]);
    assert!(
        told.contains("fast") && told.contains("quick, full or soak"),
        "{told}"
    );
    let told = refused(&["recover", "--duration", "1h", "--qemu", "no/such/qemu"]);
    assert!(told.contains("--preset soak"), "{told}");
    let folder = folder();
    let report = file(&folder, "report.json", REPORT);
    let soak = [
        "recover",
        "--preset",
        "soak",
        "--qemu",
        "no/such/qemu",
        "--resume",
    ];
    let told = refused(&[&soak[..], &[text(&report)]].concat());
    assert!(
        told.contains("report.json") && told.contains("no settings of a soak"),
        "{told}"
    );
    let told = refused(&[&soak[..], &["no/such/folder/soak.jsonl"]].concat());
    assert!(told.contains("no/such/folder/soak.jsonl"), "{told}");
}

#[test]
fn a_file_that_cannot_be_written_is_told_before_a_guest_boots() {
    for option in ["--json", "--html", "--junit"] {
        let told = refused(&[
            "recover",
            option,
            "no/such/folder/file",
            "--qemu",
            "no/such/qemu",
        ]);
        assert!(
            told.contains(option) && told.contains("no/such/folder"),
            "{told}"
        );
    }
}
