//! `bootcmd`, `runcmd` and scripts: each a service that is started once, after the one before it.

use noonmark_contract::config::values::{GuestPath, Mode};
use noonmark_contract::config::{Service, Start};
use noonmark_contract::seed::instance::{Instance, SERVICES_MAX, SeedFile, printable};

use crate::instances::Instances;
use crate::root::Root;
use crate::user_data::Script;
use crate::value::{Checked, Field};

/// What runs a command that is a text.
const SHELL: &str = "/bin/sh";

/// Takes in a list of commands. As cloud-init has it, one follows the other, however that ended, and
/// all of `runcmd` follows `bootcmd`.
pub fn commands(
    field: &Field<'_>,
    start: Start,
    root: &Root,
    instances: &mut Instances,
) -> Checked<()> {
    let key = field.name();
    for (index, item) in field.items()?.iter().enumerate() {
        if matches!(item.text(), Ok("")) {
            continue;
        }
        let instance = instances.of(item);
        let name = format!("{key}.{index}");
        match command(item, root, instance) {
            Ok(Some(exec)) => match add(exec, name, start, instance) {
                Ok(()) => item.take(instance),
                Err(problem) => instance.refuse(format_args!("{item}: {problem}")),
            },
            Ok(None) => {}
            Err(error) => instance.refuse(error),
        }
    }
    Ok(())
}

/// Program and arguments; none where the image can't run it, which is told.
fn command(item: &Field<'_>, root: &Root, instance: &mut Instance) -> Checked<Option<Vec<String>>> {
    if let Ok(text) = item.text() {
        if root.program(SHELL).is_none() {
            let why =
                "a text needs a shell, /bin/sh, in the image; write it as a list of arguments";
            item.ignore(instance, why);
            return Ok(None);
        }
        return Ok(Some(vec![SHELL.into(), "-c".into(), text.into()]));
    }
    let mut exec = Vec::new();
    for word in item.items()? {
        exec.push(word.text()?.to_owned());
    }
    if let Some(program) = exec.first_mut().filter(|program| !program.starts_with('/')) {
        let Some(path) = root.program(program) else {
            let program = printable(program, 60);
            let why =
                format!("`{program}` is not in the image's search path; write its absolute path");
            item.ignore(instance, &why);
            return Ok(None);
        };
        *program = path;
    }
    Ok(Some(exec))
}

/// Takes in a script if the image can run it; else tells why not.
pub fn script(script: Script, root: &Root, instances: &mut Instances) {
    let instance = instances.of_document(&script.name);
    let first = script.content.lines().next().unwrap_or_default();
    let interpreter = first.trim_start_matches("#!").split_whitespace().next();
    let interpreter = interpreter.unwrap_or_default();
    if !interpreter.starts_with('/') || root.program(interpreter).is_none() {
        let what = format!("{}: `{}`", script.name, printable(first, 60));
        instance.ignore(what, "the image has no such interpreter");
        return;
    }
    let name = script.name.clone();
    match add_script(script, instance) {
        Ok(()) => instance.take(name),
        Err(problem) => instance.refuse(format_args!("{name}: {problem}")),
    }
}

fn add_script(script: Script, instance: &mut Instance) -> Result<(), String> {
    let path: GuestPath = script.path.parse().map_err(|error| format!("{error}"))?;
    let kind = match script.is_vendors() {
        true => "vendor-script",
        false => "script",
    };
    let services = instance.services.iter();
    let of_kind = services.filter(|service| service.name.starts_with(kind));
    let name = format!("{kind}.{}", of_kind.count());
    let content = script.content.into_bytes();
    let file = SeedFile {
        mode: Mode::try_from(0o700).map_err(|error| error.to_string())?,
        uid: 0,
        gid: 0,
        append: false,
        length: content.len(),
        content,
        path,
    };
    add(vec![script.path], name, Start::ClockSynced, instance)?;
    instance.files.push(file);
    Ok(())
}

fn add(
    exec: Vec<String>,
    name: String,
    start: Start,
    instance: &mut Instance,
) -> Result<(), String> {
    if instance.services.len() >= SERVICES_MAX {
        return Err(format!("more than {SERVICES_MAX} services and commands"));
    }
    let mut service = Service::new(name, exec);
    service.start = start;
    // They set an instance up, as with cloud-init.
    service.user = Some(0);
    let commands = instance.services.iter();
    service.after = commands.map(|before| before.name.clone()).next_back();
    service.check().map_err(|error| error.problem)?;
    instance.services.push(service);
    Ok(())
}
