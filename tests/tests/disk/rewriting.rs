//! Ways to write a seed's documents otherwise that change nothing of what they mean: one by one, and mixed at
//! random.

use std::env;

use fastrand::Rng;

/// A document's bytes, by its name, or its path on a ConfigDrive.
pub type Documents = Vec<(String, Vec<u8>)>;

/// Writes the document of this name otherwise.
type Rewriting = fn(&str, &str) -> String;

/// The variable by which a mixture that failed is made again.
const SEED: &str = "NOONMARK_SEED";

/// How many mixtures there are of a seed.
const MIXTURES: usize = 4;

/// The last one puts other line ends into what the others look for.
const REWRITINGS: [(&str, Rewriting); 8] = [
    ("blank lines first", |_, text| match text.starts_with('#') {
        true => format!("\n \n{text}"),
        false => text.to_owned(),
    }),
    ("a header in capitals", |_, text| {
        text.replacen("#cloud-config", "#CLOUD-CONFIG", 1)
    }),
    ("a word after the header", |_, text| {
        text.replacen("#cloud-config\n", "#cloud-config # by hand\n", 1)
    }),
    ("yes for true", |_, text| {
        text.replace(": true", ": yes").replace(": false", ": Off")
    }),
    ("comments", |_, text| {
        text.replace("\nhostname", "\n# a comment\n\nhostname")
    }),
    ("keys without values", |name, text| match name {
        "user-data" if text.starts_with("#cloud-config\n") => {
            format!("{text}\nruncmd:\nbootcmd: ~\nntp:\n")
        }
        _ => text.to_owned(),
    }),
    ("a key twice", |name, text| match name {
        "user-data" if text.starts_with("#cloud-config\n") => {
            text.replacen('\n', "\nfqdn: twice.example\n", 1) + "\nfqdn: last.example\n"
        }
        "meta-data" if !text.is_empty() => format!("local-hostname: once\n{text}"),
        _ => text.to_owned(),
    }),
    ("CRLF", |_, text| text.replace('\n', "\r\n")),
];

/// The seed in each way that is another than its own, with what was done to it.
pub fn rewritten(documents: &Documents) -> Vec<(String, Documents)> {
    let mut found = Vec::new();
    for (how, rewrite) in REWRITINGS {
        let one = each(documents, rewrite);
        found.push((how.to_owned(), one));
    }
    let given = env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    for _ in 0..MIXTURES {
        let seed: u32 = given.unwrap_or_else(|| fastrand::u32(..));
        let mixed = each(documents, |name, text| mixture(name, text, seed));
        found.push((format!("a mixture, {SEED}={seed}"), mixed));
    }
    found.retain(|(_, changed)| changed != documents);
    found
}

fn each(documents: &Documents, rewrite: impl Fn(&str, &str) -> String) -> Documents {
    let document = |(name, bytes): &(String, Vec<u8>)| match std::str::from_utf8(bytes) {
        Ok(text) => (name.clone(), rewrite(name, text).into_bytes()),
        Err(_) => (name.clone(), bytes.clone()),
    };
    documents.iter().map(document).collect()
}

/// Its keys in another order, and half of the rewritings.
fn mixture(name: &str, text: &str, seed: u32) -> String {
    let mut random = Rng::with_seed(seed.into());
    let mut text = shuffled(text, &mut random);
    for (_, rewrite) in REWRITINGS {
        if random.bool() {
            text = rewrite(name, &text);
        }
    }
    text
}

/// The lines of each key that stands at a line's beginning are put elsewhere, if there is nothing in the
/// document but such keys, each once, and nothing that has to come before something else.
fn shuffled(text: &str, random: &mut Rng) -> String {
    let is_header = text.starts_with("#cloud-config\n");
    let (head, body) = match text.split_once('\n') {
        Some((head, body)) if is_header => (format!("{head}\n"), body),
        _ => (String::new(), text),
    };
    let mut entries: Vec<(&str, String)> = Vec::new();
    for line in body.lines() {
        let key = line.split_once(':').map_or(line, |(key, _)| key);
        let begins = line.starts_with(|first: char| first.is_ascii_alphabetic());
        if begins && entries.iter().any(|(other, _)| *other == key) {
            return text.into();
        }
        match entries.last_mut() {
            _ if begins => entries.push((key, format!("{line}\n"))),
            Some((_, lines)) if line.is_empty() || line.starts_with([' ', '-', '#']) => {
                *lines += &format!("{line}\n");
            }
            _ => return text.into(),
        }
    }
    let has_order = ["&", "*", "---", "..."]
        .iter()
        .any(|mark| body.contains(mark));
    if has_order || !body.ends_with('\n') || !entries.iter().all(|(_, lines)| lines.contains(':')) {
        return text.into();
    }
    random.shuffle(&mut entries);
    let lines = entries.into_iter().map(|(_, lines)| lines);
    head + &lines.collect::<String>()
}
