//! A bucket that has passed every check. Owns for how long one that does not answer is asked again.

use std::future::Future;
use std::sync::Arc;

use kafscale_log::store::ObjectStore;
use kafscale_log::store::s3::{CheckError, S3Settings, S3Store};
use kafscale_ports::Env;
use tokio::time::sleep;
use tracing::warn;

use super::BucketError;
use crate::limits::{STORE_PATIENCE, STORE_RETRY};

/// The bucket, checked.
pub(super) async fn open(env: &Env, settings: &S3Settings) -> Result<S3Store, BucketError> {
    let store = S3Store::new(settings.clone(), env.clone())?;
    patiently(env, || store.check()).await?;
    Ok(store)
}

/// The bucket, checked, which belongs to `cluster`.
pub(super) async fn open_claimed(env: &Env, settings: &S3Settings, cluster: u128) -> Result<S3Store, BucketError> {
    let store = open(env, settings).await?;
    patiently(env, || store.claim(cluster)).await?;
    Ok(store)
}

/// A copy of the bucket. It is not checked: the primary has what it has not.
pub(super) fn replica(env: &Env, settings: Option<&S3Settings>) -> Result<Option<Arc<dyn ObjectStore>>, BucketError> {
    let Some(settings) = settings else { return Ok(None) };
    let store = S3Store::new(settings.clone(), env.clone())?;
    Ok(Some(Arc::new(store)))
}

/// Asks until it is answered, or the patience is at its end.
pub(super) async fn patiently<T, F>(env: &Env, ask: impl Fn() -> F) -> Result<T, CheckError>
where
    F: Future<Output = Result<T, CheckError>>,
{
    let begun = env.clock.now();
    loop {
        match ask().await {
            Err(error) if error.may_pass_later() && env.clock.now() - begun < STORE_PATIENCE => {
                warn!(%error, "the bucket cannot be used yet; asked again in {STORE_RETRY:?}");
                sleep(STORE_RETRY).await;
            }
            answer => return answer,
        }
    }
}
