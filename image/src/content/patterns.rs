//! The patterns of `include` and `exclude`.

use globset::{Error, Glob, GlobSet, GlobSetBuilder};

/// What is taken of a folder or a package, and what is left out even so.
#[derive(Debug)]
pub(super) struct Patterns<'a> {
    globs: &'a [Glob],
    include: GlobSet,
    exclude: GlobSet,
    /// What of `include` has taken something.
    used: Vec<bool>,
}

impl<'a> Patterns<'a> {
    /// # Errors
    /// They are too many together.
    pub(super) fn new(include: &'a [Glob], exclude: &[Glob]) -> Result<Self, Error> {
        let set = |globs: &[Glob]| {
            let mut builder = GlobSetBuilder::new();
            for glob in globs {
                builder.add(glob.clone());
            }
            builder.build()
        };
        Ok(Self {
            include: set(include)?,
            exclude: set(exclude)?,
            used: vec![false; include.len()],
            globs: include,
        })
    }

    /// Whether all is taken that is not left out.
    pub(super) fn take_all(&self) -> bool {
        self.globs.is_empty()
    }

    /// Whether a pattern takes this path itself, with all that is below it.
    pub(super) fn take(&mut self, path: &str) -> bool {
        let included = self.include.matches(path);
        for &index in &included {
            self.used[index] = true;
        }
        !included.is_empty()
    }

    /// Whether this path itself is left out, with all that is below it.
    pub(super) fn leave_out(&self, path: &str) -> bool {
        self.exclude.is_match(path)
    }

    /// A pattern of `include` that has taken nothing.
    pub(super) fn unused(&self) -> Option<&'a str> {
        let unused = self.used.iter().position(|used| !used)?;
        Some(self.globs[unused].glob())
    }
}
