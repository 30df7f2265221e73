//! What the seed's reader tells PID 1, and how it travels through the pipe: one line of JSON, then
//! the files' contents in their order.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::instance::{CONTENT_MAX, Instance, InstanceError, SeedFile};

/// The longest line of JSON.
const LINE_MAX: usize = 1 << 20;

/// A seed has no more documents than these: meta-data, credentials, network-config, vendor-data,
/// user-data.
const DOCUMENTS_MAX: usize = 5;

/// The device of a seed that is on no disk, and the document of what credentials say by themselves.
pub const NO_DISK: &str = "credentials";

/// More bytes than this are no verdict.
pub const VERDICT_MAX: usize = LINE_MAX + CONTENT_MAX;

/// What was found on the disks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// The seed among them.
    pub seed: Datasource,
}

/// What came of looking for a datasource, as cloud-init calls it: a disk labelled as a seed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Datasource {
    /// No disk is labelled as one.
    #[default]
    Absent,
    /// There is one that can't be used, or more than one.
    Refused {
        /// Where it is.
        device: Option<String>,
        /// Why.
        problem: String,
    },
    /// There is one.
    Found {
        /// Where it is.
        device: String,
        /// What it says; of two documents' words on the same setting the later one's counts.
        documents: Vec<Document>,
    },
}

/// One of a seed's documents. Each stands for itself: one that is refused takes no other with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Its file, e.g. `user-data`.
    pub name: String,
    /// What it says.
    pub instance: Instance,
}

/// Bytes that are no verdict.
#[derive(Debug, Error)]
pub enum VerdictError {
    /// It is too long.
    #[error("its answer is longer than {VERDICT_MAX} bytes")]
    TooLong,
    /// It ends early.
    #[error("it gave no whole answer: it crashed, or ran out of time or memory")]
    Cut,
    /// It is no JSON of this shape.
    #[error("its answer is wrong: {0}")]
    Json(#[from] serde_json::Error),
    /// It has more than a seed can have.
    #[error("its answer has too many documents or too long files")]
    TooMuch,
    /// It asks for what no seed may have.
    #[error(transparent)]
    Refused(#[from] InstanceError),
}

impl Verdict {
    /// The bytes that travel.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Texts, numbers and lists of them always have a JSON form.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        if let Datasource::Found { documents, .. } = &self.seed {
            for file in documents
                .iter()
                .flat_map(|document| &document.instance.files)
            {
                bytes.extend_from_slice(&file.content);
            }
        }
        bytes
    }

    /// Reads and checks them.
    ///
    /// # Errors
    /// [`VerdictError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, VerdictError> {
        if bytes.len() > VERDICT_MAX {
            return Err(VerdictError::TooLong);
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (line, mut rest) = bytes.split_at(end.ok_or(VerdictError::Cut)?);
        rest = &rest[1..];
        let mut verdict: Self = serde_json::from_slice(line)?;
        if let Datasource::Found { documents, .. } = &mut verdict.seed {
            if documents.len() > DOCUMENTS_MAX || rest.len() > CONTENT_MAX {
                return Err(VerdictError::TooMuch);
            }
            for Document { instance, .. } in documents {
                instance.check()?;
                for SeedFile {
                    content, length, ..
                } in &mut instance.files
                {
                    let (own, others) = rest.split_at_checked(*length).ok_or(VerdictError::Cut)?;
                    *content = own.to_vec();
                    rest = others;
                }
            }
        }
        if rest.is_empty() {
            Ok(verdict)
        } else {
            Err(VerdictError::Cut)
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;
    use alloc::vec;

    use proptest::prelude::*;

    use crate::config::values::Mode;

    use super::*;

    fn file(content: Vec<u8>) -> SeedFile {
        SeedFile {
            path: "/etc/x".parse().unwrap(),
            mode: Mode::try_from(0o600).unwrap(),
            uid: 1,
            gid: 2,
            append: true,
            length: content.len(),
            content,
        }
    }

    fn document(contents: Vec<Vec<u8>>) -> Document {
        Document {
            name: "user-data".into(),
            instance: Instance {
                files: contents.into_iter().map(file).collect(),
                ..Instance::default()
            },
        }
    }

    fn verdict(contents: Vec<Vec<u8>>) -> Verdict {
        Verdict {
            seed: Datasource::Found {
                device: "vda".into(),
                documents: vec![document(contents)],
            },
        }
    }

    proptest! {
        #[test]
        fn a_verdict_arrives_as_it_was_sent_and_never_in_part(
            contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let sent = verdict(contents);
            let bytes = sent.encode();
            prop_assert_eq!(&Verdict::decode(&bytes).unwrap(), &sent);
            prop_assert!(Verdict::decode(&bytes[..cut.index(bytes.len())]).is_err());
            let mut longer = bytes;
            longer.push(0);
            prop_assert!(Verdict::decode(&longer).is_err());
        }

        #[test]
        fn no_bytes_upset_the_decoder(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Verdict::decode(&bytes).is_err());
        }
    }

    #[test]
    fn a_reader_that_was_broken_into_gets_nothing_past_the_check() {
        let mut sent = verdict(vec![]);
        let Datasource::Found { documents, .. } = &mut sent.seed else {
            unreachable!("it is made above")
        };
        documents[0].instance.files.push(SeedFile {
            path: "/init".parse().unwrap(),
            ..file(vec![])
        });
        let error = Verdict::decode(&sent.encode()).unwrap_err();
        assert!(error.to_string().contains("/init"), "{error}");
        let Datasource::Found { documents, .. } = &mut sent.seed else {
            unreachable!("it is made above")
        };
        *documents = vec![document(vec![]); DOCUMENTS_MAX + 1];
        let error = Verdict::decode(&sent.encode()).unwrap_err();
        assert!(matches!(error, VerdictError::TooMuch), "{error}");
    }
}
