//! Figures of several rounds, and what they are held against.

use serde::Serialize;

use super::args::Name;

/// The middle of several figures, and their extremes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `None` of nothing.
    #[must_use]
    pub fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Self { median, min, max })
    }
}

/// What the median shall be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

impl Goal {
    #[must_use]
    pub fn is_met(self, figure: f64) -> bool {
        match self {
            Goal::AtLeast(least) => figure >= least,
            Goal::AtMost(most) => figure <= most,
            Goal::Below(bound) => figure < bound,
        }
    }
}

/// One line of the table: quotad's figure of each round, and the other's of the same round.
#[derive(Debug, Serialize)]
pub struct Row {
    pub line: Name,
    pub what: String,
    pub unit: &'static str,
    pub ours: Vec<f64>,
    /// Empty: our figure itself is what counts.
    pub theirs: Vec<f64>,
    /// `None`: only shown.
    pub goal: Option<Goal>,
    /// Why there are no figures.
    pub skipped: Option<String>,
}

impl Row {
    /// Ours as a multiple of theirs.
    #[must_use]
    pub fn ratio(line: Name, what: &str, unit: &'static str, pair: (&[f64], &[f64]), goal: Option<Goal>) -> Self {
        let (ours, theirs) = (pair.0.to_vec(), pair.1.to_vec());
        Self { line, what: what.to_owned(), unit, ours, theirs, goal, skipped: None }
    }

    /// A figure by itself.
    #[must_use]
    pub fn figure(line: Name, what: &str, unit: &'static str, figures: &[f64], goal: Option<Goal>) -> Self {
        Self::ratio(line, what, unit, (figures, &[]), goal)
    }

    #[must_use]
    pub fn skipped(line: Name, why: String) -> Self {
        Self { skipped: Some(why), ..Self::figure(line, "", "", &[], None) }
    }

    /// What counts, round by round.
    #[must_use]
    pub fn figures(&self) -> Vec<f64> {
        if self.theirs.is_empty() {
            return self.ours.clone();
        }
        self.ours.iter().zip(&self.theirs).map(|(ours, theirs)| ours / theirs).collect()
    }

    /// `None` without a goal or without figures.
    #[must_use]
    pub fn is_met(&self) -> Option<bool> {
        Some(self.goal?.is_met(Spread::of(&self.figures())?.median))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
    }

    /// A slow round of the machine is slow for both: the ratio of each round counts, not the ratio of medians.
    #[test]
    fn ratios_are_of_the_same_round() {
        let row = Row::ratio(Name::Reserve, "x", "/s", (&[20.0, 60.0, 90.0], &[10.0, 20.0, 30.0]), None);
        assert_eq!(row.figures(), [2.0, 3.0, 3.0]);
        assert_eq!(row.is_met(), None);
        assert_eq!(Row { goal: Some(Goal::AtLeast(3.0)), ..row }.is_met(), Some(true));
    }

    #[test]
    fn goals_have_a_side() {
        assert!(Goal::AtLeast(2.0).is_met(2.0) && !Goal::AtLeast(2.0).is_met(1.99));
        assert!(Goal::AtMost(2.0).is_met(2.0) && !Goal::AtMost(2.0).is_met(2.01));
        assert!(Goal::Below(2.0).is_met(1.9) && !Goal::Below(2.0).is_met(2.0));
    }
}
