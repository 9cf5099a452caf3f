//! The S3 store against servers that others wrote: correctness must not rest on ours alone. MinIO and versitygw, where
//! `scripts/build-s3.sh` has put them, and any server that `KAFSCALE_TEST_S3` names:
//! `http://ACCESS_KEY:SECRET_KEY@HOST:PORT/BUCKET`.
//!
//! A program of its own and not a part of `it`: which tests can run is known only when they do, and what is left out must
//! be counted as left out. It ends with the line that every test program ends with.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a test program says what it ran")]

use std::net::{SocketAddr, TcpListener};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use kafscale_log::store::conformance::{Backend, Both, run};
use kafscale_log::store::s3::{CheckError, S3Options, S3Settings, S3Store, Secret};
use kafscale_log::store::{ObjectName, ObjectStore, PutError};
use kafscale_metadata::ObjectId;
use kafscale_ports::{Env, Random};
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::HttpRequestBody;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// Starts the server: binary, a free address, a directory.
type Start = fn(&Path, SocketAddr, &Path) -> Child;

const SERVERS: [(&str, Start); 2] = [("minio", start_minio), ("versitygw", start_versitygw)];
const ACCESS_KEY: &str = "kafscale";
const SECRET_KEY: &str = "kafscale-secret";
const BUCKET: &str = "records";

fn main() {
    // `cargo test FILTER` runs every test program; this one has one test for each server.
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let is_wanted = |name: &str| filter.as_ref().is_none_or(|filter| format!("servers::{name}").contains(filter));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    let mut count = |name: &str, outcome: Option<bool>| match outcome {
        Some(true) => passed += 1,
        Some(false) => {
            println!("test servers::{name} ... FAILED");
            failed += 1;
        }
        None => ignored += 1,
    };
    for (name, start) in SERVERS.into_iter().filter(|(name, _)| is_wanted(name)) {
        count(name, runtime.block_on(on_binary(name, start)));
    }
    if is_wanted("named")
        && let Some(url) = named()
    {
        count("named", Some(runtime.block_on(succeeds(conforms(options(&url))))));
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; 0 filtered out\n"
    );
    std::process::exit(i32::from(failed > 0));
}

#[expect(clippy::disallowed_methods, reason = "a test's own setting")]
fn named() -> Option<String> {
    std::env::var("KAFSCALE_TEST_S3").ok()
}

/// Whether it passes; `None` if there is no such server here.
async fn on_binary(name: &str, start: Start) -> Option<bool> {
    let binary = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.tools/s3").join(name);
    if !binary.exists() {
        println!("skipped: {name} is not here; scripts/build-s3.sh builds it");
        return None;
    }
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let directory = TempDir::new().unwrap();
    let mut server = Stopped(start(&binary, address, directory.path()));
    let options = options(&format!("http://{ACCESS_KEY}:{SECRET_KEY}@{address}/{BUCKET}"));
    let test = async {
        await_server(&mut server.0, &options).await;
        conforms(options).await;
    };
    Some(succeeds(test).await)
}

/// Whether it ends without a panic, which prints itself.
async fn succeeds(test: impl Future<Output = ()>) -> bool {
    AssertUnwindSafe(test).catch_unwind().await.is_ok()
}

/// A server that stops when this goes, also after a failed test.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_minio(binary: &Path, address: SocketAddr, directory: &Path) -> Child {
    Command::new(binary)
        .args(["server", "--quiet", "--address", &address.to_string(), "--console-address", "127.0.0.1:0"])
        .arg(directory)
        .env("MINIO_ROOT_USER", ACCESS_KEY)
        .env("MINIO_ROOT_PASSWORD", SECRET_KEY)
        .env("MINIO_UPDATE", "off")
        .env("MINIO_CALLHOME_ENABLE", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn start_versitygw(binary: &Path, address: SocketAddr, directory: &Path) -> Child {
    Command::new(binary)
        .args(["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--port", &address.to_string(), "--quiet", "posix"])
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn options(url: &str) -> S3Options {
    let (keys, place) = url.strip_prefix("http://").unwrap().split_once('@').unwrap();
    let ((access_key, secret_key), (address, bucket)) = (keys.split_once(':').unwrap(), place.split_once('/').unwrap());
    S3Options {
        url: format!("s3://{bucket}/test-{:016x}", kafscale_ports::random::SystemRandom.u64()),
        endpoint: Some(format!("http://{address}")),
        access_key: Some(access_key.to_owned()),
        secret_key: Some(Secret::new(secret_key)),
        ..S3Options::default()
    }
}

fn open(options: &S3Options) -> S3Store {
    S3Store::new(S3Settings::new(options.clone()).unwrap(), Env::real()).unwrap()
}

/// Waits until it serves, and makes the bucket.
async fn await_server(server: &mut Child, options: &S3Options) {
    loop {
        assert!(server.try_wait().unwrap().is_none(), "the server has ended");
        match open(options).check().await {
            Ok(()) => return,
            Err(CheckError::Refused { said, .. }) => {
                assert!(said.to_string().contains("create the bucket"), "{said}");
                create_bucket(options).await;
            }
            Err(error) => assert!(error.may_pass_later(), "{error}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The one request that the store itself never makes.
async fn create_bucket(options: &S3Options) {
    let endpoint = options.endpoint.as_deref().unwrap();
    let credential = AwsCredential { key_id: ACCESS_KEY.to_owned(), secret_key: SECRET_KEY.to_owned(), token: None };
    let request = hyper::Request::put(format!("{endpoint}/{BUCKET}"));
    let mut request = request.body(HttpRequestBody::empty()).unwrap();
    AwsAuthorizer::new(&credential, "s3", "us-east-1").try_authorize(&mut request, None).unwrap();
    let address = endpoint.strip_prefix("http://").unwrap();
    let mut text = format!("PUT /{BUCKET} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: 0\r\n");
    for (name, value) in request.headers() {
        text += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{text}\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Stores in one bucket, each with a prefix of its own.
struct Prefixes {
    options: S3Options,
    made: u32,
}

#[async_trait]
impl Backend for Prefixes {
    async fn fresh(&mut self) -> Arc<dyn Both> {
        self.made += 1;
        let url = format!("{}/{}", self.options.url, self.made);
        Arc::new(open(&S3Options { url, ..self.options.clone() }))
    }
}

/// All that is asked of a server.
async fn conforms(options: S3Options) {
    let name = ObjectName::bundle(1, ObjectId { nonce: 2, number: 3 });
    for (unsigned, prefix) in [(false, "signed"), (true, "unsigned/a!-_.*'()=+,b")] {
        let options =
            S3Options { url: format!("{}/{prefix}", options.url), unsigned_payload: Some(unsigned), ..options.clone() };
        let store = open(&options);
        store.check().await.unwrap();
        let body = || vec![Bytes::from_static(b"first"), Bytes::from(vec![7; 1 << 20])];
        store.put(&name, body()).await.unwrap();
        store.put(&name, body()).await.expect("the same bytes are recognised");
        assert!(matches!(store.put(&name, vec![]).await, Err(PutError::Unknown(_))));
        run(&mut Prefixes { options, made: 0 }).await;
    }
    let wrong = S3Options { secret_key: Some(Secret::new("quite-wrong")), ..options.clone() };
    let error = open(&wrong).put(&name, vec![]).await.unwrap_err();
    assert!(format!("{error:?}").contains("403") && matches!(error, PutError::Refused(_)), "{error:?}");
    let elsewhere = S3Options { url: "s3://no-such-bucket-of-ours".to_owned(), ..options };
    let error = open(&elsewhere).put(&name, vec![]).await.unwrap_err();
    assert!(format!("{error:?}").contains("NoSuchBucket") && matches!(error, PutError::Refused(_)), "{error:?}");
    open(&elsewhere).get_all(&name).await.expect_err("a missing bucket is no missing object").to_string();
}
