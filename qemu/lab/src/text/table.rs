//! A table without lines or borders.

use std::ops::Range;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

/// An empty table; the columns of `figures` are aligned to the right.
pub(super) fn table(header: &[&str], figures: Range<usize>) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    for column in table
        .column_iter_mut()
        .skip(figures.start)
        .take(figures.len())
    {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A table's text, without spaces at either end of a line.
pub(super) fn lines(table: &Table) -> String {
    let mut text = String::new();
    for row in table.lines() {
        // The library pads each cell on both sides, the outermost ones too.
        let row = row.strip_prefix(' ').unwrap_or(&row);
        text += row.trim_end();
        text.push('\n');
    }
    text
}
