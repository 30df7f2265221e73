//! `seed --check`: what a guest would make of a seed, told without one.

use std::fs;
use std::path::Path;

use noonmark_image::seed::{self, Format, Seed};
use serde_json::{Value, json};

use super::run;

const USER_DATA: &str = "#cloud-config
hostname: one
write_files:
- {path: /etc/motd, content: noon, permissions: '0640', owner: '7:8'}
";

const NETWORK: &str = "version: 2
ethernets:
  eth0:
    addresses: [192.0.2.7/24]
    gateway4: 192.0.2.1
    nameservers: {addresses: [192.0.2.53]}
";

fn folder(user_data: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let files = [
        ("user-data", user_data),
        ("meta-data", "instance-id: i-1\n"),
        ("network-config", NETWORK),
    ];
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("a writable folder");
    }
    folder
}

/// What is told of a seed, and whether all of it is taken.
fn checked(path: &Path) -> (Value, bool) {
    let path = path.to_str().expect("a path in UTF-8");
    let output = run(&["seed", "--check", path, "--format", "json"]);
    let told = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (told, output.status.success())
}

#[test]
fn a_folder_and_the_disk_made_of_it_are_read_alike() {
    let folder = folder(USER_DATA);
    let expected = json!({
        "seed": true,
        "instance_id": "i-1",
        "hostname": "one",
        "files": [{
            "path": "/etc/motd",
            "mode": 0o640,
            "uid": 7,
            "gid": 8,
            "append": false,
            "content_base64": "bm9vbg==",
        }],
        "network": [{
            "name": "eth0",
            "addresses": ["192.0.2.7/24"],
            "dhcp4": false,
            "gateway4": "192.0.2.1",
            "gateway6": null,
            "nameservers": ["192.0.2.53"],
        }],
        "ignored": [],
        "refused": [],
    });
    assert_eq!(checked(folder.path()), (expected.clone(), true));

    let file = |name: &str| folder.path().join(name).display().to_string();
    for format in ["fat", "iso"] {
        let disk = file(format);
        let made = run(&[
            "seed",
            "--user-data",
            &file("user-data"),
            "--meta-data",
            &file("meta-data"),
            "--network-config",
            &file("network-config"),
            "--format",
            format,
            "-o",
            &disk,
        ]);
        assert!(made.status.success(), "{made:?}");
        let told = checked(Path::new(&disk));
        assert_eq!(told, (expected.clone(), true), "{format}");
        // On a partition: an MBR whose second entry begins at sector 8.
        let volume = fs::read(&disk).expect("the disk");
        let mut whole = vec![0; 8 * 512];
        let sectors = u32::try_from(volume.len() / 512).expect("a small disk");
        whole[466] = 0x0c;
        whole[470..474].copy_from_slice(&8_u32.to_le_bytes());
        whole[474..478].copy_from_slice(&sectors.to_le_bytes());
        whole[510..512].copy_from_slice(&[0x55, 0xaa]);
        whole.extend(volume);
        let whole_disk = file("partitioned");
        fs::write(&whole_disk, whole).expect("a writable folder");
        let told = checked(Path::new(&whole_disk));
        assert_eq!(told, (expected.clone(), true), "{format}, on a partition");
    }
}

#[test]
fn a_config_drives_folder_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let latest = folder.path().join("openstack/latest");
    fs::create_dir_all(&latest).expect("a writable folder");
    let meta_data = r#"{"uuid": "i-1", "hostname": "one.novalocal"}"#;
    fs::write(latest.join("meta_data.json"), meta_data).expect("a writable folder");
    let (told, is_whole) = checked(folder.path());
    assert!(is_whole, "{told}");
    assert_eq!(
        (&told["instance_id"], &told["hostname"]),
        (&json!("i-1"), &json!("one"))
    );
}

#[test]
fn a_format_that_is_not_of_this_use_is_told() {
    for (arguments, told) in [
        (&["--check", ".", "--format", "iso"][..], "text or json"),
        (
            &[
                "--user-data",
                "x",
                "--meta-data",
                "x",
                "-o",
                "x",
                "--format",
                "json",
            ],
            "fat or iso",
        ),
    ] {
        let output = run(&[&["seed"], arguments].concat());
        let problem = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && problem.contains(told),
            "{problem}"
        );
    }
}

#[test]
fn what_is_not_taken_is_named_and_fails() {
    let ignored = folder(&format!("{USER_DATA}packages: [vim]\n"));
    let (told, taken) = checked(ignored.path());
    assert!(!taken);
    assert!(told["ignored"].to_string().contains("packages"), "{told}");

    let refused = folder("#cloud-config\nwrite_files: 3\n");
    let (told, taken) = checked(refused.path());
    assert!(!taken);
    assert!(
        told["refused"].to_string().contains("write_files"),
        "{told}"
    );

    let empty = tempfile::tempdir().expect("a folder");
    let (told, taken) = checked(empty.path());
    assert_eq!((&told["seed"], taken), (&json!(false), false));
}

#[test]
fn a_single_user_data_file_is_checked_as_such() {
    let folder = folder(USER_DATA);
    let (told, taken) = checked(&folder.path().join("user-data"));
    assert!(taken, "{told}");
    assert_eq!(told["hostname"], json!("one"));
}

#[test]
fn each_document_is_checked_by_its_name_and_what_is_no_seed_is_told() {
    let folder = folder(USER_DATA);
    let file = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a writable folder");
        path
    };
    let network = "version: 2\nethernets: {eth0: {addresses: [192.0.2.7/24]}}\n";
    let (told, taken) = checked(&file("network-config", network.as_bytes()));
    assert!(taken, "{told}");
    assert_eq!(told["network"][0]["addresses"], json!(["192.0.2.7/24"]));
    let (told, taken) = checked(&file("meta-data", b"instance-id: alone\n"));
    assert!(taken, "{told}");
    assert_eq!(told["instance_id"], json!("alone"));

    let other = tempfile::tempdir().expect("a folder");
    fs::write(other.path().join("user-data.yaml"), USER_DATA).expect("a writable folder");
    let nothing = file("nothing.img", &[0; 1 << 20]);
    let seed = Seed {
        user_data: USER_DATA.as_bytes(),
        meta_data: b"instance-id: i-1\n",
        network_config: None,
        vendor_data: None,
    };
    let mut disk = seed::write(&seed, Format::Fat).expect("a small seed");
    let labels: Vec<usize> = (0..disk.len() - 6)
        .filter(|at| disk[*at..].starts_with(b"CIDATA"))
        .collect();
    for at in labels {
        disk[at..at + 6].copy_from_slice(b"OTHERS");
    }
    let labelled = file("labelled.img", &disk);
    for (path, named) in [
        (other.path(), "but a folder with user-data.yaml"),
        (nothing.as_path(), "but something else"),
        (labelled.as_path(), "but a disk labelled `OTHERS`"),
    ] {
        let output = run(&["seed", "--check", &path.to_string_lossy()]);
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(told.contains(named), "{told}");
    }
}
