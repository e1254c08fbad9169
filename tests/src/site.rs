//! A whole daemon in this process, in a temporary folder, and calls of its HTTP interface.

#![expect(clippy::unwrap_used, reason = "a site that does not start is a failed test")]

use std::net::SocketAddr;
use std::path::PathBuf;

use ladekern::app::{App, Options};
use ladekern::config::Override;

use crate::http::{self, Answer};

/// A running site; everything it wrote is gone with it.
pub struct Site {
    /// The daemon.
    pub app: App,
    folder: tempfile::TempDir,
}

impl Site {
    /// Starts a site with this configuration on a free loopback port.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ladekern.toml"), text).unwrap();
        Self::start_in(folder).await
    }

    /// Starts a site on the files that lie in a folder.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start_in(folder: tempfile::TempDir) -> Self {
        let overrides: Vec<Override> = vec!["http.listen=127.0.0.1:0".parse().unwrap()];
        let options = Options { config: folder.path().join("ladekern.toml"), overrides, ..Options::default() };
        Self { app: App::start(&options).await.unwrap(), folder }
    }

    /// Stops the site in good order; its files stay.
    pub async fn stop(self) -> tempfile::TempDir {
        self.app.stop().await;
        self.folder
    }

    /// Where its HTTP server listens.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.app.address()
    }

    /// `ladekern.toml`
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ladekern.toml")
    }

    /// `GET /cnf?…`
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn get(&self, query: &str) -> Answer {
        http::get(self.http(), &format!("/cnf?{query}")).await.unwrap()
    }

    /// `POST /cnf?…`
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn post(&self, query: &str, body: &str) -> Answer {
        http::post(self.http(), &format!("/cnf?{query}"), body).await.unwrap()
    }

    /// One device of `get_dev_info`.
    ///
    /// # Panics
    /// If there is none.
    pub async fn device(&self, id: &str) -> serde_json::Value {
        let info = self.get("cmd=get_dev_info").await.json();
        let mut devices = info.get("devices").and_then(|devices| devices.as_array()).unwrap().iter();
        devices.find(|device| device.get("dev_id").is_some_and(|other| other == id)).unwrap().clone()
    }
}
