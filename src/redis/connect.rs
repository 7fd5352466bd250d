//! Opens a socket to the server.

use ::redis::ConnectionAddr;
use tokio::net::{TcpStream, UnixStream};

use super::pipe::Socket;

/// # Errors
/// A sentence.
pub(crate) async fn connect(address: &ConnectionAddr) -> Result<Box<dyn Socket>, String> {
    match address {
        ConnectionAddr::Tcp(host, port) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| error.to_string())?;
            // A pipeline is one write already.
            stream.set_nodelay(true).map_err(|error| error.to_string())?;
            Ok(Box::new(stream))
        }
        ConnectionAddr::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(|error| error.to_string())?;
            Ok(Box::new(stream))
        }
        _ => Err("only redis:// and unix:// are spoken".to_owned()),
    }
}
