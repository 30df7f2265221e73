//! Which form a part of user-data has: by its type or by its beginning.

/// How far into a document cloud-init looks for the header that makes a MIME message of it.
const MIME_WITHIN: usize = 4096;

/// The forms of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `#cloud-config`
    CloudConfig,
    /// `#cloud-config-archive`
    Archive,
    /// `#noonmark`
    Noonmark,
    /// `#!`
    Script,
    /// One that is refused by name, and why.
    Refused(&'static str),
}

/// What is fetched by others' programs isn't by this one.
const NOTHING_IS_FETCHED: &str = "nothing is fetched for a seed; write what it includes into it";

/// Why a template is refused.
const NO_TEMPLATES: &str = "templates are not rendered; write what they render to";

/// Why a JSON patch is refused.
const NO_PATCHES: &str = "JSON patches are not applied; write the cloud-config that they lead to";

/// Why a program of cloud-init's own kind is refused.
const NO_CODE: &str = "the guest has no cloud-init that could run it";

/// How a text begins, in small letters, and what it is then; the longer of two beginnings first.
const FORMS: [(&str, Form); 11] = [
    ("#cloud-config-archive", Form::Archive),
    ("#cloud-config-jsonp", Form::Refused(NO_PATCHES)),
    ("#cloud-config", Form::CloudConfig),
    ("#noonmark", Form::Noonmark),
    ("#!", Form::Script),
    ("#include", Form::Refused(NOTHING_IS_FETCHED)),
    ("## template:", Form::Refused(NO_TEMPLATES)),
    ("##template:", Form::Refused(NO_TEMPLATES)),
    ("#part-handler", Form::Refused(NO_CODE)),
    ("#cloud-boothook", Form::Refused(NO_CODE)),
    ("#upstart-job", Form::Refused(NO_CODE)),
];

/// What a part's type says, where it says it.
const TYPES: [(&str, Form); 10] = [
    ("text/cloud-config", Form::CloudConfig),
    ("text/cloud-config-archive", Form::Archive),
    ("text/x-shellscript", Form::Script),
    ("text/cloud-config-jsonp", Form::Refused(NO_PATCHES)),
    ("text/x-include-url", Form::Refused(NOTHING_IS_FETCHED)),
    ("text/x-include-once-url", Form::Refused(NOTHING_IS_FETCHED)),
    ("text/jinja2", Form::Refused(NO_TEMPLATES)),
    ("text/part-handler", Form::Refused(NO_CODE)),
    ("text/cloud-boothook", Form::Refused(NO_CODE)),
    ("text/upstart-job", Form::Refused(NO_CODE)),
];

/// As cloud-init tells a message: by the header, somewhere at the beginning of what is none of the forms: a
/// cloud-config may have a message in it, or write one to a file.
pub fn is_mime(bytes: &[u8]) -> bool {
    const HEADER: &[u8] = b"mime-version:";
    let begin = &bytes[..bytes.len().min(MIME_WITHIN)];
    let first = begin.iter().find(|byte| !byte.is_ascii_whitespace());
    first != Some(&b'#')
        && begin
            .windows(HEADER.len())
            .any(|window| window.eq_ignore_ascii_case(HEADER))
}

/// What a part is: by the type that is written beside it, else by its beginning.
pub fn form(declared: Option<&str>, begin: &str) -> Option<Form> {
    let of_type = |declared: &str| TYPES.iter().find(|(name, _)| *name == declared);
    let of_text = || {
        FORMS.iter().find(|(start, _)| {
            let head = begin.as_bytes().get(..start.len());
            head.is_some_and(|head| head.eq_ignore_ascii_case(start.as_bytes()))
        })
    };
    let found = declared.and_then(of_type).or_else(of_text);
    found.map(|(_, form)| *form)
}
