//! The operations of S3, as far as a log needs them. Owns what each means to the objects and which error says what; the
//! wire format and signatures are `s3s`'s, faults are `service`'s.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use hyper::StatusCode;
use parking_lot::Mutex;
use s3s::dto::{
    CreateBucketInput, CreateBucketOutput, DeleteObjectInput, DeleteObjectOutput, ETag, ETagCondition, GetObjectInput,
    GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListObjectsV2Input,
    ListObjectsV2Output, Object, PutObjectInput, PutObjectOutput, ServerSideEncryption, StreamingBlob,
};
use s3s::{Body, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use xxhash_rust::xxh3::xxh3_128;

use crate::faults::Faults;
use crate::objects::{Objects, Stored, Unstored};

/// S3's bound for one PUT.
const MAX_OBJECT_BYTES: usize = 5 << 30;
/// S3's bound for one page.
const MAX_KEYS: usize = 1000;

/// See the module's documentation.
pub(crate) struct Api {
    pub(crate) objects: Arc<Mutex<Objects>>,
    pub(crate) faults: Arc<Mutex<Faults>>,
}

impl Api {
    fn allow(&self, permission: &str) -> S3Result<()> {
        if self.faults.lock().deny.iter().any(|denied| denied == permission) {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        }
        Ok(())
    }

    /// An object that is read. As S3, tells who may not list nothing about what is not there.
    fn find(&self, bucket: &str, key: &str) -> S3Result<Stored> {
        self.allow("s3:GetObject")?;
        if let Some(stored) = self.objects.lock().get(bucket, key).map_err(refusal)? {
            return Ok(stored);
        }
        self.allow("s3:ListBucket")?;
        Err(s3_error!(NoSuchKey, "The specified key does not exist."))
    }
}

#[async_trait]
impl S3 for Api {
    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        self.objects.lock().create_bucket(&req.input.bucket);
        Ok(S3Response::new(CreateBucketOutput::default()))
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.allow("s3:ListBucket")?;
        if self.objects.lock().has_bucket(&req.input.bucket) {
            return Ok(S3Response::new(HeadBucketOutput::default()));
        }
        Err(refusal(Unstored::NoBucket))
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = req.input;
        self.allow("s3:PutObject")?;
        if !self.objects.lock().has_bucket(&input.bucket) {
            return Err(refusal(Unstored::NoBucket));
        }
        let only_new = match (&input.if_none_match, &input.if_match) {
            _ if self.faults.lock().ignore_conditions => false,
            (None, None) => false,
            (Some(ETagCondition::Any), None) => true,
            (Some(_), _) | (_, Some(_)) => {
                return Err(s3_error!(NotImplemented, "the only condition here is If-None-Match: *"));
            }
        };
        let bytes = collect(input.body).await?;
        if input.content_length.is_some_and(|len| usize::try_from(len) != Ok(bytes.len())) {
            return Err(s3_error!(IncompleteBody, "the body is not as long as it was said to be"));
        }
        let stored = Stored {
            tag: format!("{:032x}", xxh3_128(&bytes)),
            bytes,
            written: now(),
            kms_key: input.ssekms_key_id.filter(|_| input.server_side_encryption.is_some()),
        };
        let output = PutObjectOutput {
            e_tag: Some(ETag::Strong(stored.tag.clone())),
            ssekms_key_id: stored.kms_key.clone(),
            server_side_encryption: encryption(&stored),
            ..PutObjectOutput::default()
        };
        self.objects.lock().put(&input.bucket, input.key, stored, only_new).map_err(refusal)?;
        Ok(S3Response::new(output))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let stored = self.find(&input.bucket, &input.key)?;
        let len = stored.bytes.len() as u64;
        let range = match input.range {
            None => None,
            Some(range) => {
                let range = range.check(len);
                Some(range.map_err(|_| s3_error!(InvalidRange, "The requested range is not satisfiable"))?)
            }
        };
        let body = match &range {
            None => stored.bytes.clone(),
            Some(range) => stored.bytes.slice(index(range.start)..index(range.end)),
        };
        Ok(S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: i64::try_from(body.len()).ok(),
            content_range: range.map(|range| format!("bytes {}-{}/{len}", range.start, range.end - 1)),
            body: Some(StreamingBlob::from(Body::from(body))),
            e_tag: Some(ETag::Strong(stored.tag.clone())),
            last_modified: Some(stored.written.into()),
            ssekms_key_id: stored.kms_key.clone(),
            server_side_encryption: encryption(&stored),
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let stored = self.find(&req.input.bucket, &req.input.key)?;
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: i64::try_from(stored.bytes.len()).ok(),
            e_tag: Some(ETag::Strong(stored.tag.clone())),
            last_modified: Some(stored.written.into()),
            ssekms_key_id: stored.kms_key.clone(),
            server_side_encryption: encryption(&stored),
            ..HeadObjectOutput::default()
        }))
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.allow("s3:DeleteObject")?;
        self.objects.lock().delete(&req.input.bucket, &req.input.key).map_err(refusal)?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        self.allow("s3:ListBucket")?;
        if input.delimiter.as_deref().is_some_and(|delimiter| !delimiter.is_empty()) {
            return Err(s3_error!(NotImplemented, "listings have no delimiter here"));
        }
        let prefix = input.prefix.unwrap_or_default();
        let after = input.continuation_token.clone().or(input.start_after.clone()).unwrap_or_default();
        let most = input.max_keys.map_or(MAX_KEYS, |most| usize::try_from(most).unwrap_or(0)).min(MAX_KEYS);
        let listed = self.objects.lock().list(&input.bucket, &prefix, &after, most).map_err(refusal)?;
        let last = listed.objects.last().map(|(key, _)| key.clone());
        let contents: Vec<Object> = listed.objects.into_iter().map(|(key, stored)| row(key, &stored)).collect();
        Ok(S3Response::new(ListObjectsV2Output {
            key_count: i32::try_from(contents.len()).ok(),
            max_keys: i32::try_from(most).ok(),
            contents: Some(contents),
            is_truncated: Some(listed.is_truncated),
            next_continuation_token: last.filter(|_| listed.is_truncated),
            continuation_token: input.continuation_token,
            start_after: input.start_after,
            name: Some(input.bucket),
            prefix: Some(prefix),
            ..ListObjectsV2Output::default()
        }))
    }
}

fn row(key: String, stored: &Stored) -> Object {
    Object {
        key: Some(key),
        e_tag: Some(ETag::Strong(stored.tag.clone())),
        size: i64::try_from(stored.bytes.len()).ok(),
        last_modified: Some(stored.written.into()),
        ..Object::default()
    }
}

fn encryption(stored: &Stored) -> Option<ServerSideEncryption> {
    stored.kms_key.as_ref().map(|_| ServerSideEncryption::from_static(ServerSideEncryption::AWS_KMS))
}

fn refusal(why: Unstored) -> S3Error {
    match why {
        Unstored::NoBucket => s3_error!(NoSuchBucket, "The specified bucket does not exist"),
        Unstored::Exists => {
            s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
        }
        Unstored::NoRoom => {
            let mut error = S3Error::with_message(S3ErrorCode::Custom("XMinioStorageFull".into()), "No room is left");
            error.set_status_code(StatusCode::INSUFFICIENT_STORAGE);
            error
        }
    }
}

/// The bytes of a body, which most often are in one piece.
async fn collect(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(mut body) = body else { return Ok(Bytes::new()) };
    let (mut parts, mut len) = (Vec::new(), 0);
    while let Some(part) = body.next().await {
        // Also when the bytes are not those that were signed.
        let part = part.map_err(|error| S3Error::with_source(S3ErrorCode::InvalidRequest, error))?;
        len += part.len();
        if len > MAX_OBJECT_BYTES {
            return Err(s3_error!(EntityTooLarge));
        }
        parts.push(part);
    }
    Ok(if parts.len() == 1 { parts.remove(0) } else { parts.concat().into() })
}

fn index(at: u64) -> usize {
    usize::try_from(at).expect("it is inside of an object in memory")
}

#[expect(
    clippy::disallowed_methods,
    reason = "when an object was written is the wall clock's, and nothing depends on it"
)]
fn now() -> SystemTime {
    SystemTime::now()
}
