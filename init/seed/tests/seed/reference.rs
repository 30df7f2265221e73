//! What the reference page says of seeds is what the reader does.

use noonmark_contract::seed::instance::Instance;
use noonmark_seed::root::Root;
use noonmark_seed::{meta_data, network_config, nocloud, noonmark_config};

const PAGE: &str = include_str!("../../../../image/docs/reference.md");

/// The example in this language.
fn example(language: &str) -> &'static str {
    let (_, rest) = PAGE
        .split_once(&format!("```{language}\n"))
        .expect("an example");
    rest.split_once("```").expect("its end").0
}

/// The page from this heading to the next.
fn part(heading: &str) -> &'static str {
    let (_, rest) = PAGE
        .split_once(&format!("# {heading}\n"))
        .expect("the heading");
    rest.split_once("\n##").map_or(rest, |(part, _)| part)
}

/// The keys in the first column of a table, with what their line says.
fn keys(table: &'static str) -> Vec<(&'static str, &'static str)> {
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| {
        let (first, second) = row[1..].split_once('|').expect("two columns");
        let keys = first.split('`').skip(1).step_by(2);
        keys.map(move |key| (key, second))
    })
    .collect()
}

/// What a guest makes of this cloud-config, of which nothing is wrong.
fn taken(text: &str) -> Instance {
    let bytes = format!("#cloud-config\n{text}").into_bytes();
    let files = [Ok(None), Ok(None), Ok(None), Ok(Some(bytes))];
    let document = nocloud::documents(files, &Root::unknown()).pop();
    let instance = document.expect("user-data").instance;
    assert_eq!(instance.refused, Vec::<String>::new(), "{text}");
    instance
}

/// What is ignored of this cloud-config.
fn ignored(text: &str) -> Vec<String> {
    taken(text).ignored
}

#[test]
fn the_examples_are_taken_whole() {
    let mut instance = Instance::default();
    noonmark_config::read(example("toml"), &mut instance).expect("the example in TOML");
    assert_eq!((instance.files.len(), instance.services.len()), (1, 1));
    assert_eq!(instance.files[0].content, b"Good noon\n");
    instance.check().expect("nothing that is refused");
    let settings = &instance.settings;
    assert!(settings.network.is_some() && settings.ntp.servers.is_some());

    let instance = taken(example("yaml\n#cloud-config"));
    assert_eq!((instance.files.len(), instance.services.len()), (2, 1));
    assert_eq!(instance.files[1].content, b"hi\n");
    assert_eq!(instance.ignored, Vec::<String>::new());
}

#[test]
fn the_example_of_a_network_config_is_taken_whole() {
    let (_, rest) = PAGE.split_once("### network-config").expect("the part");
    let (_, rest) = rest.split_once("```yaml\n").expect("an example");
    let (text, _) = rest.split_once("```").expect("its end");
    let mut instance = Instance::default();
    network_config::read(text, &mut instance).expect("the example");
    assert_eq!(instance.ignored, Vec::<String>::new());
    let network = instance.settings.network.expect("a network");
    assert_eq!(network.interface.len(), 2);
}

#[test]
fn every_key_of_a_seed_in_toml_is_in_the_example() {
    // The parser itself lists the keys when it meets one that it doesn't know.
    for section in ["", "[clock]\n", "[status]\n", "[ntp]\n", "[[file]]\n"] {
        let text = format!("{section}\"?\" = 0\n");
        let error =
            noonmark_config::read(&text, &mut Instance::default()).expect_err("no such key");
        let message = error.to_string();
        let (_, known) = message.split_once("expected").expect("a list of keys");
        for key in known.split('`').skip(1).step_by(2) {
            let in_example = example("toml").lines().any(|line| {
                line.starts_with(&format!("{key} ="))
                    || line.contains(&format!("[{key}]"))
                    || line.contains(&format!("[{key}."))
            });
            assert!(in_example, "{section}{key} is not in the example");
        }
    }
}

#[test]
fn the_keys_of_a_cloud_config_are_honoured_or_ignored_as_the_page_says() {
    let (honoured, rest) = part("user-data as cloud-config")
        .split_once("```")
        .expect("an example between the tables");
    let honoured = keys(honoured);
    assert!(honoured.len() > 6, "{honoured:?}");
    for (key, _) in honoured {
        let value = match key {
            "write_files" | "bootcmd" | "runcmd" => "[]",
            "hostname" | "fqdn" => "a",
            "ntp" => "{servers: [a], pools: [b]}",
            _ => "true",
        };
        let ignored = ignored(&format!("{key}: {value}\n"));
        assert_eq!(ignored, Vec::<String>::new(), "{key}");
    }
    let ignored_keys = keys(rest);
    assert!(ignored_keys.len() > 20, "{ignored_keys:?}");
    for (key, _) in ignored_keys {
        let told = ignored(&format!("{key}: x\n")).join("\n");
        // Each has a reason of its own, not the one for keys that nobody knows.
        assert!(
            told.contains(key) && !told.contains("means nothing"),
            "{told}"
        );
    }
}

#[test]
fn the_keys_of_a_written_file_are_those_that_the_page_names() {
    let row = keys(part("user-data as cloud-config"))
        .into_iter()
        .find(|(key, _)| *key == "write_files")
        .expect("a line for write_files");
    for key in row.1.split('`').skip(1).step_by(2) {
        let value = match key {
            "path" => "/a",
            "content" => "b",
            "encoding" => "text/plain",
            "permissions" => "'0644'",
            "owner" => "root",
            _ => "true",
        };
        let path = if key == "path" { "" } else { ", path: /a" };
        let text = format!("write_files: [{{{key}: {value}{path}}}]\n");
        assert_eq!(ignored(&text), Vec::<String>::new(), "{key}");
    }
}

#[test]
fn the_keys_of_meta_data_are_those_that_the_page_names() {
    for (key, _) in keys(part("meta-data")) {
        let mut instance = Instance::default();
        meta_data::read(&format!("{key}: auto lo\n"), false, false, &mut instance)
            .expect("meta-data");
        assert_eq!(instance.ignored, Vec::<String>::new(), "{key}");
    }
}
