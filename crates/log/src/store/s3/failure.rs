//! What a request to S3 came to when it did not succeed, and what that means for the caller. Owns the one decision that
//! the rest rests on: after which failure a PUT certainly did nothing. Pure.
//!
//! | what happened to a PUT | the object | the port says |
//! |---|---|---|
//! | no connection, or no free one | never left this machine | `Refused` |
//! | an answer that a server gives before it acts: 3xx, 400, 401, 403, 404, 405, 411, 413–417, 429, 431, 501, 505, 507 | not there | `Refused` |
//! | 412, 409 | somebody's is there | read: `Ok` if the bytes are ours, else `Unknown` (`AlreadyExists`) |
//! | any other answer, 500 and 503 among them | a gateway may say so of a PUT that its server finished | `Unknown` |
//! | a connection that broke, a limit that passed | may land, now or later | `Unknown` |

use std::error::Error;
use std::fmt;
use std::io;

/// What is asked of S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Store an object.
    Put,
    /// Read one.
    Get,
    /// Remove one.
    Delete,
    /// List some.
    List,
}

impl Action {
    /// The permission that it needs.
    pub fn permission(self) -> &'static str {
        match self {
            Self::Put => "s3:PutObject",
            Self::Get => "s3:GetObject",
            Self::Delete => "s3:DeleteObject",
            Self::List => "s3:ListBucket",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "PUT",
            Self::Get => "GET",
            Self::Delete => "DELETE",
            Self::List => "LIST",
        })
    }
}

/// Why a request has no good answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Certainly nobody has seen it.
    #[error("{0}")]
    NotSent(String),
    /// It was sent, in part at least.
    #[error("{0}")]
    NoAnswer(String),
    /// The server's answer was no.
    #[error("{0}")]
    Answered(Box<Answer>),
}

/// An answer that is no success.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// S3's own code, as `AccessDenied`; empty if there is none.
    pub code: String,
    /// What the server says, in words.
    pub message: String,
    /// What the server's operators find it by.
    pub request_id: String,
    /// The bucket's region, where the server tells it.
    pub region: Option<String>,
    /// The server's clock: the `Date` header.
    pub date: Option<String>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.status)?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        if !self.message.is_empty() {
            write!(f, " ({})", self.message)?;
        }
        if !self.request_id.is_empty() {
            write!(f, ", request id {}", self.request_id)?;
        }
        Ok(())
    }
}

/// What a failed PUT means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// The object is not there and never will be.
    None,
    /// There is an object of that name: whose, only its bytes say.
    Exists,
    /// The object may be there.
    Perhaps,
}

impl Failure {
    /// Finds what the transport said behind what its callers made of it.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        let mut at = Some(error);
        while let Some(error) = at {
            if let Some(failure) = error.downcast_ref::<Self>() {
                return failure.clone();
            }
            at = error.source();
        }
        // Not from the transport: an answer that could not be understood, so there was one.
        Self::NoAnswer(chain(error))
    }

    /// What this means for a PUT.
    pub(super) fn effect(&self) -> Effect {
        match self {
            Self::NotSent(_) => Effect::None,
            Self::NoAnswer(_) => Effect::Perhaps,
            Self::Answered(answer) => match answer.status {
                409 | 412 => Effect::Exists,
                300..=399 | 400 | 401 | 403 | 404 | 405 | 411 | 413..=417 | 429 | 431 | 501 | 505 | 507 => Effect::None,
                // Among them 408: a gateway says it also of a server that it gave the whole request to.
                _ => Effect::Perhaps,
            },
        }
    }

    /// Whether there is no such object. A bucket that is not there is no such answer (its objects may be), nor is a
    /// 404 without S3's code: a gateway that leads nowhere says that too.
    pub(super) fn is_no_such_key(&self) -> bool {
        matches!(self, Self::Answered(answer) if answer.status == 404 && answer.code == "NoSuchKey")
    }

    /// Whether a range began behind the object's end.
    pub(super) fn is_behind_the_end(&self) -> bool {
        matches!(self, Self::Answered(answer) if answer.status == 416)
    }

    /// The answer, if there was one.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Answered(answer) => Some(answer),
            Self::NotSent(_) | Self::NoAnswer(_) => None,
        }
    }

    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::NotSent(_) => io::ErrorKind::NotConnected,
            Self::NoAnswer(_) => io::ErrorKind::TimedOut,
            Self::Answered(answer) if is_full(answer) => io::ErrorKind::StorageFull,
            Self::Answered(answer) => match answer.status {
                401 | 403 => io::ErrorKind::PermissionDenied,
                404 => io::ErrorKind::NotFound,
                429 | 503 => io::ErrorKind::ResourceBusy,
                _ => io::ErrorKind::Other,
            },
        }
    }

    /// What a person can do about it; empty where waiting is all.
    pub(super) fn advice(&self, action: Action) -> String {
        let Self::Answered(answer) = self else { return String::new() };
        match (&*answer.code, answer.status) {
            ("NoSuchBucket", _) => "create the bucket, or correct its name in the store URL".to_owned(),
            ("InvalidAccessKeyId" | "NotSignedUp", _) => "the server does not know the access key: correct it".to_owned(),
            ("SignatureDoesNotMatch", _) => "the secret key is not the access key's: correct it".to_owned(),
            ("ExpiredToken" | "TokenRefreshRequired", _) => "the session token has expired: give new credentials".to_owned(),
            ("InvalidToken", _) => "the session token is not the access key's: give all three anew".to_owned(),
            ("RequestTimeTooSkewed", _) => "set this machine's clock: NTP is missing or wrong".to_owned(),
            (code, _) if code.starts_with("KMS") => {
                "the KMS key is not there, disabled, or not allowed: the credentials need kms:GenerateDataKey and kms:Decrypt"
                    .to_owned()
            }
            (_, 403 | 401) => {
                format!("allow {} on this bucket and prefix to the credentials", action.permission())
            }
            (_, 300..=399) | ("AuthorizationHeaderMalformed" | "PermanentRedirect", _) => match &answer.region {
                Some(region) => format!("the bucket is in region {region}: set it (KAFSCALE_S3_REGION)"),
                None => "the bucket is in another region: set its region (KAFSCALE_S3_REGION)".to_owned(),
            },
            (_, 429 | 503) => "the store asks for fewer requests; this is tried again".to_owned(),
            _ if is_full(answer) => "the store is full: make room".to_owned(),
            _ => String::new(),
        }
    }
}

/// MinIO says so with 507, Ceph and quotas with a code of their own.
fn is_full(answer: &Answer) -> bool {
    answer.status == 507
        || matches!(&*answer.code, "QuotaExceeded" | "XMinioAdminBucketQuotaExceeded" | "XMinioStorageFull")
}

/// A failed request, for people.
#[derive(Debug, thiserror::Error)]
pub struct S3Error {
    pub(super) action: Action,
    pub(super) bucket: String,
    /// The key, or the prefix that was listed.
    pub(super) key: String,
    pub(super) failure: Failure,
}

impl fmt::Display for S3Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { action, bucket, key, failure } = self;
        write!(f, "{action} s3://{bucket}/{key}: {failure}")?;
        match &*failure.advice(*action) {
            "" => Ok(()),
            advice => write!(f, "; {advice}"),
        }
    }
}

impl From<S3Error> for io::Error {
    fn from(error: S3Error) -> Self {
        Self::new(error.failure.kind(), error)
    }
}

/// An error and what is behind it, in one line.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(error) = at {
        let more = error.to_string();
        // Many errors repeat what is behind them.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        at = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, code: &str) -> Failure {
        Failure::Answered(Box::new(Answer { status, code: code.to_owned(), ..Answer::default() }))
    }

    #[test]
    fn only_what_certainly_did_nothing_says_so() {
        assert_eq!(Failure::NotSent(String::new()).effect(), Effect::None);
        assert_eq!(Failure::NoAnswer(String::new()).effect(), Effect::Perhaps);
        let certain = [301, 307, 400, 401, 403, 404, 405, 411, 413, 429, 501, 507];
        let unknown = [200, 408, 418, 425, 499, 500, 502, 503, 504, 520, 599];
        for (statuses, effect) in
            [(&certain[..], Effect::None), (&unknown, Effect::Perhaps), (&[409, 412], Effect::Exists)]
        {
            for status in statuses {
                assert_eq!(answered(*status, "").effect(), effect, "{status}");
            }
        }
    }

    #[test]
    fn a_missing_bucket_is_not_a_missing_object() {
        assert!(answered(404, "NoSuchKey").is_no_such_key());
        assert!(!answered(404, "").is_no_such_key(), "a gateway's own page");
        assert!(!answered(404, "NoSuchBucket").is_no_such_key());
        assert!(!answered(403, "NoSuchKey").is_no_such_key());
    }

    #[test]
    fn what_the_transport_said_is_found_behind_other_errors() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] Box<dyn Error + Send + Sync>);
        let inner = answered(403, "AccessDenied");
        let outer = Outer(Box::new(Outer(Box::new(inner.clone()))));
        assert_eq!(Failure::of(&outer), inner);
        let strange = Outer(Box::new(io::Error::other("no XML")));
        assert_eq!(Failure::of(&strange), Failure::NoAnswer("outer: no XML".to_owned()));
    }

    #[test]
    fn errors_say_what_where_and_what_to_do() {
        let failure = Failure::Answered(Box::new(Answer {
            status: 403,
            code: "AccessDenied".to_owned(),
            message: "Access Denied".to_owned(),
            request_id: "4711".to_owned(),
            ..Answer::default()
        }));
        let error = |action, failure| S3Error { action, bucket: "b".to_owned(), key: "k/1".to_owned(), failure };
        assert_eq!(
            error(Action::Put, failure).to_string(),
            "PUT s3://b/k/1: status 403 AccessDenied (Access Denied), request id 4711; allow s3:PutObject on this bucket and prefix to the credentials"
        );
        for (status, code, advice) in [
            (403, "SignatureDoesNotMatch", "the secret key"),
            (403, "InvalidAccessKeyId", "the access key"),
            (403, "RequestTimeTooSkewed", "clock"),
            (403, "AccessDenied", "s3:GetObject"),
            (400, "ExpiredToken", "has expired"),
            (400, "KMS.NotFoundException", "KMS key"),
            (404, "NoSuchBucket", "create the bucket"),
            (301, "PermanentRedirect", "KAFSCALE_S3_REGION"),
            (507, "", "make room"),
            (503, "SlowDown", "fewer requests"),
        ] {
            let text = error(Action::Get, answered(status, code)).to_string();
            assert!(text.contains(advice), "{text}");
        }
        assert_eq!(error(Action::Get, answered(500, "")).to_string(), "GET s3://b/k/1: status 500");
    }

    #[test]
    fn the_writer_learns_of_a_full_store() {
        for failure in [answered(507, ""), answered(403, "QuotaExceeded"), answered(400, "XMinioStorageFull")] {
            assert_eq!(failure.kind(), io::ErrorKind::StorageFull);
            assert_eq!(failure.effect(), Effect::None);
        }
    }
}
