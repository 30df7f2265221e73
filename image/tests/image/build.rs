//! The build as a whole.

use noonmark_contract::agent::{COMMANDS, FREEZE_LIMIT_S};
use noonmark_contract::config::{BootConfig, Capability, OnDisruption, PATH, Start};
use noonmark_image::artifact::{CMDLINE, DISK, INITRD, KERNEL, UKI};
use noonmark_image::build::{self, BuildError};
use noonmark_image::compress;
use noonmark_image::cpio::{self, Entry, Kind, Tree};
use noonmark_image::fat;
use noonmark_image::inputs::Inputs;
use noonmark_image::{disk, uki};

use crate::support::{
    RELEASE, build, bzimage, dynamic_program, empty_spec, kernel, program, spec, try_build,
    with_inputs,
};

fn initrd(outputs: &noonmark_image::build::Outputs) -> Tree {
    let packed = outputs.artifact(INITRD).expect("an initrd");
    let archive = compress::decompress(packed, 1 << 30).expect("a compressed archive");
    cpio::read(&archive).expect("an archive")
}

fn boot_config(tree: &Tree) -> BootConfig {
    let entry = &tree[PATH.trim_start_matches('/')];
    let Kind::File(json) = &entry.kind else {
        panic!("the configuration is no file");
    };
    serde_json::from_slice(json).expect("a configuration")
}

#[test]
fn the_initrd_has_what_pid_1_needs_and_nothing_more() {
    let tree = initrd(&build(&empty_spec(), &program(b"init"), None));
    let paths: Vec<_> = tree.keys().map(String::as_str).collect();
    assert_eq!(
        paths,
        [
            "dev",
            "dev/console",
            "dev/null",
            "init",
            "lib",
            "lib/modules",
            "lib/modules/6.1.0-9-test",
            "lib/modules/6.1.0-9-test/ptp_kvm.ko",
            "lib/modules/6.1.0-9-test/virtio_console.ko",
            "noonmark.json",
            "proc",
            "run",
            "sys",
            "tmp",
        ]
    );
}

#[test]
fn pid_1_is_told_the_modules_in_the_order_in_which_to_load_them() {
    let config = boot_config(&initrd(&build(&empty_spec(), &program(b"init"), None)));
    let paths: Vec<_> = config.modules.iter().map(|m| m.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            format!("/lib/modules/{RELEASE}/ptp_kvm.ko"),
            format!("/lib/modules/{RELEASE}/virtio_console.ko"),
        ]
    );
}

#[test]
fn a_base_image_has_neither_the_fault_program_nor_its_service() {
    let fault = program(b"the fault program's own code");
    let base = build(&empty_spec(), &program(b"init"), None);
    let tree = initrd(&base);
    assert!(!tree.keys().any(|path| path.contains("fault")));
    assert!(boot_config(&tree).services.is_empty());
    let test = initrd(&build(&empty_spec(), &program(b"init"), Some(&fault)));
    assert!(
        test.contains_key("noonmark-fault"),
        "the test image has it, so the check can fail"
    );
}

#[test]
fn the_ntp_client_is_the_one_with_nts_where_servers_are_authenticated() {
    for (certificates, expected) in [("", &b"ntp"[..]), ("trusted_certs = \"/c\"\n", b"nts")] {
        let spec = spec(&format!(
            "[clock]\nsources = [\"ntp\"]\n[[network.interface]]\ndhcp4 = true\n\
             [ntp]\nservers = [\"a\"]\n{certificates}\
             [[file]]\npath = \"/c\"\nsource = \"c\"\n"
        ));
        let inside = with_inputs(&spec, &kernel(), &program(b"init"), |inputs| {
            let ntp = inputs.programs().find(|(path, _)| *path == "/noonmark-ntp");
            ntp.map(|(_, bytes)| bytes.to_vec())
        });
        assert_eq!(inside, Some(program(expected)));
    }
}

#[test]
fn an_image_has_a_networks_program_only_where_a_network_is_asked_for() {
    let with = spec("[[network.interface]]\ndhcp4 = true\n");
    let tree = initrd(&build(&with, &program(b"init"), None));
    assert!(tree.contains_key("noonmark-net"));
    assert!(matches!(
        &tree["etc/resolv.conf"].kind,
        Kind::Symlink(target) if target == "/run/noonmark/net/resolv.conf"
    ));
    assert!(!tree.contains_key("noonmark-ntp"));
    let services = boot_config(&tree).services;
    assert_eq!(services.len(), 1);
    assert_eq!(
        (services[0].name.as_str(), services[0].start),
        ("noonmark-net", Start::Boot)
    );
    assert!(services[0].user.is_some_and(|user| user != 0));
    let without = initrd(&build(&empty_spec(), &program(b"init"), None));
    assert!(!without.contains_key("noonmark-net") && !without.contains_key("etc/resolv.conf"));
}

#[test]
fn an_image_has_the_guest_agent_with_its_commands_only_where_that_is_enabled() {
    for (allow, expected) in [
        ("", COMMANDS.to_vec()),
        ("allow = [\"guest-ping\"]\n", vec!["guest-ping"]),
    ] {
        let with = spec(&format!(
            "[agent]\nenabled = true\nfreeze_limit_s = 5\n{allow}"
        ));
        let tree = initrd(&build(&with, &program(b"init"), None));
        assert!(tree.contains_key("noonmark-agent"));
        let config = boot_config(&tree);
        assert_eq!(config.freeze_limit_s, 5);
        let [agent] = config.services.as_slice() else {
            panic!("{:?}", config.services);
        };
        assert_eq!(agent.exec, [&["/noonmark-agent"], &expected[..]].concat());
        assert!(agent.user.is_some_and(|user| user != 0) && agent.capabilities.is_empty());
        assert!(agent.private_devices && agent.memory_max.is_some());
        // Who thaws the others must not stand still.
        assert_eq!(agent.on_freeze, OnDisruption::Keep);
    }
    let without = initrd(&build(&empty_spec(), &program(b"init"), None));
    assert!(!without.contains_key("noonmark-agent"));
    assert_eq!(boot_config(&without).freeze_limit_s, FREEZE_LIMIT_S);
}

#[test]
fn clients_of_clockbound_find_their_folder_only_where_that_is_asked_for() {
    let with = spec("[status]\nclockbound = true\n");
    let tree = initrd(&build(&with, &program(b"init"), None));
    assert!(matches!(&tree["var/run"].kind, Kind::Symlink(target) if target == "/run"));
    assert!(boot_config(&tree).status.clockbound);
    let without = initrd(&build(&empty_spec(), &program(b"init"), None));
    assert!(!without.contains_key("var/run") && !boot_config(&without).status.clockbound);
}

#[test]
fn an_image_has_the_seeds_reader_only_where_seeds_are_asked_for() {
    let asked = spec("[seed]\nenabled = true\n");
    let with = initrd(&build(&asked, &program(b"init"), None));
    assert!(with.contains_key("noonmark-seed"));
    assert!(boot_config(&with).seed.enabled);
    let without = initrd(&build(&empty_spec(), &program(b"init"), None));
    assert!(!without.contains_key("noonmark-seed"));
    assert!(!boot_config(&without).seed.enabled);
}

#[test]
fn a_test_image_differs_from_a_base_image_in_the_fault_program_alone() {
    let spec = spec("[[service]]\nname = \"a\"\nexec = [\"/a\"]\n");
    let content = Tree::from([("a".into(), Entry::file(program(b"a"), 0o755))]);
    let image = |fault: Option<&[u8]>| {
        with_inputs(&spec, &kernel(), &program(b"init"), |inputs| {
            let content = &content;
            let inputs = Inputs {
                content,
                fault,
                ..inputs
            };
            initrd(&build::build(&inputs).expect("an image"))
        })
    };
    let mut base = image(None);
    let mut test = image(Some(&program(b"fault")));
    let (base_config, mut test_config) = (boot_config(&base), boot_config(&test));
    let service = test_config.services.remove(0);
    assert_eq!(service.exec, ["/noonmark-fault"]);
    assert_eq!(service.start, Start::Boot);
    assert_eq!(
        service.capabilities,
        [
            Capability::SYS_TIME,
            Capability::SYS_NICE,
            Capability::SYS_PTRACE
        ]
    );
    assert_eq!(test_config, base_config);
    for tree in [&mut base, &mut test] {
        tree.remove("noonmark.json");
        tree.remove("noonmark-fault");
    }
    assert_eq!(test, base);
}

#[test]
fn the_disk_starts_the_same_kernel_initrd_and_command_line() {
    let outputs = build(
        &spec("[kernel]\ncmdline = \"a=b\"\n"),
        &program(b"init"),
        None,
    );
    let artifact = |name| outputs.artifact(name).expect("the artifact");
    let disk = disk::read(artifact(DISK)).expect("a disk");
    let fat::VolumeContent { files, .. } = fat::read(&disk.partitions[0].bytes).expect("a volume");
    assert_eq!(files["EFI/BOOT/BOOTX64.EFI"], artifact(UKI));
    let sections = uki::read_sections(artifact(UKI), "UKI").expect("a PE file");
    let section = |name: &str| {
        sections
            .iter()
            .find(|(n, _)| n == name)
            .expect("the section")
            .1
    };
    assert_eq!(section(".linux"), artifact(KERNEL));
    assert_eq!(section(".linux"), bzimage());
    assert_eq!(section(".initrd"), artifact(INITRD));
    assert_eq!(section(".cmdline"), outputs.cmdline.as_bytes());
    assert_eq!(
        artifact(CMDLINE),
        format!("{}\n", outputs.cmdline).as_bytes()
    );
    assert!(outputs.cmdline.ends_with(" a=b"));
    assert_eq!(section(".uname"), RELEASE.as_bytes());
}

#[test]
fn the_same_inputs_give_the_same_bits() {
    for compression in ["none", "gzip", "zstd", "xz"] {
        let spec = spec(&format!("[initrd]\ncompression = \"{compression}\"\n"));
        let init = program(&[1; 5000]);
        assert_eq!(build(&spec, &init, None), build(&spec, &init, None));
    }
}

#[test]
fn over_budget_is_an_error_with_the_sizes() {
    let spec = spec("[budget]\ninit_kib = 1\n");
    let init = program(&[1; 3000]);
    let error = try_build(&spec, &kernel(), &init, None).expect_err("over budget");
    let message = error.to_string();
    assert!(
        message.starts_with("/init has 4 KiB, over the 1 KiB of `budget.init_kib`"),
        "{message}"
    );
    assert!(
        message.contains(&format!("{}  initrd: /init", init.len())),
        "{message}"
    );
    let tight = crate::support::spec("[budget]\ndisk_mib = 2\n");
    let error = try_build(&tight, &kernel(), &init, None).expect_err("over budget");
    assert!(error.to_string().contains("`budget.disk_mib`"));
}

#[test]
fn a_program_that_can_not_run_alone_is_refused() {
    let refused = |init: &[u8]| {
        let error = try_build(&empty_spec(), &kernel(), init, None).expect_err("a bad program");
        assert!(matches!(error, BuildError::Program { .. }));
        error.to_string()
    };
    assert!(refused(&dynamic_program()).ends_with("link it statically"));
    assert!(
        refused(b"#!/bin/sh\n").starts_with("the program /init can't run in the guest: it is no")
    );
}
