//! Connections through a port: the broker serves TCP sockets, the simulator in-memory pipes.

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// The sending half of a connection. Vectored writes matter: answers are lists of slices.
pub type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;
/// The receiving half of a connection.
pub type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;

/// One accepted connection.
pub struct Accepted {
    /// What the peer sends.
    pub reader: ReadHalf,
    /// What the peer receives.
    pub writer: WriteHalf,
    /// The peer's address, for logs and for `client_host`.
    pub peer: SocketAddr,
}

/// A listening socket.
#[async_trait]
pub trait Listen: Send + Sync + 'static {
    /// The next connection. An error concerns that one attempt (a reset peer, no free descriptor); call again.
    async fn accept(&self) -> io::Result<Accepted>;
    /// The address that is listened on.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

#[async_trait]
impl Listen for TcpListener {
    async fn accept(&self) -> io::Result<Accepted> {
        let (stream, peer) = TcpListener::accept(self).await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        // A socket that listens on every IPv6 address takes IPv4 too, and writes such peers as ::ffff:192.0.2.1.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Ok(Accepted { reader: Box::new(reader), writer: Box::new(writer), peer })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}

/// The way to other machines.
#[async_trait]
pub trait Connect: Send + Sync + 'static {
    /// A connection to a host, by its name or address.
    async fn connect(&self, host: &str, port: u16) -> io::Result<(ReadHalf, WriteHalf)>;
}

/// Over TCP.
pub struct Tcp;

#[async_trait]
impl Connect for Tcp {
    async fn connect(&self, host: &str, port: u16) -> io::Result<(ReadHalf, WriteHalf)> {
        let (reader, writer) = TcpStream::connect((host, port)).await?.into_split();
        Ok((Box::new(reader), Box::new(writer)))
    }
}
