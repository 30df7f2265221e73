//! Which faults a run does where they are not named one by one.

use std::fmt;
use std::str::FromStr;

use super::definition::Fault;

/// A choice of faults by the time that one has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preset {
    /// A few steps of the guest's clock: half a minute.
    #[default]
    Quick,
    /// Every fault there is.
    Full,
    /// Faults drawn at random from all there are, for hours.
    Soak,
}

/// A name that is no preset's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown preset `{0}`; expected quick, full or soak")]
pub struct PresetError(String);

impl Preset {
    /// The faults that it does, or that a soak draws from.
    #[must_use]
    pub fn faults(self) -> Vec<Fault> {
        match self {
            Self::Quick => Fault::defaults(),
            Self::Full | Self::Soak => Fault::matrix(),
        }
    }
}

impl FromStr for Preset {
    type Err = PresetError;

    fn from_str(name: &str) -> Result<Self, PresetError> {
        match name {
            "quick" => Ok(Self::Quick),
            "full" => Ok(Self::Full),
            "soak" => Ok(Self::Soak),
            _ => Err(PresetError(name.to_owned())),
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quick => "quick",
            Self::Full => "full",
            Self::Soak => "soak",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_s_name_parses_to_the_preset() {
        for preset in [Preset::Quick, Preset::Full, Preset::Soak] {
            assert_eq!(preset.to_string().parse(), Ok(preset));
            assert!(!preset.faults().is_empty());
        }
        let told = "fast".parse::<Preset>().unwrap_err().to_string();
        assert!(told.contains("fast") && told.contains("quick"), "{told}");
    }
}
