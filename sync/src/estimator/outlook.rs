//! What glances need of the estimator: where it goes on to from here, and a way to take in what they
//! have read.

use noonmark_contract::units::{Raw, Utc};

use crate::engine::Glanced;

use super::{Estimator, Interval};

/// The estimate at an instant, and how it goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outlook {
    /// The most likely time.
    pub reference: Utc,
    /// Reference minus RAW by the middle of the interval, and half the interval's width.
    pub difference: i64,
    pub half_ns: f64,
    /// How fast the interval moves, and each of its ends moves apart.
    pub rate_ppb: f64,
    pub spread_ppb: f64,
}

impl Estimator {
    /// The estimate at `raw` and from there on; none before the first reading.
    pub fn outlook(&self, raw: Raw) -> Option<Outlook> {
        let model = self.model.as_ref()?;
        let interval = model.carried(model.seconds(raw));
        let middle = (interval.low + interval.high) / 2.0;
        Some(Outlook {
            reference: self.predict(raw)?.reference,
            difference: (model.reference(raw, middle) - Utc(raw.0)).0,
            half_ns: (interval.high - interval.low) / 2.0,
            rate_ppb: model.filter.rate_ppb,
            spread_ppb: model.spread_ppb(),
        })
    }

    /// Takes in what glances have read.
    pub fn follow_glances(&mut self, glanced: &Glanced) {
        let Some(model) = &mut self.model else {
            return;
        };
        let t = model.seconds(glanced.at);
        let x = glanced.difference.saturating_sub(model.base) as f64 + glanced.rest_ns;
        if !model.is_blurred_by(glanced.bound, &model.carried(t)) {
            let bound = glanced.bound.0.max(1) as f64;
            model.open.add(t, x, bound, glanced.count);
        }
        model.interval = Interval {
            t: model.seconds(glanced.last),
            low: glanced.low.saturating_sub(model.base) as f64,
            high: glanced.high.saturating_sub(model.base) as f64,
        };
    }
}
