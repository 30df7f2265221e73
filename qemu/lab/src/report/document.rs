//! Reading what `--json` wrote: a report or a bench, or why a file is neither.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::bench::{self, Bench};
use super::{Report, Summary};

/// A file of measurements.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// What `recover` wrote.
    Report(Box<Report>),
    /// What `bench` wrote.
    Bench(Bench),
}

/// Why a file is no document of ours.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Nothing is in it.
    #[error("it is empty; was the run that writes it ended before its end?")]
    Empty,
    /// It is no JSON, or not to its end.
    #[error("it is no JSON: {0}; expected what `recover --json` or `bench --json` writes")]
    NoJson(serde_json::Error),
    /// It is JSON of something else.
    #[error("it is no report: {0}; expected what `recover --json` or `bench --json` writes")]
    Foreign(&'static str),
    /// Another version wrote it.
    #[error(
        "it is a {what} of version {found}, and this program reads version {known}; read it with \
         the noonmark that wrote it, or measure again"
    )]
    Version {
        /// `report` or `bench`.
        what: &'static str,
        /// The version that it says.
        found: u64,
        /// The version that is known here.
        known: u32,
    },
    /// Its version is right and its content is not.
    #[error("it is a damaged {what}: at `{path}`: {source}")]
    Damaged {
        /// `report` or `bench`.
        what: &'static str,
        /// The key.
        path: String,
        /// What is wrong there.
        source: serde_json::Error,
    },
}

/// As much as every version has.
#[derive(Deserialize)]
struct Header {
    v: Option<u64>,
    kind: Option<String>,
    faults: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads a file's content.
    ///
    /// # Errors
    ///
    /// It is empty, something else, damaged, or of another version.
    pub fn parse(text: &[u8]) -> Result<Self, DocumentError> {
        if text.trim_ascii().is_empty() {
            return Err(DocumentError::Empty);
        }
        if serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
            && text.trim_ascii().first() != Some(&b'{')
        {
            return Err(DocumentError::Foreign("it is no JSON object"));
        }
        let header: Header = match serde_json::from_slice(text) {
            Ok(header) => header,
            Err(error) if error.is_data() => {
                return Err(DocumentError::Foreign(
                    "its `v` or `kind` is of another type",
                ));
            }
            Err(error) => return Err(DocumentError::NoJson(error)),
        };
        let version = header.v.ok_or(DocumentError::Foreign("it has no `v`"))?;
        match header.kind.as_deref() {
            Some("bench") => {
                let mut bench: Bench = parse_as("bench", text, version, bench::VERSION)?;
                bench
                    .runs
                    .iter_mut()
                    .for_each(|run| summarize(&mut run.report));
                Ok(Self::Bench(bench))
            }
            None if header.faults.is_some() => {
                let mut report: Box<Report> = parse_as("report", text, version, super::VERSION)?;
                summarize(&mut report);
                Ok(Self::Report(report))
            }
            None => Err(DocumentError::Foreign("it has no `faults`")),
            Some(_) => Err(DocumentError::Foreign("its `kind` is not `bench`")),
        }
    }

    /// The runs in it with the names of what kept the clock; `noonmark` for a report.
    #[must_use]
    pub fn runs(&self) -> Vec<(&str, &Report)> {
        match self {
            Self::Report(report) => vec![("noonmark", report)],
            Self::Bench(bench) => {
                let runs = bench.runs.iter();
                runs.map(|run| (&*run.peer, &run.report)).collect()
            }
        }
    }
}

/// Makes the figures anew from the samples: earlier versions left out what did not recover, and gave a
/// 99th percentile of any number of samples.
fn summarize(report: &mut Report) {
    for fault in &mut report.faults {
        fault.summary = Summary::of(&fault.samples);
    }
}

fn parse_as<T: DeserializeOwned>(
    what: &'static str,
    text: &[u8],
    found: u64,
    known: u32,
) -> Result<T, DocumentError> {
    if found != u64::from(known) {
        return Err(DocumentError::Version { what, found, known });
    }
    let reader = &mut serde_json::Deserializer::from_slice(text);
    serde_path_to_error::deserialize(reader).map_err(|error| DocumentError::Damaged {
        what,
        path: error.path().to_string(),
        source: error.into_inner(),
    })
}

#[cfg(test)]
mod tests {
    use crate::fixture;
    use crate::report::bench::PeerRun;

    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let report = fixture::report();
        let text = serde_json::to_vec(&report).unwrap();
        let read = Document::parse(&text).unwrap();
        assert_eq!(read, Document::Report(Box::new(report.clone())));

        let bench = Bench::new(vec![PeerRun::new("chronyd poll 1", "4.3", report)], vec![]);
        let text = serde_json::to_vec_pretty(&bench).unwrap();
        let read = Document::parse(&text).unwrap();
        assert_eq!(read.runs()[0].0, "chronyd poll 1");
        assert_eq!(read, Document::Bench(bench));
    }

    #[test]
    fn the_figures_are_those_of_the_samples_whatever_an_earlier_version_wrote() {
        let mut report = fixture::report();
        report.faults[0].summary.p99_ns = Some(report.tolerance_ns);
        let text = serde_json::to_vec(&report).unwrap();
        let Document::Report(read) = Document::parse(&text).unwrap() else {
            panic!("it is a report");
        };
        assert_eq!(read.faults[0].summary.p99_ns, None);
    }

    #[test]
    fn what_is_no_report_is_told_why() {
        let told = |text: &str| Document::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(told("").starts_with("it is empty"));
        assert!(told(" \n").starts_with("it is empty"));
        assert!(told("hello").starts_with("it is no JSON"));
        assert!(told(r#"{"v":1,"faults":["#).starts_with("it is no JSON"));
        for foreign in [
            "[1]",
            "7",
            "{}",
            r#"{"v":1}"#,
            r#"{"v":"x"}"#,
            r#"{"v":1,"kind":"image"}"#,
        ] {
            assert!(
                told(foreign).starts_with("it is no report"),
                "{foreign}: {}",
                told(foreign)
            );
        }
        let later = told(r#"{"v":9,"faults":[]}"#);
        assert!(
            later.contains("version 9") && later.contains("version 1"),
            "{later}"
        );
        let damaged = told(r#"{"v":1,"environment":{"qemu":7},"faults":[]}"#);
        assert!(damaged.contains("environment.qemu"), "{damaged}");
    }
}
