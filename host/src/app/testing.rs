//! A whole daemon in a temporary folder, for tests of its parts.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{App, Options};
use crate::config::Override;
use crate::contract::api::{Answer, Api, Args, Call, Caller};

/// A running site; everything it wrote is gone with it.
pub(crate) struct TestSite {
    pub app: App,
    pub api: Api,
    folder: tempfile::TempDir,
}

impl TestSite {
    /// Starts a site with this configuration on a free loopback port.
    pub async fn start(text: &str) -> Self {
        Self::start_with(text, &["http.listen=127.0.0.1:0"]).await
    }

    /// Starts a site with this configuration and these overrides.
    pub async fn start_with(text: &str, set: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ladekern.toml"), text).unwrap();
        Self::again(folder, set).await
    }

    /// Starts what another site has left.
    async fn again(folder: tempfile::TempDir, set: &[&str]) -> Self {
        let overrides: Vec<Override> = set.iter().map(|set| set.parse().unwrap()).collect();
        let options = Options { config: folder.path().join("ladekern.toml"), overrides, ..Options::default() };
        let app = App::start(&options).await.unwrap();
        Self { api: app.api(), app, folder }
    }

    /// Stops the site in good order and starts it again on the same files.
    pub async fn restart(self) -> Self {
        let Self { app, folder, .. } = self;
        app.stop().await;
        Self::again(folder, &["http.listen=127.0.0.1:0"]).await
    }

    pub fn http(&self) -> SocketAddr {
        self.app.address()
    }

    /// `ladekern.toml`
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ladekern.toml")
    }

    /// What stands in the file now.
    pub fn text(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }

    /// A call as admin.
    pub async fn call(&self, query: &str, body: &str) -> Answer {
        self.call_as(true, query, body).await
    }

    /// A call by somebody.
    pub async fn call_as(&self, admin: bool, query: &str, body: &str) -> Answer {
        let call = Call {
            args: Args::parse(query).unwrap(),
            body: body.to_owned().into(),
            caller: Caller { admin, address: None },
        };
        self.api.call(&call).await
    }
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}
