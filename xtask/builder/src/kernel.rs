//! Finds the kernel that the spec asks for, and keeps what the image needs of it in the cache.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use noonmark_image::deb::{Deb, PackageId};
use noonmark_image::hash::Sha256Hex;
use noonmark_image::kernel::Kernel;
use noonmark_image::lock::Role;
use noonmark_image::output;
use noonmark_image::spec::{DEFAULT_KERNEL_PACKAGE, KernelSource, Spec};

use crate::dependencies::Follow;
use crate::distribution::Distribution;
use crate::packages::{self, Pins, Request};
use crate::progress;
use crate::workspace::Workspace;

/// Debian's kernel for all machines.
const FULL_KERNEL_PACKAGE: &str = "linux-image-amd64";

/// Ubuntu's kernel for virtual machines, which stands in for Debian's there.
pub const UBUNTU_KERNEL_PACKAGE: &str = "linux-image-virtual";

/// A kernel that is on this machine, but need not have been unpacked.
#[derive(Debug)]
pub(crate) enum FetchedKernel {
    /// Packages in the cache.
    Packages(Vec<PackageId>),
    /// Files of the host, by what they contain.
    Files(Box<Kernel>),
}

/// The kernel of the description; its packages are downloaded where they are not in the cache.
///
/// # Errors
///
/// There is no such package or file, or it can't be fetched or read.
pub(crate) fn fetch(
    workspace: &Workspace,
    spec: &Spec,
    base: &Path,
    pins: &Pins,
) -> Result<FetchedKernel> {
    match &spec.kernel.source {
        KernelSource::Files { image, modules } => {
            let kernel = Kernel::from_files(
                &base.join(image),
                &base.join(modules),
                &spec.wanted_modules(),
            )?;
            Ok(FetchedKernel::Files(Box::new(kernel)))
        }
        KernelSource::Package { name, suite } => {
            let request = request(workspace, name, suite.as_deref())?;
            FetchedKernel::packages(workspace, request, pins)
        }
    }
}

/// The request for a kernel's package; on Ubuntu, which lacks Debian's default, for its own
/// counterpart.
///
/// # Errors
///
/// There is no way to the archive.
pub fn request<'a>(
    workspace: &Workspace,
    name: &'a str,
    suite: Option<&'a str>,
) -> Result<Request<'a>> {
    let mut request = Request {
        role: Role::Kernel,
        name,
        suite,
        follow: Follow::Named(carries_kernel),
    };
    let is_default = name == DEFAULT_KERNEL_PACKAGE;
    if is_default && is_ubuntu() && !packages::exists(workspace, name, suite)? {
        progress::note(format!(
            "Ubuntu has no {DEFAULT_KERNEL_PACKAGE}; taking {UBUNTU_KERNEL_PACKAGE}"
        ));
        request.name = UBUNTU_KERNEL_PACKAGE;
    }
    Ok(request)
}

/// Takes Debian's kernel for all machines in the place of its kernel for virtual ones, which lacks drivers
/// that Ubuntu's has. One that the description names itself stays: it may have them.
pub(crate) fn of_all_machines(spec: &mut Spec) {
    if let KernelSource::Package { name, .. } = &mut spec.kernel.source
        && name == DEFAULT_KERNEL_PACKAGE
        && !is_ubuntu()
    {
        FULL_KERNEL_PACKAGE.clone_into(name);
    }
}

/// Whether this machine is an Ubuntu. One without APT is none; what it lacks is told when a package
/// is fetched.
pub(crate) fn is_ubuntu() -> bool {
    Distribution::of_machine().is_ok_and(|machine| machine.id == "ubuntu")
}

/// Debian up to 6.12 has all in `linux-image-*`; later kernels and Ubuntu's are split. What else a
/// kernel depends on (`kmod`, `initramfs-tools`, ...) serves its installation only.
pub(crate) fn carries_kernel(package: &str) -> bool {
    [
        "linux-image-",
        "linux-binary-",
        "linux-modules-",
        "linux-base-",
    ]
    .iter()
    .any(|prefix| package.starts_with(prefix))
}

impl FetchedKernel {
    /// One of the distribution's; its packages are downloaded where they are not in the cache.
    ///
    /// # Errors
    ///
    /// There is no such package, or it can't be fetched.
    pub fn packages(workspace: &Workspace, request: Request<'_>, pins: &Pins) -> Result<Self> {
        let packages = packages::fetch(workspace, request, pins).with_context(|| {
            format!(
                "no kernel: package {}, {}",
                request.name,
                request.suite.map_or_else(
                    || "the machine's own suite".to_owned(),
                    |suite| format!("suite {suite}")
                )
            )
        })?;
        let ids = packages.into_iter().map(|package| package.id);
        Ok(Self::Packages(ids.collect()))
    }

    /// What tells this kernel from any other, with the modules taken from it.
    pub fn fingerprint(&self, spec: &Spec) -> Sha256Hex {
        let modules = format!("{:?}", spec.wanted_modules());
        let mut parts = vec![modules.into_bytes()];
        match self {
            Self::Packages(packages) => {
                parts.extend(packages.iter().map(|package| package.sha256.0.to_vec()));
            }
            Self::Files(kernel) => {
                parts.push(kernel.image.clone());
                parts.extend(kernel.modules.iter().map(|module| module.bytes.clone()));
            }
        }
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        Sha256Hex::of_parts(&parts)
    }

    /// What the image needs of it, from the cache if it was unpacked before.
    ///
    /// # Errors
    ///
    /// The packages hold no kernel, or not the modules that are wanted.
    pub fn unpack(self, workspace: &Workspace, spec: &Spec) -> Result<Kernel> {
        let fingerprint = self.fingerprint(spec);
        let packages = match self {
            Self::Files(kernel) => return Ok(*kernel),
            Self::Packages(packages) => packages,
        };
        let archive = workspace
            .cache()
            .join("kernels")
            .join(format!("{fingerprint}.cpio"));
        if let Some(kernel) = fs::read(&archive)
            .ok()
            .and_then(|bytes| Kernel::from_archive(&bytes).ok())
        {
            return Ok(kernel);
        }
        let step = progress::step("unpacking the kernel");
        let files = packages
            .iter()
            .map(|id| {
                Ok((
                    packages::path(workspace, id),
                    packages::read(workspace, id)?,
                ))
            })
            .collect::<Result<Vec<_>>>()?;
        let debs = files
            .iter()
            .map(|(path, bytes)| Deb::open(&path.display().to_string(), bytes))
            .collect::<Result<Vec<_>, _>>()?;
        let kernel = Kernel::from_packages(&debs, &spec.wanted_modules())?;
        let folder = workspace.cache().join("kernels");
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        output::write_file(&archive, &kernel.to_archive()?)?;
        step.done(format!("unpacked kernel {}", kernel.release));
        Ok(kernel)
    }
}
