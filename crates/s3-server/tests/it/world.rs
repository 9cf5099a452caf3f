//! A server, stores on it, and what tests ask of both.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use kafscale_log::store::s3::{S3Options, S3Settings, S3Store, Secret};
use kafscale_log::store::{GetError, ObjectName, PutError};
use kafscale_metadata::ObjectId;
use kafscale_ports::Env;
use kafscale_s3_server::{Fault, Faults, Method, Server, Settings};

pub(crate) async fn server() -> Server {
    Server::start(Settings::default(), Env::real()).await.unwrap()
}

/// The values that reach `server`, with a prefix.
pub(crate) fn options(address: SocketAddr, prefix: &str) -> S3Options {
    S3Options {
        url: format!("s3://kafscale/{prefix}"),
        endpoint: Some(format!("http://{address}")),
        access_key: Some("kafscale".to_owned()),
        secret_key: Some(Secret::new("kafscale-secret")),
        ..S3Options::default()
    }
}

pub(crate) fn open(options: S3Options) -> S3Store {
    S3Store::new(S3Settings::new(options).unwrap(), Env::real()).unwrap()
}

pub(crate) fn store(server: &Server) -> S3Store {
    open(options(server.address(), "test"))
}

pub(crate) fn name(number: u32) -> ObjectName {
    ObjectName::bundle(1, ObjectId { nonce: 2, number })
}

pub(crate) fn body() -> Vec<Bytes> {
    vec![Bytes::from_static(b"hello "), Bytes::new(), Bytes::from_static(b"world")]
}

/// What the server has under a name, past every fault.
pub(crate) fn stored(server: &Server, name: &ObjectName) -> Option<Bytes> {
    server.object("kafscale", &format!("test/{name}")).map(|object| object.bytes)
}

/// Faults for the next PUTs.
pub(crate) fn next_puts(server: &Server, plan: &[Fault]) {
    let mut faults = Faults::default();
    faults.put.plan.extend(plan);
    server.set_faults(faults).unwrap();
}

/// Faults for the next GETs.
pub(crate) fn next_gets(server: &Server, plan: &[Fault]) {
    let mut faults = Faults::default();
    faults.get.plan.extend(plan);
    server.set_faults(faults).unwrap();
}

/// How many requests of a method have ended.
pub(crate) fn requests(server: &Server, method: Method) -> u64 {
    server.stats().methods.get(&method).map_or(0, |method| method.requests)
}

/// An error and all that is behind it.
pub(crate) fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut at = error.source();
    while let Some(error) = at {
        words = format!("{words}: {error}");
        at = error.source();
    }
    words
}

pub(crate) fn refused(result: Result<(), PutError>) -> io::Error {
    match result {
        Err(PutError::Refused(why)) => why,
        other => panic!("not refused but {other:?}"),
    }
}

/// Of a PUT whose outcome is not known; a name that is taken is another thing.
pub(crate) fn unknown(result: Result<(), PutError>) -> io::Error {
    match result {
        Err(PutError::Unknown(why)) if why.kind() != io::ErrorKind::AlreadyExists => why,
        other => panic!("not unknown but {other:?}"),
    }
}

pub(crate) fn is_taken(result: Result<(), PutError>) -> bool {
    matches!(result, Err(PutError::Unknown(why)) if why.kind() == io::ErrorKind::AlreadyExists)
}

pub(crate) fn failed(result: Result<Bytes, GetError>) -> io::Error {
    match result {
        Err(GetError::Failed { source, .. }) => source,
        other => panic!("not failed but {other:?}"),
    }
}
