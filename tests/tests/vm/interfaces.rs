//! A guest with several NICs, whose seed says which of them gets which address: by hardware address with a
//! name to give, by one of udev's names, and by a pattern. This test's own program looks in the guest.

use std::env;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use noonmark_image::seed::{self, Format, Seed};
use noonmark_tests::test_folder;

use crate::platform::{Images, Platform};
use crate::run;

/// What the program that looks is told.
pub const LOOK: &str = "interfaces";

/// An image that takes seeds and has a network.
const SPEC: &str = "[seed]\nenabled = true\n[[network.interface]]\ndhcp4 = true\n";

/// The machine's further NICs: where on the bus each one is, and its hardware address.
const NICS: [(&str, &str); 3] = [
    ("12", "52:54:00:00:00:12"),
    ("13", "52:54:00:00:00:13"),
    ("14", "52:54:00:00:00:14"),
];

/// Which of them is meant stands in no order: the first one's by a pattern, the second one's by its hardware
/// address, the third one's by the place on the bus, which is decimal.
const NETWORK_CONFIG: &str = "\
network:
  version: 2
  ethernets:
    backup:
      match: {name: 'enp0s1[0-8]'}
      addresses: [198.51.100.7/24]
    inside:
      match: {macaddress: '52:54:00:00:00:13'}
      set-name: lan0
      mtu: 1400
      addresses: [192.0.2.7/24, '2001:db8::7/64']
    enp0s20:
      addresses: [203.0.113.7/24]
";

/// What the program has to find: hardware address, name where it is given, MTU, addresses' networks.
const EXPECTED: [&str; 3] = [
    "52:54:00:00:00:12 eth* 1500 198.51.100.0",
    "52:54:00:00:00:13 lan0 1400 192.0.2.0 20010db8000000000000000000000007",
    "52:54:00:00:00:14 eth* 1500 203.0.113.0",
];

/// How long the guest may take to set them up, on a busy emulated machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells what each NIC of [`NICS`] has, once they have as much as the seed gives, or time is over.
pub fn look() -> ExitCode {
    let words = |lines: &[String]| lines.join(" ").split_whitespace().count();
    let expected = words(&EXPECTED.map(str::to_owned));
    let deadline = Instant::now() + PATIENCE;
    let mut told = lines();
    while words(&told) < expected && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(100));
        told = lines();
    }
    println!("{}", told.join("\n"));
    ExitCode::SUCCESS
}

fn lines() -> Vec<String> {
    let read = |path: &Path| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let folder = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten();
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let addresses6 = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let mut lines = Vec::new();
    for interface in folder {
        let name = interface.file_name().to_string_lossy().into_owned();
        let mac = read(&interface.path().join("address"));
        if !NICS.iter().any(|(_, own)| *own == mac) {
            continue;
        }
        let known = if name.starts_with("eth") {
            "eth*"
        } else {
            &name
        };
        let mut line = format!("{mac} {known} {}", read(&interface.path().join("mtu")));
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        for route in routes.lines().map(words) {
            if route.first() == Some(&name) {
                let network = u32::from_str_radix(&route[1], 16).unwrap_or_default();
                let [a, b, c, d] = network.to_le_bytes();
                line += &format!(" {a}.{b}.{c}.{d}");
            }
        }
        for address in addresses6.lines().map(words) {
            // Those of the link alone are the kernel's own.
            if address.last() == Some(&name) && !address[0].starts_with("fe80") {
                line += &format!(" {}", address[0]);
            }
        }
        lines.push(line);
    }
    lines.sort();
    lines
}

/// Each address is on the NIC that the seed means, under the name that it gives.
pub fn get_what_a_seed_says(platform: &Platform, _: &Images) -> Result<()> {
    let folder = test_folder("interfaces")?;
    let (spec, disk) = (folder.join("guest.toml"), folder.join("seed.img"));
    fs::write(&spec, SPEC).with_context(|| spec.display().to_string())?;
    let seed = Seed {
        user_data: b"#cloud-config\nhostname: sundial\n",
        meta_data: b"instance-id: i-1\n",
        network_config: Some(NETWORK_CONFIG.as_bytes()),
        vendor_data: None,
    };
    fs::write(&disk, seed::write(&seed, Format::Fat)?)?;
    let mut command = run::run(platform);
    command.arg("--spec").arg(&spec).arg("--seed").arg(&disk);
    for (place, mac) in NICS {
        let device = format!("virtio-net-pci,netdev=nic{place},mac={mac},addr=0x{place},romfile=");
        for word in [
            "-netdev",
            &format!("hubport,id=nic{place},hubid=9"),
            "-device",
            &device,
        ] {
            command.arg("--qemu-arg").arg(word);
        }
    }
    command.arg("--").arg(env::current_exe()?);
    let output = command.args([run::ARGUMENT, LOOK]).output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {errors}", output.status);
    let told: Vec<&str> = told.lines().collect();
    ensure!(told == EXPECTED, "{told:#?}; {errors}");
    Ok(())
}
