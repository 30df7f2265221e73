//! A small plot of the offset over time, in characters: each cell is a braille pattern of 2 x 4 dots.

use noonmark_contract::units::Nanos;

/// One status record's place in the plot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The offset, reference minus clock.
    pub offset: Nanos,
    /// Whether the clock was disrupted since the point before.
    pub disrupted: bool,
}

/// Columns that the scale takes at the left.
const SCALE_COLUMNS: usize = 14;

/// The widest scale, some days; what is beyond it stands at its edge.
const LIMIT_MOST: i64 = 500_000_000_000_000;

/// The first braille pattern, no dot set (Unicode, block 2800).
const BLANK: u32 = 0x2800;

/// The bits of a cell's dots, from the top: left column, right column.
const DOTS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// How many points fit in so many columns.
pub fn capacity(columns: usize) -> usize {
    columns.saturating_sub(SCALE_COLUMNS) * 2
}

/// The plot's lines: `height` of them, the newest point at the right, zero in the middle, and a line
/// below that marks disruptions. Empty where there is no room or nothing to show.
pub fn render(points: &[Point], columns: usize, height: usize) -> Vec<String> {
    let fitting = capacity(columns).min(points.len());
    let shown = &points[points.len() - fitting..];
    let largest = shown.iter().map(|point| point.offset.abs()).max();
    let (Some(largest), true) = (largest, height >= 2) else {
        return Vec::new();
    };
    let limit = round_up(largest);
    let cells = shown.len().div_ceil(2);
    let mut dots = vec![vec![0_u32; cells]; height];
    for (x, point) in shown.iter().enumerate() {
        let y = row_of(point.offset, limit, height * 4);
        dots[y / 4][x / 2] |= DOTS[x % 2][y % 4];
    }
    let mut lines: Vec<String> = dots
        .iter()
        .enumerate()
        .map(|(row, cells)| format!("{}{}", scale(row, height, limit), pattern(cells)))
        .collect();
    if shown.iter().any(|point| point.disrupted) {
        let mark = |pair: &[Point]| {
            if pair.iter().any(|p| p.disrupted) {
                '^'
            } else {
                ' '
            }
        };
        let marks: String = shown.chunks(2).map(mark).collect();
        lines.push(format!("{:>13} {}", "disrupted", marks.trim_end()));
    }
    lines
}

/// Which of `rows` rows of dots an offset stands in; positive ones are above the middle.
fn row_of(offset: Nanos, limit: Nanos, rows: usize) -> usize {
    let share = (1.0 - offset.0 as f64 / limit.0 as f64) / 2.0;
    let row = (share * (rows - 1) as f64).round();
    (row.max(0.0) as usize).min(rows - 1)
}

fn scale(row: usize, height: usize, limit: Nanos) -> String {
    let label = match row {
        0 => format!("+{limit}"),
        row if row == height - 1 => format!("{}", -limit),
        row if row == height / 2 => "0".to_owned(),
        _ => String::new(),
    };
    format!("{label:>13} ")
}

fn pattern(cells: &[u32]) -> String {
    let pattern = |dots: &u32| char::from_u32(BLANK + dots).unwrap_or(' ');
    cells.iter().map(pattern).collect()
}

/// The next of 1, 2, 5, 10, 20 ... ns, so that the scale is easy to read and seldom changes.
fn round_up(largest: Nanos) -> Nanos {
    let mut decade = 1_i64;
    loop {
        for step in [1, 2, 5] {
            let limit = decade * step;
            if limit >= largest.0 || limit >= LIMIT_MOST {
                return Nanos(limit);
            }
        }
        decade *= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(offsets: &[i64]) -> Vec<Point> {
        let point = |offset: &i64| Point {
            offset: Nanos(*offset),
            disrupted: false,
        };
        offsets.iter().map(point).collect()
    }

    #[test]
    fn a_rise_from_the_bottom_to_the_top_is_a_diagonal() {
        let rise = points(&[-10, -7, -4, -1, 1, 4, 7, 10]);
        assert_eq!(
            render(&rise, 80, 2),
            [
                "       +10 ns \u{2800}\u{2800}\u{2860}\u{280a}",
                "       -10 ns \u{2860}\u{280a}\u{2800}\u{2800}"
            ]
            .map(str::to_owned)
        );
    }

    #[test]
    fn the_newest_points_are_kept_where_not_all_fit() {
        let mut many = points(&[1_000; 50]);
        many.extend(points(&[0; 4]));
        let lines = render(&many, SCALE_COLUMNS + 2, 4);
        assert!(lines[0].trim_start().starts_with("+1 ns"), "{lines:?}");
    }

    #[test]
    fn a_disruption_is_marked_below_its_point() {
        let mut some = points(&[0; 6]);
        some[4].disrupted = true;
        let lines = render(&some, 80, 3);
        assert_eq!(lines.last().unwrap(), "    disrupted   ^");
    }

    #[test]
    fn without_room_or_points_there_is_no_plot() {
        assert!(render(&[], 80, 8).is_empty());
        assert!(render(&points(&[1]), 10, 8).is_empty());
        assert!(render(&points(&[1]), 80, 1).is_empty());
    }

    #[test]
    fn no_offsets_upset_the_plot() {
        let offsets = [i64::MIN, -1, 0, 1, 999, i64::MAX];
        for count in 0..offsets.len() {
            for (columns, height) in [(0, 0), (14, 2), (15, 2), (80, 6), (200, 19)] {
                for line in render(&points(&offsets[count..]), columns, height) {
                    let width = line.chars().count();
                    assert!(width <= columns.max(SCALE_COLUMNS), "{columns}: {line}");
                }
            }
        }
    }
}
