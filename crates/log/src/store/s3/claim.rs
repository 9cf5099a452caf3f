//! Whose bucket it is: one object, `cluster`, with the cluster's id, made by the first broker of the cluster and never
//! changed. Owns that object. A broker whose journal is of another cluster would find none of its records here, and
//! would put new ones beside those of the other; so it is refused.

use bytes::Bytes;

use super::S3Store;
use super::check::CheckError;
use super::failure::{Action, Effect};

const KEY: &str = "cluster";
const WORDS: &str = "kafscale cluster ";

impl S3Store {
    /// Which cluster has the prefix, if any has.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub async fn claimant(&self) -> Result<Option<u128>, CheckError> {
        let key = self.settings.key(KEY);
        match self.fetch(&key, None).await {
            Ok(found) => match claimant(&found).and_then(|id| u128::from_str_radix(id, 16).ok()) {
                Some(cluster) => Ok(Some(cluster)),
                None => Err(self.claimed(&found, "none")),
            },
            Err(failure) if failure.is_no_such_key() => Ok(None),
            Err(failure) => Err(self.judge(Action::Get, &key, failure)),
        }
    }

    /// Takes the prefix for `cluster`, unless another cluster has it. May be repeated.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub async fn claim(&self, cluster: u128) -> Result<(), CheckError> {
        let key = self.settings.key(KEY);
        let Err(failure) = self.create(&key, vec![Bytes::from(words(cluster))]).await else { return Ok(()) };
        if failure.effect() != Effect::Exists {
            return Err(self.judge(Action::Put, &key, failure));
        }
        let found = self.fetch(&key, None).await.map_err(|failure| self.judge(Action::Get, &key, failure))?;
        if found == words(cluster) {
            return Ok(());
        }
        Err(self.claimed(&found, &format!("{cluster:032x}")))
    }

    fn claimed(&self, found: &[u8], ours: &str) -> CheckError {
        let stranger = || format!("something else (see its object {KEY})");
        CheckError::Claimed {
            endpoint: self.settings.endpoint.clone(),
            by: claimant(found).map_or_else(stranger, |id| format!("cluster {id}")),
            ours: ours.to_owned(),
        }
    }
}

fn words(cluster: u128) -> String {
    format!("{WORDS}{cluster:032x}\n")
}

/// The id of the cluster that wrote the object.
fn claimant(object: &[u8]) -> Option<&str> {
    let id = std::str::from_utf8(object).ok()?.strip_prefix(WORDS)?.trim_end();
    id.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claimant_is_named_if_it_is_one() {
        assert_eq!(claimant(words(0xabc).as_bytes()), Some("00000000000000000000000000000abc"));
        for other in [&b""[..], b"kafscale", b"kafscale cluster \xff", b"kafscale cluster <script>"] {
            assert_eq!(claimant(other), None);
        }
    }
}
