//! What goes wrong, and when: the faults that a person sets, and the decision for each request. Pure.
//!
//! ```json
//! {
//!   "outage": "none",
//!   "deny": ["s3:ListBucket"],
//!   "put": { "latency": { "median_ms": 60, "p99_ms": 200 }, "lost_reply": 0.01, "plan": ["cut", "none"] },
//!   "get": { "latency": { "fixed_ms": 5 }, "unavailable": 0.1 }
//! }
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::random::Dice;

/// All faults that are set. Off by default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Whether anything is served at all.
    pub outage: Outage,
    /// Permissions that the key pair lacks: `s3:PutObject`, `s3:GetObject`, `s3:DeleteObject`, `s3:ListBucket`.
    pub deny: Vec<String>,
    /// PUT overwrites whatever its conditions say, as old servers do.
    pub ignore_conditions: bool,
    /// How far the server's clock is ahead. Past 15 minutes every signature is refused.
    pub clock_ahead_ms: i64,
    /// For uploads.
    pub put: Rule,
    /// For reads.
    pub get: Rule,
    /// For HEAD of an object or bucket.
    pub head: Rule,
    /// For deletions.
    pub delete: Rule,
    /// For listings.
    pub list: Rule,
}

/// Whether the server is away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// It serves.
    #[default]
    None,
    /// Connections are closed, and new ones as soon as they are made.
    Cut,
    /// Nothing is answered. What waits is served when the outage ends, if its client still waits.
    Hang,
    /// Everything is answered with 503.
    Unavailable,
}

/// The faults of one method. The probabilities, from 0 to 1, are of one another exclusive events; `plan` comes first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// How long each request takes before anything happens; none: no longer than it must.
    pub latency: Option<Latency>,
    /// See [`Fault::Unavailable`].
    pub unavailable: f64,
    /// See [`Fault::Error`].
    pub error: f64,
    /// See [`Fault::Conflict`].
    pub conflict: f64,
    /// See [`Fault::Cut`].
    pub cut: f64,
    /// See [`Fault::LostReply`].
    pub lost_reply: f64,
    /// See [`Fault::Torn`].
    pub torn: f64,
    /// See [`Fault::Hang`].
    pub hang: f64,
    /// See [`Fault::HangAfter`].
    pub hang_after: f64,
    /// See [`Fault::Late`].
    pub late: f64,
    /// What becomes of the next requests, in the order of their arrival.
    pub plan: VecDeque<Fault>,
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Nothing goes wrong.
    None,
    /// 503 `SlowDown`, and nothing is done.
    Unavailable,
    /// 500 `InternalError`, and nothing is done.
    Error,
    /// 409 `ConditionalRequestConflict`, and nothing is done.
    Conflict,
    /// The connection is closed before anything is done.
    Cut,
    /// The connection is closed after it was done.
    LostReply,
    /// It was done, and the connection is closed in the middle of the answer's body.
    Torn,
    /// No answer, and nothing is done.
    Hang,
    /// No answer, though it was done.
    HangAfter,
    /// No answer; it is done two seconds later, whether or not the client is still there.
    Late,
}

/// A distribution of delays.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Latency {
    /// Always the same.
    Fixed {
        /// Milliseconds.
        fixed_ms: f64,
    },
    /// Log-normal: half of the requests take less than the median, one in a hundred more than the 99th percentile.
    LogNormal {
        /// Milliseconds.
        median_ms: f64,
        /// Milliseconds.
        p99_ms: f64,
    },
}

/// What is counted, and has faults, by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// PutObject.
    Put,
    /// GetObject.
    Get,
    /// HeadObject and HeadBucket.
    Head,
    /// DeleteObject.
    Delete,
    /// ListObjectsV2.
    List,
    /// Everything else.
    Other,
}

/// The 99th percentile of the normal distribution.
const Z99: f64 = 2.326_347_874;
/// No delay is longer, whatever the dice say.
const LONGEST: Duration = Duration::from_secs(600);

impl Faults {
    /// What becomes of a request that has just arrived, and how long it takes.
    pub(crate) fn decide(&mut self, method: Method, dice: &mut Dice) -> (Duration, Fault) {
        let rule = match method {
            Method::Put => &mut self.put,
            Method::Get => &mut self.get,
            Method::Head => &mut self.head,
            Method::Delete => &mut self.delete,
            Method::List => &mut self.list,
            Method::Other => return (Duration::ZERO, Fault::None),
        };
        let latency = rule.latency.map_or(Duration::ZERO, |latency| latency.draw(dice));
        let thrown = dice.unit();
        let fault = rule.plan.pop_front().unwrap_or_else(|| rule.pick(thrown));
        (latency, fault)
    }

    /// What is wrong with the numbers, if anything.
    pub(crate) fn problem(&self) -> Option<String> {
        let rules = [&self.put, &self.get, &self.head, &self.delete, &self.list];
        let sum = |rule: &Rule| rule.chances().iter().map(|(_, chance)| chance).sum::<f64>();
        let fits = |rule: &&Rule| rule.chances().iter().all(|(_, chance)| *chance >= 0.0) && sum(rule) <= 1.0;
        if !rules.iter().all(fits) {
            return Some("the probabilities of one method are at least 0, and at most 1 together".to_owned());
        }
        let latencies = || rules.iter().filter_map(|rule| rule.latency);
        if !latencies().all(Latency::is_one) {
            return Some("a latency is at least 0, and its p99 at least its median, which is above 0".to_owned());
        }
        None
    }
}

impl Rule {
    fn chances(&self) -> [(Fault, f64); 9] {
        [
            (Fault::Unavailable, self.unavailable),
            (Fault::Error, self.error),
            (Fault::Conflict, self.conflict),
            (Fault::Cut, self.cut),
            (Fault::LostReply, self.lost_reply),
            (Fault::Torn, self.torn),
            (Fault::Hang, self.hang),
            (Fault::HangAfter, self.hang_after),
            (Fault::Late, self.late),
        ]
    }

    fn pick(&self, mut thrown: f64) -> Fault {
        for (fault, chance) in self.chances() {
            if thrown < chance {
                return fault;
            }
            thrown -= chance;
        }
        Fault::None
    }
}

impl Latency {
    fn is_one(self) -> bool {
        match self {
            Self::Fixed { fixed_ms } => fixed_ms >= 0.0 && fixed_ms.is_finite(),
            Self::LogNormal { median_ms, p99_ms } => median_ms > 0.0 && p99_ms >= median_ms && p99_ms.is_finite(),
        }
    }

    fn draw(self, dice: &mut Dice) -> Duration {
        let millis = match self {
            Self::Fixed { fixed_ms } => fixed_ms,
            Self::LogNormal { median_ms, p99_ms } => {
                let sigma = (p99_ms / median_ms).ln() / Z99;
                median_ms * (sigma * dice.normal()).exp()
            }
        };
        Duration::try_from_secs_f64(millis / 1000.0).unwrap_or(LONGEST).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_have_the_median_and_the_percentile_that_were_asked_for() {
        let mut dice = Dice::new(1);
        let latency = Latency::LogNormal { median_ms: 60.0, p99_ms: 200.0 };
        let mut drawn: Vec<f64> = (0..50_000).map(|_| latency.draw(&mut dice).as_secs_f64() * 1000.0).collect();
        drawn.sort_by(f64::total_cmp);
        assert!((drawn[25_000] - 60.0).abs() < 1.5, "{}", drawn[25_000]);
        assert!((drawn[49_500] - 200.0).abs() < 12.0, "{}", drawn[49_500]);
    }

    #[test]
    fn faults_come_as_often_as_they_were_asked_for_and_plans_first() {
        let mut faults: Faults =
            serde_json::from_str(r#"{"put": {"cut": 0.25, "lost_reply": 0.5, "plan": ["hang", "none"]}}"#).unwrap();
        let mut dice = Dice::new(2);
        let mut drawn = (0..10_002).map(|_| faults.decide(Method::Put, &mut dice).1);
        assert_eq!((drawn.next(), drawn.next()), (Some(Fault::Hang), Some(Fault::None)));
        let drawn: Vec<Fault> = drawn.collect();
        let count = |fault| drawn.iter().filter(|drawn| **drawn == fault).count();
        assert!((2300..2700).contains(&count(Fault::Cut)) && (4800..5200).contains(&count(Fault::LostReply)));
        assert_eq!(drawn.len(), count(Fault::Cut) + count(Fault::LostReply) + count(Fault::None));
        assert_eq!(faults.decide(Method::Get, &mut dice), (Duration::ZERO, Fault::None), "another method has none");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            r#"{"putt": {}}"#,
            r#"{"put": {"cuts": 0.1}}"#,
            r#"{"outage": "maybe"}"#,
            r#"{"put": {"plan": ["explode"]}}"#,
            r#"{"put": {"latency": {"median_ms": 5}}}"#,
        ] {
            assert!(serde_json::from_str::<Faults>(text).is_err(), "{text}");
        }
        for text in [
            r#"{"put": {"cut": -0.1}}"#,
            r#"{"put": {"cut": 0.6, "hang": 0.6}}"#,
            r#"{"get": {"latency": {"fixed_ms": -1}}}"#,
            r#"{"get": {"latency": {"median_ms": 10, "p99_ms": 5}}}"#,
        ] {
            assert!(serde_json::from_str::<Faults>(text).unwrap().problem().is_some(), "{text}");
        }
    }

    #[test]
    fn what_is_set_can_be_read_back() {
        let text =
            r#"{"outage": "hang", "deny": ["s3:GetObject"], "get": {"latency": {"fixed_ms": 3.0}, "late": 0.5}}"#;
        let faults: Faults = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::from_str::<Faults>(&serde_json::to_string(&faults).unwrap()).unwrap(), faults);
        assert!(faults.problem().is_none());
    }
}
