//! Reports, benches and comparisons as a terminal shows them.

mod bench;
mod comparison;
mod report;
pub(crate) mod series;
mod table;
pub(crate) mod words;

pub use bench::bench;
pub use comparison::comparison;
pub(crate) use report::environment;
pub use report::report;
