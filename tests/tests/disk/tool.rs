//! The other programs: where they are, and running them.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use noonmark_tests::not_run;

/// A program, and the distribution's package that has it.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    program: &'static str,
    package: &'static str,
}

/// Checks and tells GUID partition tables.
pub const SGDISK: Tool = Tool::new("sgdisk", "gdisk");
/// Checks FAT volumes.
pub const FSCK_FAT: Tool = Tool::new("fsck.fat", "dosfstools");
/// Lists FAT volumes.
pub const MDIR: Tool = Tool::new("mdir", "mtools");
/// Takes files out of FAT volumes.
pub const MCOPY: Tool = Tool::new("mcopy", "mtools");
/// Tells a FAT volume's label.
pub const MLABEL: Tool = Tool::new("mlabel", "mtools");
/// Lists ISO 9660 volumes, and takes files out of them.
pub const ISOINFO: Tool = Tool::new("isoinfo", "genisoimage");
/// Tells what is on a disk, and its label.
pub const BLKID: Tool = Tool::new("blkid", "util-linux");
/// Tells a program's sections.
pub const OBJDUMP: Tool = Tool::new("objdump", "binutils");
/// Takes sections out of programs.
pub const OBJCOPY: Tool = Tool::new("objcopy", "binutils");
/// Lists and unpacks archives.
pub const CPIO: Tool = Tool::new("cpio", "cpio");
/// Unpacks what the initrd is packed with.
pub const GZIP: Tool = Tool::new("gzip", "gzip");

/// Reads disks in the formats of hypervisors.
pub const QEMU_IMG: Tool = Tool::new("qemu-img", "qemu-utils");
/// Unpacks archives.
pub const TAR: Tool = Tool::new("tar", "tar");

/// Copies and describes container images.
pub const SKOPEO: Tool = Tool::new("skopeo", "skopeo");
/// Unpacks container images.
pub const UMOCI: Tool = Tool::new("umoci", "umoci");
/// Checks libvirt's documents by their schema.
pub const VIRT_XML_VALIDATE: Tool = Tool::new("virt-xml-validate", "libvirt-clients");
/// What that works by.
pub const XMLLINT: Tool = Tool::new("xmllint", "libxml2-utils");

/// Where administrators' programs are, which a user's `PATH` may lack.
const ADMINISTRATORS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Whether all of these are here; where one is not, `test` is listed as not run.
pub fn all_here(test: &str, tools: &[Tool]) -> bool {
    let missing = tools.iter().find(|tool| tool.path().is_none());
    if let Some(Tool { program, package }) = missing {
        let reason = format!("needs {program}; install it with: apt-get install {package}");
        not_run(test, &reason).expect("the list of what was not run");
    }
    missing.is_none()
}

impl Tool {
    const fn new(program: &'static str, package: &'static str) -> Self {
        Self { program, package }
    }

    /// Where it is; none where it isn't installed.
    fn path(self) -> Option<PathBuf> {
        let search = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&search)
            .chain(ADMINISTRATORS.map(PathBuf::from))
            .map(|folder| folder.join(self.program))
            .find(|path| path.is_file())
    }

    /// Runs it, whatever its exit status.
    pub fn run<A: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = A>) -> Output {
        self.feed(Stdio::null(), arguments)
    }

    /// Runs it on a file, which it reads as its standard input.
    pub fn run_on<A: AsRef<OsStr>>(
        self,
        file: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Output {
        let file = std::fs::File::open(file).expect("a readable file");
        self.feed(file.into(), arguments)
    }

    /// What it says on standard output, after checking that it ended well.
    pub fn told<A: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = A>) -> String {
        self.text(self.run(arguments))
    }

    /// The standard output of a run that must have ended well.
    pub fn text(self, output: Output) -> String {
        String::from_utf8(self.bytes(output)).expect("words in UTF-8")
    }

    /// As [`Tool::text`], in bytes.
    pub fn bytes(self, output: Output) -> Vec<u8> {
        assert!(
            output.status.success(),
            "{} failed, {}:\n{}{}",
            self.program,
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    fn feed<A: AsRef<OsStr>>(self, input: Stdio, arguments: impl IntoIterator<Item = A>) -> Output {
        let path = self.path().expect("a program that was looked for before");
        Command::new(&path)
            .args(arguments)
            .stdin(input)
            // Their words are compared, so they must be in English.
            .env("LC_ALL", "C")
            .output()
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}
