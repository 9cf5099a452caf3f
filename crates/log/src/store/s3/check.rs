//! The check of a bucket at the start of a broker: that it is there, that the credentials may do all that a broker will
//! do, that the server keeps the one promise which everything rests on (a name is created once), and that the clocks
//! agree. Owns the order of the questions and what is said of each answer.
//!
//! 1. PUT of a new key. Whoever may not do that learns here that the bucket is missing, elsewhere or not theirs.
//! 2. PUT of the same key with other bytes: must be refused. A server that takes it would let a late PUT replace
//!    an object that the journal refers to.
//! 3. GET: must give the first bytes.
//! 4. GET of a key that never was: must say "no such key". S3 says "denied" if listing is not allowed, and then a
//!    missing object could not be told from a wrong policy.
//! 5. LIST: must show the key.
//! 6. DELETE of the key: also when a step before failed.

use std::time::Duration;

use bytes::Bytes;
use httpdate::parse_http_date;

use super::S3Store;
use super::failure::{Action, Effect, Failure, S3Error};

/// Clocks that differ by more than this are wrong: S3 refuses signatures when it is 15 minutes.
const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(5 * 60);
const FIRST: &[u8] = b"kafscale: may this be written?";
const SECOND: &[u8] = b"kafscale: this must not replace what was written before";

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Nobody is there, or does not answer: it may come.
    #[error("no S3 server answers at {endpoint}: {said}")]
    Unreachable {
        /// Where it was looked for.
        endpoint: String,
        /// What happened.
        said: S3Error,
    },
    /// The server is there and says that it cannot, for now.
    #[error("the S3 server at {endpoint} does not work: {said}")]
    Unwell {
        /// Where.
        endpoint: String,
        /// What it said.
        said: S3Error,
    },
    /// The bucket is not there, or the credentials may not do something.
    #[error("the bucket at {endpoint} cannot be used: {said}")]
    Refused {
        /// Where.
        endpoint: String,
        /// What was asked for, what the server said, what to do.
        said: S3Error,
    },
    /// The server does not do what a broker must rely on.
    #[error("the S3 server at {endpoint} cannot hold a log: {problem}")]
    Unsuitable {
        /// Where.
        endpoint: String,
        /// What it does wrong, and what to do.
        problem: &'static str,
    },
    /// Another cluster has it.
    #[error(
        "the bucket at {endpoint} belongs to {by}, and the journal here is of cluster {ours}: give the journal of that cluster, or choose another bucket or prefix"
    )]
    Claimed {
        /// Where.
        endpoint: String,
        /// Whose it is.
        by: String,
        /// Which cluster wants it.
        ours: String,
    },
    /// This machine's clock or the server's is wrong.
    #[error(
        "this machine's clock and that of the S3 server at {endpoint} differ by {seconds} s (the server says {theirs}): set this machine's clock, NTP is missing or wrong"
    )]
    Clock {
        /// Where.
        endpoint: String,
        /// How much.
        seconds: u64,
        /// The server's time.
        theirs: String,
    },
}

impl CheckError {
    /// Whether the same check may pass a little later, though nobody corrects anything.
    pub fn may_pass_later(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Unwell { .. } => true,
            Self::Refused { .. } | Self::Unsuitable { .. } | Self::Claimed { .. } | Self::Clock { .. } => false,
        }
    }
}

impl S3Store {
    /// Finds out whether the store can be used. Leaves nothing behind unless it is killed.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub async fn check(&self) -> Result<(), CheckError> {
        let probe = self.settings.key(&format!("probe-{:016x}", self.env.random.u64()));
        let first = self.create(&probe, vec![Bytes::from_static(FIRST)]).await;
        let date = first.map_err(|failure| self.judge(Action::Put, &probe, failure))?;
        let found = match self.compare_clocks(date) {
            Ok(()) => self.try_out(&probe).await,
            wrong => wrong,
        };
        let removed = self.remove(&probe).await;
        found?;
        removed.map_err(|failure| self.judge(Action::Delete, &probe, failure))
    }

    /// All that is tried with a probe that is there.
    async fn try_out(&self, probe: &str) -> Result<(), CheckError> {
        match self.create(probe, vec![Bytes::from_static(SECOND)]).await {
            Ok(_) => {
                return Err(self.unsuitable(
                    "it ignores If-None-Match and overwrote an object; use a version that has conditional PUT, or another server",
                ));
            }
            Err(failure) if failure.effect() == Effect::Exists => {}
            Err(failure) => return Err(self.judge(Action::Put, probe, failure)),
        }
        match self.fetch(probe, None).await {
            Ok(bytes) if bytes == FIRST => {}
            Ok(_) => return Err(self.unsuitable("an object was read back with other bytes than were written")),
            Err(failure) if failure.is_no_such_key() => {
                return Err(
                    self.unsuitable("an object that was written could not be read at once: it is not consistent")
                );
            }
            Err(failure) => return Err(self.judge(Action::Get, probe, failure)),
        }
        let never = format!("{probe}-never");
        match self.fetch(&never, None).await {
            Err(failure) if failure.is_no_such_key() => {}
            Ok(_) => return Err(self.unsuitable("it gave an object that nobody wrote")),
            // "Denied" here, of a key that may be read, is the answer to who may not list.
            Err(failure) => return Err(self.judge(Action::List, &never, failure)),
        }
        let name = probe.strip_prefix(&self.settings.key("")).unwrap_or(probe);
        match self.keys(name, None, 1).await {
            Ok((keys, _)) if keys == [name] => Ok(()),
            Ok(_) => Err(self.unsuitable("an object that was written is not listed: it is not consistent")),
            Err(failure) => Err(self.judge(Action::List, probe, failure)),
        }
    }

    fn unsuitable(&self, problem: &'static str) -> CheckError {
        CheckError::Unsuitable { endpoint: self.settings.endpoint.clone(), problem }
    }

    pub(super) fn judge(&self, action: Action, key: &str, failure: Failure) -> CheckError {
        let endpoint = self.settings.endpoint.clone();
        let answer = failure.answer().map(|answer| (answer.status, answer.code.clone(), answer.date.clone()));
        if let Some((_, code, Some(date))) = &answer
            && code == "RequestTimeTooSkewed"
            && let Err(error) = self.compare_clocks(Some(date.clone()))
        {
            return error;
        }
        let said = S3Error { action, bucket: self.bucket.clone(), key: key.to_owned(), failure };
        match answer {
            None => CheckError::Unreachable { endpoint, said },
            Some((501, ..)) if action == Action::Put => self.unsuitable(
                "it does not know If-None-Match on PUT; use a version that has conditional PUT, or another server",
            ),
            Some((408 | 409 | 429 | 500 | 502.., ..)) => CheckError::Unwell { endpoint, said },
            Some(_) => CheckError::Refused { endpoint, said },
        }
    }

    fn compare_clocks(&self, date: Option<String>) -> Result<(), CheckError> {
        // A server that does not tell its time cannot be compared with.
        let Some((theirs, parsed)) = date.and_then(|date| parse_http_date(&date).ok().map(|parsed| (date, parsed)))
        else {
            return Ok(());
        };
        let ours = u64::try_from(self.env.clock.wall_ms()).unwrap_or(0);
        let since_epoch = parsed.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let difference = since_epoch.abs_diff(Duration::from_millis(ours));
        if difference <= MAX_CLOCK_DIFFERENCE {
            return Ok(());
        }
        Err(CheckError::Clock { endpoint: self.settings.endpoint.clone(), seconds: difference.as_secs(), theirs })
    }
}
