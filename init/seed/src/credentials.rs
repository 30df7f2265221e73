//! What a hypervisor gives an instance without a disk: systemd's credentials (systemd.system-credentials(7))
//! in SMBIOS strings and in QEMU's firmware configuration, and cloud-init's `ds=nocloud` line.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use noonmark_contract::config::values::Hostname;
use noonmark_contract::seed::instance::{Instance, printable};

use crate::instances::FILES;

/// The table of the machine's SMBIOS structures, as the kernel shows it.
pub const SMBIOS_TABLE: &str = "/sys/firmware/dmi/tables/DMI";

/// The folder of QEMU's credentials, each a folder with a file `raw`.
pub const FW_CFG: &str = "/sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials";

/// The most that is read of either.
pub const SIZE_MAX: u64 = 4 << 20;

/// What a credential with a seed's document is called: this, and the document's name.
const DOCUMENT: &str = "noonmark.";

/// The prefixes of an SMBIOS string that is a credential.
const PLAIN: &str = "io.systemd.credential:";
const BINARY: &str = "io.systemd.credential.binary:";

/// The beginning of cloud-init's line.
const NOCLOUD: &str = "ds=nocloud;";

/// SMBIOS structures (DMTF DSP0134): System Information, OEM Strings, End-of-Table.
const SYSTEM: u8 = 1;
const OEM_STRINGS: u8 = 11;
const END: u8 = 127;

/// Where a System Information has the number of the string that is its serial number.
const SERIAL: usize = 7;

/// The length of a structure's header.
const HEADER: usize = 4;

/// What was given.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// A seed's documents, in the order of [`FILES`].
    pub documents: [Option<Vec<u8>>; 4],
    /// What is not in a document of its own.
    pub instance: Instance,
}

impl Credentials {
    /// Whether anything was given that concerns a guest of ours.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.documents.iter().all(Option::is_none) && self.instance == Instance::default()
    }

    /// Takes in a credential.
    pub fn add(&mut self, name: &str, value: Vec<u8>) {
        let what = format!("credential {}", printable(name, 80));
        let document = name.strip_prefix(DOCUMENT);
        let place = document.and_then(|name| FILES.iter().position(|file| *file == name));
        match (place, name) {
            (Some(place), _) => self.documents[place] = Some(value),
            (None, "system.hostname") => self.hostname(&what, &String::from_utf8_lossy(&value)),
            (None, _) => self.instance.ignore(what, crate::value::UNKNOWN),
        }
    }

    /// Takes in what concerns us of a table of SMBIOS structures. One that is broken ends it.
    pub fn add_smbios(&mut self, table: &[u8]) {
        let mut rest = table;
        while let [kind, length, _, _, ..] = *rest {
            let Some((formatted, after)) = rest.split_at_checked(usize::from(length).max(HEADER))
            else {
                return;
            };
            // Strings that end with a NUL each, and one more NUL; without strings there are two.
            let Some(end) = after.windows(2).position(|pair| pair == [0, 0]) else {
                return;
            };
            let strings: Vec<&[u8]> = after[..end].split(|byte| *byte == 0).collect();
            match kind {
                OEM_STRINGS => strings.iter().for_each(|text| self.add_text(text)),
                SYSTEM => {
                    let number = formatted.get(SERIAL).copied().map_or(0, usize::from);
                    let serial = number.checked_sub(1).and_then(|index| strings.get(index));
                    if let Some(serial) = serial {
                        self.add_text(serial);
                    }
                }
                END => return,
                _ => {}
            }
            rest = &after[end + 2..];
        }
    }

    /// Takes in one text of a hypervisor's, if it is any of ours.
    fn add_text(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        if let Some((name, value)) = text
            .strip_prefix(PLAIN)
            .and_then(|rest| rest.split_once('='))
        {
            self.add(name, value.as_bytes().to_vec());
        } else if let Some((name, value)) = text
            .strip_prefix(BINARY)
            .and_then(|rest| rest.split_once('='))
        {
            match STANDARD.decode(value) {
                Ok(value) => self.add(name, value),
                Err(error) => {
                    let name = printable(name, 80);
                    self.instance
                        .refuse(format_args!("credential {name}: no base64: {error}"));
                }
            }
        } else if let Some(settings) = text.strip_prefix(NOCLOUD) {
            for setting in settings.split(';').filter(|setting| !setting.is_empty()) {
                let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
                self.nocloud(key, value);
            }
        }
    }

    /// A setting of `ds=nocloud;h=sundial;i=i-1`.
    fn nocloud(&mut self, key: &str, value: &str) {
        let what = format!("ds=nocloud {}", printable(key, 40));
        match key {
            "i" | "instance-id" => {
                self.instance.id = Some(printable(value, 100));
                self.instance.take(what);
            }
            "h" | "local-hostname" => self.hostname(&what, value),
            "s" | "seedfrom" => {
                let why = "nothing is fetched for a seed; give the documents themselves";
                self.instance.refuse(format_args!("{what}: {why}"));
            }
            _ => self.instance.ignore(what, crate::value::UNKNOWN),
        }
    }

    fn hostname(&mut self, what: &str, value: &str) {
        let name: Result<Hostname, _> = value.trim().split('.').next().unwrap_or_default().parse();
        match name {
            Ok(name) => {
                self.instance.settings.hostname = Some(name);
                self.instance.take(what);
            }
            Err(unfit) => self.instance.refuse(format_args!("{what}: {unfit}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn structure(kind: u8, formatted: &[u8], strings: &[&str]) -> Vec<u8> {
        let length = u8::try_from(HEADER + formatted.len()).unwrap();
        let mut bytes = vec![kind, length, 0, 0];
        bytes.extend_from_slice(formatted);
        for text in strings {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        }
        let end: &[u8] = if strings.is_empty() { &[0, 0] } else { &[0] };
        bytes.extend_from_slice(end);
        bytes
    }

    fn given(structures: &[Vec<u8>]) -> Credentials {
        let mut credentials = Credentials::default();
        credentials.add_smbios(&structures.concat());
        credentials
    }

    #[test]
    fn documents_and_names_are_taken_from_smbios() {
        let credentials = given(&[
            structure(0, &[1], &["BIOS"]),
            structure(
                SYSTEM,
                &[1, 2, 0, 3],
                &["QEMU", "PC", "ds=nocloud;h=sundial.lan;i=i-7"],
            ),
            structure(32, &[], &[]),
            structure(
                OEM_STRINGS,
                &[4],
                &[
                    "hello",
                    "io.systemd.credential:noonmark.user-data=#cloud-config\\n",
                    "io.systemd.credential.binary:noonmark.meta-data=aTogMQo=",
                    "io.systemd.credential:ssh.authorized_keys.root=x",
                ],
            ),
            structure(END, &[], &[]),
            structure(
                OEM_STRINGS,
                &[1],
                &["io.systemd.credential:system.hostname=late"],
            ),
        ]);
        let [meta, network, vendor, user] = credentials.documents;
        assert_eq!(meta.as_deref(), Some(b"i: 1\n".as_slice()));
        assert!(network.is_none() && vendor.is_none() && user.is_some());
        let instance = credentials.instance;
        assert_eq!(instance.settings.hostname.unwrap().as_str(), "sundial");
        assert_eq!(instance.id.as_deref(), Some("i-7"));
        assert_eq!(instance.ignored.len(), 1);
        assert!(given(&[structure(SYSTEM, &[1, 2, 0, 3], &["a", "b", "c"])]).is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_by_name() {
        let credentials = given(&[structure(
            OEM_STRINGS,
            &[2],
            &[
                "io.systemd.credential.binary:noonmark.user-data=%",
                "ds=nocloud;s=http://192.0.2.1/",
            ],
        )]);
        let refused = credentials.instance.refused.join("\n");
        for named in [
            "credential noonmark.user-data: no base64",
            "ds=nocloud s: nothing is fetched",
        ] {
            assert!(refused.contains(named), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn no_table_upsets_the_reader(bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(11), any::<u8>()], 0..300)) {
            given(&[bytes]);
        }
    }
}
