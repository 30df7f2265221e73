//! `user-data` and `vendor-data`: which parts they have, and which of the forms that are understood
//! each part has.
//!
//! As cloud-init tells them apart (its documentation, "User-data formats"): by how the text begins,
//! in capitals or not, after blanks and blank lines; or, in a MIME message or a
//! `#cloud-config-archive`, by the type that is written beside it. A part that can't be taken is told
//! and left out, and the others count.

mod form;
mod script;

use form::{Form, form, is_mime};
use mail_parser::{Message, MessageParser, MimeHeaders as _, PartType};
use noonmark_contract::seed::instance::{Instance, printable};

use crate::content::{self, ContentError};
use crate::instances::is_vendor_data;
use crate::merge::Mergers;
use crate::value::{Checked, DocumentError, Field, document};
use crate::yaml::Node;
pub use script::{Script, in_order};

/// How many parts a document may have.
const PARTS_MAX: usize = 64;

/// How deep parts may lie in parts.
const DEPTH_MAX: usize = 4;

/// So much of a line is told.
const LINE_MAX: usize = 60;

/// What `user-data` or `vendor-data` has.
#[derive(Debug, Default)]
pub struct Parts {
    /// Its cloud-configs, merged.
    pub cloud_config: Option<Node>,
    /// Its noonmark-configs, each with its name in messages.
    pub noonmark: Vec<(String, String)>,
    /// Its scripts.
    pub scripts: Vec<Script>,
}

/// Takes a document apart, packed by gzip or in base64 or neither; at most `max` bytes of it. It is one text,
/// or several, which count as its parts. What can't be taken is told in `instance`.
#[must_use]
pub fn parts(name: &str, texts: Vec<Vec<u8>>, max: usize, instance: &mut Instance) -> Parts {
    let mut reader = Reader {
        document: name,
        max,
        instance,
        parts: Parts::default(),
        count: 0,
        attached: 0,
        room: 4 * max,
    };
    let is_one = texts.len() == 1;
    for bytes in texts {
        let name = match is_one {
            true => Ok(name.to_owned()),
            false => reader.next_name(),
        };
        match name {
            Ok(name) => reader.part(&Part {
                name,
                bytes,
                beside: Beside::default(),
                depth: 0,
            }),
            Err(error) => reader.instance.refuse(error),
        }
    }
    reader.parts
}

struct Reader<'a> {
    document: &'a str,
    max: usize,
    instance: &'a mut Instance,
    parts: Parts,
    count: usize,
    /// How many of them have no further ones in them.
    attached: usize,
    /// How many bytes all parts together may still have, unpacked.
    room: usize,
}

struct Part {
    name: String,
    bytes: Vec<u8>,
    beside: Beside,
    depth: usize,
}

/// What is written beside a part.
#[derive(Debug, Default)]
struct Beside {
    /// Its type.
    kind: Option<String>,
    /// How it wants to be merged.
    merge: Option<String>,
    /// The name of its file.
    file: Option<String>,
}

impl Reader<'_> {
    /// Takes one part in, or tells why not.
    fn part(&mut self, part: &Part) {
        if let Err(error) = self.take(part) {
            self.instance.refuse(error);
        }
    }

    fn take(&mut self, part: &Part) -> Result<(), String> {
        let name = &part.name;
        let bad = |error: ContentError| format!("{name}: {error}");
        let mut bytes = part.bytes.clone();
        if content::is_gzip(&bytes) {
            bytes = content::gunzip(&bytes, self.max).map_err(bad)?;
        }
        self.room = self
            .room
            .checked_sub(bytes.len())
            .ok_or_else(|| format!("{name}: its parts have too many bytes together"))?;
        if is_mime(&bytes) {
            return self.message(part, &bytes);
        }
        let text = content::text(&bytes).map_err(bad)?;
        let begin = text.trim_start();
        let form = form(part.beside.kind.as_deref(), begin);
        if !begin.is_empty() && form == Some(Form::Archive) {
            return self.archive(part, &text).map_err(|e| e.to_string());
        }
        self.attached += 1;
        match form {
            _ if begin.is_empty() => Ok(()),
            Some(Form::CloudConfig) => {
                let config = document(name, &text, self.instance).map_err(|e| e.to_string())?;
                self.merge(part, config).map_err(|e| e.to_string())
            }
            Some(Form::Archive) => Ok(()),
            Some(Form::Noonmark) => {
                self.parts.noonmark.push((name.clone(), text.into_owned()));
                Ok(())
            }
            Some(Form::Script) => {
                let (vendors, file) = (is_vendor_data(self.document), part.beside.file.as_deref());
                let script = Script::new(name, vendors, self.attached, file, begin);
                self.parts.scripts.push(script);
                Ok(())
            }
            Some(Form::Refused(why)) => {
                let line = begin.lines().next().unwrap_or_default();
                Err(format!("{name}: `{}`: {why}", printable(line, LINE_MAX)))
            }
            None => match in_base64(begin) {
                Some(decoded) => {
                    self.attached -= 1;
                    self.take(&Part {
                        bytes: decoded,
                        name: name.clone(),
                        beside: Beside::default(),
                        depth: self.deeper(part)?,
                    })
                }
                None => {
                    let line = printable(begin.lines().next().unwrap_or_default(), LINE_MAX);
                    let why = "it begins neither with #cloud-config nor with #noonmark or `#!`";
                    self.instance.ignore(format_args!("{name}: `{line}`"), why);
                    Ok(())
                }
            },
        }
    }

    fn deeper(&self, part: &Part) -> Result<usize, String> {
        match part.depth + 1 {
            depth if depth <= DEPTH_MAX => Ok(depth),
            _ => Err(format!(
                "{}: parts within parts, {DEPTH_MAX} deep",
                part.name
            )),
        }
    }

    /// The next part's name in messages.
    fn next_name(&mut self) -> Result<String, String> {
        self.count += 1;
        match self.count {
            count if count <= PARTS_MAX => Ok(format!("{} part {count}", self.document)),
            _ => Err(format!("{}: more than {PARTS_MAX} parts", self.document)),
        }
    }

    /// A MIME message (RFC 2045), as `cloud-init devel make-mime` and Terraform write it.
    fn message(&mut self, part: &Part, bytes: &[u8]) -> Result<(), String> {
        let depth = self.deeper(part)?;
        let no_message = || format!("{}: no MIME message, which its header announces", part.name);
        let message = MessageParser::new().parse(bytes).ok_or_else(no_message)?;
        let mut found = Vec::new();
        flatten(&message, &mut found);
        for (bytes, beside) in found {
            let name = self.next_name()?;
            self.part(&Part {
                name,
                bytes,
                beside,
                depth,
            });
        }
        Ok(())
    }

    /// `#cloud-config-archive`: a list of parts in YAML.
    fn archive(&mut self, part: &Part, text: &str) -> Result<(), String> {
        let depth = self.deeper(part)?;
        let tree = crate::yaml::parse(&part.name, text).map_err(|error| error.to_string())?;
        let items = Field::root(&tree.root).items().map_err(|e| e.to_string())?;
        for item in items {
            let name = self.next_name()?;
            let read = || -> Checked<Part> {
                let field = |key: &str| item.get(key);
                let content = match item.text() {
                    Ok(_) => item.bytes()?,
                    Err(_) => field("content").map_or(Ok(Vec::new()), |content| content.bytes())?,
                };
                let text = |key| {
                    field(key)
                        .map(|kind| kind.text().map(Into::into))
                        .transpose()
                };
                Ok(Part {
                    name,
                    bytes: content,
                    beside: Beside {
                        kind: text("type")?,
                        merge: None,
                        file: text("filename")?,
                    },
                    depth,
                })
            };
            match read() {
                Ok(part) => self.part(&part),
                Err(error) => self.instance.refuse(error),
            }
        }
        Ok(())
    }

    /// Puts a part over those before it.
    fn merge(&mut self, part: &Part, config: Node) -> Result<(), DocumentError> {
        let own = Mergers::named(&Field::root(&config))?;
        let header = part.beside.merge.as_deref().and_then(Mergers::parse);
        let how = own.or(header).unwrap_or_else(Mergers::of_parts);
        self.parts.cloud_config = Some(match self.parts.cloud_config.take() {
            Some(before) => how.merge(before, config),
            None => config,
        });
        Ok(())
    }
}

/// The parts of a message that hold something.
fn flatten(message: &Message<'_>, found: &mut Vec<(Vec<u8>, Beside)>) {
    for part in &message.parts {
        if matches!(part.body, PartType::Multipart(_)) {
            continue;
        }
        let kind = part.content_type().map(|kind| match kind.subtype() {
            Some(sub) => format!("{}/{sub}", kind.ctype()).to_ascii_lowercase(),
            None => kind.ctype().to_ascii_lowercase(),
        });
        let header = |name: &str| {
            part.headers
                .iter()
                .find(|h| h.name.as_str().eq_ignore_ascii_case(name))
        };
        let merge = header("Merge-Type").or_else(|| header("X-Merge-Type"));
        let merge = merge.and_then(|header| header.value.as_text().map(Into::into));
        let file = part.attachment_name().map(Into::into);
        found.push((part.contents().to_vec(), Beside { kind, merge, file }));
    }
}

/// What a whole document in base64 stands for, if that has a form.
fn in_base64(text: &str) -> Option<Vec<u8>> {
    if !content::is_base64(text.as_bytes()) {
        return None;
    }
    let decoded = content::base64(text.as_bytes()).ok()?;
    let known = content::is_gzip(&decoded)
        || is_mime(&decoded)
        || content::text(&decoded).is_ok_and(|text| form(None, text.trim_start()).is_some());
    known.then_some(decoded)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1 << 20;

    fn read(bytes: &[u8]) -> (Parts, Instance) {
        let mut instance = Instance::default();
        let parts = parts("user-data", vec![bytes.to_vec()], MAX, &mut instance);
        (parts, instance)
    }

    /// The host name in what is taken.
    fn name(bytes: &[u8]) -> Option<String> {
        let (parts, instance) = read(bytes);
        assert_eq!(instance.refused, [""; 0]);
        let config = parts.cloud_config?;
        let name = Field::root(&config).get("hostname")?;
        Some(name.text().unwrap().to_owned())
    }

    #[test]
    fn a_cloud_config_is_known_by_its_beginning_however_it_is_written() {
        for text in [
            "#cloud-config\nhostname: a\n",
            "\u{feff}#cloud-config\r\nhostname: a\r\n",
            "\n\n  #Cloud-Config # by hand\nhostname: a\n",
            "#cloud-config\nhostname: a\n# MIME-Version: 1.0\n",
        ] {
            assert_eq!(name(text.as_bytes()).as_deref(), Some("a"), "{text:?}");
        }
        let text = b"#cloud-config\nhostname: a\n";
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        let packed = encoder.finish().unwrap();
        for bytes in [
            packed.clone(),
            STANDARD.encode(text).into(),
            STANDARD.encode(packed).into(),
        ] {
            assert_eq!(name(&bytes).as_deref(), Some("a"));
        }
        let utf16: Vec<u8> = "\u{feff}#cloud-config\nhostname: a\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        assert_eq!(name(&utf16).as_deref(), Some("a"));
    }

    #[test]
    fn what_has_no_known_beginning_is_told_with_its_line() {
        let (parts, instance) = read(b"# managed by x\n#cloud-config\nhostname: a\n");
        assert!(parts.cloud_config.is_none());
        assert!(
            instance.ignored[0].contains("`# managed by x`"),
            "{instance:?}"
        );
        for (text, named) in [
            ("#include\nhttp://192.0.2.1/x\n", "nothing is fetched"),
            (
                "## template: jinja\n#cloud-config\n",
                "templates are not rendered",
            ),
            ("#cloud-boothook\n", "no cloud-init"),
            ("#cloud-config-jsonp\n[]\n", "JSON patches"),
        ] {
            let (_, instance) = read(text.as_bytes());
            assert!(instance.refused[0].contains(named), "{instance:?}");
        }
    }

    #[test]
    fn a_message_is_taken_part_by_part() {
        let message = "Content-Type: multipart/mixed; boundary=\"==b==\"\nMIME-Version: 1.0\n\n--==b==\n\
                       Content-Type: text/cloud-config; charset=\"us-ascii\"\nMIME-Version: 1.0\n\n\
                       hostname: a\nruncmd:\n- [/x]\n--==b==\nContent-Type: text/x-shellscript\n\
                       Content-Transfer-Encoding: base64\n\nIyEvYmluL3NoCmVjaG8K\n--==b==\n\
                       Content-Type: text/plain\nX-Merge-Type: list(append)+dict(recurse_list)\n\n\
                       #cloud-config\nruncmd:\n- [/y]\n--==b==\nContent-Type: text/cloud-config\n\n\
                       a: [\n--==b==--\n";
        let (parts, instance) = read(message.as_bytes());
        let config = parts.cloud_config.unwrap();
        let config = Field::root(&config);
        assert_eq!(config.get("hostname").unwrap().text().unwrap(), "a");
        assert_eq!(config.get("runcmd").unwrap().items().unwrap().len(), 2);
        assert_eq!(parts.scripts.len(), 1);
        assert_eq!(parts.scripts[0].content, "#!/bin/sh\necho\n");
        // The broken part is lost, and no other.
        assert!(
            instance.refused[0].starts_with("user-data part 4: "),
            "{instance:?}"
        );
    }

    #[test]
    fn an_archive_is_taken_part_by_part() {
        let archive = "#cloud-config-archive\n- type: text/cloud-config\n  content: |\n    hostname: a\n- \
                       |\n  #!/bin/sh\n- content: '#include http://192.0.2.1/'\n";
        let (parts, instance) = read(archive.as_bytes());
        assert!(parts.cloud_config.is_some());
        assert_eq!(parts.scripts.len(), 1);
        assert!(
            instance.refused[0].starts_with("user-data part 3: "),
            "{instance:?}"
        );
    }

    #[test]
    fn parts_within_parts_and_too_many_of_them_end() {
        let mut archive = String::from("#cloud-config\nhostname: a\n");
        for _ in 0..6 {
            let inner = archive.replace('\n', "\n    ");
            archive = format!("#cloud-config-archive\n- content: |\n    {inner}\n");
        }
        let (parts, instance) = read(archive.as_bytes());
        assert!(parts.cloud_config.is_none());
        assert!(instance.refused[0].contains("4 deep"), "{instance:?}");
        let many = String::from("#cloud-config-archive\n") + &"- '#!/bin/sh'\n".repeat(100);
        let (parts, instance) = read(many.as_bytes());
        assert_eq!(parts.scripts.len(), PARTS_MAX);
        assert!(
            instance.refused[0].contains("more than 64 parts"),
            "{instance:?}"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn no_message_upsets_the_reader(
            text in "(MIME-Version: 1.0|Content-Type: |multipart/mixed; boundary=b|text/plain|--b|--b--|\n|\n\n|#cloud-config|a: b|base64|Content-Transfer-Encoding: ){0,40}",
        ) {
            let _ = read(text.as_bytes());
        }
    }
}
