//! `init`: makes a project of the current folder.

use std::env;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use noonmark_builder::packages;
use noonmark_builder::workspace::DESCRIPTION;
use noonmark_image::spec::Spec;
use noonmark_qemu::called;

/// The checkout's own description, which has every key with its comment, and the lock that goes with it.
const TEMPLATE: &str = include_str!("../../../guest.toml");
const LOCK: &str = include_str!("../../../guest.lock");

/// What is made below the project, and is nobody's source.
const IGNORED: &str = "/target/\n";

/// Makes a project of this folder: a guest.toml with every key in it, a guest.lock and a .gitignore.
///
/// The lock pins the packages that this version of noonmark was made with; `noonmark lock` takes newer
/// ones. No file that is there is touched.
#[derive(Debug, Args)]
#[command(after_help = "Examples: noonmark init && noonmark recover\n          \
                        noonmark init --service hello")]
pub struct InitCommand {
    /// Also describe a service of this name: a static program in a file of that name beside guest.toml.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
}

impl InitCommand {
    pub fn run(self) -> Result<ExitCode> {
        let folder = env::current_dir().context("cannot tell the current folder")?;
        let description = folder.join(DESCRIPTION);
        let text = description_of(self.service.as_deref());
        if let Some(service) = &self.service {
            Spec::parse(&text, Path::new(DESCRIPTION))
                .with_context(|| format!("--service {service}"))?;
        }
        if !write_new(&description, &text)? {
            bail!(
                "{} is there already: this folder is a project, and nothing was changed; write the \
                 service into that file, or choose an empty folder",
                description.display()
            );
        }
        println!("{DESCRIPTION}: what the image is");
        let files = [
            (
                packages::lock_file(&description),
                called::renamed(LOCK).into_owned(),
            ),
            (folder.join(".gitignore"), IGNORED.to_owned()),
        ];
        for (file, text) in files {
            let name = file.file_name().unwrap_or_default().display();
            if write_new(&file, &text)? {
                println!("{name}");
            } else {
                println!("{name}: is there already and stays as it is");
            }
        }
        if let Some(service) = &self.service {
            println!("put a static program into the file {service}, then: noonmark run");
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn description_of(service: Option<&str>) -> String {
    let template = called::renamed(TEMPLATE).into_owned();
    let Some(name) = service else {
        return template;
    };
    // As TOML's basic strings, whatever is in it.
    let string = |text: String| toml::Value::String(text).to_string();
    let (name, path) = (string(name.to_owned()), string(format!("/bin/{name}")));
    format!(
        "{template}\n\
         # The service, a static program (musl); it starts once the clock is right.\n\
         [[file]]\nsource = {name}\npath = {path}\nmode = 0o755\n\n\
         [[service]]\nname = {name}\nexec = [{path}]\n"
    )
}

/// Whether the file was not there before.
fn write_new(file: &Path, text: &str) -> Result<bool> {
    let named = || format!("cannot write {}", file.display());
    match File::create_new(file) {
        Ok(mut made) => made
            .write_all(text.as_bytes())
            .with_context(named)
            .map(|()| true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(named),
    }
}
