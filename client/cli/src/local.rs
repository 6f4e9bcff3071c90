//! The local end of what is published or forwarded: an Internet socket address, or the path of a Unix socket.

use crate::failure::Failure;
use serde::{Serialize, Serializer};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Where a local program is, or where one will be listened for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Local {
    /// TCP, or UDP where datagrams are carried.
    Internet(SocketAddr),
    /// A Unix socket of streams.
    Unix(PathBuf),
}

impl FromStr for Local {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("a path is missing after `unix:`".to_owned()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Internet).map_err(|_| {
                "expected a socket address like 127.0.0.1:3000, or a Unix socket like unix:/run/app.sock"
                    .to_owned()
            }),
        }
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for Local {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Local {
    /// Connects to the program there.
    ///
    /// # Errors
    /// In words, with where it was tried.
    pub(crate) async fn connect(&self) -> Result<Socket, String> {
        let connected = match self {
            Self::Internet(address) => TcpStream::connect(address).await.map(Socket::Tcp),
            Self::Unix(path) => UnixStream::connect(path).await.map(Socket::Unix),
        };
        connected.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("{self}: no such socket"),
            _ => format!("{self}: {error}"),
        })
    }
}

/// A connection to or from a local program.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Makes closing it a reset, where there is such a thing: a Unix socket has none, and its program can't tell a cut from
    /// the end.
    pub(crate) fn reset(&self) {
        if let Self::Tcp(socket) = self {
            // If even that fails, it is closed already.
            let _ = socket.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Unix(socket) => Pin::new(socket).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Self::Unix(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}

/// Where local programs connect to.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

impl Listener {
    /// Listens; gives where, with the port that was taken.
    pub(crate) async fn bind(local: &Local) -> Result<(Self, Local), Failure> {
        match local {
            Local::Internet(address) => {
                let failed = |error| port_taken(*address, &error);
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                let bound = listener.local_addr().map_err(failed)?;
                Ok((Self::Tcp(listener), Local::Internet(bound)))
            }
            Local::Unix(path) => {
                let (listener, _file) = bind_unix(path)?;
                Ok((Self::Unix { listener, _file }, local.clone()))
            }
        }
    }

    /// The next connection. Cancel-safe.
    pub(crate) async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(socket, _)| Socket::Tcp(socket)),
            Self::Unix { listener, .. } => listener.accept().await.map(|(socket, _)| Socket::Unix(socket)),
        }
    }
}

/// A port that can't be listened on.
pub(crate) fn port_taken(address: SocketAddr, error: &io::Error) -> Failure {
    let hint = "choose another port, or 0 for a free one";
    Failure::fault("listen", format!("can't listen on {address}: {error}; {hint}"))
}

/// The file of a Unix socket: it goes with the one who made it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode: what lies there later may be somebody else's.
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    fn identity(path: &Path) -> Option<(u64, u64)> {
        path.symlink_metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if Self::identity(&self.path) == self.identity {
            // If it can't be removed, the next one who listens there does it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn bind_unix(path: &Path) -> Result<(UnixListener, SocketFile), Failure> {
    let failed = |reason: String| {
        Failure::fault("listen", format!("can't listen on unix:{}: {reason}", path.display()))
    };
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            make_way(path).map_err(failed)?;
            UnixListener::bind(path)
        }
        bound => bound,
    };
    let listener = listener.map_err(|error| {
        failed(match error.kind() {
            io::ErrorKind::NotFound => "its folder doesn't exist".to_owned(),
            _ => error.to_string(),
        })
    })?;
    // Whoever connects acts as this device: that is for this user alone.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(|error| failed(error.to_string()))?;
    let file = SocketFile { path: path.to_owned(), identity: SocketFile::identity(path) };
    Ok((listener, file))
}

/// Removes what a process that was killed left; whatever else lies there stays.
fn make_way(path: &Path) -> Result<(), String> {
    let is_socket = path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket());
    if !is_socket {
        return Err("something else than a socket is there: choose another path".to_owned());
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| format!("an old socket can't be removed: {error}"))
        }
        Ok(_) => Err("another program listens there: end it, or choose another path".to_owned()),
        Err(error) => Err(format!("a socket is there, and nobody can tell whose: {error}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn unix(path: &Path) -> Local {
        Local::Unix(path.to_owned())
    }

    #[test]
    fn a_local_end_is_an_address_or_a_path() {
        assert_eq!("127.0.0.1:80".parse(), Ok(Local::Internet(([127, 0, 0, 1], 80).into())));
        assert_eq!("unix:/run/a b.sock".parse(), Ok(unix(Path::new("/run/a b.sock"))));
        for text in ["127.0.0.1:80", "[::1]:80", "unix:app.sock"] {
            assert_eq!(text.parse::<Local>().unwrap().to_string(), text);
        }
        for text in ["", "unix:", "/run/app.sock", "localhost:80", "127.0.0.1", "unix"] {
            assert!(text.parse::<Local>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_unix_socket_carries_bytes_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let (listener, bound) = Listener::bind(&unix(&path)).await.unwrap();
        assert_eq!(bound, unix(&path));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let (near, far) = tokio::join!(bound.connect(), listener.accept());
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        near.write_all(b"question").await.unwrap();
        near.shutdown().await.unwrap();
        let mut asked = String::new();
        far.read_to_string(&mut asked).await.unwrap();
        assert_eq!(asked, "question");
        far.write_all(b"answer").await.unwrap();
        drop(far);
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_path_that_is_taken_or_wrong_is_said_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let (listener, _) = Listener::bind(&unix(&path)).await.unwrap();
        let file = folder.path().join("notes");
        std::fs::write(&file, "dear diary").unwrap();
        let long = folder.path().join("x".repeat(200));
        for (path, word) in [
            (&path, "another program listens"),
            (&file, "something else than a socket"),
            (&folder.path().join("none/app.sock"), "folder"),
            (&long, "SUN_LEN"),
        ] {
            let failure = Listener::bind(&unix(path)).await.unwrap_err();
            assert_eq!((failure.code.as_ref(), failure.exit_code()), ("listen", 2));
            assert!(failure.message.contains(word) && !failure.message.contains('\n'), "{}", failure.message);
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "dear diary");
        assert!(unix(&path).connect().await.is_ok(), "the first one still listens");
        drop(listener);
        let gone = unix(&path).connect().await.unwrap_err();
        assert!(gone.contains("no such socket"), "{gone}");
    }

    #[tokio::test]
    async fn what_a_killed_process_left_makes_way_and_what_came_later_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        // A socket whose process is gone: dropping the standard library's listener leaves the file.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (listener, _) = Listener::bind(&unix(&path)).await.unwrap();
        assert!(unix(&path).connect().await.is_ok());
        // Somebody else's by the time we end.
        std::fs::remove_file(&path).unwrap();
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(listener);
        assert!(path.exists());
        drop(other);
    }

    #[tokio::test]
    async fn a_port_in_use_is_said() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let failure = Listener::bind(&Local::Internet(address)).await.unwrap_err();
        assert_eq!((failure.code.as_ref(), failure.exit_code()), ("listen", 2));
        assert!(failure.message.contains(&address.to_string()) && failure.message.contains("another port"));
    }
}
