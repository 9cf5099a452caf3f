//! What a gRPC status means: certainly no effect, or unknown. Owns the list of etcd's words that prove a refusal;
//! whatever is not in it is unknown, which costs a repetition and never a mistake.

use std::io;

use tonic::{Code, Status};

use super::super::kv::{Failure, Refusal};

/// etcd's words for a token that is not valid (any more): it has expired, or the member that issued it was restarted,
/// or users were changed since.
const TOKEN_WORDS: [&str; 2] = ["invalid auth token", "revision of auth store is old"];

/// A refusal of the token, before anything else was looked at.
pub(super) fn is_about_the_token(status: &Status) -> bool {
    is_about_the_token_in(status.message())
}

/// As [`is_about_the_token`], where only words came back.
pub(super) fn is_about_the_token_in(words: &str) -> bool {
    TOKEN_WORDS.iter().any(|part| words.contains(part))
}

pub(super) fn to_failure(status: Status) -> Failure {
    match refusal(&status) {
        Some(refusal) => Failure::Refused(refusal),
        None => Failure::Unknown(io::Error::other(status)),
    }
}

/// Whether the endpoint is to blame, or what lies before it.
pub(super) fn is_the_endpoints(status: &Status) -> bool {
    refusal(status).is_none()
}

fn refusal(status: &Status) -> Option<Refusal> {
    let words = status.message();
    if words.contains("required revision has been compacted") {
        return Some(Refusal::Compacted);
    }
    if words.contains("required revision is a future revision") {
        return Some(Refusal::Future);
    }
    if words.contains("database space exceeded") {
        return Some(Refusal::NoSpace);
    }
    if words.contains("requested lease not found") {
        return Some(Refusal::NoLease);
    }
    if is_about_the_token(status) || words.contains("authentication failed") || words.contains("user name is empty") {
        return Some(Refusal::Denied(words.to_owned()));
    }
    // Only etcd's own: the client's library uses some of these codes for troubles after the request was sent.
    if !words.starts_with("etcdserver:") {
        return None;
    }
    match status.code() {
        Code::InvalidArgument => Some(Refusal::Invalid(words.to_owned())),
        Code::PermissionDenied | Code::Unauthenticated | Code::FailedPrecondition => {
            Some(Refusal::Denied(words.to_owned()))
        }
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => None,
    }
}

/// An answer that no etcd gives.
pub(super) fn nonsense(what: &'static str) -> Failure {
    Failure::Unknown(io::Error::new(io::ErrorKind::InvalidData, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: Code, words: &str) -> Option<Refusal> {
        refusal(&Status::new(code, words))
    }

    #[test]
    fn only_etcds_own_refusals_prove_that_nothing_happened() {
        let lease = kind(Code::NotFound, "etcdserver: requested lease not found");
        assert_eq!(lease, Some(Refusal::NoLease));
        let space = kind(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
        assert_eq!(space, Some(Refusal::NoSpace));
        let old = kind(Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
        assert_eq!(old, Some(Refusal::Compacted));
        let twice = kind(Code::InvalidArgument, "etcdserver: duplicate key given in txn request");
        assert!(matches!(twice, Some(Refusal::Invalid(_))));
        let token = kind(Code::Unauthenticated, "etcdserver: invalid auth token");
        assert!(matches!(token, Some(Refusal::Denied(_))));
        for (code, words) in [
            (Code::Unavailable, "etcdserver: request timed out"),
            (Code::Unavailable, "etcdserver: leader changed"),
            (Code::Unavailable, "etcdserver: no leader"),
            (Code::ResourceExhausted, "etcdserver: too many requests"),
            (Code::OutOfRange, "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes"),
            (Code::Internal, "stream reset"),
            (Code::Unknown, "transport error"),
            (Code::Cancelled, "operation was canceled"),
            (Code::InvalidArgument, "not etcd's words"),
        ] {
            assert_eq!(kind(code, words), None, "{words}");
        }
    }
}
