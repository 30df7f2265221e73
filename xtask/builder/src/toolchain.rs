//! The compiler and cargo that the guest's programs are built with: those that the checkout pins, with
//! nothing in their environment and settings that the user has there for other builds.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use xshell::{Cmd, Shell, cmd};

use crate::workspace::Workspace;
use crate::{cargo_home, exec};

/// How variables begin that tell cargo, rustc, rustup or the linker what to do: every key of cargo's
/// settings can be one.
const SHAPING: [&str; 5] = ["CARGO", "RUST", "__CARGO", "CLIPPY_", "LLD_"];

/// Of these, what says how to get crates and toolchains, how many compilers run at once, and what they
/// print. Not which toolchain: that is the checkout's to say.
const HARMLESS: [&str; 14] = [
    "CARGO_BUILD_JOBS",
    "CARGO_CACHE_",
    "CARGO_HTTP_",
    "CARGO_MAKEFLAGS",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
    "RUSTUP_",
    "RUST_BACKTRACE",
    "RUST_LIB_BACKTRACE",
    "RUST_LOG",
    "RUST_MIN_STACK",
];

/// Where cargo is started: it looks for settings there and in all folders above.
pub(crate) const TOP: &str = "/";

/// The folder of the compiler that a checkout pins, whatever the user has chosen for other builds.
///
/// # Errors
///
/// There is no such compiler, or none at all.
pub fn sysroot(workspace: &Workspace) -> Result<PathBuf> {
    Environment::own().sysroot(workspace.root())
}

/// An environment for the compiler.
#[derive(Clone, Debug)]
pub(crate) struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// This program's own, without what would shape the guest's programs.
    pub fn own() -> Self {
        Self::of(env::vars_os())
    }

    /// The same of these variables.
    fn of(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let variables = variables.into_iter();
        Self(variables.filter(|(name, _)| is_kept(name)).collect())
    }

    /// The names of this program's variables that are not in it.
    pub fn dropped() -> impl Iterator<Item = OsString> {
        let names = env::vars_os().map(|(name, _)| name);
        names.filter(|name| !is_kept(name))
    }

    /// A command in this environment alone.
    pub fn run<'a>(&self, command: Cmd<'a>) -> Cmd<'a> {
        command
            .env_clear()
            .envs(self.0.iter().map(|(name, value)| (name, value)))
    }

    /// The value of a variable.
    fn get(&self, name: &str) -> Option<OsString> {
        let found = self.0.iter().find(|(this, _)| this == name);
        found.map(|(_, value)| value.clone())
    }

    /// The folder of the compiler that the checkout pins.
    ///
    /// # Errors
    ///
    /// There is no such compiler, or none at all.
    pub fn sysroot(&self, root: &Path) -> Result<PathBuf> {
        let shell = Shell::new().context("cannot tell the current folder")?;
        shell.change_dir(root);
        let told = exec::read(self.run(cmd!(shell, "rustc --print sysroot")))?;
        Ok(PathBuf::from(told.trim()))
    }
}

/// Whether a variable is left to the compiler.
fn is_kept(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let begins = |with: &[&str]| with.iter().any(|begin| name.starts_with(begin));
    let toolchain = name.starts_with("RUSTUP_TOOLCHAIN");
    name == "CARGO_HOME" || !begins(&SHAPING) || (begins(&HARMLESS) && !toolchain)
}

/// A toolchain for the programs of one checkout.
#[derive(Debug)]
pub(crate) struct Toolchain {
    environment: Environment,
    sysroot: PathBuf,
    root: PathBuf,
    users_home: PathBuf,
    own_home: PathBuf,
}

impl Toolchain {
    /// That of this checkout.
    ///
    /// # Errors
    ///
    /// There is no compiler, or no home of cargo's can be made.
    pub fn of(workspace: &Workspace) -> Result<Self> {
        Self::within(Environment::own(), workspace.root(), workspace.state())
    }

    fn within(environment: Environment, root: &Path, state: &Path) -> Result<Self> {
        let users_home = cargo_home::users(|name| environment.get(name))?;
        let own_home = state.join("cargo-home");
        cargo_home::make(&own_home, &users_home, root)?;
        cargo_home::refuse_shaping(&Path::new(TOP).join(".cargo"))?;
        Ok(Self {
            sysroot: environment.sysroot(root)?,
            environment,
            root: root.to_owned(),
            users_home,
            own_home,
        })
    }

    /// Cargo, which works on this checkout from a folder without settings.
    pub fn cargo(&self) -> PathBuf {
        let own = self.sysroot.join("bin/cargo");
        if own.is_file() { own } else { "cargo".into() }
    }

    /// The compiler.
    pub fn rustc(&self) -> PathBuf {
        self.sysroot.join("bin/rustc")
    }

    /// A `cargo build` of this checkout with these arguments and flags, in cargo's encoding.
    ///
    /// # Errors
    ///
    /// There is no folder to start it in.
    pub fn build<'a>(&self, shell: &'a Shell, arguments: &[OsString], flags: &str) -> Cmd<'a> {
        shell.change_dir(TOP);
        let cargo = self.cargo();
        // The linker of the guest's programs is set there.
        let settings = self.root.join(".cargo/config.toml");
        let manifest = self.root.join("Cargo.toml");
        let build = cmd!(
            shell,
            "{cargo} build --config {settings} --manifest-path {manifest} --locked {arguments...}"
        );
        self.environment
            .run(build)
            .envs(self.variables())
            .env("CARGO_ENCODED_RUSTFLAGS", flags)
    }

    /// What cargo and the compiler are told, whatever is started.
    pub fn variables(&self) -> [(&'static str, OsString); 3] {
        [
            ("CARGO_HOME", self.own_home.clone().into()),
            // It deletes crates that were not used for long, and those are the user's.
            ("CARGO_CACHE_AUTO_CLEAN_FREQUENCY", "never".into()),
            ("RUSTC", self.rustc().into()),
        ]
    }

    /// The folders that may be in what it compiles, with what is to stand for each.
    pub fn folders(&self) -> [(PathBuf, &'static str); 4] {
        [
            (self.root.clone(), "/noonmark"),
            (self.sysroot.clone(), "/rust"),
            (self.users_home.clone(), "/cargo"),
            (self.own_home.clone(), "/cargo"),
        ]
    }

    /// The environment that all of it runs in.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Settings by which cargo would make another program, or none.
    const HOSTILE: &str = "[profile.guest]\nopt-level = 0\nlto = false\nstrip = \"none\"\n\
        [build]\nrustc-wrapper = \"/no/wrapper\"\nrustflags = [\"-Cforce-frame-pointers=yes\"]\n\
        [target.x86_64-unknown-linux-musl]\nlinker = \"/no/linker\"\n[env]\nGREETING = \"hostile\"\n";

    /// The same as variables.
    const VARIABLES: [(&str, &str); 9] = [
        ("RUSTUP_TOOLCHAIN", "no-such-toolchain"),
        ("RUSTC", "/no/rustc"),
        ("RUSTC_WRAPPER", "/no/wrapper"),
        ("RUSTC_BOOTSTRAP", "1"),
        ("RUSTFLAGS", "-Copt-level=0"),
        ("CARGO_ENCODED_RUSTFLAGS", "-Copt-level=1"),
        ("CARGO_BUILD_RUSTFLAGS", "-Copt-level=1"),
        ("CARGO_PROFILE_GUEST_OPT_LEVEL", "1"),
        (
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER",
            "/no/linker",
        ),
    ];

    /// A checkout of one small program, with this checkout's pins and settings.
    fn checkout(root: &Path) {
        let workspace = Workspace::find().unwrap();
        for name in [
            "rust-toolchain.toml",
            ".cargo/config.toml",
            ".cargo/cc-or-install",
        ] {
            let to = root.join(name);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(workspace.root().join(name), to).unwrap();
        }
        let texts = [
            (
                "Cargo.toml",
                "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n\
                 [profile.guest]\ninherits = \"release\"\nopt-level = \"s\"\nstrip = \"symbols\"\n",
            ),
            (
                "Cargo.lock",
                "version = 4\n[[package]]\nname = \"small\"\nversion = \"0.1.0\"\n",
            ),
            (
                "src/main.rs",
                "fn main() { println!(\"{:?} {}\", option_env!(\"GREETING\"), \
                 std::env::args().map(|word| word.len()).sum::<usize>()) }\n",
            ),
        ];
        fs::create_dir_all(root.join("src")).unwrap();
        for (name, text) in texts {
            fs::write(root.join(name), text).unwrap();
        }
    }

    fn program(environment: Environment, root: &Path, state: &Path) -> Vec<u8> {
        let toolchain = Toolchain::within(environment, root, state).unwrap();
        let shell = Shell::new().unwrap();
        let target = state.join("cargo");
        let arguments = [
            "--profile".into(),
            "guest".into(),
            "--target=x86_64-unknown-linux-musl".into(),
            "--target-dir".into(),
            target.clone().into(),
        ];
        exec::read(toolchain.build(&shell, &arguments, "-Cpanic=abort")).unwrap();
        fs::read(target.join("x86_64-unknown-linux-musl/guest/small")).unwrap()
    }

    #[test]
    fn no_variable_and_no_settings_of_the_users_change_a_program() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("above/checkout");
        checkout(&root);
        let plain = program(Environment::own(), &root, &folder.path().join("one"));

        let home = folder.path().join("home");
        for settings in [home.clone(), folder.path().join("above/.cargo")] {
            fs::create_dir_all(&settings).unwrap();
            fs::write(settings.join("config.toml"), HOSTILE).unwrap();
        }
        let hostile = VARIABLES.map(|(name, value)| (name.into(), value.into()));
        let home = [("CARGO_HOME".into(), home.into())];
        let own = env::vars_os().filter(|(name, _)| name != "CARGO_HOME");
        let variables = own.chain(home).chain(hostile);
        let other = program(
            Environment::of(variables),
            &root,
            &folder.path().join("two"),
        );
        assert!(plain == other, "{} and {} bytes", plain.len(), other.len());
    }

    #[test]
    fn how_crates_are_got_and_what_else_a_program_needs_stays() {
        let kept = [
            "PATH",
            "LD_PRELOAD",
            "CARGO_HOME",
            "CARGO_BUILD_JOBS",
            "CARGO_NET_OFFLINE",
        ];
        let kept = kept.iter().chain(&["RUSTUP_HOME", "https_proxy"]);
        let gone = VARIABLES.iter().map(|(name, _)| name);
        let all = kept.clone().chain(gone);
        let all = all.map(|name| (OsString::from(name), OsString::from("x")));
        let left: Vec<OsString> = Environment::of(all)
            .0
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let kept: Vec<OsString> = kept.map(OsString::from).collect();
        assert_eq!(left, kept);
    }
}
