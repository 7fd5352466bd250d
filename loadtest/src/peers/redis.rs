//! The Redis under each contender: a fresh one each time, always with the same settings.

use std::path::Path;

use super::process::{Process, free_port};
use crate::{client::Target, resp::Resp};

/// No files at all: what is compared is the work of the scripts and of who calls them.
const SETTINGS: [&str; 6] = ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"];

#[derive(Debug)]
pub struct Redis {
    process: Process,
    pub port: u16,
}

impl Redis {
    /// # Errors
    /// A sentence when it does not start.
    pub async fn start(folder: &Path) -> Result<Self, String> {
        let port = free_port()?;
        let number = port.to_string();
        let mut arguments = vec!["--bind", "127.0.0.1", "--port", &number];
        arguments.extend(SETTINGS);
        let process = Process::start("redis-server", &arguments, folder, port).await?;
        Ok(Self { process, port })
    }

    /// # Errors
    /// A sentence when it does not answer.
    pub async fn connect(&self) -> Result<Resp, String> {
        Resp::connect(&Target::Tcp(self.address())).await
    }

    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub async fn stop(self) {
        self.process.stop().await;
    }
}
