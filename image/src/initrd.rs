//! What lies in the initrd: PID 1, its configuration, the modules, and the spec's own files.

use noonmark_contract::agent;
use noonmark_contract::config::network::{NET_SERVICE, NTP_SERVICE, RESOLV_CONF};
use noonmark_contract::config::{
    self, BootConfig, Capability, Module, OnDisruption, Restart, Service, Start, SystemCallFilter,
    assign_users,
};

use crate::cpio::{Entry, Kind, Tree};
use crate::inputs::Inputs;
use crate::json;
use crate::layout::{
    AGENT_PROGRAM, FAULT_PROGRAM, MOUNT_POINTS, NET_PROGRAM, NTP_PROGRAM, RESOLV_CONF_LINK, RUN,
    RUN_LINK, RUN_PROGRAM,
};
use crate::lookup;

/// The name of the service that runs the fault program.
const FAULT_SERVICE: &str = "noonmark-fault";

/// The name of the service that runs the host's commands.
const RUN_SERVICE: &str = "noonmark-run";

/// As many processes as the host's commands may have: as many as the kernel numbers.
const RUN_TASKS_MAX: u32 = 4_194_304;

/// The users that the network's and the NTP client's program run as: behind those that other services
/// are given.
const NET_USER: u32 = 65_520;
const NTP_USER: u32 = 65_521;

/// The guest agent's user, the memory that it may use, and its processes: it has one.
const AGENT_USER: u32 = 65_522;
const AGENT_MEMORY: &str = "8M";
const AGENT_TASKS_MAX: u32 = 4;

/// The tree of the initrd. The spec has been checked: its files hide none of noonmark's own.
#[must_use]
pub fn tree(inputs: &Inputs<'_>) -> Tree {
    let mut tree = inputs.content.clone();
    // A folder of it may be a link, as /lib is to usr/lib in distributions' roots.
    let mut add = |path: &str, entry| {
        let path =
            lookup::place(&tree, path).unwrap_or_else(|| path.trim_start_matches('/').into());
        tree.insert(path, entry)
    };
    for (path, permissions) in MOUNT_POINTS {
        add(path, Entry::directory(permissions));
    }
    // The kernel opens it as PID 1's standard input and output, before anything is mounted.
    add("/dev/console", Entry::character_device(5, 1, 0o600));
    // Where there is no console, PID 1's runtime opens this one in its place before `main`, or aborts.
    add("/dev/null", Entry::character_device(1, 3, 0o666));
    for (path, program) in inputs.programs() {
        add(path, Entry::file(program.to_vec(), 0o755));
    }
    if inputs.spec.wants_network() {
        add(RESOLV_CONF_LINK, Entry::symlink(RESOLV_CONF));
    }
    if inputs.spec.status.clockbound {
        add(RUN_LINK, Entry::symlink(RUN));
    }
    for module in &inputs.kernel.modules {
        let path = module_path(inputs, &module.file);
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
    let boot_config = json::pretty(&boot_config(inputs));
    add(config::PATH, Entry::file(boot_config, 0o644));
    tree
}

/// What PID 1 is told.
fn boot_config(inputs: &Inputs<'_>) -> BootConfig {
    let spec = inputs.spec;
    let modules = inputs.kernel.modules.iter().map(|module| Module {
        name: module.name.clone(),
        path: module_path(inputs, &module.file),
    });
    let own = |name: &str, program: &str, capabilities: &[Capability]| Service {
        start: Start::Boot,
        // The host is answered, and the clock kept, also while the guest is frozen.
        on_freeze: OnDisruption::Keep,
        capabilities: capabilities.to_vec(),
        ..Service::new(name, vec![program.into()])
    };
    // It sets the clock, keeps the processors busy ahead of ordinary programs, and measures what PID 1
    // and other keepers of the clock use, which `/proc` doesn't show to everybody.
    let rights = [
        Capability::SYS_TIME,
        Capability::SYS_NICE,
        Capability::SYS_PTRACE,
    ];
    let fault = inputs.fault.map(|_| Service {
        user: Some(0),
        // It reads the host's clock, and the test port.
        private_devices: false,
        ..own(FAULT_SERVICE, FAULT_PROGRAM, &rights)
    });
    let net = spec.wants_network().then(|| {
        let kept = [Capability::NET_ADMIN, Capability::NET_RAW];
        Service {
            user: Some(NET_USER),
            restart: Restart::Always,
            ..own(NET_SERVICE, NET_PROGRAM, &kept)
        }
    });
    // It has no need of any right, and PID 1 takes nobody else's word for the time.
    let ntp = spec.wants_ntp().then(|| Service {
        user: Some(NTP_USER),
        restart: Restart::Always,
        ..own(NTP_SERVICE, NTP_PROGRAM, &[])
    });
    // All that it needs a right for it asks PID 1 for.
    let agent = spec.agent.enabled.then(|| {
        let program = [AGENT_PROGRAM.to_owned()];
        Service {
            user: Some(AGENT_USER),
            exec: program
                .into_iter()
                .chain(spec.agent.allow.clone())
                .collect(),
            restart: Restart::Always,
            memory_max: AGENT_MEMORY.parse().ok(),
            tasks_max: AGENT_TASKS_MAX,
            ..own(agent::SERVICE, AGENT_PROGRAM, &[])
        }
    });
    // The machine is the command's, which may do there all that root may.
    let run = inputs.run.map(|_| Service {
        user: Some(0),
        start: Start::ClockSynced,
        on_freeze: OnDisruption::Freeze,
        private_devices: false,
        system_call_filter: SystemCallFilter::None,
        restrict_namespaces: false,
        no_new_privileges: false,
        tasks_max: RUN_TASKS_MAX,
        ..own(RUN_SERVICE, RUN_PROGRAM, &Capability::all())
    });
    let own = fault.into_iter().chain(net).chain(ntp).chain(agent);
    let own = own.chain(run);
    let mut services: Vec<Service> = own.chain(spec.services.clone()).collect();
    assign_users(&mut services);
    BootConfig {
        v: 1,
        hostname: spec.image.hostname.clone(),
        built: spec.image.source_date,
        modules: modules.collect(),
        clock: spec.clock.clone(),
        status: spec.status.clone(),
        on_failure: spec.image.on_failure,
        lock_modules: spec.modules.lock,
        seed: spec.seed,
        sysctl: spec.sysctl.clone(),
        tmpfs: spec.tmpfs,
        watchdog_timeout_s: spec.watchdog.as_ref().map(|watchdog| watchdog.timeout_s),
        mounts: spec.mounts.clone(),
        freeze_limit_s: spec.agent.freeze_limit_s,
        network: spec.network.clone(),
        ntp: spec.ntp.clone(),
        services,
    }
}

/// A module's path in the guest.
fn module_path(inputs: &Inputs<'_>, file: &str) -> String {
    format!("/lib/modules/{}/{file}", inputs.kernel.release)
}
