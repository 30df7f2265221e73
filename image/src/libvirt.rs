//! A libvirt domain for the image (libvirt's "Domain XML format"): the machine that `cargo xtask run`
//! makes, as far as libvirt has it.

use std::fmt::Write as _;

use noonmark_contract::config::Output;
use noonmark_contract::record;

use crate::spec::Spec;

/// The file's name.
pub const FILE_NAME: &str = "domain.xml";

/// The port of QEMU's guest agent, by which libvirt asks and tells a guest.
const AGENT_PORT: &str = "org.qemu.guest_agent.0";

/// QEMU's watchdog, which libvirt knows by the name of its driver.
const WATCHDOG: &str = "i6300esb";

/// The domain of an image whose disk, of 512-byte sectors, is the file `disk` of the host.
///
/// KVM's clock is on, so that the guest's `ptp_kvm` finds it; the RTC is UTC and runs on while the machine
/// stands still; `genid` tells the guest of a restore. The identity is left to libvirt.
#[must_use]
pub fn domain(spec: &Spec, disk: &str) -> String {
    let mut xml = Xml::default();
    xml.open("domain", "type='kvm'");
    xml.text("name", "", &spec.image.name);
    xml.empty("genid", "");
    xml.text("memory", "unit='MiB'", &spec.vm.memory_mib.to_string());
    xml.text("vcpu", "", &spec.vm.vcpus.to_string());
    xml.open("os", "firmware='efi'");
    xml.text("type", "arch='x86_64' machine='q35'", "hvm");
    xml.open("firmware", "");
    // The boot program is signed by nobody.
    xml.empty("feature", "enabled='no' name='secure-boot'");
    xml.close("firmware");
    xml.empty("boot", "dev='hd'");
    xml.close("os");
    xml.open("features", "");
    xml.empty("acpi", "");
    xml.empty("apic", "");
    xml.close("features");
    xml.empty("cpu", "mode='host-passthrough' check='none'");
    xml.open("clock", "offset='utc'");
    xml.empty("timer", "name='kvmclock' present='yes'");
    xml.empty("timer", "name='rtc' track='wall'");
    xml.empty("timer", "name='hpet' present='no'");
    xml.close("clock");
    for (event, does) in [
        ("on_poweroff", "destroy"),
        ("on_reboot", "restart"),
        ("on_crash", "destroy"),
    ] {
        xml.text(event, "", does);
    }
    xml.open("devices", "");
    xml.open("disk", "type='file' device='disk'");
    xml.empty("driver", "name='qemu' type='raw'");
    xml.empty("source", &format!("file='{}'", escaped(disk)));
    xml.empty("target", "dev='vda' bus='virtio'");
    // The guest reads it once, to boot.
    xml.empty("readonly", "");
    xml.close("disk");
    for interface in &spec.network.interface {
        xml.open("interface", "type='network'");
        if let Some(mac) = &interface.macaddress {
            xml.empty("mac", &format!("address='{mac}'"));
        }
        xml.empty("source", "network='default'");
        xml.empty("model", "type='virtio'");
        xml.close("interface");
    }
    xml.empty("controller", "type='virtio-serial' index='0'");
    let mut ports = vec![record::PORT, AGENT_PORT];
    for service in &spec.services {
        if let Output::Port(name) = &service.output
            && !ports.contains(&name.as_str())
        {
            ports.push(name);
        }
    }
    for port in ports {
        xml.open("channel", "type='unix'");
        let name = escaped(port);
        xml.empty("target", &format!("type='virtio' name='{name}'"));
        xml.close("channel");
    }
    xml.open("serial", "type='pty'");
    xml.empty("target", "port='0'");
    xml.close("serial");
    xml.open("console", "type='pty'");
    xml.empty("target", "type='serial' port='0'");
    xml.close("console");
    let watchdog = spec.watchdog.as_ref();
    if watchdog.is_some_and(|watchdog| watchdog.driver == WATCHDOG) {
        xml.empty("watchdog", "model='i6300esb' action='reset'");
    }
    xml.empty("memballoon", "model='none'");
    xml.close("devices");
    xml.close("domain");
    xml.text
}

/// A document in the making.
#[derive(Default)]
struct Xml {
    text: String,
    depth: usize,
}

impl Xml {
    fn open(&mut self, name: &str, attributes: &str) {
        self.line(&format!("<{}>", tag(name, attributes)));
        self.depth += 1;
    }

    fn close(&mut self, name: &str) {
        self.depth -= 1;
        self.line(&format!("</{name}>"));
    }

    fn empty(&mut self, name: &str, attributes: &str) {
        self.line(&format!("<{}/>", tag(name, attributes)));
    }

    fn text(&mut self, name: &str, attributes: &str, text: &str) {
        let text = escaped(text);
        self.line(&format!("<{}>{text}</{name}>", tag(name, attributes)));
    }

    fn line(&mut self, line: &str) {
        // Writing to a String can't fail.
        let _ = writeln!(self.text, "{:1$}{line}", "", self.depth * 2);
    }
}

fn tag(name: &str, attributes: &str) -> String {
    match attributes {
        "" => name.to_owned(),
        attributes => format!("{name} {attributes}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&apos;")
}
