//! `bootcmd` and `runcmd`: each command a service that is started once, after the one before it.

use noonmark_contract::config::{Service, Start};
use noonmark_contract::seed::instance::Instance;

use crate::value::{Checked, list, string, wrong};
use crate::yaml::Node;

/// Takes in a list of commands; a text would need a shell. As cloud-init has it, one follows the
/// other, however that ended, and all of `runcmd` follows `bootcmd`.
pub fn commands(value: &Node, key: &str, start: Start, instance: &mut Instance) -> Checked<()> {
    for (index, item) in list(value, key)?.iter().enumerate() {
        let at = format!("{key}[{index}]");
        let Node::List(words) = item else {
            instance.ignore(at, "a text needs a shell; write it as a list of arguments");
            continue;
        };
        let mut exec = Vec::new();
        for word in words {
            exec.push(string(word, &at)?.unwrap_or_default());
        }
        if !exec.first().is_some_and(|program| program.starts_with('/')) {
            instance.ignore(at, "the program's absolute path is expected first");
            continue;
        }
        let mut service = Service::new(format!("{key}.{index}"), exec);
        service.start = start;
        let commands = instance.services.iter();
        service.after = commands.map(|before| before.name.clone()).next_back();
        service.check().or_else(|error| wrong(&at, error.problem))?;
        instance.services.push(service);
    }
    Ok(())
}
