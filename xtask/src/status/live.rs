//! The live view of `status --watch`: what it remembers, and the frame that it draws of it.

use std::collections::VecDeque;

use console::{Style, truncate_str};
use noonmark_contract::record::{Event, Record, State, Status};
use noonmark_contract::units::Nanos;

use super::plot::{self, Point};
use super::text;

/// Records remembered: as many as the widest screen can plot.
const POINTS: usize = 1024;

/// Events remembered.
const EVENTS: usize = 8;

/// Lines of the plot, its title and marks aside.
const PLOT_HEIGHT: usize = 6;
const PLOT_HEIGHT_LEAST: usize = 3;

/// Lines that the plot needs beside its height: the title and the marks.
const PLOT_EXTRA: usize = 2;

/// A screen to draw on.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Characters in a line.
    pub columns: usize,
    /// Lines.
    pub rows: usize,
    /// Whether colours may be used.
    pub colours: bool,
}

/// What came over the status port so far, as much of it as is shown.
#[derive(Debug, Default)]
pub struct View {
    status: Option<Status>,
    points: VecDeque<(Nanos, Point)>,
    events: VecDeque<String>,
    disrupted: bool,
}

impl View {
    /// Takes a record in.
    pub fn take(&mut self, record: Record) {
        match record {
            Record::Status(status) => {
                // Before the first sync there is no offset to plot.
                if status.source.is_some() {
                    let disrupted = std::mem::take(&mut self.disrupted);
                    let offset = status.offset_ns;
                    let point = Point { offset, disrupted };
                    push(&mut self.points, (status.uptime_ns, point), POINTS);
                }
                self.status = Some(status);
            }
            Record::Event(record) => {
                self.disrupted |= matches!(record.event, Event::Disrupted { .. });
                let line = format!("{}  {}", record.uptime_ns, record.event);
                push(&mut self.events, line, EVENTS);
            }
        }
    }

    /// The whole screen's lines: the record, the plot where there is room, and the latest events.
    pub fn frame(&self, screen: Screen) -> Vec<String> {
        let Some(status) = &self.status else {
            return vec!["waiting for the first status record ...".to_owned()];
        };
        let mut lines: Vec<String> = text::screen(status)
            .lines()
            .map(|line| paint(line, status, screen.colours))
            .collect();
        let left = screen
            .rows
            .saturating_sub(lines.len() + self.events.len() + 2);
        let height = left.saturating_sub(PLOT_EXTRA).min(PLOT_HEIGHT);
        if height >= PLOT_HEIGHT_LEAST {
            lines.extend(self.plot(screen.columns, height));
        }
        lines.push(String::new());
        let left = screen.rows.saturating_sub(lines.len() + 1);
        let hidden = self.events.len().saturating_sub(left);
        lines.extend(self.events.iter().skip(hidden).cloned());
        // One line less than there are: the cursor stands in the last one, and a frame that scrolls
        // can't be drawn over.
        lines.truncate(screen.rows.saturating_sub(1));
        let width = screen.columns.saturating_sub(1);
        // A line that wraps would spoil the count of lines to go back.
        lines
            .iter()
            .map(|line| truncate_str(line, width, "~").into_owned())
            .collect()
    }

    fn plot(&self, columns: usize, height: usize) -> Vec<String> {
        let columns = columns.saturating_sub(1);
        let hidden = self.points.len().saturating_sub(plot::capacity(columns));
        let shown = || self.points.iter().skip(hidden);
        let (Some((first, _)), Some((last, _))) = (shown().next(), self.points.back()) else {
            return Vec::new();
        };
        let mut lines = vec![format!("offset over the last {}", *last - *first)];
        let points: Vec<Point> = shown().map(|(_, point)| *point).collect();
        lines.extend(plot::render(&points, columns, height));
        lines
    }
}

fn push<T>(into: &mut VecDeque<T>, new: T, limit: usize) {
    if into.len() == limit {
        into.pop_front();
    }
    into.push_back(new);
}

/// Colours the two rows that an operator looks at first.
fn paint(line: &str, status: &Status, colours: bool) -> String {
    let style = Style::new().force_styling(colours);
    let style = if line.starts_with("clock ") {
        match status.state {
            State::Synced => style.green(),
            State::Unsynced | State::Holdover => style.yellow(),
            State::Disrupted => style.red(),
        }
    } else if line.starts_with("alerts ") && !status.alerts.is_empty() {
        style.red().bold()
    } else {
        return line.to_owned();
    };
    style.apply_to(line).to_string()
}

#[cfg(test)]
mod tests {
    use noonmark_contract::record::{Cause, DetectedBy, EventRecord};

    use crate::status::example;

    use super::*;

    const PLAIN: Screen = Screen {
        columns: 100,
        rows: 40,
        colours: false,
    };

    fn event(event: Event) -> Record {
        let Status {
            v,
            seq,
            time_ns,
            uptime_ns,
            ..
        } = example::status();
        Record::Event(EventRecord {
            v,
            seq,
            time_ns,
            uptime_ns,
            event,
        })
    }

    fn disrupted() -> Record {
        event(Event::Disrupted {
            cause: Cause::HostPause,
            detected_by: DetectedBy::Kick,
            offset_ns: Nanos::from_secs(3),
        })
    }

    fn view(records: usize) -> View {
        let mut view = View::default();
        for n in 0..records {
            let mut status = example::status();
            status.uptime_ns += Nanos::from_secs(n as i64);
            status.offset_ns = Nanos(n as i64 % 9 - 4);
            view.take(Record::Status(status));
        }
        view
    }

    #[test]
    fn a_frame_holds_the_record_the_plot_and_the_events() {
        let mut view = view(60);
        view.take(disrupted());
        view.take(Record::Status(example::status()));
        let frame = view.frame(PLAIN);
        assert!(frame[0].starts_with("clock        synced, source kvm"));
        let joined = frame.join("\n");
        assert!(joined.contains("offset over the last"), "{joined}");
        assert!(joined.contains("  disrupted "), "{joined}");
        assert!(
            frame
                .last()
                .unwrap()
                .contains("disrupted: host pause, seen by kick")
        );
    }

    #[test]
    fn a_frame_fits_whatever_screen_there_is() {
        let mut view = view(500);
        for _ in 0..20 {
            view.take(disrupted());
        }
        for (columns, rows) in [(200, 60), (80, 24), (40, 10), (10, 3), (1, 1), (0, 0)] {
            let frame = view.frame(Screen {
                columns,
                rows,
                colours: true,
            });
            assert!(
                frame.len() <= rows,
                "{columns} x {rows}: {} lines",
                frame.len()
            );
            for line in frame {
                assert!(console::measure_text_width(&line) <= columns, "{line}");
            }
        }
    }

    #[test]
    fn colours_are_left_out_where_they_are_not_wanted() {
        let coloured = Screen {
            colours: true,
            ..PLAIN
        };
        let view = view(3);
        assert!(view.frame(coloured).join("").contains('\u{1b}'));
        assert!(!view.frame(PLAIN).join("").contains('\u{1b}'));
    }

    #[test]
    fn before_the_first_record_the_view_says_what_it_waits_for() {
        assert_eq!(View::default().frame(PLAIN).len(), 1);
    }
}
