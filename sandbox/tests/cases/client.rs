//! A client for the tests: the CA, a session, JSON.

use anyhow::{Context as _, ensure};
use reqwest::{Certificate, Response};
use sandbox::SandboxHandle;
use serde_json::Value;

/// Knows the CA, and the session once it has logged in.
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) base: String,
    pub(crate) token: String,
}

/// A builder that trusts the sandbox's CA only.
pub(crate) fn builder(sandbox: &SandboxHandle) -> anyhow::Result<reqwest::ClientBuilder> {
    // Fails when another test of this binary was first.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let ca = Certificate::from_pem(sandbox.ca_pem().as_bytes())?;
    Ok(reqwest::Client::builder().tls_certs_only([ca]).redirect(reqwest::redirect::Policy::none()).no_proxy())
}

impl Client {
    /// Not logged in.
    pub(crate) fn new(sandbox: &SandboxHandle) -> anyhow::Result<Self> {
        Ok(Self { http: builder(sandbox)?.build()?, base: sandbox.url(), token: String::new() })
    }

    /// Logged in by client credentials.
    pub(crate) async fn logged_in(sandbox: &SandboxHandle) -> anyhow::Result<Self> {
        let mut client = Self::new(sandbox)?;
        client.log_in(sandbox).await?;
        Ok(client)
    }

    pub(crate) async fn log_in(&mut self, sandbox: &SandboxHandle) -> anyhow::Result<()> {
        let own = sandbox.credentials();
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &own.consumer_key),
            ("client_secret", &own.consumer_secret),
        ];
        let answer = self.http.post(format!("{}/services/oauth2/token", self.base)).form(&form).send().await?;
        ensure!(answer.status() == 200, "login: {}", answer.status());
        let body: Value = serde_json::from_str(&answer.text().await?)?;
        self.token = body.pointer("/access_token").and_then(Value::as_str).context("no access token")?.into();
        Ok(())
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Response> {
        Ok(self.http.get(format!("{}{path}", self.base)).bearer_auth(&self.token).send().await?)
    }

    pub(crate) async fn json(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.get(path).await?;
        ensure!(answer.status() == 200, "{path}: {}", answer.status());
        Ok(serde_json::from_str(&answer.text().await?)?)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(&self.token);
        let answer = request.header("content-type", "application/json").body(body.to_string()).send().await?;
        let status = answer.status().as_u16();
        Ok((status, serde_json::from_str(&answer.text().await?)?))
    }

    pub(crate) async fn query(&self, version: &str, soql: &str) -> anyhow::Result<Value> {
        let q: String = url::form_urlencoded::byte_serialize(soql.as_bytes()).collect();
        let answer = self.get(&format!("/services/data/v{version}/tooling/query?q={q}")).await?;
        Ok(serde_json::from_str(&answer.text().await?)?)
    }
}

/// Fails on CI, and otherwise says what was not run.
#[expect(clippy::print_stderr, reason = "a test that cannot run has to say so")]
pub(crate) fn absent(what: &str) -> anyhow::Result<()> {
    ensure!(std::env::var_os("CI").is_none(), "{what}");
    eprintln!("not run: {what}");
    Ok(())
}
