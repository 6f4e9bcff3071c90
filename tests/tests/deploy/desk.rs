//! Somebody who deploys: a key, a profile and a folder; and what a deployment must have left behind.

use crate::gate::Gate;
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;
use windlass_protocol::{Address, B256, SecretKey};
use windlass_testnet::chain::{Chain, ChainConfig, DEV_ACCOUNTS};
use windlass_tests::windlass::{Outcome, Running, Windlass};

/// Four contracts, and the probe of the eligibility test.
pub(crate) const TRANSACTIONS: u64 = 5;

pub(crate) struct Desk {
    folder: TempDir,
    windlass: Windlass,
    account: Address,
}

/// A chain that makes blocks only for transactions.
pub(crate) async fn quiet_chain() -> anyhow::Result<Chain> {
    Ok(Chain::start(ChainConfig { heartbeat: None, ..ChainConfig::default() }).await?)
}

impl Desk {
    /// With the key of the first funded account.
    pub(crate) async fn rich() -> anyhow::Result<Self> {
        Self::with(&DEV_ACCOUNTS[0].key).await
    }

    /// With a key of one's own.
    pub(crate) async fn with(secret: &B256) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        fs::write(path("secret"), secret.to_string())?;
        fs::write(path("passphrase"), "correct horse")?;
        let profile = format!("key = {:?}\npassphrase_file = {:?}\n", path("key.json"), path("passphrase"));
        fs::write(path("windlass.toml"), profile)?;
        let windlass = Windlass::new(&folder.path().join("windlass.toml"))?;
        let import =
            ["key", "import", "--light", "--out", &path("key.json"), "--secret-file", &path("secret")];
        windlass.done(&[&import[..], &["--passphrase-file", &path("passphrase")]].concat()).await?;
        let account = SecretKey::from_bytes(&secret.0)?.address().0;
        Ok(Self { folder, windlass, account })
    }

    pub(crate) fn account(&self) -> Address {
        self.account
    }

    pub(crate) fn spec(&self) -> PathBuf {
        self.folder.path().join("chain.spec")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.path().join("chain.spec.journal")
    }

    fn arguments(&self, url: &str, more: &[&str]) -> Vec<String> {
        let committee = self.account.to_string();
        let (out, dev) = (self.spec().to_string_lossy().into_owned(), "--dev".to_owned());
        let fixed = ["chain", "deploy", "--rpc", url, "--committee", &committee, "--out", &out];
        fixed.iter().chain(more).map(|&argument| argument.to_owned()).chain([dev]).collect()
    }

    /// Runs a deployment to its end.
    pub(crate) async fn deploy(&self, url: &str, more: &[&str]) -> anyhow::Result<Outcome> {
        let arguments = self.arguments(url, more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.windlass.run(&arguments).await
    }

    /// Starts a deployment.
    pub(crate) fn start(&self, url: &str) -> anyhow::Result<Running> {
        let arguments = self.arguments(url, &[]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.windlass.start(&arguments)
    }

    /// The deployment must be refused: one line, this code, these words.
    pub(crate) async fn refused(
        &self,
        url: &str,
        more: &[&str],
        code: &str,
        words: &[&str],
    ) -> anyhow::Result<()> {
        let outcome = self.deploy(url, more).await?;
        ensure!(outcome.code == 2, "exit code {}: {}{}", outcome.code, outcome.stdout, outcome.stderr);
        ensure!(outcome.stderr.lines().count() == 1, "not one line: {}", outcome.stderr);
        let said: Value = serde_json::from_str(&outcome.stderr)?;
        ensure!(said["error"]["code"] == code, "another code than {code}: {said}");
        let message = said["error"]["message"].as_str().context("a message")?;
        for word in words {
            ensure!(message.contains(word), "does not mention {word}: {message}");
        }
        ensure!(!self.spec().exists(), "a spec was written");
        Ok(())
    }

    /// The deployment must complete now, and everything be where the first run predicted it, made once.
    pub(crate) async fn completes(&self, gate: &Gate, more: &[&str]) -> anyhow::Result<Value> {
        let outcome = self.deploy(&gate.url(), more).await?;
        ensure!(outcome.code == 0, "exit code {}: {}", outcome.code, outcome.stderr);
        ensure!(self.spec().exists() && !self.journal().exists(), "the spec takes the journal's place");
        let sent = self.sent(gate).await?;
        ensure!(sent == TRANSACTIONS, "{sent} transactions, not {TRANSACTIONS}");
        for (nonce, contract) in
            ["registry", "name_registrar", "node_staking", "settlement"].iter().enumerate()
        {
            let expected = self.account.create(nonce as u64).to_string();
            let address = &outcome.json[contract]["address"];
            ensure!(address == expected.as_str(), "{contract} is at {address}, not {expected}");
        }
        Ok(outcome.json)
    }

    /// How many transactions of the account are in blocks.
    pub(crate) async fn sent(&self, gate: &Gate) -> anyhow::Result<u64> {
        let count = gate.ask("eth_getTransactionCount", json!([self.account, "latest"])).await?;
        let count = count.as_str().and_then(|text| text.strip_prefix("0x")).context("a number")?;
        Ok(u64::from_str_radix(count, 16)?)
    }
}
