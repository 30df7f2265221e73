//! What lies in the initrd: PID 1, its configuration, the modules, and the spec's own files.

use noonmark_sync::config::{self, BootConfig, Service, Start};

use crate::build::Inputs;
use crate::cpio::{Entry, Kind, Tree};

/// Where PID 1's program is.
pub const INIT_PROGRAM: &str = "/init";

/// Where the fault program of a test image is.
pub const FAULT_PROGRAM: &str = "/noonmark-fault";

/// The name of the service that runs it.
pub const FAULT_SERVICE: &str = "noonmark-fault";

/// Folders that PID 1 mounts something on, and their permissions.
const MOUNT_POINTS: [(&str, u32); 5] = [
    ("dev", 0o755),
    ("proc", 0o555),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
];

/// The tree of the initrd. The spec has been checked: its files hide none of noonmark's own.
#[must_use]
pub fn tree(inputs: &Inputs<'_>) -> Tree {
    let mut tree = Tree::new();
    for (path, permissions) in MOUNT_POINTS {
        tree.insert(path.into(), Entry::directory(permissions));
    }
    // The kernel opens it as PID 1's standard input and output, before anything is mounted.
    let console = Entry::character_device(5, 1, 0o600);
    tree.insert("dev/console".into(), console);
    let mut add = |path: &str, entry| tree.insert(path.trim_start_matches('/').into(), entry);
    add(INIT_PROGRAM, Entry::file(inputs.init.to_vec(), 0o755));
    if let Some(fault) = inputs.fault {
        add(FAULT_PROGRAM, Entry::file(fault.to_vec(), 0o755));
    }
    for (module, path) in inputs.kernel.modules.iter().zip(module_paths(inputs)) {
        add(&path, Entry::file(module.bytes.clone(), 0o644));
    }
    for file in inputs.files {
        let entry = Entry {
            kind: Kind::File(file.bytes.clone()),
            permissions: file.spec.mode,
            uid: file.spec.uid,
            gid: file.spec.gid,
        };
        add(&file.spec.path, entry);
    }
    add(config::PATH, Entry::file(boot_config_json(inputs), 0o644));
    tree
}

/// What PID 1 is told.
#[must_use]
pub fn boot_config(inputs: &Inputs<'_>) -> BootConfig {
    let spec = inputs.spec;
    let modules = inputs.kernel.modules.iter().zip(module_paths(inputs));
    let fault = inputs.fault.map(|_| Service {
        name: FAULT_SERVICE.into(),
        exec: vec![FAULT_PROGRAM.into()],
        start: Start::Boot,
        capabilities: vec!["CAP_SYS_TIME".into()],
    });
    BootConfig {
        v: 1,
        hostname: spec.image.hostname.clone(),
        built: spec.image.source_date,
        modules: modules
            .map(|(module, path)| config::Module {
                name: module.name.clone(),
                path,
            })
            .collect(),
        clock: spec.clock.clone(),
        status: spec.status.clone(),
        on_failure: spec.image.on_failure,
        services: fault.into_iter().chain(spec.services.clone()).collect(),
        seed: spec.seed,
        sysctl: spec.sysctl.clone(),
        tmpfs: spec.tmpfs,
        mounts: spec.mounts.clone(),
    }
}

/// The configuration's text, with a newline at its end so that `cat` shows it well.
fn boot_config_json(inputs: &Inputs<'_>) -> Vec<u8> {
    // Numbers, texts and lists of them always have a JSON form.
    let mut json = serde_json::to_vec_pretty(&boot_config(inputs)).unwrap_or_default();
    json.push(b'\n');
    json
}

/// Each module's path in the guest.
fn module_paths<'a>(inputs: &'a Inputs<'_>) -> impl Iterator<Item = String> + 'a {
    let release = &inputs.kernel.release;
    let modules = inputs.kernel.modules.iter();
    modules.map(move |module| format!("/lib/modules/{release}/{}", module.file))
}
