//! The guest for faults of a NIC's PHC. A kernel for clouds has no driver for such a NIC, so it has
//! the same distribution's kernel for all machines.

use noonmark_contract::sample::Source;
use noonmark_image::spec::{Budget, Spec};
use noonmark_qemu::nic::{DRIVER, PHC_NAME};

use crate::kernel;

/// Makes of the image's description that of this guest. A kernel that the description names itself
/// stays: it may have the driver.
pub fn adapt(spec: &mut Spec) {
    spec.clock.sources = vec![Source::Phc(PHC_NAME.to_owned()), Source::Host, Source::Rtc];
    spec.modules.load.push(DRIVER.to_owned());
    // The budget is for the image that is shipped.
    spec.budget = Budget::default();
    kernel::of_all_machines(spec);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use noonmark_image::spec::KernelSource;

    use super::*;

    fn adapted(text: &str) -> Spec {
        let mut spec = Spec::parse(text, Path::new("guest.toml")).unwrap();
        adapt(&mut spec);
        spec
    }

    #[test]
    fn its_guest_has_the_driver_and_follows_the_nic_before_the_host() {
        let spec = adapted("[budget]\ndisk_mib = 24\n");
        assert_eq!(
            spec.clock.sources[0],
            format!("phc:{PHC_NAME}").parse().unwrap()
        );
        assert_eq!(spec.clock.sources[1], Source::Host);
        let wanted = spec.wanted_modules();
        assert!(
            wanted
                .iter()
                .any(|module| module.name == DRIVER && module.required)
        );
        assert_eq!(spec.budget, Budget::default());
    }

    #[test]
    fn a_kernel_that_is_named_stays() {
        let spec = adapted("[kernel]\npackage = \"linux-image-mine\"\n");
        let KernelSource::Package { name, .. } = spec.kernel.source else {
            panic!("{:?}", spec.kernel.source)
        };
        assert_eq!(name, "linux-image-mine");
    }
}
