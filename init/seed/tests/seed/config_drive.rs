//! OpenStack's ConfigDrive, on disks and as documents.

use std::collections::BTreeMap;

use fatfs::FatType;
use noonmark_contract::seed::instance::{CONTENT_MAX, Instance};
use noonmark_contract::seed::verdict::Datasource;
use noonmark_seed::nocloud;
use noonmark_seed::root::Root;

use crate::disks::{fat, seed, unpack};
use crate::{all, found, refused, verdict};

const CONFIG_DRIVE: &[u8] = include_bytes!("images/config-2.gz");

/// What a guest makes of a drive with these files.
fn made_of(files: &[(&str, &str)]) -> Instance {
    let files: BTreeMap<&str, &str> = files.iter().copied().collect();
    let mut read = |path: &str| Ok(files.get(path).map(|text| text.as_bytes().to_vec()));
    let documents = nocloud::config_drive(&mut read, &Root::unknown()).expect("meta-data");
    all(documents)
}

#[test]
fn what_nova_writes_is_taken() {
    let instance = made_of(&[
        (
            "openstack/latest/meta_data.json",
            r#"{"uuid": "i-1", "hostname": "sundial.novalocal", "name": "sundial", "launch_index": 0,
                "availability_zone": "nova", "project_id": "p", "devices": [], "meta": {"role": "web"},
                "public_keys": {"k": "ssh-ed25519 A"},
                "files": [{"content_path": "/content/0000", "path": "etc/motd"},
                          {"content_path": "/content/0001", "path": "/etc/none"}]}"#,
        ),
        ("openstack/content/0000", "noon\n"),
        (
            "openstack/latest/network_data.json",
            r#"{"links": [{"id": "a", "type": "ovs", "ethernet_mac_address": "FA:16:3e:00:00:01", "mtu": null},
                          {"id": "b", "type": "vlan", "vlan_link": "a", "vlan_id": 5},
                          {"id": "c", "type": "phy", "ethernet_mac_address": "fa:16:3e:00:00:03", "mtu": 9000}],
                "networks": [{"id": "0", "type": "ipv4", "link": "c", "ip_address": "192.0.2.7",
                              "netmask": "255.255.255.0", "services": [{"type": "dns", "address": "192.0.2.53"}],
                              "routes": [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "192.0.2.1"}]},
                             {"id": "1", "type": "ipv6_slaac", "link": "c"},
                             {"id": "2", "type": "ipv4_dhcp", "link": "gone"}],
                "services": [{"type": "dns", "address": "192.0.2.53"}]}"#,
        ),
        (
            "openstack/latest/vendor_data.json",
            r##"{"cloud-init": ["#cloud-config\nhostname: v\nruncmd: [[/v]]\n", "#!/bin/none\n"], "other": {}}"##,
        ),
        ("openstack/latest/user_data", "#cloud-config\nfqdn: u.x\n"),
    ]);
    assert_eq!(instance.id.as_deref(), Some("i-1"));
    assert_eq!(instance.settings.hostname.unwrap().as_str(), "v");
    let [file] = instance.files.as_slice() else {
        panic!("{:?}", instance.files);
    };
    assert_eq!((file.path.as_str(), file.mode.get()), ("/etc/motd", 0o660));
    assert_eq!(instance.services[0].exec, ["/v"]);
    let network = instance.settings.network.unwrap();
    let [interface] = network.interface.as_slice() else {
        panic!("{network:?}");
    };
    assert_eq!(
        interface.to_string(),
        "fa:16:3e:00:00:03 192.0.2.7/24 via 192.0.2.1"
    );
    assert_eq!(
        (interface.nameservers.len(), interface.mtu),
        (1, Some(9000))
    );
    let ignored = instance.ignored.join("\n");
    for named in [
        "meta_data.json: public_keys: the guest has no accounts",
        "network_data.json: links[1] of type vlan",
        "network_data.json: links[0]: it gets no address",
        "network_data.json: networks[1]: there is no client of DHCPv6",
        "vendor_data.json part 2: `#!/bin/none`",
    ] {
        assert!(ignored.contains(named), "{named}: {ignored}");
    }
    assert_eq!(instance.ignored.len(), 5, "{ignored}");
    let refused = instance.refused.join("\n");
    for named in [
        "meta_data.json: files[1]: `/content/0001` is not on the disk",
        "network_data.json: networks[2]: its `link` is none of the links",
    ] {
        assert!(refused.contains(named), "{named}: {refused}");
    }
    assert_eq!(instance.refused.len(), 2, "{refused}");
}

#[test]
fn what_the_cloud_says_of_one_instance_counts_before_what_it_says_of_all() {
    let instance = made_of(&[
        ("openstack/latest/meta_data.json", r#"{"uuid": "i-1"}"#),
        (
            "openstack/latest/vendor_data.json",
            r##"{"cloud-init": "#cloud-config\nhostname: all\nruncmd: [[/all]]\n"}"##,
        ),
        (
            "openstack/latest/vendor_data2.json",
            r##"{"static": {}, "cloud-init": ["#cloud-config\nhostname: one\nntp: {servers: [one]}\n", "#x"]}"##,
        ),
        (
            "openstack/latest/user_data",
            "#cloud-config\nntp: {servers: [user]}\n",
        ),
    ]);
    assert_eq!(instance.settings.hostname.unwrap().as_str(), "one");
    assert_eq!(instance.services[0].exec, ["/all"]);
    let servers = instance.settings.ntp.servers.unwrap();
    assert_eq!(servers[0].to_string(), "user");
    let [ignored] = instance.ignored.as_slice() else {
        panic!("{:?}", instance.ignored);
    };
    assert!(
        ignored.starts_with("vendor_data2.json part 2: `#x`"),
        "{ignored}"
    );
    let broken = made_of(&[
        ("openstack/latest/meta_data.json", r#"{"uuid": "i-1"}"#),
        ("openstack/latest/vendor_data2.json", "[1"),
    ]);
    assert!(
        broken.refused[0].starts_with("vendor_data2.json: "),
        "{broken:?}"
    );
    assert_eq!(broken.id.as_deref(), Some("i-1"));
}

#[test]
fn each_document_stands_for_itself() {
    let instance = made_of(&[
        ("openstack/2018-08-27/meta_data.json", "{\"uuid\": \"i\",}"),
        ("openstack/2018-08-27/network_data.json", "[]"),
        (
            "openstack/2018-08-27/vendor_data.json",
            "{\"cloud-init\": {}}",
        ),
        (
            "openstack/2018-08-27/user_data",
            "#cloud-config\nhostname: u\n",
        ),
        ("openstack/latest/meta_data.json", "{\"uuid\": \"other\"}"),
    ]);
    assert_eq!(instance.settings.hostname.unwrap().as_str(), "u");
    assert_eq!(instance.id, None);
    let refused = instance.refused.join("\n");
    for named in [
        "meta_data.json: the document: no JSON: trailing comma at line 1 column 14",
        "network_data.json: the document: expected keys and values",
        "vendor_data.json: cloud-init: expected a text",
    ] {
        assert!(refused.contains(named), "{named}: {refused}");
    }
}

#[test]
fn nothing_in_it_grows_without_bounds() {
    let deep = format!("{{\"uuid\": {}", "[".repeat(1 << 20));
    let wide = format!("{{\"uuid\": [{}1]}}", "1,".repeat(500_000));
    for (text, named) in [(deep, "recursion limit"), (wide, "more than 20000 values")] {
        let instance = made_of(&[("openstack/latest/meta_data.json", &text)]);
        assert!(instance.refused[0].contains(named), "{instance:?}");
    }
    // One file's content a hundred times.
    let item = "{\"path\": \"/a\", \"content_path\": \"c\"},".repeat(100);
    let meta = format!(
        "{{\"uuid\": \"i\", \"files\": [{}]}}",
        item.trim_end_matches(',')
    );
    let content = "x".repeat(1 << 20);
    let instance = made_of(&[
        ("openstack/latest/meta_data.json", &meta),
        ("openstack/c", &content),
    ]);
    assert_eq!(instance.files.len(), CONTENT_MAX >> 20);
    assert!(instance.refused[0].contains("files[4]"), "{instance:?}");
}

#[test]
fn the_nocloud_seed_counts_before_it_and_of_two_neither() {
    let drive = unpack(CONFIG_DRIVE);
    let nocloud = seed(b"#cloud-config\nhostname: other\n");
    let Datasource::Found { device, documents } =
        verdict(&[("vda", &drive), ("vdb", &nocloud)]).seed
    else {
        panic!("no seed");
    };
    assert_eq!(device, "vdb");
    let ignored = all(documents).ignored;
    assert_eq!(ignored, ["the ConfigDrive on vda: the NoCloud seed counts"]);
    let two = verdict(&[("vda", &drive), ("vdb", &drive)]).seed;
    let Datasource::Refused { problem, .. } = two else {
        panic!("{two:?}");
    };
    assert!(problem.contains("vda, vdb are all labelled config-2"));
    let empty = fat(FatType::Fat12, *b"CONFIG-2   ", &[("readme", b"x")]);
    assert!(
        refused(&empty).contains("no openstack/latest/meta_data.json; in its root folder: readme")
    );
}

#[test]
fn a_disk_whose_name_begins_as_another_ones_is_no_partition_of_it() {
    let one = seed(b"");
    for (other, is_other) in [("sdaa", true), ("sda1", false), ("sdap1", true)] {
        let seed = verdict(&[("sda", &one), (other, &one)]).seed;
        let is_refused = matches!(seed, Datasource::Refused { .. });
        assert_eq!(is_refused, is_other, "{other}");
    }
    let seed = verdict(&[("nvme0n1", &one), ("nvme0n1p1", &one)]).seed;
    assert!(matches!(seed, Datasource::Found { .. }), "{seed:?}");
    assert_eq!(found(&one).id.as_deref(), Some("i-1"));
}
