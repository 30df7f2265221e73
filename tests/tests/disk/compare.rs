//! What cloud-init makes of a seed, and what a guest of ours does, compared: whatever both say in words of
//! their own is made alike before.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// The shell of the image that is asked, which has nothing else.
pub const SHELL: &str = "/bin/sh";

/// The names of what differs, with blanks between them.
pub fn differing(ours: &Value, theirs: &Value) -> String {
    if theirs.get("error").is_some() {
        return "error".to_owned();
    }
    let same = |key: &str| match key {
        "files" => comparable_files(&ours[key]) == comparable_files(&theirs[key]),
        "bootcmd" | "runcmd" => ours[key] == runnable(&theirs[key]),
        "turns" => comparable_turns(&ours[key]) == comparable_turns(&theirs[key]),
        "network" => comparable_network(&ours[key]) == comparable_network(&theirs[key]),
        // cloud-init's own name for an instance without one.
        _ => ours[key] == theirs[key],
    };
    let keys = [
        "instance_id",
        "hostname",
        "files",
        "bootcmd",
        "runcmd",
        "turns",
        "ntp",
        "network",
    ];
    let differing: Vec<&str> = keys.into_iter().filter(|key| !same(key)).collect();
    differing.join(" ")
}

/// Owners by number, as far as every system has them.
fn comparable_files(files: &Value) -> Vec<Value> {
    let mut files = files.as_array().cloned().unwrap_or_default();
    for file in &mut files {
        let owner = file["owner"].as_str().unwrap_or_default().to_owned();
        let (user, group) = owner.split_once(':').unwrap_or((&owner, "root"));
        let number = |name: &str| {
            if name == "root" {
                "0".to_owned()
            } else {
                name.to_owned()
            }
        };
        file["owner"] = json!(format!("{}:{}", number(user), number(group)));
    }
    files
}

/// The commands that an image can run which has nothing but a shell: texts, and lists that name their program with its folder.
fn runnable(commands: &Value) -> Value {
    let text = |word: &Value| match word {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let words = |command: &Value| -> Option<Vec<String>> {
        if let Value::String(text) = command {
            return Some([SHELL, "-c", text].map(str::to_owned).to_vec());
        }
        let mut words: Vec<String> = command.as_array()?.iter().map(text).collect();
        let program = words.first_mut()?;
        if program == "sh" {
            SHELL.clone_into(program);
        }
        program.starts_with('/').then_some(words)
    };
    json!(
        commands
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(words)
            .collect::<Vec<_>>()
    )
}

/// The scripts that such an image can run, and whether `runcmd` comes between them; where it comes alone, its
/// commands are compared anyway.
fn comparable_turns(turns: &Value) -> Vec<Value> {
    let is_run = |turn: &&Value| match &turn[1] {
        Value::String(text) => text.trim_start().starts_with("#!/bin/sh"),
        _ => true,
    };
    let mut turns: Vec<Value> = turns
        .as_array()
        .into_iter()
        .flatten()
        .filter(is_run)
        .cloned()
        .collect();
    // The kernel takes no script with blank lines first.
    for turn in &mut turns {
        if let Some(text) = turn[1].as_str().map(str::trim_start) {
            turn[1] = json!(text);
        }
    }
    match turns.iter().any(|turn| !turn[1].is_null()) {
        true => turns,
        false => Vec::new(),
    }
}

/// An interface that is known by its hardware address has whatever name it has; name servers are the whole
/// guest's, and a number may be written as a text.
fn comparable_network(network: &Value) -> (Value, BTreeSet<String>) {
    let mut interfaces = network.as_array().cloned().unwrap_or_default();
    let mut servers = BTreeSet::new();
    for interface in &mut interfaces {
        if interface["mac"] != "" {
            interface["name"] = Value::Null;
        }
        if let Some(number) = interface["mtu"].as_str().and_then(|mtu| mtu.parse().ok()) {
            interface["mtu"] = Value::Number(number);
        }
        let own = interface["nameservers"].take();
        servers.extend(own.as_array().into_iter().flatten().map(Value::to_string));
    }
    (json!(interfaces), servers)
}
