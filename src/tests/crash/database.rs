//! The database of a crash test: one of three kinds, reached by sidecars through a link that can be cut,
//! by the test itself directly.

use std::path::Path;

use crate::harness::{
    link::{Flow, Link, Target},
    sql_client::SqlClient,
    sql_server::{MariaDb, Postgres, SqlServer},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
    MariaDb,
}

pub struct Database {
    place: Place,
    /// Keeps others from writing while the database is taken away.
    lock: Option<Lock>,
}

enum Place {
    File(tempfile::TempDir),
    Server { server: Box<SqlServer>, link: Link },
}

/// The only database of a server.
const NAME: &str = "q0";
/// The files of SQLite that belong together.
const FILES: &str = "files";

/// A lock that the test holds.
pub struct Lock(SqlClient);

impl Lock {
    pub fn unlock(mut self) {
        self.0.unlock();
    }
}

impl Database {
    pub fn start(backend: Backend) -> Self {
        let server = match backend {
            Backend::Sqlite => None,
            // A killed process loses nothing that it wrote: fsync would only cost time.
            Backend::Postgres => Some(Postgres::start_with(&["-c", "fsync=off"])),
            Backend::MariaDb => Some(MariaDb::start_with(&["--innodb-flush-method=nosync"])),
        };
        let place = match server {
            None => {
                let folder = tempfile::tempdir().expect("a folder for the database");
                std::fs::create_dir(folder.path().join(FILES)).expect("a folder for its files");
                Place::File(folder)
            }
            Some(server) => {
                assert!(server.database().ends_with(NAME));
                let link = Link::to(Target::Tcp(server.address()));
                Place::Server { server: Box::new(server), link }
            }
        };
        Self { place, lock: None }
    }

    /// For sidecars.
    pub fn url(&self) -> String {
        match &self.place {
            Place::File(_) => self.direct_url(),
            Place::Server { server, link } => server.url_through(link.address(), NAME),
        }
    }

    pub fn direct_url(&self) -> String {
        match &self.place {
            Place::File(folder) => format!("sqlite:{}", folder.path().join(FILES).join("quotad.db").display()),
            Place::Server { server, .. } => server.url(NAME),
        }
    }

    pub fn client(&self) -> SqlClient {
        SqlClient::connect(&self.direct_url()).expect("the database can be reached")
    }

    /// In front of a server.
    pub fn link(&self) -> Option<&Link> {
        match &self.place {
            Place::File(_) => None,
            Place::Server { link, .. } => Some(link),
        }
    }

    /// Others cannot write until [`Lock::unlock`]: they wait, or are refused after a while.
    pub fn locked(&self) -> Lock {
        let mut client = self.client();
        client.lock();
        Lock(client)
    }

    /// Sidecars cannot post: a server cannot be reached, a file is locked.
    pub fn take_away(&mut self) {
        match self.link() {
            Some(link) => link.set(Flow::Cut),
            None => self.lock = Some(self.locked()),
        }
    }

    pub fn bring_back(&mut self) {
        match self.link() {
            Some(link) => link.set(Flow::Pass),
            None => self.lock.take().into_iter().for_each(Lock::unlock),
        }
    }

    fn server(&mut self, act: impl FnOnce(&mut SqlServer)) {
        let Place::Server { server, .. } = &mut self.place else { panic!("a file is no server") };
        act(server);
    }

    pub fn kill(&mut self) {
        self.server(SqlServer::kill);
    }

    pub fn start_again(&mut self) {
        self.server(SqlServer::restart);
    }

    /// A server stops answering, connections stay.
    pub fn freeze(&mut self) {
        self.server(|server| server.freeze());
    }

    pub fn thaw(&mut self) {
        self.server(|server| server.thaw());
    }

    /// Keeps what is on disk aside under a name; no sidecar may run meanwhile.
    pub fn save_as(&mut self, name: &str) {
        match &self.place {
            Place::File(folder) => copy_folder(&folder.path().join(FILES), &folder.path().join(name)),
            Place::Server { .. } => self.server(|server| server.save_as(name)),
        }
    }

    /// The database is again what it was; no sidecar may run meanwhile.
    pub fn restore_from(&mut self, name: &str) {
        match &self.place {
            Place::File(folder) => {
                std::fs::remove_dir_all(folder.path().join(FILES)).expect("the database's files");
                copy_folder(&folder.path().join(name), &folder.path().join(FILES));
            }
            Place::Server { .. } => self.server(|server| server.restore_from(name)),
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.expect("cp can be run").success());
}
