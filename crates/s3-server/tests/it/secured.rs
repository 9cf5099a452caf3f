//! TLS, with an authority of our own: the server behind a proxy that ends it.

use std::net::SocketAddr;
use std::sync::Arc;

use kafscale_log::store::ObjectStore;
use kafscale_log::store::conformance::run;
use kafscale_log::store::s3::{CheckError, S3Options, S3Settings};
use kafscale_ports::Env;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::conformance::Prefixes;
use crate::world::{body, name, open, options, refused, server, words};

/// The authority's certificate as PEM, and where the proxy to `server` listens.
async fn proxy(server: SocketAddr) -> (String, SocketAddr) {
    let mut authority = CertificateParams::new(vec![]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = Env::real().tasks;
    let spawner = Arc::clone(&tasks);
    let accept = async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            let pass = async move {
                let Ok(mut inside) = acceptor.accept(stream).await else { return };
                let mut outside = TcpStream::connect(server).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
            };
            spawner.spawn("proxied", Box::pin(pass));
        }
    };
    tasks.spawn("proxy", Box::pin(accept));
    (authority.pem(), address)
}

fn secured(address: SocketAddr, authorities: Option<&str>) -> S3Options {
    S3Options {
        endpoint: Some(format!("https://{address}")),
        authorities: authorities.map(|pem| pem.as_bytes().to_vec()),
        ..options(address, "test")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms_over_tls_with_unsigned_payloads() {
    let server = server().await;
    let (authority, address) = proxy(server.address()).await;
    open(secured(address, Some(&authority))).check().await.unwrap();
    run(&mut Prefixes { options: secured(address, Some(&authority)), made: 0 }).await;
    assert!(server.log(0).iter().all(|entry| entry.unsigned_payload), "TLS protects it");
}

#[tokio::test]
async fn who_is_not_known_is_not_spoken_to() {
    let server = server().await;
    let (_, address) = proxy(server.address()).await;
    let (authority, _) = proxy(server.address()).await;
    for authorities in [None, Some(&*authority)] {
        // A system without any root certificates says so instead.
        let settings = S3Settings::new(secured(address, authorities)).unwrap();
        let Ok(store) = kafscale_log::store::s3::S3Store::new(settings, Env::real()) else { continue };
        let text = words(&refused(store.put(&name(1), body()).await));
        assert!(text.contains("no connection") && text.contains("certificate"), "{text}");
        let found = store.check().await.unwrap_err();
        assert!(matches!(found, CheckError::Unreachable { .. }), "{found}");
    }
    assert_eq!(server.stats().connections, 0);
}
