//! The libvirt domain of an image; whether libvirt takes it is tested beside its own program.

use noonmark_image::libvirt;

use crate::support::{empty_spec, spec};

#[test]
fn a_domain_has_the_ports_and_the_clock_that_noonmark_looks_for() {
    assert_eq!(
        libvirt::domain(&empty_spec(), "/a/disk.img"),
        include_str!("domain.xml")
    );
}

#[test]
fn what_the_image_has_besides_is_in_its_domain_and_names_are_escaped() {
    let spec = spec(
        "[image]\nname = \"clock\"\n[vm]\nvcpus = 1\nmemory_mib = 512\n\
         [watchdog]\ntimeout_s = 30\n\
         [[network.interface]]\nmacaddress = \"52:54:00:12:34:56\"\ndhcp4 = true\n\
         [[service]]\nname = \"a\"\nexec = [\"/a\"]\noutput = \"port:log\"\n\
         [[service]]\nname = \"b\"\nexec = [\"/b\"]\noutput = \"port:log\"\n",
    );
    let domain = libvirt::domain(&spec, "/a & b/'disk'.img");
    for (part, times) in [
        ("<name>clock</name>", 1),
        ("<memory unit='MiB'>512</memory>", 1),
        ("<vcpu>1</vcpu>", 1),
        ("<watchdog model='i6300esb' action='reset'/>", 1),
        ("<mac address='52:54:00:12:34:56'/>", 1),
        ("<target type='virtio' name='log'/>", 1),
        ("file='/a &amp; b/&apos;disk&apos;.img'", 1),
    ] {
        assert_eq!(domain.matches(part).count(), times, "{part} in {domain}");
    }
}
