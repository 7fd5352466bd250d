//! Binds the listeners.

use std::{
    fs,
    io::ErrorKind,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
};

use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::failure::Failure;
use crate::config::Http;

/// What is bound; the addresses are the real ones, also when port 0 was asked for.
#[derive(Debug)]
pub(super) struct Listeners {
    pub gateway: TcpListener,
    pub gateway_address: SocketAddr,
    pub gateway_socket: Option<UnixListener>,
    pub admin: TcpListener,
    pub admin_address: SocketAddr,
}

pub(super) async fn bind(http: &Http) -> Result<Listeners, Failure> {
    let (gateway, gateway_address) = tcp("gateway_listen", http.gateway_listen).await?;
    let (admin, admin_address) = tcp("admin_listen", http.admin_listen).await?;
    let gateway_socket = match &http.gateway_socket {
        Some(path) => Some(unix(path).await.map_err(|error| {
            Failure::Other(format!("`gateway_socket` {} cannot be listened on: {error}", path.display()))
        })?),
        None => None,
    };
    Ok(Listeners { gateway, gateway_address, gateway_socket, admin, admin_address })
}

async fn tcp(setting: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let fail = |error: std::io::Error| Failure::Other(format!("`{setting}` {address} cannot be listened on: {error}"));
    let listener = TcpListener::bind(address).await.map_err(fail)?;
    let bound = listener.local_addr().map_err(fail)?;
    Ok((listener, bound))
}

/// A socket file that nobody listens on is what a crash left, and is replaced; one that is in use,
/// or another kind of file, is not. Owner and group may connect.
async fn unix(path: &Path) -> std::io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            if UnixStream::connect(path).await.is_ok() {
                return Err(std::io::Error::new(ErrorKind::AddrInUse, "another process listens on it"));
            }
            fs::remove_file(path)?;
        }
        Ok(_) => return Err(std::io::Error::new(ErrorKind::AlreadyExists, "it is there, and is no socket")),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.sock");
        let first = unix(&path).await.unwrap();
        assert_eq!(unix(&path).await.unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(first);
        unix(&path).await.unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert!(unix(&path).await.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
