//! What lies in the initrd: PID 1, its configuration, the modules, and the spec's own files.

use noonmark_contract::config::system::SEED_PROGRAM;
use noonmark_contract::config::{self, BootConfig, Capability, Restart, Service, Start, network};

use crate::build::Inputs;
use crate::cpio::{Entry, Kind, Tree};

/// Where PID 1's program is.
pub const INIT_PROGRAM: &str = "/init";

/// Where the fault program of a test image is.
pub const FAULT_PROGRAM: &str = "/noonmark-fault";

/// The name of the service that runs it.
pub const FAULT_SERVICE: &str = "noonmark-fault";

/// Where the program is that sets up the network, in an image that has one.
pub const NET_PROGRAM: &str = "/noonmark-net";

/// The name of the service that runs it.
pub const NET_SERVICE: &str = network::NET_SERVICE;

/// Where the NTP client is, in an image that has one.
pub const NTP_PROGRAM: &str = "/noonmark-ntp";

/// The name of the service that runs it.
pub const NTP_SERVICE: &str = network::NTP_SERVICE;

/// The user that it runs as, its own.
const NTP_USER: u32 = 65_123;

/// Where programs look for name servers; a link to what `noonmark-net` writes.
pub const RESOLV_CONF_LINK: &str = "/etc/resolv.conf";

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
    let spec = inputs.spec;
    if spec.wants_network() {
        add(NET_PROGRAM, Entry::file(inputs.net.to_vec(), 0o755));
        add(RESOLV_CONF_LINK, Entry::symlink(network::RESOLV_CONF));
    }
    if spec.wants_ntp() {
        add(NTP_PROGRAM, Entry::file(inputs.ntp.to_vec(), 0o755));
    }
    if spec.seed.enabled {
        add(SEED_PROGRAM, Entry::file(inputs.seed.to_vec(), 0o755));
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
    let own = |name: &str, program: &str, capabilities: &[Capability]| Service {
        start: Start::Boot,
        capabilities: capabilities.to_vec(),
        ..Service::new(name, vec![program.into()])
    };
    // It sets the clock, and keeps the processors busy ahead of ordinary programs.
    let rights = [Capability::SYS_TIME, Capability::SYS_NICE];
    let fault = inputs
        .fault
        .map(|_| own(FAULT_SERVICE, FAULT_PROGRAM, &rights));
    let net = spec.wants_network().then(|| {
        let kept = [Capability::NET_ADMIN, Capability::NET_RAW];
        let service = own(NET_SERVICE, NET_PROGRAM, &kept);
        Service {
            restart: Restart::Always,
            ..service
        }
    });
    // It has no need of any right, and PID 1 takes nobody else's word for the time.
    let ntp = spec.wants_ntp().then(|| Service {
        user: NTP_USER,
        restart: Restart::Always,
        ..own(NTP_SERVICE, NTP_PROGRAM, &[])
    });
    let own = fault.into_iter().chain(net).chain(ntp);
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
        lock_modules: spec.modules.lock,
        seed: spec.seed,
        sysctl: spec.sysctl.clone(),
        tmpfs: spec.tmpfs,
        mounts: spec.mounts.clone(),
        network: spec.network.clone(),
        ntp: spec.ntp.clone(),
        services: own.chain(spec.services.clone()).collect(),
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
