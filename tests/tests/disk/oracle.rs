//! Seeds as people make them, judged by cloud-init itself: Debian's package reads the same documents by
//! its own modules, and what it makes of them is what a guest of ours makes of them.
//!
//! `cases/` has seed disks modelled on reports of people whose seeds were refused or misread. Each is
//! taken as it is, and with its documents written in other ways that mean the same, one by one and mixed. Beside them,
//! `written.txt` has the documents of seeds and ConfigDrives that try what is odd, class by class.

use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use noonmark_contract::config::network::{Interface, Server};
use noonmark_contract::seed::instance::{Instance, SeedFile};
use noonmark_contract::seed::verdict::Document;
use noonmark_image::compress;
use noonmark_seed::nocloud::{self, FILES};
use noonmark_seed::root::Root;
use noonmark_seed::volume;
use noonmark_tests::{CLOUD_INIT, not_run};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::compare::{SHELL, differing};
use crate::rewriting::{Documents, rewritten};

/// Our way to ask cloud-init's modules.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/disk/cloud_init.py");

/// Debian's own Python, for which its modules are made.
const PYTHON: &str = "/usr/bin/python3";

/// The largest disk among the cases.
const DISK_MAX: u64 = 64 << 20;

/// The longest document.
const FILE_MAX: usize = 1 << 20;

/// Where cloud-init writes scripts.
const SCRIPTS: &str = "/var/lib/cloud/instance/scripts/";

/// Where a guest of ours makes something else of a case than cloud-init does: the case, what differs, and
/// why that is better or can't be otherwise.
type Deviation = (&'static str, &'static str, &'static str);

/// Those of the disks and of the examples. The reference page tells users of each kind.
const DEVIATIONS: &[Deviation] = &[
    (
        "06-bom--bom",
        "hostname files",
        "a byte order mark is taken, where cloud-init ignores the document",
    ),
    (
        "11-mime--include",
        "error",
        "nothing is fetched, and so nothing can fail",
    ),
    (
        "15-owner-name--plain",
        "files",
        "a user that the seed itself makes is none here; the file is root's",
    ),
    (
        "cloud-config-ansible-controller",
        "files",
        "a user that the seed itself makes is none here; the file is root's",
    ),
    (
        "16-source-uri--plain",
        "files",
        "nothing is fetched, and no empty file is written in its place",
    ),
    (
        "17-blank-keys--dhcp-and-route",
        "network",
        "`to: default` is a default route, which cloud-init 22.4 doesn't know yet",
    ),
    (
        "25-odd-but-right--strings",
        "network",
        "a version may be written as a text",
    ),
];

/// Seeds as texts: a line `== NAME` or, for a [`Deviation`], `== NAME WHAT: WHY` begins one, a line `--
/// DOCUMENT` one of its documents. A seed without meta-data has [`META_DATA`]. `␉` stands for a
/// tab, `␠` for a blank at a line's end.
const WRITTEN: &str = include_str!("cases/written.txt");

const META_DATA: &str = "instance-id: i-1\nlocal-hostname: m\n";

#[test]
fn seeds_are_taken_as_cloud_init_takes_them() {
    let test = "seeds_are_taken_as_cloud_init_takes_them";
    let modules = std::env::var_os(CLOUD_INIT)
        .map(|folder| Path::new(&folder).join("usr/lib/python3/dist-packages"))
        .filter(|modules| modules.join("cloudinit").is_dir());
    let Some(modules) = modules else {
        return not_run(test, "needs Debian's package cloud-init").expect("the list");
    };
    if !Path::new(PYTHON).exists() {
        return not_run(
            test,
            "needs python3; install it with: apt-get install python3",
        )
        .expect("the list");
    }
    let mut seeds: Vec<(String, Documents)> = Vec::new();
    for (name, documents) in cases() {
        for (how, rewritten) in rewritten(&documents) {
            seeds.push((format!("{name} with {how}"), rewritten));
        }
        seeds.push((name, documents));
    }
    seeds.extend(examples(&modules));
    let (written, mut deviations) = written();
    seeds.extend(written);
    deviations.extend(DEVIATIONS);
    let theirs = cloud_init(&modules, &seeds);
    let image = image();
    let root = Root::at(image.path().to_owned());
    let mut complaints = Vec::new();
    let mut used = BTreeSet::new();
    for ((name, documents), theirs) in seeds.iter().zip(theirs) {
        let ours = ours(documents, &root);
        let differing = differing(&ours, &theirs);
        let known = deviations
            .iter()
            .find(|(case, fields, _)| name.starts_with(case) && *fields == differing);
        if let Some((case, fields, _)) = known {
            used.insert((*case, *fields));
        } else if !differing.is_empty() {
            complaints.push(format!(
                "{name}: {differing}\n  ours   {ours}\n  theirs {theirs}"
            ));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    let unused: Vec<_> = deviations
        .iter()
        .filter(|(case, fields, _)| !used.contains(&(*case, *fields)))
        .collect();
    assert!(unused.is_empty(), "these deviate no more: {unused:?}");
    assert!(seeds.len() > 700, "only {} seeds", seeds.len());
}

/// The files of an image that has a shell.
fn image() -> TempDir {
    let image = tempfile::tempdir().expect("a folder");
    let shell = image.path().join(SHELL.trim_start_matches('/'));
    fs::create_dir(shell.parent().expect("a folder")).expect("a writable folder");
    fs::write(shell, "").expect("a writable folder");
    image
}

/// The documents of each case, by the guest's own reader of disks.
fn cases() -> Vec<(String, Documents)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/disk/cases");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the cases")
        .map(|entry| entry.expect("a case").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "gz"))
        .collect();
    paths.sort();
    let case = |path: PathBuf| {
        let packed = fs::read(&path).expect("a case");
        let disk = compress::decompress(&packed, DISK_MAX).expect("a packed case");
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.trim_end_matches(".gz").trim_end_matches(".img");
        let name = name.trim_end_matches(".iso").to_owned();
        let mut disk = Cursor::new(disk);
        let volume = volume::probe(&mut disk).expect("a disk").expect("a volume");
        assert!(
            volume.label.eq_ignore_ascii_case("cidata"),
            "{name}: {volume:?}"
        );
        let file = |file| {
            let read = volume.read(&mut disk, file, FILE_MAX);
            Some((
                file.to_owned(),
                read.unwrap_or_else(|error| panic!("{name}: {error}"))?,
            ))
        };
        let documents = FILES.into_iter().filter_map(file).collect();
        (name, documents)
    };
    paths.into_iter().map(case).collect()
}

/// The examples in cloud-init's own documentation that are cloud-configs.
fn examples(modules: &Path) -> Vec<(String, Documents)> {
    let folder = modules.join("../../../share/doc/cloud-init/examples");
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let example = |path: PathBuf| {
        let mut text = fs::read(&path).ok()?;
        if path.extension().is_some_and(|extension| extension == "gz") {
            text = compress::decompress(&text, DISK_MAX).ok()?;
        }
        let name = path.file_name()?.to_string_lossy().into_owned();
        let meta = b"instance-id: i\nlocal-hostname: example\n".to_vec();
        let is_config = text.starts_with(b"#cloud-config");
        let documents = vec![("meta-data".into(), meta), ("user-data".into(), text)];
        is_config.then_some((name, documents))
    };
    paths.into_iter().filter_map(example).collect()
}

/// The seeds of [`WRITTEN`], and in which of them, and why, a guest of ours makes something else.
fn written() -> (Vec<(String, Documents)>, Vec<Deviation>) {
    let (mut seeds, mut deviations) = (Vec::<(String, Documents)>::new(), Vec::new());
    for line in WRITTEN.split_inclusive('\n') {
        if let Some(title) = line.strip_prefix("== ") {
            let (name, deviation) = title.trim_end().split_once(' ').unwrap_or((title, ""));
            if let Some((fields, reason)) = deviation.split_once(": ") {
                deviations.push((name, fields, reason));
            }
            seeds.push((name.trim_end().to_owned(), Vec::new()));
            continue;
        }
        let (_, documents) = seeds.last_mut().expect("a name first");
        match (line.strip_prefix("-- "), documents.last_mut()) {
            (Some(name), _) => documents.push((name.trim_end().to_owned(), Vec::new())),
            (None, Some((_, content))) => {
                let line = line.replace('␉', "\t").replace('␠', " ");
                content.extend_from_slice(line.as_bytes());
            }
            (None, None) => panic!("`{line}` is in no document"),
        }
    }
    for (_, documents) in &mut seeds {
        let is_whole = |(name, _): &(String, _)| name.contains('/') || name == "meta-data";
        if !documents.iter().any(is_whole) {
            documents.push(("meta-data".into(), META_DATA.into()));
        }
    }
    (seeds, deviations)
}

/// What cloud-init makes of each of them.
fn cloud_init(modules: &Path, seeds: &[(String, Documents)]) -> Vec<Value> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(PYTHON);
    command.arg("-B").arg(SCRIPT).arg(folder.path().join("own"));
    for (index, (_, documents)) in seeds.iter().enumerate() {
        let seed = folder.path().join(format!("{index:04}"));
        fs::create_dir(&seed).expect("a writable folder");
        for (name, bytes) in documents {
            let path = seed.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a writable folder");
            fs::write(path, bytes).expect("a writable folder");
        }
        command.arg(seed);
    }
    let output = command
        .env("PYTHONPATH", modules)
        // From where it runs in a guest.
        .current_dir("/")
        .output()
        .expect("python3 runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{SCRIPT}: {told}");
    let lines = String::from_utf8(output.stdout).expect("JSON");
    let found: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(found.len(), seeds.len(), "{told}");
    found
}

/// What a guest of ours makes of them, in the script's words.
fn ours(documents: &Documents, root: &Root) -> Value {
    let mut file = |wanted: &str| {
        let found = documents.iter().find(|(name, _)| *name == wanted);
        Ok(found.map(|(_, bytes)| bytes.clone()))
    };
    let says = nocloud::config_drive(&mut file, root)
        .unwrap_or_else(|| nocloud::documents(FILES.map(file), root));
    let mut all = Instance::default();
    for Document { mut instance, .. } in says {
        all.id = instance.id.or(all.id);
        all.settings.hostname = instance.settings.hostname.or(all.settings.hostname);
        all.settings.network = instance.settings.network.or(all.settings.network);
        all.settings.ntp.servers = instance.settings.ntp.servers.or(all.settings.ntp.servers);
        all.files.append(&mut instance.files);
        all.services.append(&mut instance.services);
    }
    let (scripts, files): (Vec<SeedFile>, Vec<SeedFile>) = all
        .files
        .into_iter()
        .partition(|file| file.path.as_str().starts_with(SCRIPTS));
    let mut turns: Vec<Value> = Vec::new();
    for service in &all.services {
        let path = service.exec[0].as_str();
        let script = scripts.iter().find(|script| script.path.as_str() == path);
        let turn = match script {
            Some(script) => {
                let content = String::from_utf8_lossy(&script.content);
                json!([path.trim_start_matches(SCRIPTS), content])
            }
            None => json!(["runcmd", null]),
        };
        if !service.name.starts_with("bootcmd") && turns.last() != Some(&turn) {
            turns.push(turn);
        }
    }
    let files = files.iter().map(|file| {
        json!({
            "path": file.path.as_str(),
            "mode": file.mode.get(),
            "owner": format!("{}:{}", file.uid, file.gid),
            "append": file.append,
            "content": STANDARD.encode(&file.content),
        })
    });
    let commands = |key: &str| -> Vec<Value> {
        let services = all
            .services
            .iter()
            .filter(|service| service.name.starts_with(key));
        services.map(|service| json!(service.exec)).collect()
    };
    let servers = all.settings.ntp.servers.unwrap_or_default();
    let network = all.settings.network.map(|network| {
        let interfaces = network.interface.iter().map(interface);
        interfaces.collect::<Vec<Value>>()
    });
    json!({
        "instance_id": all.id,
        "hostname": all.settings.hostname.map(|name| name.to_string()),
        "files": files.collect::<Vec<Value>>(),
        "bootcmd": commands("bootcmd"),
        "runcmd": commands("runcmd"),
        "turns": turns,
        "ntp": servers.iter().map(server).collect::<Vec<_>>(),
        "network": network,
    })
}

/// A server as cloud-init names it, without brackets around an address.
fn server(server: &Server) -> String {
    match server.port {
        Some(_) => server.to_string(),
        None => server.host.clone(),
    }
}

fn interface(interface: &Interface) -> Value {
    let gateways = [
        interface.gateway4.map(|router| router.to_string()),
        interface.gateway6.map(|router| router.to_string()),
    ];
    let sorted = |texts: Vec<String>| texts.into_iter().collect::<BTreeSet<_>>();
    json!({
        "name": interface.name.as_ref().map(|name| name.as_str()),
        "mac": interface.macaddress.map(|mac| mac.to_string()).unwrap_or_default(),
        "addresses": interface.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "dhcp4": interface.dhcp4,
        "gateways": sorted(gateways.into_iter().flatten().collect()),
        "nameservers": sorted(interface.nameservers.iter().map(ToString::to_string).collect()),
        "mtu": interface.mtu,
    })
}
