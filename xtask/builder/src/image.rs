//! Builds an image where anything that it is made of has changed since the last time.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use noonmark_image::build::{self, BuildError, Outputs};
use noonmark_image::content::{self as image_content, Content};
use noonmark_image::deb::PackageId;
use noonmark_image::hash::Sha256Hex;
use noonmark_image::inputs::Inputs;
use noonmark_image::output;
use noonmark_image::spec::{Description, KernelSource, LoadedFile, Spec};
use noonmark_image::uki::Stub;
use noonmark_qemu::kvm_host;
use noonmark_qemu::signals::{self, CleanupGuard};

use crate::kernel::{self, FetchedKernel};
use crate::packages::Pins;
use crate::peer::Peer;
use crate::prerequisites::{self, Prerequisite};
use crate::programs::{self, Programs};
use crate::progress;
use crate::stamp::{STAMP, Stamp, builder_identity, up_to_date};
use crate::store::Place;
use crate::workspace::Workspace;
use crate::{content, nic, provenance, run, stub};

/// Which image of a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// What is shipped.
    Base,
    /// The same with the program that disturbs the clock.
    Test,
    /// A test image whose guest follows the PHC of a NIC.
    Nic,
    /// A test image whose clock this peer keeps, not PID 1.
    Peer(&'static Peer),
    /// One that runs the host's commands.
    Run {
        /// Whether its kernel can mount the host's folders.
        shares: bool,
        /// Whether it has the program that disturbs the clock as well.
        faults: bool,
    },
}

impl Variant {
    /// Its name in messages and paths.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Test => "test",
            Self::Nic => "NIC",
            Self::Peer(peer) => peer.name,
            Self::Run { shares, faults } => match (shares, faults) {
                (false, false) => "run",
                (true, false) => "run-shares",
                (false, true) => "run-test",
                (true, true) => "run-test-shares",
            },
        }
    }

    /// Whether the program that disturbs the clock goes in.
    fn has_faults(self) -> bool {
        match self {
            Self::Base => false,
            Self::Test | Self::Nic | Self::Peer(_) => true,
            Self::Run { faults, .. } => faults,
        }
    }
}

/// What to build.
#[derive(Clone, Debug)]
pub struct BuildRequest<'a> {
    /// The image's description.
    pub spec_file: &'a Path,
    /// Which image of it.
    pub variant: Variant,
    /// Where the artifacts go.
    pub place: Place,
    /// Whether nothing but the packages of `guest.lock` will do.
    pub locked: bool,
}

impl<'a> BuildRequest<'a> {
    /// One that is kept by its inputs, and which takes newer packages where those of `guest.lock` can't
    /// be had.
    pub fn new(workspace: &Workspace, spec_file: &'a Path, variant: Variant) -> Self {
        Self {
            spec_file,
            variant,
            place: Place::of(workspace, spec_file, variant.name()),
            locked: false,
        }
    }
}

/// An image on disk.
#[derive(Clone, Debug)]
pub struct Image {
    /// The folder of its artifacts, where no other command changes them.
    pub folder: PathBuf,
    /// The path at which people find them.
    pub shown: PathBuf,
    /// What it was made from.
    pub spec: Spec,
    /// The artifacts' names and sizes in bytes.
    pub artifacts: Vec<(String, u64)>,
    /// The packages of the peer's program that is in it, where it is a peer's.
    pub packages: Vec<PackageId>,
    /// Whether it had to be made anew.
    pub rebuilt: bool,
}

/// All that an image is made of. Packages are in the cache, and only read where the image must be
/// built anew.
pub(crate) struct BuildInputs {
    spec: Spec,
    /// The spec's files and texts.
    description: Description,
    files: Vec<LoadedFile>,
    content: Content,
    programs: Programs,
    /// Whether the program that disturbs the clock goes in.
    faults: bool,
    /// Whether the program that runs the host's commands does.
    run: bool,
    kernel: FetchedKernel,
    /// The package of systemd's EFI stub; none where no disk is to be made.
    stub: Option<PackageId>,
    /// The packages of the peer's program, where there is a peer.
    peer: Option<(&'static Peer, Vec<PackageId>)>,
}

/// Builds the image into its folder, or finds that it is there already.
///
/// # Errors
///
/// Something that goes into it is missing or wrong, or the folder can't be written.
pub fn build(workspace: &Workspace, request: &BuildRequest<'_>) -> Result<Image> {
    if kvm_host::inside().is_some() {
        return shipped(workspace, request);
    }
    let inputs = gather(workspace, request)?;
    make(workspace, inputs, request.variant.name(), &request.place)
}

/// The image that whoever made this emulated host has built and sent here.
fn shipped(workspace: &Workspace, request: &BuildRequest<'_>) -> Result<Image> {
    let sent = request.place.find(workspace);
    let found = sent.and_then(|folder| Some((Stamp::read(&folder)?, folder)));
    let (stamp, folder) = found.with_context(|| {
        format!(
            "the {} image was not sent into the emulated host: nothing for {}",
            request.variant.name(),
            request.place.path().display()
        )
    })?;
    Ok(Image {
        folder,
        shown: request.place.path().to_owned(),
        spec: Spec::of(&Description::read(request.spec_file)?)?,
        artifacts: stamp.artifacts,
        packages: stamp.packages,
        rebuilt: false,
    })
}

/// Builds the image of these inputs into its folder, or finds that it is there already.
///
/// # Errors
///
/// Something of the inputs is wrong, or the folder can't be written.
pub(crate) fn make(
    workspace: &Workspace,
    inputs: BuildInputs,
    name: &str,
    place: &Place,
) -> Result<Image> {
    let fingerprint = inputs.fingerprint(workspace, name, place)?;
    let folder = &place.folder(workspace, fingerprint)?;
    let packages = inputs
        .peer
        .iter()
        .flat_map(|(_, packages)| packages.clone());
    let packages: Vec<PackageId> = packages.collect();
    let image = |spec, artifacts, rebuilt| Image {
        folder: folder.to_path_buf(),
        shown: place.path().to_owned(),
        spec,
        artifacts,
        packages: packages.clone(),
        rebuilt,
    };
    if let Some(artifacts) = up_to_date(folder, fingerprint) {
        place.publish(workspace, folder)?;
        return Ok(image(inputs.spec, artifacts, false));
    }
    let (spec, outputs) = compose(workspace, inputs, name)?;
    let stamp = folder.join(STAMP);
    // Should the build fail from here on, the missing stamp makes the folder stale.
    if stamp.exists() {
        fs::remove_file(&stamp).with_context(|| format!("cannot remove {}", stamp.display()))?;
    }
    let unfinished = clean_after_signal(folder);
    output::write_all(folder, &outputs.artifacts)?;
    let made = Stamp {
        fingerprint,
        place: place.name(workspace),
        artifacts: outputs
            .artifacts
            .iter()
            .map(|artifact| (artifact.name.to_owned(), artifact.bytes.len() as u64))
            .collect(),
        packages: packages.clone(),
    };
    let text = serde_json::to_vec_pretty(&made).context("a stamp has no JSON form")?;
    output::write_file(&stamp, &text)?;
    drop(unfinished);
    place.publish(workspace, folder)?;
    Ok(image(spec, made.artifacts, true))
}

/// Removes what an earlier build that was killed left half-written, and registers the same for a
/// signal during this one.
fn clean_after_signal(folder: &Path) -> CleanupGuard {
    output::remove_unfinished(folder);
    let folder = folder.to_owned();
    signals::register(move || output::remove_unfinished(&folder))
}

/// Compiles the programs and fetches the packages, both at once: one waits for the processor, the
/// other for the network.
fn gather(workspace: &Workspace, request: &BuildRequest<'_>) -> Result<BuildInputs> {
    let spec_file = request.spec_file;
    let description = Description::read(spec_file)?;
    let mut spec = Spec::of(&description)?;
    let peer = match request.variant {
        Variant::Peer(peer) => {
            peer.adapt(&mut spec);
            Some((peer, peer.fetch(workspace)?))
        }
        Variant::Nic => {
            nic::adapt(&mut spec);
            None
        }
        Variant::Run { shares, .. } => {
            run::adapt(&mut spec, shares);
            None
        }
        Variant::Base | Variant::Test => None,
    };
    let base = spec_file.parent().unwrap_or(Path::new("."));
    let files = spec.load_files(base)?;
    let pins = Pins::beside(&description, request.locked)?;
    let (programs, packages) = thread::scope(|scope| {
        let programs = scope.spawn(|| compile(workspace));
        let packages = kernel::fetch(workspace, &spec, base, &pins).and_then(|kernel| {
            // An image for experiments is booted directly and has no disk.
            let stub = (request.variant == Variant::Base)
                .then(|| stub::fetch(workspace, &pins))
                .transpose()?;
            let content = content::load(workspace, &spec, base, &pins)?;
            Ok((kernel, stub, content))
        });
        let programs = programs.join().unwrap_or_else(|_| {
            Err(anyhow!(
                "the thread that compiles the guest's programs panicked"
            ))
        });
        (programs, packages)
    });
    let (kernel, stub, content) = packages?;
    Ok(BuildInputs {
        spec,
        description,
        files,
        content,
        programs: programs?,
        faults: request.variant.has_faults(),
        run: matches!(request.variant, Variant::Run { .. }),
        kernel,
        stub,
        peer,
    })
}

fn compile(workspace: &Workspace) -> Result<Programs> {
    if workspace.bundle().is_none() {
        prerequisites::ensure(workspace, &[Prerequisite::GuestTarget])?;
    }
    programs::build(workspace)
}

fn compose(workspace: &Workspace, inputs: BuildInputs, name: &str) -> Result<(Spec, Outputs)> {
    let BuildInputs {
        spec,
        description,
        mut files,
        content,
        programs,
        faults,
        run,
        kernel,
        stub,
        peer,
    } = inputs;
    if let Some((peer, packages)) = &peer {
        files.extend(peer.unpack(workspace, packages)?);
    }
    let stub = stub
        .map(|stub| stub::unpack(workspace, &stub))
        .transpose()?;
    let kernel = kernel.unpack(workspace, &spec)?;
    let step = progress::step(format!("building the {name} image"));
    let provenance = provenance::of(workspace, &description)?;
    let outputs = build::build(&Inputs {
        spec: &spec,
        kernel: &kernel,
        init: &programs.init,
        fault: faults.then_some(&programs.fault),
        run: run.then_some(&programs.run),
        net: &programs.net,
        ntp: &programs.ntp,
        nts: &programs.nts,
        agent: &programs.agent,
        seed: &programs.seed,
        files: &files,
        content: &content.tree,
        packages: &content.packages,
        stub: stub.as_ref(),
        provenance: &provenance,
    })
    .map_err(|error| with_file_names(error, &spec, stub.as_ref()))?;
    step.done(format!(
        "built the {name} image with kernel {}",
        kernel.release
    ));
    Ok((spec, outputs))
}

/// An error of the unified kernel image with the files that it is made of: the error itself knows
/// their bytes only.
fn with_file_names(error: BuildError, spec: &Spec, stub: Option<&Stub>) -> anyhow::Error {
    if !matches!(error, BuildError::Uki(_)) {
        return error.into();
    }
    let kernel = match &spec.kernel.source {
        KernelSource::Package { name, .. } => format!("package {name}"),
        KernelSource::Files { image, .. } => image.display().to_string(),
    };
    let stub = stub.and_then(|stub| stub.package.as_ref()).map_or_else(
        || "no package".to_owned(),
        |package| format!("{} {}", package.package, package.version),
    );
    let what = format!("the kernel of {kernel} and the EFI stub of {stub} make no boot program");
    anyhow::Error::from(error).context(what)
}

impl BuildInputs {
    /// What an image for direct boot is made of that has no peer, none of whose programs disturbs the
    /// clock.
    ///
    /// # Errors
    ///
    /// The description is wrong, or the guest's programs can't be compiled.
    pub fn plain(
        workspace: &Workspace,
        description: Description,
        files: Vec<LoadedFile>,
        kernel: FetchedKernel,
    ) -> Result<Self> {
        Ok(Self {
            spec: Spec::of(&description)?,
            description,
            files,
            content: Content::default(),
            programs: compile(workspace)?,
            faults: false,
            run: false,
            kernel,
            stub: None,
            peer: None,
        })
    }

    fn fingerprint(&self, workspace: &Workspace, name: &str, place: &Place) -> Result<Sha256Hex> {
        let crates = match workspace.bundle() {
            Some(bundle) => bundle.identity().to_vec(),
            None => {
                let file = workspace.root().join("Cargo.lock");
                fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?
            }
        };
        let place = place.name(workspace);
        let kernel = self.kernel.fingerprint(&self.spec);
        let builder = builder_identity();
        let mut parts: Vec<&[u8]> = vec![
            name.as_bytes(),
            place.as_os_str().as_encoded_bytes(),
            &kernel.0,
            &crates,
            builder.as_bytes(),
            &self.programs.init,
            &self.programs.fault,
            &self.programs.net,
            &self.programs.ntp,
            &self.programs.nts,
            &self.programs.run,
            &self.programs.seed,
        ];
        let texts = self.description.files().iter();
        parts.extend(texts.map(|file| file.text.as_bytes()));
        let packages = self.peer.iter().flat_map(|(_, packages)| packages);
        parts.extend(packages.map(|package| package.sha256.0.as_slice()));
        parts.extend(self.stub.iter().map(|stub| stub.sha256.0.as_slice()));
        parts.extend(self.files.iter().map(|file| file.bytes.as_slice()));
        let content = image_content::digest(&self.content.tree);
        parts.push(&content.0);
        let of_content = self.content.packages.iter();
        parts.extend(of_content.map(|package| package.sha256.0.as_slice()));
        Ok(Sha256Hex::of_parts(&parts))
    }
}
